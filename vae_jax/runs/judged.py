"""Codes of trained models beside judges of their images: does a latent mean "smile", or "turned"?

A judge is any function images [N, ...] -> numbers [N] that does not know the codes (`evaluation.judges`). Axes that
follow the judges are found on training images, and tested on test images.
"""

import importlib
import os
import sys

import numpy as np

from vae_jax.evaluation import judges
from vae_jax.files import write_json, write_text
from vae_jax.plotting import add_caption, images, save
from vae_jax.runs import build, codes, workdir
from vae_jax.runs.scene import Scene
from vae_jax.spec import first_line

RULES = {"smile": judges.smile, "yaw": judges.yaw}
LABEL = "label"
SIDE, REACH = 15, 2.0  # images in a row of the plane, and its half-width in standard deviations of the turned codes


def table(patterns, out, *, names, block, num_permutations) -> str:
    """Write judged.md, judged.json and a turned plane of codes for every run into `out`; return the table as Markdown.

    Args:
      patterns: patterns of the trained workdirs, as a shell has them.
      out: the folder of the tables and figures.
      names: of the judges: `smile`, `yaw`, `label`, or MODULE:FUNCTION of your own.
      block: successive training images that stay together in a permutation (`judges.rank_correlation`).
      num_permutations: beside the true order.

    Raises `ValueError` for a judge that is not there or gives no numbers, for blocks of more than half of the images,
    and if no workdir matches.
    """
    out = workdir.output_folder(out)
    if not names or len(set(names)) < len(names) or not all(names):
        raise ValueError(f"--judges={','.join(names)}: give names of judges, each once")
    known = {name: judge(name) for name in names}
    folders = [folder for group in codes.groups_of(patterns).values() for folder in group]
    rows, record = [], {}
    for folder in folders:
        experiment = build.build_trained(folder)
        if experiment.model.latent is None:
            raise ValueError(f"{folder}: the family {experiment.config['family']!r} has no codes")
        marks = {split: marks_of(known, experiment.dataset, split) for split in ("train", "test")}
        params = build.restore(folder, experiment).params
        found = {split: codes.of_data(experiment.model, params, experiment.split(split)) for split in marks}
        options = {"block": block, "num_permutations": num_permutations}
        rho, p = judges.rank_correlation(found["train"], marks["train"], **options)
        axes = judges.directions(found["train"], marks["train"])
        of_test, _ = judges.rank_correlation(found["test"] @ axes, marks["test"], num_permutations=0)
        turned = np.diag(of_test)
        name = f"{folder.parent.parent.name}/{folder.name}" if folder.parent.name == "members" else folder.name
        numbers = {"rho": rho, "p": p, "axes": axes, "rho_of_axes": turned}
        record[name] = {"judges": list(names), **options, **{key: a.tolist() for key, a in numbers.items()}}
        rows += [_row(name, judge, rho[:, j], p[:, j], turned[j]) for j, judge in enumerate(names)]
        if len(names) == 2:
            labels = [f"{judge}, ρ = {r:.2f}" for judge, r in zip(names, turned, strict=True)]
            save(_plane(experiment, params, found["train"], axes, labels), out / f"{name.replace('/', '_')}.png")
    head = "| run | judge | best latent | ρ, training images | p | ρ of the turned axis, test images |"
    note = (
        f"ρ is Spearman's. p is that of the best latent, times the number of latents, from {num_permutations} "
        f"permutations of blocks of {block} images."
    )
    text = "\n".join([head, "|---|---|---|---|---|---|", *rows, "", note, ""])
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "judged.json", record)
    write_text(out / "judged.md", text)
    return text


def judge(name):
    """Return the judge `name`, images -> numbers; None for the labels. Raises `ValueError` if there is none."""
    if name == LABEL or name in RULES:
        return RULES.get(name)
    module, colon, function = name.partition(":")
    if not colon:
        known = ", ".join([*RULES, LABEL])
        raise ValueError(f"--judges: there is no judge {name!r} (allowed: {known}, or MODULE:FUNCTION of your own)")
    if os.getcwd() not in sys.path:  # where a user keeps such a file; the last, so that it hides no other module
        sys.path.append(os.getcwd())
    try:
        return getattr(importlib.import_module(module), function)
    except Exception as error:  # of any kind: the module is the user's
        raise ValueError(f"--judges: {name!r} cannot be imported: {first_line(error)}") from error


def marks_of(known, dataset, split) -> np.ndarray:
    """Return the numbers of the judges `known` {name: function} for the stored images of a split [N, J]."""
    part = getattr(dataset, split)
    columns = []
    for name, function in known.items():
        if function is None and part.label is None:
            raise ValueError(f"--judges: {name!r} needs labels, and {dataset.name} has none")
        try:
            marks = np.asarray(part.label if function is None else function(np.asarray(part.x)))
        except Exception as error:  # of any kind: the function is the user's
            raise ValueError(f"--judges: {name!r} failed on the images of {split}: {first_line(error)}") from error
        if marks.shape != (len(part.x),) or marks.dtype.kind not in "biuf" or not np.isfinite(marks).all():
            raise ValueError(
                f"--judges: {name!r} must give one finite number for each of {len(part.x)} images; it gave "
                f"{marks.dtype} {list(marks.shape)}"
            )
        columns.append(marks)
    return np.stack(columns, axis=1).astype(np.float64)


def _row(name, judge, rho, p, turned):
    best = int(np.argmax(np.abs(rho)))
    corrected = min(1.0, p[best] * len(rho))
    return f"| {name} | {judge} | z_{best + 1} of {len(rho)} | {rho[best]:.2f} | {corrected:.3f} | {turned:.2f} |"


def _plane(experiment, params, found, axes, labels):
    """Return the figure of the decoded codes m + Σ A t, for turned codes t = Aᵀ(z - m); Σ is the covariance of z."""
    values = np.linspace(-REACH, REACH, SIDE)
    t = np.stack([np.tile(values, SIDE), np.repeat(values, SIDE)], axis=1)
    mean, covariance = found.mean(axis=0), np.atleast_2d(np.cov(found, rowvar=False))
    scene = Scene(experiment, params)
    context = None if scene.context is None else np.repeat(scene.context[:1], len(t), axis=0)
    grid = scene.decode((mean + t @ axes.T @ covariance).astype(np.float32), context)
    figure = images.manifold(grid.reshape(SIDE, SIDE, *grid.shape[1:]), values, axes=tuple(labels))
    return add_caption(figure, "Codes turned to follow two judges, in standard deviations; ρ is of test images.")
