"""Many models of the same data on one yardstick: a table and a sheet of samples, a row for each model.

Nats per image are those of the mass of the stored levels, on the test set in its fixed draw. The sign says what kind of
number it is. `=`: log p(x) is exact. `≥ IW-K`: an importance-weighted bound with K samples. `≥ ..., dequantised`: the
density of dequantised pixels, whose log minus D log(levels) bounds the mass. `-`: there is no p(x). An auto-encoder
draws from a mixture of Gaussians fitted to its codes.

`report.html` shows the same, with the paired difference of every two models and their curves.

The largest number is bold, and so are all that two standard errors do not separate from it: those of the mean
difference over the test images. This compares numbers: a model whose number is a bound may have a larger log p(x).
The log p(x) of every image are stored in the run's workdir, as log_prob.npy, for the next table.
"""

import csv
import functools
import glob
import io
import math
import os
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from absl import logging

from vae_jax.evaluation import yardstick
from vae_jax.files import read_json, write_text
from vae_jax.runs import build, comparison, pictures, report
from vae_jax.runs import workdir as workdirs
from vae_jax.runs.workdir import results_of
from vae_jax.tasks import generate

NUM_DRAWN = 16  # samples of a model
EVALUATION = "evaluation.json"
QUALITY = {"quality/num_images", *(f"quality/pixels/frechet{end}" for end in ("", "_se", "_floor"))}
NOTE = (
    "Bold: the largest number, and those that are not smaller by two standard errors of the mean difference over the "
    "images. Where a number is a bound (≥), log p(x) may be larger."
)
CODE_COMPONENTS = 10  # of the density fitted to the codes of a model without p(z)


class Row(NamedTuple):
    model: str
    kind: str  # how to read `log_prob`, from "=" (exact) to "-" (none)
    log_prob: float | None  # nats per image, of the mass of the stored levels
    log_prob_se: float | None
    bits_per_dim: float | None
    parameters: int  # all stored numbers; of a symmetric or triangular matrix, every entry
    seconds: float  # of training, without compilation
    compile_seconds: float
    frechet: float | None = None  # distance of samples from test images; None if it was not measured
    frechet_se: float | None = None


def named(patterns) -> dict:
    """Return {name: workdir} of all folders that match `patterns`, each once.

    A workdir is called by the last part of its path if that is unique, otherwise by the whole path.
    """
    patterns = [os.path.expanduser(pattern) for pattern in patterns]
    paths = [Path(path) for pattern in patterns for path in sorted(glob.glob(pattern)) or [pattern]]
    folders = {}
    for path in paths:
        folders.setdefault(path.resolve(), path)
    names = [folder.name for folder in folders]
    return {folder.name if names.count(folder.name) == 1 else str(path): path for folder, path in folders.items()}


def compare(folders, workdir) -> str:
    """Write table.md, table.csv, samples.png and report.html of the runs in `folders`; return the table as text.

    `folders` is {name: workdir}.

    Raises `ValueError` if the numbers of the runs cannot be compared.
    """
    workdir = workdirs.output_folder(workdir, flag="--workdir")
    check_comparable({name: build.load_config(folder) for name, folder in folders.items()})
    rows, each, first = [], {}, None
    for name, folder in folders.items():
        results = results_of(folder)
        experiment = build.build_trained(folder)
        check_mass(name, experiment)
        images = np.asarray(experiment.dataset.test.x[: results["test/num_examples"]])
        first = images if first is None else first
        if not np.array_equal(images, first, equal_nan=images.dtype.kind == "f"):
            raise ValueError(
                f"{name} has other test images than {next(iter(folders))}; make a table of runs of one set"
            )
        params = build.restore(folder, experiment, mesh=experiment.mesh).params
        rows.append(row_of(name, experiment, params, results))
        if rows[-1].log_prob is not None:
            each[name] = log_prob_of_images(folder, experiment, params, results)
    test = f"{experiment.dataset.name}, {results['test/num_examples']} test images"
    workdir.mkdir(parents=True, exist_ok=True)
    distances, note = frechet_distances(folders)
    rows = [row._replace(**distances.get(row.model, {})) for row in rows]
    table = "\n\n".join(filter(None, (markdown(rows, not_worse(rows, each)), note)))
    write_text(workdir / "table.md", table + "\n")
    write_text(workdir / "table.csv", comma_separated(rows))
    samples = samples_of(folders)
    pictures.drawn("samples", lambda: sheet(samples), workdir / "samples.png")
    comparison.report(workdir, test, rows, each, samples=samples, folders=folders, note=note)
    return f"{test}\n\n{table}\n\ntable.md, table.csv, samples.png and {comparison.NAME} in {workdir}"


def sheet(samples):
    """Return the figure of the rows of `samples` {name: images [N, H, W, C] in [0, 1]}."""
    from vae_jax import plotting  # matplotlib: not before it is needed
    from vae_jax.plotting import images

    return images.named_rows({plotting.plain(name): row for name, row in samples.items()})


def samples_of(folders) -> dict:
    """Return {name: images [N, H, W, C] in [0, 1]}: test images, then samples of each run in `folders` {name: workdir}.

    A model that cannot be drawn from gives one line in the log and no row.
    """
    rows = {}

    def draw(name, folder):
        experiment = build.build_trained(folder)
        rows.setdefault(comparison.TEST_IMAGES, pictures.to_unit(experiment)(experiment.split("test")["x"][:NUM_DRAWN]))
        params = build.restore(folder, experiment, mesh=experiment.mesh).params
        experiment = experiment._replace(model=able_to_draw(experiment, params))
        rows[name] = pictures.draws(experiment, params, jax.random.key(0), NUM_DRAWN)

    for name, folder in folders.items():
        pictures.drawn(f"samples, row {name}", functools.partial(draw, name, folder), None)
    return rows


def log_prob_of_images(folder, experiment, params, results) -> np.ndarray:
    """Return log p(x) of every test image [N] in nats, the numbers that `report.evaluate` averages.

    They are read from `folder`/log_prob.npy if their mean is that of results.json, otherwise computed and written.

    Args:
      folder: the workdir.
      experiment: the experiment of that workdir.
      params: its trained parameters.
      results: the contents of its results.json.
    """
    values = report.read_log_prob(folder)
    mean, shape = results["test/log_prob"], (results["test/num_examples"],)
    if values is not None and values.shape == shape and np.isclose(values.mean(), mean, rtol=1e-5):
        return values
    logging.info("%s: log p(x) of every test image", folder)
    options = experiment.config["eval"]
    test = report.test_examples(experiment, options["num_test"])
    measured = report.measure(experiment, params, test, num_samples=options["num_samples"])
    report.write_log_prob(folder, measured.log_prob)
    return np.asarray(measured.log_prob, np.float64)


def not_worse(rows, each) -> set[str]:
    """Return the names of the models that are printed in bold.

    These are the model with the largest number, and those whose number is not smaller by more than two standard errors
    of the mean difference over images. For one model or one image there is no such difference, and no name.

    Args:
      rows: the rows of the table.
      each: {name: log p(x) of every image}.

    Raises `ValueError` if the models have different numbers of images.
    """
    measured = [row for row in rows if row.log_prob is not None and math.isfinite(row.log_prob)]
    sizes = {row.model: len(each[row.model]) for row in measured}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"these runs are not of the same test images: {sizes}")
    if len(measured) < 2 or min(sizes.values()) < 2:
        return set()
    best = max(measured, key=lambda row: row.log_prob)
    bold = set()
    for row in measured:
        lost = each[best.model] - each[row.model]  # up to a constant, the offset of dequantisation
        error = lost.std(ddof=1) / math.sqrt(len(lost))
        if best.log_prob - row.log_prob <= 2.0 * error:
            bold.add(row.model)
    return bold


def able_to_draw(experiment, params):
    """Return the model. For an auto-encoder, a mixture of Gaussians fitted to its codes becomes p(z)."""
    model = experiment.model
    if model.sample is not None:
        return model
    train = experiment.split("train")
    density = generate.code_density(model, params, train, jax.random.key(1), CODE_COMPONENTS)
    return generate.with_code_density(model, density)


def check_comparable(configs):
    """Raise `ValueError` unless all of `configs` {name: config} have the same test images."""
    kinds = {}
    for name, config in configs.items():
        data, transform = config["data"], config["data"]["transform"]
        if transform == "tokens":
            raise ValueError(f"{name} is a model of text, and this table is of images; see its results.json")
        if data["name"] == "audio":
            raise ValueError(f"{name} is a model of sound, and this table is of images; see its results.json")
        if transform == "strokes":
            raise ValueError(f"{name} is a model of drawings, and this table is of images; see its results.json")
        context = data["context"]["name"]
        if context != "none" and not (context == "label" and config["model"].get("given_class") is False):
            raise ValueError(
                f"{name} is given {'the class' if context == 'label' else f'the context {context!r}'}: its number is "
                "log p(x|c), not log p(x); train it with config.data.context.name='none'"
            )
        images = data["name"] + (f" in {data['path']}" if data["name"] == "idx" else "")
        images += "".join(f", no {label}" for label in data["leave_out"])
        pixels = "binary" if transform == "binarize" else "grey levels"
        kinds.setdefault((images, pixels, config["eval"]["num_test"]), []).append(name)
    if len(kinds) > 1:
        groups = (
            f"{images} as {pixels}, {n or 'all'} images: {', '.join(names)}"
            for (images, pixels, n), names in kinds.items()
        )
        raise ValueError(f"these runs are not of the same test images; make a table of each group: {'; '.join(groups)}")


def check_mass(name, experiment):
    """Raise `ValueError` if log p(x) is a density of real values, which cannot be compared with masses of levels."""
    if yardstick.kind_of(experiment.model, 1) != yardstick.NONE and not build.is_mass(experiment):
        raise ValueError(
            f"{name}: its log p(x) is a density of real values, and this table holds masses of levels; train it with "
            "config.data.transform='dequantize', or with a likelihood of levels"
        )


def row_of(name, experiment, params, results) -> Row:
    """Return the row of one run.

    Args:
      name: the name of the run in the table.
      experiment: its experiment.
      params: its trained parameters.
      results: the contents of its results.json.
    """
    dim = math.prod(experiment.event.shape)
    log_prob = error = None
    if results.get("test/log_prob") is not None:  # null: no finite number
        log_prob, error = -results["test/bits_per_dim"] * dim * math.log(2), results["test/log_prob_se"]
    return Row(
        model=name,
        kind=kind_of(experiment, results),
        log_prob=log_prob,
        log_prob_se=error,
        bits_per_dim=results.get("test/bits_per_dim"),
        parameters=sum(leaf.size for leaf in jax.tree.leaves(params)),
        seconds=results["train/seconds"],
        compile_seconds=results["train/compile_s"],
    )


def frechet_distances(folders) -> tuple[dict, str]:
    """Return {name: {"frechet", "frechet_se"}} of the runs whose evaluation.json has the quality, and a note on them.

    The features are those of the classifier if all of these runs have the same one, otherwise of the pixels. Runs with
    different numbers of images cannot be compared: there are no distances then, and a line in the log.
    """
    records = {}
    for name, folder in folders.items():
        if (Path(folder) / EVALUATION).exists():
            record = read_json(Path(folder) / EVALUATION)
            if not isinstance(record, dict) or not QUALITY <= record.keys():
                continue
            if record.get("test/step") is not None and not _measured(folder, record["test/step"]):
                logging.warning("%s: evaluation.json is of step %s, so it is left out", name, record["test/step"])
            else:
                records[name] = record
    if not records:
        return {}, ""
    some = next(iter(records.values()))
    same = lambda key: all(key in record and record[key] == some[key] for record in records.values())  # noqa: E731
    if not same("quality/num_images"):
        logging.warning("no Fréchet distances in the table: the runs were measured on different numbers of images")
        return {}, ""
    kind, words = "pixels", "64 principal components of the pixels"
    if same("quality/classifier/hash"):
        accuracy, digest = some["quality/classifier/accuracy"], some["quality/classifier/hash"]
        kind, words = "classes", f"features of a classifier ({digest}, accuracy {accuracy:.3f})"
    note = (
        f"Fréchet: distance of {some['quality/num_images']:,} samples from as many test images on {words}; between "
        f"training and test images it is {some[f'quality/{kind}/frechet_floor']:.2f}."
    )
    columns = {"frechet": f"quality/{kind}/frechet", "frechet_se": f"quality/{kind}/frechet_se"}
    return {name: {c: record[key] for c, key in columns.items()} for name, record in records.items()}, note


def _measured(folder, step) -> bool:
    """Return True if the checkpoint of `step` has the parameters of results.json: the last, with patience the best."""
    results = results_of(folder)
    if build.load_config(folder)["train"].get("patience"):
        return step >= results.get("valid/best_step", 0)
    return step == results["train/steps"]


def kind_of(experiment, results) -> str:
    """Return the sign that says how to read the number, from "=" (exact) to "-" (none)."""
    kind = yardstick.kind_of(experiment.model, results.get("test/num_samples"))
    return yardstick.dequantised(kind) if build.levels_offset(experiment.config, experiment.dataset) else kind


def markdown(rows, bold=frozenset()) -> str:
    """Return the table as Markdown, with the numbers of the models named in `bold` in bold."""

    def nats(row):
        if row.log_prob is None:
            return "-"
        error = "?" if row.log_prob_se is None else f"{row.log_prob_se:.2f}"  # of one image there is none
        value = f"{row.log_prob:.2f} ± {error}".replace("-", "−")
        return f"**{value}**" if row.model in bold else value

    has_quality = any(row.frechet is not None for row in rows)
    lines = ["| model | | log p(x), nats | bits/dim | parameters | seconds to fit |", "|---|---|---|---|---|---|"]
    if has_quality:
        lines = [f"{head}{cell}|" for head, cell in zip(lines, (" Fréchet ", "---"), strict=True)]
    for row in rows:
        bits = "-" if row.bits_per_dim is None else f"{row.bits_per_dim:.3f}"
        model = " ".join(row.model.replace("|", "\\|").split())
        cells = (model, row.kind, nats(row), bits, f"{row.parameters:,}", f"{row.seconds:.1f}")
        if has_quality:
            cells += ("-" if row.frechet is None else f"{row.frechet:.2f} ± {row.frechet_se:.2f}",)
        lines.append(f"| {' | '.join(cells)} |")
    if bold:
        lines += ["", NOTE]
    return "\n".join(lines)


def comma_separated(rows) -> str:
    """Return the table as CSV, without rounding."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([Row._fields, *rows])
    return file.getvalue()
