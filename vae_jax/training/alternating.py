"""Generalised EM for a model with an encoder: φ tightens the bound (E step) and θ raises it (M step), in turns.

φ is what `params` hold under "encoder" (or the names given), θ all the rest. Either part has an optimiser state of its
own, which stands still with it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import struct

from vae_jax.core import Learner
from vae_jax.spec import BadOption, integers, names
from vae_jax.training.gradient import gradient

ENCODER, REST, BOTH = 0, 1, 2


def alternating(model, optimizer, *, encoder_steps, decoder_steps, encoder=("encoder",), **options) -> Learner:
    """`encoder_steps` steps of φ, then `decoder_steps` of θ, and so on: a generalised EM (Neal and Hinton 1998).

    `optimizer` is of Optax, `options` are those of `training.gradient`. The gradient of all is computed at every step.
    Raises `ValueError` for a turn without steps.
    """
    return gradient(model, in_turns(optimizer, encoder_steps, decoder_steps, encoder), **options)


def in_turns(optimizer, encoder_steps, decoder_steps, encoder=("encoder",)) -> optax.GradientTransformation:
    """An Optax optimiser of one part at a time, in turns of fixed length."""
    integers(encoder_steps=encoder_steps, decoder_steps=decoder_steps)
    names(encoder=encoder)

    def decide(step, **_):
        return step + 1, jnp.where(step % (encoder_steps + decoder_steps) < encoder_steps, ENCODER, REST)

    return _turns(optimizer, encoder, jnp.zeros((), jnp.int32), decide)


@struct.dataclass
class Lag:
    """Where the aggressive phase stands."""

    aggressive: jax.Array  # whether φ still goes first
    inner: jax.Array  # steps of φ since the last of θ
    loss: jax.Array  # summed over the window so far
    before: jax.Array  # mean of the window before
    step: jax.Array
    information: jax.Array  # summed since the last check, nats
    best: jax.Array  # mean between two checks, so far


def aggressive(
    model, optimizer, *, information: Callable, window, max_steps, check_every, encoder=("encoder",), **options
) -> Learner:
    """The lagging encoder brought up, arXiv:1901.05534 algorithm 1: between two steps of θ, φ moves until the mean loss
    of `window` steps is no lower than that of the window before, at most `max_steps`; once the mutual information
    I_q(x; z) has not risen between two checks, `check_every` steps apart, both move at every step for good.

    `information(params, key, batch)` -> nats estimates it within a batch (so at most log B; the paper takes batches of
    the validation set, here they are of the training set). The metric `aggressive` says in which phase a step was.
    """
    integers(window=window, max_steps=max_steps, check_every=check_every)
    names(encoder=encoder)
    zero, steps = jnp.zeros(()), jnp.zeros((), jnp.int32)
    start = Lag(jnp.ones((), bool), steps, zero, jnp.full((), jnp.inf), steps, zero, jnp.full((), -jnp.inf))

    def decide(lag, *, params, value, key, batch):
        inner, step, loss = lag.inner + 1, lag.step + 1, lag.loss + value
        full = inner % window == 0
        converged = (full & (loss / window >= lag.before)) | (inner >= max_steps)
        # The key as numbers, as in `gradient`.
        ask = lambda params, data, batch: information(params, jax.random.wrap_key_data(data), batch)  # noqa: E731
        known = (params, jax.random.key_data(key), batch)
        told = lag.information + jax.lax.cond(lag.aggressive, ask, lambda *_: 0.0, *known)
        check, mean = step % check_every == 0, told / check_every
        new = Lag(
            aggressive=lag.aggressive & (~check | (mean > lag.best)),
            inner=jnp.where(converged, 0, inner),
            loss=jnp.where(full | converged, 0.0, loss),
            before=jnp.where(converged, jnp.inf, jnp.where(full, loss / window, lag.before)),
            step=step,
            information=jnp.where(check, 0.0, told),
            best=jnp.where(check, jnp.maximum(lag.best, mean), lag.best),
        )
        return new, jnp.where(lag.aggressive, jnp.where(converged, REST, ENCODER), BOTH)

    learner = gradient(model, _turns(optimizer, encoder, start, decide), **options)

    def step(state, batch):
        new, metrics = learner.step(state, batch)
        return new, {**metrics, "aggressive": state.opt_state["turn"].aggressive.astype(jnp.float32)}

    return learner._replace(step=step)


def _turns(optimizer, encoder, start, decide):
    """An Optax optimiser that moves the part that `decide(turn, **what the learner tells)` -> turn, ENCODER | REST |
    BOTH names, `start` being the first turn.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def parts(params):
        own = {name: value for name, value in params.items() if name in encoder}
        if not own or len(own) == len(params):
            raise BadOption(
                f"encoder: {tuple(encoder)} and a rest must both be parts of the model, which has the "
                f"parts {', '.join(sorted(params))}"
            )
        return own, {name: value for name, value in params.items() if name not in own}

    def init(params):
        phi, theta = parts(params)
        return {"turn": start, "encoder": optimizer.init(phi), "rest": optimizer.init(theta)}

    def update(gradients, state, params=None, **told):
        turn, whose = decide(state["turn"], params=params, **told)
        updates, new = {}, {"turn": turn}
        for index, name in ((ENCODER, "encoder"), (REST, "rest")):
            g, p = parts(gradients)[index], parts(params)[index]
            move = lambda g=g, s=state[name], p=p: optimizer.update(g, s, p, **told)  # noqa: E731
            rest = lambda g=g, s=state[name]: (jax.tree.map(jnp.zeros_like, g), s)  # noqa: E731
            moved, new[name] = jax.lax.cond((whose == index) | (whose == BOTH), move, rest)
            updates |= moved
        return updates, new

    return optax.GradientTransformationExtraArgs(init, update)
