"""Fitting by sums over the data: EM in passes over the data, and counting, which takes a single pass.

E:  S = Σ_n E_{p(z|x_n; θ)}[s(x_n, z)]        batch by batch: memory does not grow with the data
M:  θ ← argmax_θ' E[log p(x, z; θ')], a function of S only
"""

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.core import Learner
from vae_jax.spec import BadOption, integers


@struct.dataclass
class State:
    """The state of a run: with it a resumed run continues exactly. It includes the sums of the pass so far."""

    step: jax.Array
    key: jax.Array
    params: dict
    sums: dict
    skipped: jax.Array  # batches whose sums were not finite
    skipped_in_row: jax.Array


def em(model, *, batches_per_pass) -> Learner:
    """Return the learner of expectation maximisation: an M step after every `batches_per_pass` batches.

    If these batches are all the data, the likelihood of the data never falls from one pass to the next (Dempster, Laird
    and Rubin 1977). The metric `bound` is the mean log p(x) of a batch under the parameters of its pass: over a pass,
    the likelihood before its M step. A batch whose sums are not finite is left out and counted as skipped.

    Raises `BadOption` for a family without `sums`.
    """
    _check(model, "em")
    integers(batches_per_pass=batches_per_pass)

    def step(state, batch):
        state, metrics = _accumulate(model, state, batch)
        whole = state.step % batches_per_pass == 0
        maximized = lambda state: state.replace(  # noqa: E731
            params=model.sums.maximize(state.params, state.sums), sums=jax.tree.map(jnp.zeros_like, state.sums)
        )
        return jax.lax.cond(whole, maximized, lambda state: state, state), metrics

    return Learner(_start(model), step, lambda state: state.params)


def counting(model) -> Learner:
    """Return the learner of a family whose statistics do not depend on the parameters: one pass over the data suffices.

    It adds the sums of all batches so far. Its parameters are at any time those that maximise the likelihood of these
    batches. There is no metric `bound`: `loss` is that of the parameters at the start. Validation judges the fit.

    Raises `BadOption` for a family without `sums`, and for one whose sums depend on the parameters.
    """
    _check(model, "counting")
    if not model.sums.one_pass:
        raise BadOption("name: 'counting' would make one step of EM of this family; use 'em'")
    start = _start(model)

    def step(state, batch):
        state, metrics = _accumulate(model, state, batch)
        return state, {name: metrics[name] for name in ("loss", "skipped")}

    return Learner(start, step, lambda state: model.sums.maximize(state.params, state.sums))


def _start(model):
    def init(key, batch):
        key_params, key = jax.random.split(key)
        params = model.init(key_params, batch)
        sums, _ = jax.eval_shape(model.sums.expect, params, batch)
        zero = jnp.zeros((), jnp.int32)
        return State(zero, key, params, jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), sums), zero, zero)

    return init


def _accumulate(model, state, batch):
    sums, log_prob = model.sums.expect(state.params, batch)
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves((sums, log_prob))]))
    add = lambda total, new: total + jnp.where(finite, new, jnp.zeros_like(new))  # noqa: E731
    skip = 1 - finite.astype(jnp.int32)
    state = state.replace(
        step=state.step + 1,
        sums=jax.tree.map(add, state.sums, sums),
        skipped=state.skipped + skip,
        skipped_in_row=(state.skipped_in_row + 1) * skip,
    )
    bound = jnp.mean(log_prob)
    return state, {"loss": -bound, "bound": bound, "skipped": skip.astype(jnp.float32)}


def _check(model, name):
    if model.sums is None:
        raise BadOption(f"name: {name!r} needs a family that is fitted by sums over the data; use 'gradient'")
