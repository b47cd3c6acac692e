"""The codes of trained models: classes, clusters and normality in a table, planes and samples as figures.

If the factors of the data are known (`known_factors`), the table has the scores of `evaluation.disentanglement`, too.
Codes are means of q(z|x). Workdirs that differ only in their seed are one row of the table: means ± standard errors
over seeds.
"""

import csv
import functools
import glob
import io
import json
import os
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from absl import logging

from vae_jax import plotting
from vae_jax.evaluation import disentanglement, latents, likelihood, probes
from vae_jax.files import write_text
from vae_jax.plotting import images
from vae_jax.plotting import latents as latent_plots
from vae_jax.runs import build, pictures, workdir
from vae_jax.runs.workdir import results_of
from vae_jax.tasks import generate

COLUMNS = {  # title: digits
    "linear probe": 3,
    "5-NN probe": 3,
    "k-means accuracy": 3,
    "NMI": 3,
    "ARI": 3,
    "MSE": 4,
    "distortion": 2,
    "Henze-Zirkler": 2,
    "KL to N(0, I)": 2,
}
FACTOR_COLUMNS = {  # title: the name in `disentanglement.scores`; these have three digits
    "MIG": "mig",
    "MIG of 20 bins": "mig_20_bins",
    "SAP": "sap",
    "FactorVAE": "factor_vae",
    "DCI D": "dci_disentanglement",
    "DCI C": "dci_completeness",
    "DCI I": "dci_informativeness",
    "InfoM": "info_m",
    "InfoC": "info_c",
    "InfoE": "info_e",
}
MOST_VALUES = 100  # of a factor


class Plane(NamedTuple):
    """The test codes of one model, to be drawn."""

    codes: np.ndarray  # [N, D]
    radii: tuple  # of the circles to draw: for a standard normal prior


def table(patterns, out, *, num_train, num_test, num_components, num_trees=100) -> str:
    """Write codes.md, codes.csv, planes.png and samples/ into the folder `out`; return the table as Markdown.

    Args:
      patterns: patterns of the trained workdirs, as a shell has them.
      out: the folder of the tables and figures.
      num_train: how many training images the probes learn from, at most.
      num_test: how many test images are measured, at most; the measure of normality depends on this number.
      num_components: how many Gaussians are fitted to the codes for samples; 0 draws none.
      num_trees: for each value of a known factor in DCI; 0 leaves DCI out.

    Raises `ValueError` if no workdir matches, or if the runs cannot be compared.
    """
    out, groups = workdir.output_folder(out), groups_of(patterns)
    rows, planes, first = [], {}, None
    for name, folders in groups.items():
        experiment = build.build_trained(folders[0])
        first = first or experiment
        _check(experiment, first, folders[0])
        _check_probes(first.dataset.train.label[:num_train], num_train)
        sizes = {"num_train": num_train, "num_test": num_test, "num_trees": num_trees}
        row, planes[name] = _measure_group(name, folders, experiment, **sizes)
        rows.append(row)
    note = f"{num_train} training, {num_test} test images at most; distortion and KL in nats"
    text = f"{_markdown(rows)}\n\n{note}.\n"
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "codes.csv", _comma_separated(rows))
    write_text(out / "codes.md", text)
    label = first.dataset.test.label[:num_test]
    pictures.drawn("planes", lambda: _planes(planes, label), out / "planes.png")
    for name, folders in groups.items() if num_components else ():
        path = out / "samples" / f"{plotting.file_name(name)}.png"
        draw = functools.partial(_samples, folders[0], name, num_train=num_train, num_components=num_components)
        pictures.drawn(f"samples of {name}", draw, path)
    return text


def _measure_group(name, folders, experiment, *, num_train, num_test, num_trees):
    """Return the row of the runs in `folders`, which differ only in their seed, and the `Plane` of the first.

    `experiment` is that of the first, and of all apart from the seed.
    """
    train = jax.tree.map(lambda a: a[:num_train], experiment.split("train"))
    test = jax.tree.map(lambda a: a[:num_test], experiment.split("test"))
    measured, plane = [], None
    for folder in folders:
        logging.info("codes of %s", folder)
        params = build.restore(folder, experiment).params
        train_codes, codes = (of_data(experiment.model, params, data) for data in (train, test))
        reconstruction = likelihood.reconstructions(experiment.model, params, test)
        columns = measure(experiment.dataset, train_codes, codes, reconstruction)
        known = known_factors(experiment.dataset)
        measured.append(columns | factor_scores(experiment.model, params, test, known, num_trees=num_trees))
        if plane is None:
            standard = pictures.standard_normal_prior(experiment, params) is not None
            plane = Plane(codes, (2,) if standard else ())
    return summary(name, plane.codes.shape[1], measured), plane


def _planes(planes, label):
    """Return the figure of all `planes` {name: Plane}."""
    sizes = {name: plane.codes.shape[1] for name, plane in planes.items()}
    titles = {
        name: plotting.plain(name) + ("" if size == 2 else f"\n2 principal components of {size}")
        for name, size in sizes.items()
    }
    codes = {titles[name]: pictures.to_plane(plane.codes)[0] for name, plane in planes.items()}
    radii = {titles[name]: plane.radii for name, plane in planes.items()}
    return latent_plots.planes(codes, label, radii=radii)


def _check_probes(labels, num_train):
    """Raise `ValueError` if there are too few training images for the probes."""
    if len(labels) < 5 or len(np.unique(labels)) < 2:
        raise ValueError(
            f"--num_train={num_train}: the probes need at least 5 training images and 2 classes; these are "
            f"{len(labels)} images with {len(np.unique(labels))} classes"
        )


def _check(experiment, first, folder):
    """Raise `ValueError` if the run cannot be a row of the same table as `first`."""
    dataset = first.dataset
    if experiment.model.latent is None:
        raise ValueError(f"{folder}: the family {experiment.config['family']!r} has no codes")
    if experiment.dataset.name != dataset.name:
        raise ValueError(
            f"{folder}: trained on {experiment.dataset.name}, others on {dataset.name}; give runs of one data set"
        )
    if dataset.test.label is None:
        raise ValueError(f"{folder}: {dataset.name} has no classes to probe for")
    pixels = [(e.config["data"]["transform"], e.config["model"].get("likelihood")) for e in (experiment, first)]
    if pixels[0] != pixels[1]:
        raise ValueError(
            f"{folder}: MSE and distortion of {pixels[0]} cannot be compared with those of {pixels[1]}; give runs with "
            "one config.data.transform and one config.model.likelihood"
        )
    for split in ("train", "test"):
        if not np.array_equal(getattr(experiment.dataset, split).label, getattr(dataset, split).label):
            raise ValueError(
                f"{folder}: not the images of the other rows (config.data.path, config.data.leave_out); give runs of "
                "one data set"
            )


def groups_of(patterns) -> dict:
    """Return {name: the workdirs that differ only in their seed}.

    Raises `ValueError` if there is none, for a run that is not complete, and for two with the same config and seed.
    """
    by_config, seeds = {}, {}
    patterns = [os.path.expanduser(pattern) for pattern in patterns]
    paths = [Path(path) for q in patterns for path in glob.glob(q) or ([q] if Path(q).exists() else [])]
    for path in sorted({path.resolve(): path for path in paths}.values()):
        config = build.load_config(path)
        results_of(path)
        if (other := seeds.setdefault(json.dumps(config), path)) is not path:
            raise ValueError(f"{other} and {path} are the same run, with one config and seed; leave one out")
        by_config.setdefault(json.dumps(config | {"seed": None}), []).append(path)
    if not by_config:
        raise ValueError(f"--workdirs={' '.join(patterns)} matches no folder")
    groups = {}
    for folders in by_config.values():
        first = folders[0].resolve()
        parts = [part for part in first.name.split(",") if not part.startswith("seed=")]
        name = ",".join([first.parent.parent.name, *parts] if first.parent.name == "members" else [first.name])
        groups[name if name not in groups else str(folders[0])] = folders
    return groups


def of_data(model, params, data):
    """Return the means of q(z|x) [N, D]; for a hierarchy, all levels side by side.

    Raises `ValueError` for integers, which are places in a codebook.
    """
    levels = jax.tree.leaves(latents.posterior_means(model, params, data))
    if any(np.issubdtype(level.dtype, np.integer) for level in levels):
        raise ValueError(
            "the codes are integers, places in a codebook, and the table measures real numbers; use vae-jax evaluate, "
            "which counts how the codes are used"
        )
    return latents.side_by_side(levels)


def measure(dataset, train_codes, codes, reconstruction) -> dict:
    """Return the columns {title: value} of one model.

    Args:
      dataset: the data set, for its labels.
      train_codes: codes of the first training images [N, D].
      codes: codes of the first test images [M, D].
      reconstruction: `likelihood.reconstructions` of the same test images.
    """
    train_label, label = dataset.train.label[: len(train_codes)], dataset.test.label[: len(codes)]
    pairs = (train_codes, train_label, codes, label)
    clusters = probes.clustering(codes, label, num_clusters=dataset.num_classes)
    values = [
        probes.linear_probe(*pairs)["test_accuracy"],
        probes.knn_probe(*pairs)["test_accuracy"],
        *(clusters[name] for name in ("accuracy", "nmi", "ari")),
        *(reconstruction[name].mean(dtype=np.float64) for name in ("mse", "distortion")),
    ]
    try:
        normal = probes.normality(codes)
        values += [normal["henze_zirkler"], normal["kl_to_standard"]]
    except ValueError as error:  # some dimensions are constant
        logging.info("normality was not measured: %s", error)
    return dict(zip(COLUMNS, values, strict=False))


def known_factors(dataset):
    """Return the factors of the test examples [N, K]: integer contexts of at most 100 values each; None without."""
    factors = dataset.test.context
    if factors is None or factors.ndim != 2 or factors.dtype.kind not in "iu":
        return None
    return factors if max(len(np.unique(column)) for column in factors.T) <= MOST_VALUES else None


def factor_scores(model, params, test, factors, *, num_trees=100) -> dict:
    """Return the columns {title: value} of FACTOR_COLUMNS; {} without factors, and unless q(z|x) is Gaussian.

    Without trees there are no columns of DCI.
    """
    if factors is None:
        return {}
    try:
        q = latents.posteriors(model, params, test)
        found = disentanglement.scores(q, factors[: len(test["x"])], num_trees=num_trees)
    except (TypeError, ValueError) as error:
        logging.info("disentanglement was not measured: %s", error)
        return {}
    return {title: found[name] for title, name in FACTOR_COLUMNS.items() if name in found}


def summary(name, size, measured) -> dict:
    """Return a row of the table: {column: mean, column s.e.: standard error over seeds}."""
    row = {"model": name, "D": size, "seeds": len(measured)}
    factors = [column for column in FACTOR_COLUMNS if any(column in columns for columns in measured)]
    for column in (*COLUMNS, *factors):
        values = np.array([columns[column] for columns in measured if column in columns])
        row[column] = values.mean() if len(values) else None
        row[f"{column} s.e."] = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else None
    return row


def _comma_separated(rows) -> str:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, max(rows, key=len))
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _markdown(rows) -> str:
    def cell(row, column):
        mean, error, digits = row.get(column), row.get(f"{column} s.e."), COLUMNS.get(column, 3)
        return "-" if mean is None else f"{mean:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")

    columns = [column for column in (*COLUMNS, *FACTOR_COLUMNS) if any(column in row for row in rows)]
    lines = [["model", "D", "seeds", *columns], ["---"] * (3 + len(columns))]
    lines += [
        [row["model"].replace("|", "\\|"), row["D"], row["seeds"], *(cell(row, column) for column in columns)]
        for row in rows
    ]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _samples(folder, name, *, num_train, num_components):
    """Return the figure of means of p(x|z), z from a mixture fitted to the training codes of the run in `folder`."""
    experiment = build.build_trained(folder)
    params = build.restore(folder, experiment).params
    train = jax.tree.map(lambda a: a[:num_train], experiment.split("train"))
    key_fit, key_draw = jax.random.split(jax.random.fold_in(experiment.key, 4))
    density = generate.code_density(experiment.model, params, train, key_fit, num_components)
    latent = generate.with_code_density(experiment.model, density).latent

    def draw(key):
        return latent.likelihood(params, latent.prior(params).sample(key)).mean()

    drawn = jax.jit(jax.vmap(draw))(jax.random.split(key_draw, 60))
    title = f"{plotting.plain(name)}: {num_components} Gaussians for its codes"
    return images.grid(pictures.to_unit(experiment)(drawn), ncols=12, title=title)
