"""The figures of a model of images: each function takes a `Scene` and returns a figure with its caption."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.distributions import Mixture
from vae_jax.plotting import add_caption, examples, images, walks
from vae_jax.plotting import codes as code_plots
from vae_jax.runs import build, passes
from vae_jax.runs.scene import different_classes
from vae_jax.tasks import interpolate, manifold

SHOWN, DRAWS = 12, 8  # images in a row; draws of a posterior
PAIRS, STEPS = 4, 9  # of interpolations
SEARCHED = 60_000  # training images among which the nearest are sought
AT_ONCE = 2**23  # numbers of training images in memory at once
MOST_COMPONENTS, PER_ROW = 60, 10


def makers(scene) -> dict:
    """Return {name: function of no arguments that returns the figure}, all that the model and the data allow."""
    model, chosen = scene.model, []
    if scene.latent:
        chosen = [reconstructions]
        of_integers = bool(scene.sizes_of_codebooks)  # with nothing between two of them
        if of_integers:
            chosen.append(code_maps)
        elif scene.has_prior and not scene.is_invertible:
            chosen.append(reconstruction_samples)
        if not of_integers and (scene.context is None or (scene.is_of_classes and not scene.is_expensive)):
            chosen.append(interpolations)
        if scene.has_plain_codes and not (scene.is_expensive or scene.is_invertible):
            chosen.append(traversals)
    if scene.has_prior and not scene.is_invertible:  # a flow has no noise of pixels: its means are its draws
        chosen.append(samples)
    if model.sample is not None:
        chosen += [samples_of_pixels, nearest]
    if scene.has_standard_prior and np.shape(scene.codes)[1:] == (2,):
        chosen += [manifold_even, manifold_quantiles]
    if scene.log_prob is not None and len(scene.x) > 1:
        chosen.append(best_and_worst)
    if component_means(scene) is not None:
        chosen.append(components)
    return {make.__name__.replace("manifold_even", "manifold"): functools.partial(make, scene) for make in chosen}


def reconstructions(scene):
    """Draw test images and their reconstructions from the mean of q(z|x)."""
    first = np.arange(min(SHOWN, len(scene.x)))
    figure = images.reconstructions(scene.show(scene.x[first]), scene.reconstruct(first))
    return add_caption(figure, "The first test images, and the mean of p(x|z) at the mean of q(z|x).")


def code_maps(scene):
    """Draw test images, the maps of their codes as colours, and their reconstructions."""
    first = np.arange(min(SHOWN, len(scene.x)))
    maps = {}
    names = ("codes",) if len(scene.sizes_of_codebooks) == 1 else ("bottom", "top")
    for name, codes in zip(names, jax.tree.leaves(scene.codes), strict=True):
        maps[name] = codes[first]
    sizes = dict(zip(names, scene.sizes_of_codebooks, strict=True))
    figure = code_plots.maps(scene.show(scene.x[first]), maps, sizes, scene.reconstruct(first))
    text = "Test images, their codes, a colour for each code (the colours have no order), and the means of p(x|k)."
    return add_caption(figure, text)


def reconstruction_samples(scene, rows=5):
    """Draw what the posterior leaves open."""
    rows = min(rows, len(scene.x))
    index = np.repeat(np.arange(rows), DRAWS)
    x, context = jax.tree.map(lambda a: a[index], (scene.x, scene.context))
    z = passes.encode(scene.latent, scene.params, x, context, seed=scene.seed)[1]
    redrawn = scene.decode(z, context)
    figure = images.reconstruction_samples(scene.show(scene.x[:rows]), redrawn.reshape(rows, DRAWS, *redrawn.shape[1:]))
    text = "Test images, means of p(x|z) for draws of their codes, and the standard deviation of each pixel over these."
    return add_caption(figure, text)


def samples(scene):
    """Draw means of p(x|z), z ~ p(z)."""
    return _sheet(scene, "mean", "Means of p(x|z) for codes z drawn from p(z)")


def samples_of_pixels(scene):
    """Draw x ~ p(x)."""
    of_codes = "Draws from p(x|z), with the noise of each pixel, for the same codes as the means"
    return _sheet(scene, "x", of_codes if "mean" in scene.draws else "Draws from the model")


def _sheet(scene, kind, text):
    names = [scene.class_name(k) for k in scene.classes]
    figure = images.grid(scene.show(scene.draws[kind]), ncols=10, row_names=names)
    return add_caption(figure, f"{text}. None is selected{', a row for each class' if names else ''}.")


def interpolations(scene):
    """Draw the way between test images of different classes.

    The codes lie on a chord and on an arc. A model that is conditional on the class decodes those of the chord twice,
    as the one class and as the other: half a class is an input that it has never seen.
    """
    a, b = different_classes(scene.context if scene.is_of_classes else scene.label, PAIRS, len(scene.x))
    z_a, z_b = (jax.tree.map(lambda z, i=i: z[i], scene.codes) for i in (a, b))
    chord, arc = _paths(z_a, z_b)
    x_a, x_b = scene.show(scene.x[a]), scene.show(scene.x[b])
    if scene.is_of_classes:
        as_a, as_b = (_along(scene, chord, scene.context[i]) for i in (a, b))
        names = [[scene.class_name(k) for k in scene.context[i]] for i in (a, b)]
        figure = walks.class_paths(x_a, x_b, as_a, as_b, *names)
        text = (
            "Codes on the line between two test images of different classes, decoded as each of the two classes. A way "
            "from the one image to the other changes rows somewhere: the model knows no class between two classes."
        )
        return add_caption(figure, text)
    top = [np.asarray(path[-1] if isinstance(path, tuple) else path) for path in (chord, arc)]  # codes of the top level
    top = [codes.reshape(*codes.shape[:2], -1) for codes in top]  # also maps as vectors
    decoded = (_along(scene, path, None) for path in (chord, arc))
    figure = images.interpolation(x_a, x_b, *decoded, *top, prior=scene.has_standard_prior)
    text = "Codes between those of two test images, on a straight line and on an arc, decoded."
    if scene.has_standard_prior:
        text += " Below, for the first pair: their plane, and their lengths beside those of most codes from p(z)."
    return add_caption(figure, text)


@jax.jit
def _paths(z_a, z_b):
    """Return the codes on the chords and on the arcs between the rows of z_a and z_b, [P, STEPS, D] at each level."""
    t = jnp.linspace(0.0, 1.0, STEPS)
    of_pairs = lambda path: jax.vmap(lambda a, b: interpolate.by_level(path, a, b, t))(z_a, z_b)  # noqa: E731
    return of_pairs(interpolate.linear), of_pairs(interpolate.spherical)


def _along(scene, path, context):
    """Decode paths [P, STEPS, D], those of pair p with context[p]."""
    flat = jax.tree.map(lambda z: np.asarray(z).reshape(-1, *z.shape[2:]), path)
    decoded = scene.decode(flat, None if context is None else np.repeat(context, STEPS, axis=0))
    return decoded.reshape(-1, STEPS, *decoded.shape[1:])


def traversals(scene, most=10):
    """Draw rows in which one dimension of the code of a test image changes, the most active dimensions first."""
    variance = scene.codes.var(axis=0)
    active = max(1, int(np.sum(variance > 0.01 if scene.has_standard_prior else variance > 0)))
    dims = np.argsort(-variance, kind="stable")[: min(most, active)]
    values = np.linspace(-3.0, 3.0, 13)
    centre, scale = (0.0, 1.0) if scene.has_standard_prior else (scene.codes.mean(axis=0), scene.codes.std(axis=0))
    z = np.tile(scene.codes[0], (len(dims), len(values), 1))
    for row, d in enumerate(dims):
        z[row, :, d] = (centre + scale * values[:, None] * np.ones_like(scene.codes[0]))[:, d]
    z = z.reshape(-1, z.shape[-1])
    context = None if scene.context is None else np.repeat(scene.context[:1], len(z), axis=0)
    decoded = scene.decode(z, context)
    decoded = decoded.reshape(len(dims), len(values), *decoded.shape[1:])
    of = "p(z)" if scene.has_standard_prior else "the test codes, around their mean"
    figure = walks.traversals(
        scene.show(scene.x[0]),
        decoded,
        values,
        [f"$z_{{{d + 1}}}$" for d in dims],
        unit=f"standard deviations of {of}",
    )
    text = (
        "Each row changes one dimension of the code of x and keeps the others. The dimension whose mean varies most "
        "over the test images comes first."
    )
    return add_caption(figure, text)


def nearest(scene, number=SHOWN, neighbours=3):
    """Draw samples above the training images that are nearest in pixels, which shows if the model memorises."""
    drawn = scene.show(scene.draws.get("mean", scene.draws["x"]))
    picked = drawn[np.linspace(0, len(drawn) - 1, min(number, len(drawn))).astype(int)]
    stored = scene.dataset.train.x
    scale = np.float32(scene.dataset.max_value)
    references = np.asarray(scene.dataset.test.x[: 2 * number], np.float32) / scale
    rows = np.concatenate([picked, references]).reshape(len(picked) + len(references), -1)
    index, distance = _nearest(rows, stored, scale, min(neighbours, len(stored)))
    found = np.asarray(stored[np.sort(index[: len(picked)].ravel())], np.float32) / scale
    order = np.argsort(np.argsort(index[: len(picked)].ravel(), kind="stable"), kind="stable")
    found = found[order].reshape(*index[: len(picked)].shape, *found.shape[1:])
    figure = examples.beside_nearest(picked, np.clip(found, 0, 1), distance[: len(picked), 0])
    searched = "the" if len(stored) <= SEARCHED else f"the first {SEARCHED:,}"
    kind = "Samples (means of p(x|z))" if "mean" in scene.draws else "Samples"
    medians = [np.median(part) for part in np.split(distance[:, 0], [len(picked)])]
    text = (
        f"{kind}, the nearest among {searched} training images, and the root-mean-square difference of their pixels. "
        f"Its median is {medians[0]:.2f} for samples and {medians[1]:.2f} for test images. Far smaller for samples, it "
        "would mean that the model repeats its training images."
    )
    return add_caption(figure, text)


def _nearest(rows, stored, scale, number):
    """Return the indices and the root-mean-square distances [N, number] of the stored images nearest to rows [N, D]."""
    size, dim = min(len(stored), SEARCHED), rows.shape[1]
    norms = np.sum(rows * rows, axis=1)[:, None]
    index, square = np.zeros((len(rows), 0), int), np.zeros((len(rows), 0), np.float32)
    step = max(number, AT_ONCE // dim)
    for start in range(0, size, step):
        part = np.asarray(stored[start : min(start + step, size)], np.float32).reshape(-1, dim) / scale
        new = norms - 2.0 * rows @ part.T + np.sum(part * part, axis=1)
        square = np.concatenate([square, new], axis=1)
        index = np.concatenate([index, np.broadcast_to(start + np.arange(len(part)), new.shape)], axis=1)
        keep = np.argsort(square, axis=1, kind="stable")[:, :number]
        square, index = np.take_along_axis(square, keep, 1), np.take_along_axis(index, keep, 1)
    return index, np.sqrt(np.maximum(square, 0.0) / dim)


def manifold_even(scene):
    """Draw the plane of codes, decoded at even values."""
    return _manifold(scene, manifold.grid_values, "at even steps")


def manifold_quantiles(scene):
    """Draw the plane of codes, decoded at the quantiles of N(0, 1)."""
    return _manifold(
        scene, manifold.normal_quantiles, "at quantiles of p(z): every image stands for an equal share of it"
    )


def _manifold(scene, axis, where):
    values = np.asarray(axis(20))
    z = np.stack([np.tile(values, 20), np.repeat(values, 20)], axis=1)  # z_1 changes along a row
    context = None if scene.context is None else np.repeat(scene.context[:1], len(z), axis=0)
    grid = scene.decode(z, context)
    title = scene.class_name(scene.context[0]) if scene.is_of_classes else None
    figure = images.manifold(grid.reshape(20, 20, *grid.shape[1:]), values, title=title)
    return add_caption(figure, f"Means of p(x|z) for codes {where}.")


def best_and_worst(scene):
    """Draw the test images with the highest and with the lowest log p(x)."""
    order = np.argsort(-scene.log_prob, kind="stable")
    number = min(SHOWN, len(order) // 2)
    rows = {"highest": order[:number], "lowest": order[::-1][:number]}
    figure = examples.ranked({name: (scene.show(scene.x[i]), scene.log_prob[i]) for name, i in rows.items()})
    given = "|c" if scene.context is not None else ""
    text = f"The test images with the highest and the lowest log p(x{given}), in nats, among {len(order):,}."
    return add_caption(figure, text)


def component_means(scene):
    """Return the mean images of a mixture and their weights, or those of the classes without weights; else None."""
    if scene.model.density is None or scene.latent is not None:
        return None
    shapes = build.likelihood_shapes(scene.experiment)
    first = None if scene.context is None else scene.context[0]
    if isinstance(shapes, Mixture):
        if isinstance(shapes.components, Mixture):
            return None

        def of_mixture(params):
            density = scene.model.density(params, first)
            means = jax.vmap(lambda component: component.mean())(density.components)
            return means.reshape(len(means), *scene.x.shape[1:]), jnp.exp(density.log_weights())

        return jax.tree.map(np.asarray, jax.jit(of_mixture)(scene.params))
    if scene.is_of_classes and not scene.is_expensive:
        means = jax.jit(jax.vmap(lambda params, c: scene.model.density(params, c).mean(), (None, 0)))
        return np.asarray(means(scene.params, scene.classes)), None
    return None


def components(scene):
    """Draw the means of the components of a mixture, the heaviest first, or of the classes of a conditional density."""
    means, weights = component_means(scene)
    if weights is None:
        figure = images.grid(
            scene.show(means), ncols=len(means), column_names=[scene.class_name(k) for k in scene.classes]
        )
        return add_caption(figure, "The mean of p(x|c) of each class c.")
    order = np.argsort(-weights, kind="stable")[:MOST_COMPONENTS]
    of_classes = scene.dataset.num_classes == len(weights) and scene.experiment.config["family"] == "naive_bayes"
    names = [scene.class_name(k) for k in order] if of_classes else ()
    figure = images.grid(scene.show(means[order]), ncols=min(PER_ROW, len(order)), column_names=names)
    some = f"the {len(order)} heaviest of {len(weights)}" if len(order) < len(weights) else f"all {len(weights)}"
    text = f"Means of {some} components, heaviest first: weights from {weights.max():.1%} to {weights[order[-1]]:.1%}."
    return add_caption(figure, text)
