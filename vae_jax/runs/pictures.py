"""The pictures of a trained model: figures as PNG, pages of text, sounds."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from vae_jax.data import transforms
from vae_jax.distributions import is_standard_normal
from vae_jax.evaluation import latents
from vae_jax.runs import sentences, sounds
from vae_jax.runs.writers import read_metrics
from vae_jax.tasks import interpolate, manifold, reconstruct


def figures(experiment, params, workdir, *, seed=0):
    """Draw everything that the model and the data allow into `workdir`/figures, and return that folder.

    Text gets the pages of `sentences`; sound gets .wav files as well. A figure that fails is one line in the log, and
    the others are drawn.

    Args:
      experiment: the experiment of the run.
      params: its trained parameters.
      workdir: the folder of the run.
      seed: of the samples.
    """
    directory, key = Path(workdir) / "figures", jax.random.key(seed)
    makers = {}
    if experiment.dataset.vocabulary:
        makers |= sentences.pages(experiment, params, key, directory)
    elif experiment.dataset.encoding:
        if experiment.model.sample:
            makers["sounds"] = functools.partial(sounds.write, experiment, params, key, directory)
    elif experiment.model.latent:
        makers |= _image_figures(experiment, params, key)
    elif experiment.model.sample:
        makers["samples_of_pixels"] = functools.partial(_pixel_samples, experiment, params, key)
    if experiment.model.latent:
        makers["latents"] = functools.partial(_codes, experiment, params)
        makers["rate_per_dimension"] = functools.partial(_rates, experiment, params)
    makers["training"] = functools.partial(_training, Path(workdir) / "metrics.jsonl")
    missing = [name for name, make in makers.items() if not drawn(name, make, directory / f"{name}.png")]
    if missing:
        logging.warning("to draw them again: python -m experiments.evaluate --workdir=%s", workdir)
    return directory


def drawn(name, make, path) -> bool:
    """Save the figure that `make()` returns as a PNG at `path`, and return True. If it returns None, nothing is saved.

    A failure is one line in the log, and the result is False.
    """
    try:
        figure = make()
        if figure is not None:
            from vae_jax import plotting  # matplotlib: not before it is needed

            plotting.save(figure, path)
    except Exception as error:  # of any kind: the numbers and the other figures do not depend on this one
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
        kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
        logging.warning("figure %s was not drawn: %s%s", name, kind, reason)
        logging.debug("traceback:", exc_info=True)
        return False
    return True


def _image_figures(experiment, params, key) -> dict:
    """Return {name: function that returns the figure}.

    The figures are reconstructions, samples, interpolations and the manifold, if p(z) is a standard normal in 2-D.
    """
    latent, test = experiment.model.latent, experiment.split("test")
    key_z, key_prior, key_class = jax.random.split(key, 3)
    x, context = jnp.asarray(test["x"]), test.get("context")
    c = None if context is None else jnp.asarray(context)
    run = (experiment, params)
    makers = {
        "reconstructions": functools.partial(_reconstructions, *run, x, c),
        "reconstruction_samples": functools.partial(_reconstruction_samples, *run, key_z, x, c),
        "interpolations": functools.partial(_interpolations, *run, x, c),
    }
    if latent.prior is None:
        return makers
    makers["samples"] = functools.partial(_samples, *run, key_prior)
    makers["samples_of_pixels"] = functools.partial(_pixel_samples, *run, key_class)
    prior = standard_normal_prior(experiment, params)
    if prior is not None and prior.loc.shape == (2,):
        first = None if c is None else c[0]
        makers["manifold"] = functools.partial(_manifold, *run, manifold.grid_values, first)
        makers["manifold_quantiles"] = functools.partial(_manifold, *run, manifold.normal_quantiles, first)
    return makers


def standard_normal_prior(experiment, params):
    """Return p(z) if it is N(0, I), otherwise None, as for an auto-encoder, a VampPrior or a hierarchy."""
    if experiment.model.latent.prior is None:
        return None
    context = experiment.split("test")["context"][0] if experiment.context else None
    prior = experiment.model.latent.prior(params, context)
    return prior if is_standard_normal(prior) else None


def _reconstructions(experiment, params, x, context):
    from vae_jax.plotting import images

    show = to_unit(experiment)
    first = jax.tree.map(lambda a: a[:12], (x, context))
    decode = jax.vmap(lambda x, c: reconstruct.from_mean(experiment.model.latent, params, x, c))
    return images.reconstructions(show(first[0]), show(jax.jit(decode)(*first)))


def _reconstruction_samples(experiment, params, key, x, context):
    from vae_jax.plotting import images

    show, latent = to_unit(experiment), experiment.model.latent
    few = jax.tree.map(lambda a: a[:5], (x, context))
    redraw = jax.vmap(lambda k, x, c: reconstruct.from_samples(latent, params, k, x, c, num_samples=8))
    samples = jax.jit(redraw)(jax.random.split(key, len(few[0])), *few)
    return images.reconstruction_samples(show(few[0]), show(samples))


def _samples(experiment, params, key):
    """Draw means of p(x|z), z ~ p(z)."""
    from vae_jax.plotting import images

    latent = experiment.model.latent

    def draw(k, c):
        return latent.likelihood(params, latent.prior(params, c).sample(k), c).mean()

    means = jax.jit(jax.vmap(draw))(jax.random.split(key, 100), _contexts(experiment))
    return images.grid(to_unit(experiment)(means), ncols=10)


def _manifold(experiment, params, axis, context):
    """Draw the plane of codes, decoded at `axis(20)`; a conditional model gets the class of the first test image."""
    from vae_jax.plotting import images

    values, latent = axis(20), experiment.model.latent
    grid = jax.jit(lambda v: manifold.decode_grid(latent, params, v, context))(values)
    title = None if context is None else f"class {context}"
    return images.manifold(to_unit(experiment)(grid), np.asarray(values), title=title)


def _codes(experiment, params):
    """Draw the codes of the test set, those of all levels."""
    from vae_jax.plotting import latents as latent_plots

    means = latents.posterior_means(experiment.model, params, experiment.split("test"))
    codes, axes = to_plane(np.concatenate(jax.tree.leaves(means), axis=1))
    radii = () if standard_normal_prior(experiment, params) is None else (1, 2)
    return latent_plots.scatter(codes, experiment.dataset.test.label, axes=axes, radii=radii)


def _rates(experiment, params):
    """Draw the rate of every dimension; return None if it does not split by dimension."""
    from vae_jax.plotting import latents as latent_plots

    try:
        rates = np.asarray(latents.rate_per_dimension(experiment.model, params, experiment.split("test")))
    except TypeError as error:
        logging.info("the rate of each dimension is not drawn: %s", error)
        return None
    return latent_plots.kl_per_dimension(rates, threshold=0.01)


def _training(metrics):
    from vae_jax.plotting import curves as curve_plots

    return curve_plots.training(*curves(read_metrics(metrics)))


def draws(experiment, params, key, number):
    """Return `number` draws of x in [0, 1]. A conditional model gets the classes in turn."""
    draw = jax.jit(jax.vmap(lambda k, c: experiment.model.sample(params, k, c)))
    return to_unit(experiment)(draw(jax.random.split(key, number), _contexts(experiment, number)))


def _pixel_samples(experiment, params, key):
    from vae_jax.plotting import images

    return images.grid(draws(experiment, params, key, 100), ncols=10)


def _contexts(experiment, number=100):
    """Return a context for each draw: the classes in turn, or the contexts of test examples; None if there is none."""
    if experiment.context is None:
        return None
    if experiment.context.shape == ():
        return jnp.arange(number) % experiment.context.support.num_levels
    contexts = jnp.asarray(experiment.split("test")["context"])
    return contexts[jnp.arange(number) % len(contexts)]


def _interpolations(experiment, params, x, context, pairs=4, steps=9):
    """Draw the way between two test images: the codes on a chord and on an arc.

    The images have different classes. If the model is conditional on the class, they have the same class, since half
    a class cannot be decoded.
    """
    from vae_jax.plotting import images

    latent, t, show = experiment.model.latent, jnp.linspace(0.0, 1.0, steps), to_unit(experiment)
    if context is None:
        index, names = _different_classes(experiment.dataset.test.label, pairs, len(x)), None
    elif experiment.context.shape:
        raise ValueError("a path is only drawn for a class as context, or for none")
    else:
        index = _same_class(context, pairs)
        names = [f"class {context[i]}" for i in index[0]]
    a, b = (jax.tree.map(lambda v, i=i: v[i], (x, context)) for i in index)

    def paths(x_a, c_a, x_b, c_b):
        z_a, z_b = (latent.posterior(params, x, c).mean() for x, c in ((x_a, c_a), (x_b, c_b)))
        codes = tuple(interpolate.by_level(path, z_a, z_b, t) for path in (interpolate.linear, interpolate.spherical))
        decoded = tuple(interpolate.decode_path(latent, params, path, c_a) for path in codes)
        return tuple(path[-1] if isinstance(path, tuple) else path for path in codes), decoded  # the codes of the top

    (chord, arc), (along_chord, along_arc) = jax.jit(jax.vmap(paths))(*a, *b)
    return images.interpolation(
        show(a[0]),
        show(b[0]),
        show(along_chord),
        show(along_arc),
        np.asarray(chord),
        np.asarray(arc),
        names=names,
        prior=standard_normal_prior(experiment, params) is not None,
    )


def _different_classes(label, pairs, size):
    """Return the indices of the first images a, b of different classes, as many pairs as the images allow.

    If all images have the same class, so do the pairs. Raises `ValueError` for fewer than two images.
    """
    pairs = min(pairs, size // 2)
    if pairs == 0:
        raise ValueError(f"a path needs two test images, and the test set has {size}")
    left = np.arange(pairs)
    if label is None:
        return left, left + pairs
    candidates = [range(pairs + a, size, pairs) for a in left]
    right = [next((i for i in some if label[i] != label[a]), some[0]) for a, some in zip(left, candidates, strict=True)]
    return left, np.asarray(right)


def _same_class(label, pairs):
    """Return the indices of two images a, b of one class, for each of the first classes that have two.

    Raises `ValueError` if no class has two.
    """
    places = {}
    for index, name in enumerate(np.asarray(label).tolist()):
        places.setdefault(name, []).append(index)
    twos = [indices[:2] for indices in places.values() if len(indices) > 1][:pairs]
    if not twos:
        raise ValueError("a path of a conditional model needs two test images of one class, and no class has two")
    return tuple(np.transpose(twos))


def to_unit(experiment):
    """Return the function from pixels on the model's scale to NumPy arrays in [0, 1]."""
    scale = experiment.dataset.max_value if experiment.transform is transforms.levels else 1.0
    return lambda x: np.clip(np.asarray(x, np.float32) / scale, 0.0, 1.0)


def to_plane(means):
    """Return two coordinates of each code and the names of the axes: the code itself, or two principal components.

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
    _, _, directions = np.linalg.svd(finite - finite.mean(0), full_matrices=False)
    plane = means @ directions[:2].T
    plane = np.pad(plane, ((0, 0), (0, 2 - plane.shape[1])))  # one code has one direction
    return plane, ("first principal component", "second principal component")


def curves(metrics) -> tuple[dict, dict]:
    """Return {name: (steps, values)} of training, and of validation, from the lines of metrics.jsonl."""

    def series(prefix):
        names = {name for line in metrics for name in line if name.startswith(prefix)}
        return {
            name.removeprefix(prefix): tuple(np.array([(m["step"], m[name]) for m in metrics if name in m], float).T)
            for name in names
        }

    return series("train/"), series("valid/")
