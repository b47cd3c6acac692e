"""What a trained model looks like: figures as PNG, pages of text, sounds."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from experiments import sentences, sounds
from vae_jax.data import transforms
from vae_jax.evaluation import latents
from vae_jax.tasks import interpolate, manifold, reconstruct
from vae_jax.training.writers import read_metrics


def figures(experiment, params, workdir, *, seed=0):
    """Draw everything that the model and the data allow into `workdir`/figures; of text, the pages of `sentences`; of
    sound, .wav files too.
    """
    from vae_jax import plotting  # matplotlib: not before it is needed
    from vae_jax.plotting import curves as curve_plots

    directory = Path(workdir) / "figures"
    directory.mkdir(exist_ok=True)
    drawn, key = {}, jax.random.key(seed)
    if experiment.dataset.vocabulary:
        sentences.write(experiment, params, directory, key)
    elif experiment.dataset.encoding:
        if experiment.model.sample:
            drawn["sounds"] = sounds.write(experiment, params, key, directory)
    elif experiment.model.latent:
        drawn |= _image_figures(experiment, params, key)
    elif experiment.model.sample:
        drawn["samples_of_pixels"] = _pixel_samples(experiment, params, key)
    if experiment.model.latent:
        drawn |= _code_figures(experiment, params)
    drawn["training"] = curve_plots.training(*curves(read_metrics(Path(workdir) / "metrics.jsonl")))
    for name, figure in drawn.items():
        plotting.save(figure, directory / f"{name}.png")
    return directory


def _image_figures(experiment, params, key):
    """Pairs (name, figure) of images: reconstructions, samples, interpolations and, with two latents, the manifold."""
    from vae_jax.plotting import images

    latent, test = experiment.model.latent, experiment.split("test")
    key_z, key_prior, key_class = jax.random.split(key, 3)
    show = to_unit(experiment)
    x, context = jnp.asarray(test["x"]), test.get("context")
    c = None if context is None else jnp.asarray(context)

    first = jax.tree.map(lambda a: a[:12], (x, c))
    mean = jax.jit(jax.vmap(lambda x, c: reconstruct.from_mean(latent, params, x, c)))(*first)
    yield "reconstructions", images.reconstructions(show(first[0]), show(mean))

    few = jax.tree.map(lambda a: a[:5], (x, c))
    redraw = jax.vmap(lambda k, x, c: reconstruct.from_samples(latent, params, k, x, c, num_samples=8))
    samples = jax.jit(redraw)(jax.random.split(key_z, 5), *few)
    yield "reconstruction_samples", images.reconstruction_samples(show(few[0]), show(samples))

    yield "interpolations", _interpolations(experiment, params, x, c, show)
    if latent.prior is None:
        return

    classes = _classes(experiment)

    def draw(k, c):
        return latent.likelihood(params, latent.prior(params, c).sample(k), c).mean()

    prior_means = jax.jit(jax.vmap(draw))(jax.random.split(key_prior, 100), classes)
    yield "samples", images.grid(show(prior_means), ncols=10)
    yield "samples_of_pixels", _pixel_samples(experiment, params, key_class)

    if jax.tree.map(jnp.shape, latent.prior(params, None if c is None else c[0]).mean()) == (2,):
        axes = {"manifold": manifold.grid_values(20), "manifold_quantiles": manifold.normal_quantiles(20)}
        for name, values in axes.items():
            grid = jax.jit(lambda v: manifold.decode_grid(latent, params, v, None if c is None else c[0]))(values)
            yield name, images.manifold(show(grid), np.asarray(values))


def _code_figures(experiment, params) -> dict:
    """The codes of the test set."""
    from vae_jax.plotting import latents as latent_plots

    drawn, test = {}, experiment.split("test")
    means = latents.posterior_means(experiment.model, params, test)
    codes, axes = to_plane(np.concatenate(jax.tree.leaves(means), axis=1))  # of all levels
    drawn["latents"] = latent_plots.scatter(codes, experiment.dataset.test.label, axes=axes)
    try:
        rates = np.asarray(latents.rate_per_dimension(experiment.model, params, test))
        drawn["rate_per_dimension"] = latent_plots.kl_per_dimension(rates, threshold=0.01)
    except TypeError as error:
        logging.info("no figure of the rate by dimension: %s", error)
    return drawn


def draws(experiment, params, key, number):
    """So many draws of x itself, in [0, 1], of the classes in turn where the model is conditional."""
    draw = jax.jit(jax.vmap(lambda k, c: experiment.model.sample(params, k, c)))
    return to_unit(experiment)(draw(jax.random.split(key, number), _classes(experiment, number)))


def _pixel_samples(experiment, params, key):
    from vae_jax.plotting import images

    return images.grid(draws(experiment, params, key, 100), ncols=10)


def _classes(experiment, number=100):
    """A class for each draw, None where the model has none."""
    return jnp.arange(number) % experiment.dataset.num_classes if experiment.config["data"]["context"] else None


def _interpolations(experiment, params, x, context, show, pairs=4, steps=9):
    """Between test images of different classes: the codes on a chord and on an arc."""
    from vae_jax.plotting import images

    latent, t = experiment.model.latent, jnp.linspace(0.0, 1.0, steps)
    index = _different_classes(experiment.dataset.test.label, pairs, len(x))
    a, b = (jax.tree.map(lambda v, i=i: v[i], (x, context)) for i in index)

    def paths(x_a, c_a, x_b, c_b):
        z_a, z_b = (latent.posterior(params, x, c).mean() for x, c in ((x_a, c_a), (x_b, c_b)))
        codes = tuple(interpolate.by_level(path, z_a, z_b, t) for path in (interpolate.linear, interpolate.spherical))
        decoded = tuple(interpolate.decode_path(latent, params, path, c_a) for path in codes)
        return tuple(path[-1] if isinstance(path, tuple) else path for path in codes), decoded  # the codes of the top

    (chord, arc), (along_chord, along_arc) = jax.jit(jax.vmap(paths))(*a, *b)
    return images.interpolation(
        show(a[0]), show(b[0]), show(along_chord), show(along_arc), np.asarray(chord), np.asarray(arc)
    )


def _different_classes(label, pairs, size):
    """Indices of the first images a, b whose classes differ, where there are such, one pair after the other."""
    left = np.arange(pairs)
    if label is None:
        return left, left + pairs
    own = [range(pairs + a, size, pairs) for a in left]
    right = [next((i for i in of if label[i] != label[a]), of[0]) for a, of in zip(left, own, strict=True)]
    return left, np.asarray(right)


def to_unit(experiment):
    """Pixels of the model's scale -> NumPy in [0, 1]."""
    scale = experiment.dataset.max_value if experiment.transform is transforms.levels else 1.0
    return lambda x: np.clip(np.asarray(x, np.float32) / scale, 0.0, 1.0)


def to_plane(means):
    """Two coordinates of each code: themselves, or their first two principal components."""
    if means.shape[1] == 2:
        return means, ("$z_1$", "$z_2$")
    centred = means - means.mean(0)
    if means.shape[1] == 1:
        return np.concatenate([means, np.zeros_like(means)], 1), ("$z_1$", "")
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    return means @ directions[:2].T, ("first principal component", "second principal component")


def curves(metrics) -> tuple[dict, dict]:
    """Lines of metrics.jsonl -> {name: (steps, values)} of training, and of validation."""

    def series(prefix):
        names = {name for line in metrics for name in line if name.startswith(prefix)}
        return {
            name.removeprefix(prefix): tuple(np.array([(m["step"], m[name]) for m in metrics if name in m]).T)
            for name in names
        }

    return series("train/"), series("valid/")
