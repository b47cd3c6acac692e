"""Fitting by one function of the whole data, on the host: for what no sum of fixed size can hold."""

import functools

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.core import Learner
from vae_jax.spec import BadOption


@struct.dataclass
class State:
    """What the loop asks for; the parameters never move."""

    step: jax.Array
    params: dict
    skipped: jax.Array
    skipped_in_row: jax.Array


def whole_data(model, x) -> Learner:
    """The parameters are `model.fit(x)` of all training examples `x` [N, *event] when the run begins; a step measures
    the loss of its batch and moves nothing. As the shapes of such parameters may hang on the data (the n-grams that
    there are), they are made outside of any compiled program.

    There is no `bound` among the metrics: the loss is that of data that were counted. Validation judges the fit.
    Raises `ValueError` where the family has no such function.
    """
    if model.fit is None:
        raise BadOption("name: 'whole_data' needs a family that is fitted to all data at once; use 'gradient'")
    fitted = functools.cache(lambda: model.fit(x))

    def init(key, batch):
        zero = jnp.zeros((), jnp.int32)
        return State(zero, jax.tree.map(jnp.asarray, fitted()), zero, zero)

    def step(state, batch):
        log_prob = jax.vmap(model.log_prob, (None, 0, 0))(state.params, batch["x"], batch.get("context"))
        metrics = {"loss": -jnp.mean(log_prob), "skipped": jnp.zeros(())}
        return state.replace(step=state.step + 1), metrics

    return Learner(init, step, lambda state: state.params)
