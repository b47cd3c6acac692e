"""The pictures of a trained model: figures, pages of text, sounds. They are made when all numbers are written."""

import functools
import shlex
from pathlib import Path

import jax
import numpy as np
from absl import logging

from vae_jax.evaluation import latents, likelihood
from vae_jax.runs import passes, report, sentences, sounds
from vae_jax.runs.scene import Scene, contexts, standard_normal_prior, to_unit
from vae_jax.runs.writers import read_metrics
from vae_jax.spec import BadOption, nearest, shown
from vae_jax.training.progress import said

__all__ = ["curves", "drawn", "draws", "figures", "standard_normal_prior", "to_plane", "to_unit"]

FORMATS = ("png", "pdf", "svg")


def check_formats(formats):
    """Raise `BadOption` unless `formats` are names of `FORMATS`."""
    if isinstance(formats, str) or not formats:
        raise BadOption(f"--formats must name one or more of {', '.join(FORMATS)}, got {shown(formats)}")
    for name in formats:
        if name not in FORMATS:
            raise BadOption(f"--formats: unknown value {shown(name)}{nearest(str(name), FORMATS)}")


def figures(experiment, params, workdir, *, seed=0, formats=("png",), log_prob=None):
    """Draw everything that the model and the data allow into `workdir`/figures, and return that folder.

    Text gets the pages of `sentences`; sound gets .wav files as well. A figure that fails is one line in the log, and
    the others are drawn.

    Args:
      experiment: the experiment of the run.
      params: its trained parameters.
      workdir: the folder of the run.
      seed: of the samples.
      formats: what each figure is written as, among `FORMATS`.
      log_prob: log p(x) of the test examples [N] by these parameters; None for `log_prob.npy` of the workdir, if there.
    """
    check_formats(formats)
    directory, makers = Path(workdir) / "figures", {}
    log_prob = report.read_log_prob(workdir) if log_prob is None else log_prob
    listed = _attempt("figures", lambda: makers.update(_makers(experiment, params, directory, seed, log_prob)))
    makers["training"] = functools.partial(_training, Path(workdir) / "metrics.jsonl")
    with said(f"drawing {len(makers)} figures"):
        missing = [name for name, make in makers.items() if not drawn(name, make, directory / f"{name}.png", formats)]
    if missing or not listed:
        logging.warning("to draw them again: vae-jax evaluate --workdir=%s", shlex.quote(str(workdir)))
    return directory


def drawn(name, make, path, formats=("png",)) -> bool:
    """Save the figure that `make()` returns at `path`, and return True. If it returns None, nothing is saved.

    A failure, also of the saving, is one line in the log, and the result is False. Other `formats` than PNG are written
    beside `path`, with a suffix of their own.
    """

    def save():
        figure = make()
        if figure is not None:
            from vae_jax import plotting  # matplotlib: not before it is needed

            for kind in formats:
                plotting.save(figure, path if kind == "png" else path.with_suffix(f".{kind}"))

    return _attempt(f"figure {name}", save)


def _attempt(name, draw) -> bool:
    """Call `draw()` and return True; if it fails, log one line and return False."""
    try:
        draw()
    except Exception as error:  # of any kind: the numbers and the other figures do not depend on this one
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
        kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
        were = "was" if name.startswith("figure ") else "were"
        logging.warning("%s %s not drawn: %s%s", name, were, kind, reason)
        logging.debug("traceback:", exc_info=True)
        return False
    return True


def _makers(experiment, params, directory, seed, log_prob) -> dict:
    """Return {name: function that returns the figure, or writes files and returns None}."""
    key = jax.random.key(seed)
    params = passes.on_one_device(experiment, params)
    scene = Scene(experiment, params, log_prob=log_prob, seed=seed)
    makers = {}
    if experiment.dataset.vocabulary:
        makers |= sentences.pages(experiment, params, key, directory)
    elif experiment.dataset.encoding:
        if experiment.model.sample:
            makers["sounds"] = functools.partial(sounds.write, experiment, params, key, directory)
    elif experiment.dataset.strokes:
        from vae_jax.runs import stroke_figures  # matplotlib: not before it is needed

        makers |= stroke_figures.makers(scene, directory)
    elif scene.x.ndim == 4:
        from vae_jax.runs import image_figures  # matplotlib: not before it is needed

        makers |= image_figures.makers(scene)
    else:
        from vae_jax.runs import vector_figures

        makers |= vector_figures.makers(scene)
    if scene.sizes_of_codebooks:
        makers["code_use"] = functools.partial(_code_use, scene)
    elif experiment.model.latent:
        makers["latents"] = functools.partial(_codes, scene)
        if scene.has_prior:
            by_level = likelihood.judges_levels(scene.model, scene.params, scene.test)
            name, make = ("rate_per_level", _levels) if by_level else ("rate_per_dimension", _rates)
            makers[name] = functools.partial(make, scene)
    return makers


def _codes(scene):
    """Draw the codes of the test set, those of all levels."""
    from vae_jax.plotting import add_caption
    from vae_jax.plotting import latents as latent_plots

    codes = latents.side_by_side(scene.codes)
    plane, axes = to_plane(codes)
    radii = (1, 2) if scene.has_standard_prior else ()
    figure = latent_plots.scatter(plane, scene.label, axes=axes, radii=radii, class_names=scene.dataset.class_names)
    text = "Means of q(z|x) of the test set"
    if codes.shape[1] > 2:
        text += f" in the plane in which these {codes.shape[1]}-dimensional codes vary most"
    return add_caption(figure, f"{text}.{' Circles: standard deviations of p(z).' if radii else ''}")


def _code_use(scene):
    """Draw how often each code occurs in the test set."""
    from vae_jax.plotting import add_caption
    from vae_jax.plotting import codes as code_plots

    sizes, maps = scene.sizes_of_codebooks, jax.tree.leaves(scene.codes)
    names = ("codes",) if len(sizes) == 1 else ("bottom", "top")
    counts = {
        name: np.bincount(codes.ravel(), minlength=size) for name, codes, size in zip(names, maps, sizes, strict=True)
    }
    text = "Share of each code in the codes of the test set, the most frequent first. The line is a uniform use."
    return add_caption(code_plots.use(counts), text)


def _rates(scene):
    """Draw the rate of every dimension; return None if it does not split by dimension."""
    from vae_jax.plotting import add_caption
    from vae_jax.plotting import latents as latent_plots

    some = jax.tree.map(lambda a: a[: report.MUTUAL_INFORMATION_EXAMPLES], scene.test)
    try:
        rates = np.asarray(latents.rate_per_dimension(scene.model, scene.params, some))
    except TypeError as error:
        logging.info("the rate of each dimension is not drawn: %s", error)
        return None
    figure = latent_plots.kl_per_dimension(rates.ravel(), threshold=0.01)
    return add_caption(
        figure, "What each dimension of the code tells about x at most: its rate, a mean over the test set."
    )


def _levels(scene):
    """Draw the rate of every level of a hierarchy."""
    from vae_jax.plotting import add_caption
    from vae_jax.plotting import latents as latent_plots

    levels = likelihood.rate_by_level(scene.model, scene.params, jax.random.key(scene.seed), scene.test)
    text = "What each level tells about x beyond the levels above it, at most: its rate, a mean over the test set."
    return add_caption(latent_plots.kl_per_level(levels), text)


def _training(metrics):
    from vae_jax.plotting import add_caption
    from vae_jax.plotting import curves as curve_plots

    figure = curve_plots.training(*curves(read_metrics(metrics)))
    return add_caption(figure, "Means over the training steps between two logs, and over the validation set.")


def draws(experiment, params, key, number):
    """Return `number` draws of x in [0, 1]. A conditional model gets the classes in turn."""
    draw = jax.jit(jax.vmap(lambda k, c: experiment.model.sample(params, k, c)))
    return to_unit(experiment)(draw(jax.random.split(key, number), contexts(experiment, number)))


def to_plane(means):
    """Return two coordinates of each code and the names of the axes: the code itself, or two principal components.

    The names tell the share of the variance that a component explains.

    A missing component is 0. Codes that are not finite have no influence on the components. Raises `ValueError` if no
    code is finite.
    """
    means = np.asarray(means)
    finite = means[np.isfinite(means).all(axis=1)]
    if not len(finite):
        raise ValueError("no code is finite")
    if means.shape[1] == 2:
        return means, ("$z_1$", "$z_2$")
    if means.shape[1] == 1:
        return np.concatenate([means, np.zeros_like(means)], 1), ("$z_1$", "")
    _, scales, directions = np.linalg.svd(finite - finite.mean(0), full_matrices=False)
    plane = means @ directions[:2].T
    plane = np.pad(plane, ((0, 0), (0, 2 - plane.shape[1])))  # one code has one direction
    shares = np.pad(np.square(scales) / max(np.sum(np.square(scales)), 1e-30), (0, 2))[:2]
    ranks = zip(("first", "second"), shares, strict=True)
    return plane, tuple(f"{rank} principal component ({share:.0%} of the variance)" for rank, share in ranks)


def curves(metrics) -> tuple[dict, dict]:
    """Return {name: (steps, values)} of training, and of validation, from the lines of metrics.jsonl."""

    def series(prefix):
        names = {name for line in metrics for name in line if name.startswith(prefix)}
        return {
            name.removeprefix(prefix): tuple(np.array([(m["step"], m[name]) for m in metrics if name in m], float).T)
            for name in names
        }

    return series("train/"), series("valid/")
