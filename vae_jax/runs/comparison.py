"""`report.html` of many runs on the same test images: table, paired differences, samples, curves."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vae_jax import files
from vae_jax.evaluation import yardstick
from vae_jax.runs import embedded, page, pictures

NAME = page.NAME
TEST_IMAGES = "test images"
ERRORS = 2.0  # standard errors beyond which a difference is printed in bold


class Difference(NamedTuple):
    """The difference of two models' numbers, in nats per image."""

    mean: float
    error: float  # the standard error of the mean over images, of the paired differences
    is_open: bool  # True if the smaller number is a bound, so that its model may have the larger log p(x)

    @property
    def is_significant(self) -> bool:
        return abs(self.mean) > ERRORS * self.error

    def __str__(self):
        return f"{page.facts.signed(self.mean)} ± {page.facts.number(self.error)}"


def report(workdir, test, rows, each, *, samples, folders, note="") -> bool:
    """Write the page as `write` does and return True. A failure is one line in the log, and the result is False."""

    def make():
        write(workdir, test, rows, each, samples=samples, folders=folders, note=note)  # and no figure

    return pictures.drawn(NAME, make, None)


def write(workdir, test, rows, each, *, samples, folders, note="") -> Path:
    """Write `report.html` into `workdir` and return its path.

    Args:
      workdir: the folder of the comparison.
      test: the test images in words.
      rows: the rows of the table (`compare.Row`).
      each: {name: log p(x) of every test image}.
      samples: {name: images [N, H, W, C] in [0, 1]}.
      folders: {name: workdir of the run}.
      note: on the distances of samples in `rows`; "" if there are none.
    """
    measured = [row for row in rows if row.log_prob is not None and math.isfinite(row.log_prob)]
    pairs = differences(measured, each)
    best = max(measured, key=lambda row: row.log_prob).model if measured else None
    names, kinds = [row.model for row in rows], sorted({row.kind for row in measured})
    to_best = {row.model: pairs.get((row.model, best)) for row in rows}
    path = Path(workdir) / NAME
    content = page.render(
        "compare.html",
        title=test,
        rows=rows,
        note=note,
        names=names,
        measured=[row.model for row in measured],
        best=best,
        best_stands_out=len(measured) > 1 and all(d.is_significant for d in to_best.values() if d),
        to_best=to_best,
        pairs=pairs,
        any_open=any(d.is_open for d in pairs.values()),
        comparisons=len(pairs) // 2,
        kinds=kinds,
        samples={name: embedded.png(_strip(images)) for name, images in samples.items()},
        strip_width=max((len(images) for images in samples.values()), default=0),
        data=files.finite({"curves": _curves(folders), "names": names}),
        number=page.facts.number,
    )
    files.write_text(path, content)
    return path


def differences(rows, each) -> dict:
    """Return {(a, b): Difference} of a less b for all two models in `rows`, none for fewer than two test images.

    The means are those of the rows; `each` {name: log p(x) of every image} has the standard errors.
    """
    found = {}
    for a in rows:
        for b in rows:
            if a.model != b.model and len(each[a.model]) > 1:
                paired = np.asarray(each[a.model]) - np.asarray(each[b.model])
                mean, error = a.log_prob - b.log_prob, paired.std(ddof=1) / math.sqrt(len(paired))
                smaller = b if mean > 0 else a
                found[a.model, b.model] = Difference(mean, float(error), yardstick.is_bound(smaller.kind))
    return found


def _strip(images):
    """Return images [N, H, W, C] side by side as one [H, N (W + g) - g, 4] with alpha, g transparent columns apart."""
    images = np.asarray(images, float)
    if images.shape[-1] not in (1, 3):  # channels that are no colours: their mean
        images = images.mean(axis=-1, keepdims=True)
    gap = max(1, images.shape[2] // 8)
    opaque = np.concatenate([np.broadcast_to(images, (*images.shape[:3], 3)), np.ones((*images.shape[:3], 1))], axis=-1)
    padded = np.pad(opaque, ((0, 0), (0, 0), (0, gap), (0, 0)))
    return np.concatenate(list(padded), axis=1)[:, :-gap]


def _curves(folders) -> dict:
    """Return {quantity: curves}: those of validation first, then of training, a curve for each run."""
    found = {}
    for name, folder in folders.items():
        for quantity, curves in page.curves(Path(folder) / "metrics.jsonl").items():
            for curve in curves:
                found.setdefault((curve["name"] != "validation", quantity), []).append(curve | {"name": name})
    ordered = sorted(found, key=lambda key: key[0])
    return {f"{quantity}, {'training' if late else 'validation'}": found[late, quantity] for late, quantity in ordered}
