"""What the codes of trained models are good for: classes, clusters, normality, drawing.

    python -m experiments.codes --workdirs='runs/ae_*/members/*' --out=DIR [--num_train=10000] [--num_test=10000]

Takes what experiments.train and experiments.sweep leave; codes are means of q(z|x). Workdirs that differ in their seed
alone are one row of codes.md and codes.csv: means ± standard errors over seeds. planes.png shows the test codes of the
first seed of each row, samples/ what is drawn from a mixture of --draw=10 Gaussians fitted to its training codes.
"""

import csv
import functools
import glob
import io
import json
import os
from pathlib import Path

import jax
import numpy as np
from absl import app, flags, logging

from vae_jax import plotting
from vae_jax.core import with_code_density
from vae_jax.evaluation import latents, likelihood, probes
from vae_jax.plotting import images
from vae_jax.plotting import latents as latent_plots
from vae_jax.runs import build, launching, pictures
from vae_jax.runs.workdir import write_text
from vae_jax.tasks import generate

WORKDIRS = flags.DEFINE_multi_string(  # a member's name may hold a comma
    "workdirs", None, "Folders of trained models, as a pattern of a shell; may be given again.", required=True
)
NUM_TRAIN = flags.DEFINE_integer("num_train", 10_000, "Training images that probes learn from.", lower_bound=1)
NUM_TEST = flags.DEFINE_integer("num_test", 10_000, "Test images; normality depends on their number.", lower_bound=1)
DRAW = flags.DEFINE_integer("draw", 10, "Gaussians fitted to the codes for samples; 0: draw none.", lower_bound=0)
OUT = flags.DEFINE_string("out", None, "A folder for tables and figures.", required=True)
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


@launching.launched
def main(argv):
    del argv
    out, rows, planes, radii, first = Path(OUT.value).expanduser(), [], {}, {}, None
    named = groups(WORKDIRS.value)
    for name, folders in named.items():
        experiment = build.build_trained(folders[0])  # but for the seed that of all
        first = first or experiment
        check(experiment, first, folders[0])
        dataset = first.dataset
        train = jax.tree.map(lambda a: a[: NUM_TRAIN.value], experiment.split("train"))
        check_probes(dataset.train.label[: NUM_TRAIN.value])
        test = jax.tree.map(lambda a: a[: NUM_TEST.value], experiment.split("test"))
        measured = []
        for n, folder in enumerate(folders):
            logging.info("codes of %s", folder)
            params = build.restore(folder, experiment).params
            train_codes, codes = (of_data(experiment.model, params, data) for data in (train, test))
            kept = likelihood.reconstruction(experiment.model, params, test)
            measured.append(measure(dataset, train_codes, codes, kept))
            if n == 0:
                size = codes.shape[1]
                title = plotting.plain(name) + ("" if size == 2 else f"\n2 principal components of {size}")
                planes[title], label = codes, dataset.test.label[: len(codes)]
                radii[title] = () if pictures.standard_normal_prior(experiment, params) is None else (2,)
        rows.append(summary(name, size, measured))
    write(rows, out)
    print(f"\n{(out / 'codes.md').read_text(encoding='utf-8')}\ntables and figures in {out}")
    pictures.drawn("planes", lambda: _planes(planes, label, radii), out / "planes.png")
    for name, folders in named.items() if DRAW.value else ():
        path = out / "samples" / f"{plotting.file_name(name)}.png"
        pictures.drawn(f"samples of {name}", functools.partial(samples, folders[0], name), path)


def _planes(planes, label, radii):
    return latent_plots.planes({title: pictures.to_plane(z)[0] for title, z in planes.items()}, label, radii=radii)


def check_probes(labels):
    """Raise `ValueError` where the training images are too few for the probes."""
    if len(labels) < 5 or len(np.unique(labels)) < 2:
        raise ValueError(
            f"--num_train={NUM_TRAIN.value}: the probes need at least 5 training images and 2 classes; these are "
            f"{len(labels)} images, and their number of classes is {len(np.unique(labels))}"
        )


def check(experiment, first, folder):
    """Raise `ValueError` for what cannot be a row of the same table as `first`."""
    dataset = first.dataset
    if experiment.model.latent is None:
        raise ValueError(f"{folder}: the family {experiment.config['family']!r} has no codes")
    if experiment.dataset.name != dataset.name:
        raise ValueError(f"{folder}: trained on {experiment.dataset.name}, others on {dataset.name}: one set a table")
    if dataset.test.label is None:
        raise ValueError(f"{folder}: {dataset.name} has no classes to probe for")
    pixels = lambda e: (e.config["data"]["transform"], e.config["model"]["likelihood"])  # noqa: E731
    if pixels(experiment) != pixels(first):
        raise ValueError(
            f"{folder}: MSE and distortion of {pixels(experiment)} do not stand beside those of {pixels(first)}: "
            "one data.transform and one model.likelihood a table"
        )
    for split in ("train", "test"):
        if not np.array_equal(getattr(experiment.dataset, split).label, getattr(dataset, split).label):
            raise ValueError(f"{folder}: not the images of the other rows (data.path, data.leave_out): one set a table")


def groups(patterns) -> dict:
    """{name: the workdirs that differ in nothing but their seed}. Raises `ValueError` where there is none."""
    found = {}
    for path in sorted({Path(p) for pattern in patterns for p in glob.glob(os.path.expanduser(pattern))}):
        config = build.load_config(path) | {"seed": None}
        found.setdefault(json.dumps(config), []).append(path)
    if not found:
        raise ValueError(f"--workdirs={' '.join(patterns)} matches no folder")
    named = {}
    for folders in found.values():
        first = folders[0].resolve()
        parts = [part for part in first.name.split(",") if not part.startswith("seed=")]
        name = ",".join([first.parent.parent.name, *parts] if first.parent.name == "members" else [first.name])
        named[name if name not in named else str(folders[0])] = folders
    return named


def of_data(model, params, data):
    """Means of q(z|x) [N, D], of a hierarchy all levels side by side."""
    return np.concatenate(jax.tree.leaves(latents.posterior_means(model, params, data)), axis=1)


def measure(dataset, train_codes, codes, kept) -> dict:
    """The columns of one model."""
    train_label, label = dataset.train.label[: len(train_codes)], dataset.test.label[: len(codes)]
    pairs = (train_codes, train_label, codes, label)
    clusters = probes.clustering(codes, label, num_clusters=dataset.num_classes)
    values = [
        probes.linear_probe(*pairs)["test_accuracy"],
        probes.knn_probe(*pairs)["test_accuracy"],
        *(clusters[name] for name in ("accuracy", "nmi", "ari")),
        *(kept[name].mean(dtype=np.float64) for name in ("mse", "distortion")),
    ]
    try:
        normal = probes.normality(codes)
        values += [normal["henze_zirkler"], normal["kl_to_standard"]]
    except ValueError as error:  # dimensions that say nothing
        logging.info("no normality: %s", error)
    return dict(zip(COLUMNS, values, strict=False))


def summary(name, size, measured) -> dict:
    """A row of the table: {column: mean, column s.e.: its standard error over seeds}."""
    row = {"model": name, "D": size, "seeds": len(measured)}
    for column in COLUMNS:
        values = np.array([own[column] for own in measured if column in own])
        row[column] = values.mean() if len(values) else None
        row[f"{column} s.e."] = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else None
    return row


def write(rows, out):
    """codes.csv, and codes.md for a person."""
    out.mkdir(parents=True, exist_ok=True)
    file = io.StringIO(newline="")
    table = csv.DictWriter(file, rows[0])
    table.writeheader()
    table.writerows(rows)
    write_text(out / "codes.csv", file.getvalue())

    def cell(row, column):
        mean, error, digits = row[column], row[f"{column} s.e."], COLUMNS[column]
        return "-" if mean is None else f"{mean:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")

    lines = [["model", "D", "seeds", *COLUMNS], ["---"] * (3 + len(COLUMNS))]
    lines += [
        [row["model"].replace("|", "\\|"), row["D"], row["seeds"], *(cell(row, column) for column in COLUMNS)]
        for row in rows
    ]
    text = "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
    note = f"{NUM_TRAIN.value} training, {NUM_TEST.value} test images at most; distortion and KL in nats"
    write_text(out / "codes.md", f"{text}\n\n{note}.\n")


def samples(folder, name):
    """Means of p(x|z) for z from a mixture fitted to the codes of the training images of the run in `folder`."""
    experiment = build.build_trained(folder)
    params = build.restore(folder, experiment).params
    train = jax.tree.map(lambda a: a[: NUM_TRAIN.value], experiment.split("train"))
    key_fit, key_draw = jax.random.split(jax.random.fold_in(experiment.key, 4))
    density = generate.code_density(experiment.model, params, train, key_fit, DRAW.value)
    latent = with_code_density(experiment.model, density).latent
    draw = lambda key: latent.likelihood(params, latent.prior(params).sample(key)).mean()  # noqa: E731
    drawn = jax.jit(jax.vmap(draw))(jax.random.split(key_draw, 60))
    return images.grid(
        pictures.to_unit(experiment)(drawn),
        ncols=12,
        title=f"{plotting.plain(name)}: {DRAW.value} Gaussians for its codes",
    )


if __name__ == "__main__":
    app.run(main, flags_parser=launching.parse_flags)
