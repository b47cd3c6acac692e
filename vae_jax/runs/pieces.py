"""A function of one example, applied to many in pieces of a fixed size, so that it compiles once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.evaluation import devices, likelihood

AT_ONCE = 128  # examples of a compiled call; fewer if they are large


def apply(function, experiment, params, x, context):
    """Return `function(model, params, x, context)` of every x, as NumPy.

    Args:
      function: a function of a module, since it is compiled once for each.
      experiment: the experiment of the run.
      params: its parameters; the examples are cut over their devices.
      x: arrays [N, ...], or a tree of them, such as codes of several levels.
      context: arrays [N, ...]; None for an unconditional model.
    """
    data = {"x": x} if context is None else {"x": x, "context": context}
    size, mesh = len(jax.tree.leaves(x)[0]), devices.mesh_of(params)
    shape = experiment.dataset.train.x.shape[1:]
    many = min(AT_ONCE, likelihood.examples_a_call({"x": np.broadcast_to(0, (1, *shape))}), power_of_two(size))
    pieces = []
    for start in range(0, size, many):
        piece = padded(jax.tree.map(lambda a, start=start: a[start : start + many], data), many)
        pieces.append(jax.device_get(_applied(function, experiment.model, mesh, params, piece)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:size], *pieces)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _applied(function, model, mesh, params, data):
    def some(params, data):
        one = lambda x, context: function(model, params, x, context)  # noqa: E731
        return jax.vmap(one)(data["x"], data.get("context"))

    return devices.over_devices(some, mesh, params, data)


def draw(model, params, key_data, context):
    """Return a draw of x, for `apply` with the data of keys as x: keys are not padded."""
    return model.sample(params, jax.random.wrap_key_data(key_data), context)


def padded(data, size):
    """Return `data`, a tree of arrays, with copies of the last example up to `size` examples."""

    def pad(array):
        missing = size - len(array)
        return array if missing <= 0 else jnp.concatenate([array, jnp.repeat(array[-1:], missing, axis=0)])

    return jax.tree.map(pad, data)


def power_of_two(size):
    """Return the least power of two that is at least `size`, or `size` itself above one piece of `likelihood`."""
    return min(1 << (size - 1).bit_length(), max(size, likelihood.PIECE))
