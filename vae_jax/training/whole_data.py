"""Fitting by one function of all data, on the host: for families whose statistics have no fixed size."""

import functools

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.core import Learner
from vae_jax.spec import BadOption


@struct.dataclass
class State:
    """The state that the training loop needs. The parameters never change."""

    step: jax.Array
    params: dict
    skipped: jax.Array
    skipped_in_row: jax.Array


def whole_data(model, x) -> Learner:
    """Return the learner whose parameters are `model.fit(x)` of all training examples `x` [N, *event].

    They are computed when the run begins; a step only measures the loss of its batch. The shapes of such parameters may
    depend on the data, as the number of n-grams does, so they are computed outside any compiled program. There is no
    metric `bound`, because the loss is that of data that were counted. Validation judges the fit.

    Raises `BadOption` for a family without `fit`.
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
