"""The figures of a model of pen drawings, and its draws as SVG files."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.files import write_text
from vae_jax.plotting import add_caption
from vae_jax.plotting import drawings as plots
from vae_jax.runs.scene import contexts, different_classes
from vae_jax.tasks import decode, interpolate

NUMBER, TEMPERATURES = 12, (0.4, 0.7, 1.0)  # drawings in a row; τ of the draws
PAIRS, STEPS = 6, 8


def makers(scene, directory) -> dict:
    """Return {name: function of no arguments that returns the figure}, all that the model allows.

    The draws at temperature 1 are also written as SVG files into `directory`/drawings, and those at the
    middle temperature, with strokes that are drawn in time, into `directory`/drawings_in_time.svg.
    """
    names = {"drawings": functools.partial(samples, scene, directory)}
    if scene.latent:
        names |= {"reconstructions": functools.partial(reconstructions, scene)}
        if len(scene.x) > 1:
            names |= {"interpolations": functools.partial(interpolations, scene)}
    return names


def samples(scene, directory):
    """Draw test drawings, and draws of the model at three temperatures, with the same contexts in every row."""
    model, params = scene.model, scene.params
    number = min(NUMBER, len(scene.x))
    context = contexts(scene.experiment, number)
    keys = jax.random.split(jax.random.key(scene.seed), number)

    def one(key, context, temperature):
        if model.density:
            return model.density(params, context).sample(key, temperature)
        key_z, key_x = jax.random.split(key)
        z = model.latent.prior(params, context).sample(key_z)
        return model.latent.likelihood(params, z, context).sample(key_x, temperature)

    draw = jax.jit(jax.vmap(jax.vmap(one, (0, 0, None)), (None, None, 0)))
    drawn = np.asarray(draw(keys, context, jnp.array(TEMPERATURES)))
    folder = directory / "drawings"
    folder.mkdir(parents=True, exist_ok=True)
    for n, points in enumerate(drawn[-1]):
        write_text(folder / f"{n}.svg", plots.to_svg(points))
    write_text(directory / "drawings_in_time.svg", plots.in_time(drawn[1]))
    rows = np.concatenate([scene.x[:number][None], drawn])
    figure = plots.sheet(rows, names=("test data", *(f"τ = {t:g}" for t in TEMPERATURES)))
    return add_caption(figure, "The first test drawings, and draws of the model at a temperature; none is selected.")


def reconstructions(scene):
    """Draw test drawings above draws of p(x|z) at the means of their posteriors, at a low temperature."""
    number = min(NUMBER, len(scene.x))
    drawn = _of_codes(scene, scene.codes[:number])
    figure = plots.sheet(np.stack([scene.x[:number], drawn]), names=("test data", "from its code"))
    return add_caption(figure, f"Below, draws of p(x|z) at temperature {decode.COLD:g}, z the mean of q(z|x).")


def interpolations(scene):
    """Draw great circles between the codes of pairs of test drawings, with one noise for each line."""
    a, b = different_classes(scene.label, PAIRS, len(scene.x))
    t = jnp.linspace(0.0, 1.0, STEPS)
    paths = jax.vmap(lambda a, b: interpolate.spherical(a, b, t))(scene.codes[a], scene.codes[b])
    figure = plots.sheet(np.stack([_of_codes(scene, path, same=True) for path in paths]))
    return add_caption(
        figure,
        f"Great circles between the codes of two test drawings, drawn at temperature {decode.COLD:g} with one noise.",
    )


def _of_codes(scene, z, *, same=False):
    """Return a draw of p(x|z) for each code [N, D]; with `same`, all from one key."""
    key = jax.random.key(scene.seed)
    keys = jnp.broadcast_to(key, len(z)) if same else jax.random.split(key, len(z))
    context = contexts(scene.experiment, len(z))
    draw = jax.jit(jax.vmap(lambda k, z, c: decode.typical(scene.latent.likelihood(scene.params, z, c), k)))
    return np.asarray(draw(keys, jnp.asarray(z), context))
