"""Pictures of a run while it trains: the same validation examples and the same noise each time, so that they evolve.

They are written to `previews/step_00001000.png` in the workdir, and shown in the trackers with a histogram of the rates
of the dimensions. Text and sound have none.
"""

import contextlib
import io
from pathlib import Path

import jax
import numpy as np
from absl import logging

from vae_jax.evaluation import latents
from vae_jax.files import write_bytes
from vae_jax.runs import build, passes, processes
from vae_jax.runs.scene import DRAWN, contexts, to_unit
from vae_jax.spec import first_line
from vae_jax.training.progress import said

NUMBER, ROWS = 10, 3  # examples in a row; rows of samples
SIDE, GAP = 64, 2  # pixels: the least length of the longer side of an image; gutters
RATED, PAIRED = 2000, 500  # validation examples whose rates are averaged; that stand beside draws


def hooks(experiment, folder, writer, every) -> list:
    """Return the hooks of `loop.fit`: pairs (steps, function of (params, step)).

    Args:
      experiment: the experiment of the run.
      folder: its workdir.
      writer: its `writers.Writer`; None in a process that does not write.
      every: steps between two previews; 0 for none.
    """
    chosen, model = [], experiment.model
    dataset = experiment.dataset
    has_pictures = not (dataset.vocabulary or dataset.encoding or dataset.strokes)
    if every and has_pictures and (model.latent or model.sample):
        chosen.append((every, Preview(experiment, folder, writer)))
    if writer is not None and writer.has_trackers and jax.process_count() == 1 and model.latent and model.latent.prior:
        chosen.append((experiment.config["train"]["eval_every"], Rates(experiment, writer)))
    return chosen


class Preview:
    """A picture of reconstructions and samples at a step. One that fails is one line in the log, and is the last."""

    def __init__(self, experiment, folder, writer):
        self.experiment, self.writer, self.folder = experiment, writer, Path(folder) / "previews"
        self.valid, self.number, self.failed = None, 0, False

    def __call__(self, params, step):
        params = passes.on_one_device(self.experiment, params)  # by all processes together
        if self.failed or not processes.is_first():
            return
        try:
            with contextlib.nullcontext() if self.number else said("compiling the preview"):
                pictures = self.pictures(params)
            self._write(step, pictures)
        except Exception as error:  # of any kind: the training does not depend on it
            logging.warning("there are no more previews: %s", first_line(error))
            self.failed = True
        self.number += 1

    def pictures(self, params) -> dict:
        """Return {name: picture, uint8 [H, W, C]}."""
        if self.valid is None:
            valid = self.experiment.split("valid")
            self.valid = jax.tree.map(lambda a: np.asarray(a[:NUMBER]), (valid["x"], valid.get("context")))
        if self.valid[0].ndim == 4:
            return _of_images(self._arrays(params), to_unit(self.experiment))
        from vae_jax.runs import vector_figures  # matplotlib: not before it is needed

        if vector_figures.is_paired(self.experiment.dataset):
            return self._of_pairs(params, vector_figures.in_pairs)
        return _of_lines(self._arrays(params))

    def _of_pairs(self, params, draw) -> dict:
        """Return a picture of draws beside validation rows, the columns two by two; nothing for an auto-encoder."""
        model = self.experiment.model
        if model.sample is None:
            return {}
        x = np.asarray(self.experiment.split("valid")["x"][:PAIRED])
        drawn = passes.draw(model, params, len(x), contexts(self.experiment, len(x)), means=False)
        return {"samples": _pixels_of(draw(self.experiment.dataset, x, drawn["x"]))}

    def _arrays(self, params) -> dict:
        """Return {name: groups of examples}: "reconstructions" has x and x̂, "samples" has draws."""
        model, arrays, (x, context) = self.experiment.model, {}, self.valid
        shapes = build.likelihood_shapes(self.experiment)
        is_expensive = isinstance(getattr(shapes, "base", shapes), DRAWN)  # its means are averages of draws
        if model.latent and not is_expensive:
            z, _ = passes.encode(model.latent, params, x, context)
            arrays["reconstructions"] = [x, passes.decode(model.latent, params, z, context)]
        if model.sample:
            number = NUMBER * ROWS
            drawn = passes.draw(model, params, number, contexts(self.experiment, number), means=not is_expensive)
            arrays["samples"] = [drawn.get("mean", drawn["x"])]
        return arrays

    def _write(self, step, pictures):
        from PIL import Image

        if not pictures:
            return
        width = max(picture.shape[1] for picture in pictures.values())
        rows = [np.pad(p, ((0, 8), (0, width - p.shape[1]), (0, 0)), constant_values=255) for p in pictures.values()]
        whole = np.concatenate([np.broadcast_to(row, (*row.shape[:2], 3)) for row in rows])[:-8]
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(whole)).save(buffer, "PNG")
        self.folder.mkdir(parents=True, exist_ok=True)
        write_bytes(self.folder / f"step_{step:08d}.png", buffer.getvalue())
        if self.writer is not None:
            self.writer.images(step, {f"preview/{name}": picture for name, picture in pictures.items()})


class Rates:
    """The histogram of the rates KL(q(z_d|x) || p(z_d)) of all dimensions, where they split by dimension."""

    def __init__(self, experiment, writer):
        self.experiment, self.writer, self.valid, self.failed = experiment, writer, None, False

    def __call__(self, params, step):
        if self.failed:
            return
        if self.valid is None:
            self.valid = jax.tree.map(lambda a: a[:RATED], self.experiment.split("valid"))
        try:
            params = passes.on_one_device(self.experiment, params)
            rates = np.asarray(latents.rate_per_dimension(self.experiment.model, params, self.valid))
            self.writer.histograms(step, {"valid/rate_per_dimension": rates.ravel()})
        except Exception as error:  # a posterior that does not split, or any other reason: training goes on
            logging.info("no histogram of the rates: %s", first_line(error))
            self.failed = True


def _of_images(arrays, show) -> dict:
    from vae_jax.plotting import tiles

    pictures = {}
    for name, groups in arrays.items():
        images = tiles.pixels(np.concatenate([show(group) for group in groups]))
        scale = max(1, SIDE // max(images.shape[1:3]))
        ncols = min(NUMBER, len(groups[0]))
        pictures[name] = tiles.tile(images.repeat(scale, 1).repeat(scale, 2), ncols=ncols, gap=GAP)
    return pictures


def _of_lines(arrays) -> dict:
    """Return a picture of vectors or series as lines, those of several channels by their first."""
    from vae_jax.plotting import series

    pictures = {}
    for name, groups in arrays.items():
        lines = [np.asarray(x, np.float64).reshape(len(x), x.shape[1], -1)[:8, :, 0] for x in groups]
        titles = ("validation data", "reconstructions") if len(lines) == 2 else ("samples",)
        pictures[name] = _pixels_of(series.lines(dict(zip(titles, lines, strict=True))))
    return pictures


def _pixels_of(figure):
    """Return a figure as a picture, uint8 [H, W, 3]."""
    from matplotlib.image import imread

    from vae_jax import plotting

    buffer = io.BytesIO()
    plotting.write(figure, buffer, "png")
    buffer.seek(0)
    return np.uint8(255 * imread(buffer)[..., :3] + 0.5)
