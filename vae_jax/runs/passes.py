"""The compiled passes of a model that previews and figures share: encode, decode, draw.

Each pass takes any number of rows and computes `ROWS` of them at a time, so that it is compiled once for a model, by
whoever needs it first. Rows are NumPy arrays, or trees of them, with a leading axis [N].
"""

import functools

import jax
import numpy as np

from vae_jax.training import sharding

ROWS = 100


def on_one_device(experiment, params):
    """Return parameters that every pass accepts: those of the run, or a copy if they lie on several devices.

    The copy is made by all processes of a run together.
    """
    return params if experiment.mesh.size == 1 else sharding.on_host(params)


def encode(latent, params, x, context=None, *, seed=0):
    """Return the mean of q(z|x) and one draw z ~ q(z|x) of every row.

    Args:
      latent: a `core.Latent`.
      params: its parameters.
      x: examples [N, ...].
      context: their contexts, or None.
      seed: of the draws.
    """
    return _rows(_encode, latent, params, (x, context), seed)


def decode(latent, params, z, context=None):
    """Return the mean of p(x|z) of every row.

    Args:
      latent: a `core.Latent`.
      params: its parameters.
      z: codes [N, ...], or a tuple of them for a hierarchy.
      context: their contexts, or None.
    """
    return _rows(_decode, latent, params, (z, context))


def draw(model, params, number, context=None, *, seed=0, means=True):
    """Return `number` draws of the model, {"x": draws}, and of one with codes also the means of p(x|z) they came from.

    Args:
      model: a `core.Model` that can be drawn from.
      params: its parameters.
      number: how many.
      context: a context for each, or None.
      seed: of the draws. Draw n depends on the seed and on n, not on `number`.
      means: False to leave out the means, which are expensive for an autoregressive likelihood.
    """
    of_codes = means and model.latent is not None and model.latent.prior is not None
    one = _draw_with_mean if of_codes else _draw
    return _rows(one, model.latent if of_codes else model.sample, params, (np.arange(number), context), seed)


def _rows(one, of, params, rows, seed=0):
    """Apply `one` to `ROWS` rows at a time; the last ones are filled up with copies of the last row."""
    number = len(jax.tree.leaves(rows)[0])
    # Keys are made on the host, and are not of threefry: compiling its hash would take longer than everything else.
    keys = np.random.default_rng(seed).integers(2**32, size=(-(-number // ROWS) * ROWS, 4), dtype=np.uint32)
    parts = []
    for start in range(0, number, ROWS):
        index = np.arange(start, start + ROWS)
        part = jax.tree.map(lambda a, index=index: np.asarray(a)[np.minimum(index, number - 1)], rows)
        parts.append(jax.device_get(_apply(one, of, params, keys[index], part)))
    return jax.tree.map(lambda *a: np.concatenate(a)[:number], *parts)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _apply(one, of, params, keys, rows):
    run = lambda key, row: one(of, params, jax.random.wrap_key_data(key, impl="unsafe_rbg"), row)  # noqa: E731
    return jax.vmap(run)(keys, rows)


def _encode(latent, params, key, row):
    q = latent.posterior(params, *row)
    return q.mean(), q.sample(key)


def _decode(latent, params, key, row):
    return latent.likelihood(params, *row).mean()


def _draw(sample, params, key, row):
    return {"x": sample(params, key, row[1])}


def _draw_with_mean(latent, params, key, row):
    key_z, key_x = jax.random.split(key)
    likelihood = latent.likelihood(params, latent.prior(params, row[1]).sample(key_z), row[1])
    return {"x": likelihood.sample(key_x), "mean": likelihood.mean()}
