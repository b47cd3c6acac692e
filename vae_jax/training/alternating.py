"""Generalised EM for a model with an encoder: φ tightens the bound (E step) and θ raises it (M step), in turns.

φ are the parts of `params` named by `encoder`, by default "encoder"; θ are all other parts. Each has its own optimiser
state, which changes only with it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import struct

from vae_jax.core import Learner
from vae_jax.spec import BadOption, integers, names, nearest
from vae_jax.training.gradient import gradient, rates_of, with_rates

ENCODER, REST, BOTH = 0, 1, 2


def alternating(model, optimizer, *, encoder_steps, decoder_steps, encoder=("encoder",), **options) -> Learner:
    """Return the learner that makes `encoder_steps` steps of φ, then `decoder_steps` of θ, and so on.

    A generalised EM (Neal and Hinton 1998). The gradient of all parameters is computed at every step.

    Args:
      model: a `core.Model`.
      optimizer: of Optax.
      encoder_steps: the length of a turn of φ, at least 1.
      decoder_steps: the length of a turn of θ, at least 1.
      encoder: the parts of the parameters that are φ.
      **options: those of `training.gradient.gradient`.

    Raises `BadOption` for a turn without steps.
    """
    return gradient(model, in_turns(optimizer, encoder_steps, decoder_steps, encoder), **options)


def in_turns(optimizer, encoder_steps, decoder_steps, encoder=("encoder",)) -> optax.GradientTransformation:
    """Return an Optax optimiser that moves one part at a time, in turns of fixed length."""
    integers(encoder_steps=encoder_steps, decoder_steps=decoder_steps)
    names(encoder=encoder)

    def decide(step, **_):
        return step + 1, jnp.where(step % (encoder_steps + decoder_steps) < encoder_steps, ENCODER, REST)

    return _turns(optimizer, encoder, jnp.zeros((), jnp.int32), decide)


@struct.dataclass
class Lag:
    """The state of the aggressive phase."""

    aggressive: jax.Array  # True while φ moves ahead of θ
    inner: jax.Array  # steps of φ since the last of θ
    loss: jax.Array  # summed over the window so far
    before: jax.Array  # mean of the window before
    step: jax.Array
    information: jax.Array  # summed since the last check, nats
    best: jax.Array  # mean between two checks, so far


def aggressive(
    model, optimizer, *, information: Callable, window, max_steps, check_every, encoder=("encoder",), **options
) -> Learner:
    """Return the learner of arXiv:1901.05534 algorithm 1, which lets a lagging encoder catch up.

    Between two steps of θ, φ moves until the mean loss of `window` steps is no lower than that of the window before, at
    most `max_steps` steps. This phase ends for good when the mutual information I_q(x; z) has not risen between two
    checks; then both move at every step. The metric `aggressive` is 1 for a step of this phase, else 0.

    Args:
      model: a `core.Model`.
      optimizer: of Optax.
      information: (params, key, batch) -> an estimate of I_q(x; z) within a batch, nats, hence at most log B. The paper
        takes batches of the validation set; here they are of the training set.
      window: the number of steps whose losses are averaged.
      max_steps: the most steps of φ between two of θ.
      check_every: the number of steps between two checks.
      encoder: the parts of the parameters that are φ.
      **options: those of `training.gradient.gradient`.
    """
    integers(window=window, max_steps=max_steps, check_every=check_every)
    names(encoder=encoder)
    zero, steps = jnp.zeros(()), jnp.zeros((), jnp.int32)
    start = Lag(jnp.ones((), bool), steps, zero, jnp.full((), jnp.inf), steps, zero, jnp.full((), -jnp.inf))

    def decide(lag, *, params, value, key, batch):
        inner, step, loss = lag.inner + 1, lag.step + 1, lag.loss + value
        full = inner % window == 0
        converged = (full & (loss / window >= lag.before)) | (inner >= max_steps)
        # The key travels as numbers, as in `gradient`.
        ask = lambda params, data, batch: information(params, jax.random.wrap_key_data(data), batch)  # noqa: E731
        inputs = (params, jax.random.key_data(key), batch)
        total = lag.information + jax.lax.cond(lag.aggressive, ask, lambda *_: 0.0, *inputs)
        check, mean = step % check_every == 0, total / check_every
        new = Lag(
            aggressive=lag.aggressive & (~check | (mean > lag.best)),
            inner=jnp.where(converged, 0, inner),
            loss=jnp.where(full | converged, 0.0, loss),
            before=jnp.where(converged, jnp.inf, jnp.where(full, loss / window, lag.before)),
            step=step,
            information=jnp.where(check, 0.0, total),
            best=jnp.where(check, jnp.maximum(lag.best, mean), lag.best),
        )
        return new, jnp.where(lag.aggressive, jnp.where(converged, REST, ENCODER), BOTH)

    learner = gradient(model, _turns(optimizer, encoder, start, decide), **options)

    def step(state, batch):
        new, metrics = learner.step(state, batch)
        return new, {**metrics, "aggressive": state.opt_state["turn"].aggressive.astype(jnp.float32)}

    return learner._replace(step=step)


def _turns(optimizer, encoder, start, decide):
    """Return an Optax optimiser that moves the part that `decide` names.

    `decide(turn, **extra)` -> turn, ENCODER | REST | BOTH, where `extra` are the learner's extra arguments. `start` is
    the first turn.
    """

    def of_parts(names):
        """Return the optimiser of the parts `names`: with an optimiser a part, that of these parts only."""
        return optimizer.restricted(tuple(names)) if getattr(optimizer, "parts", ()) else optimizer

    def parts(params):
        phi = {name: value for name, value in params.items() if name in encoder}
        if not phi or len(phi) == len(params):
            raise BadOption(
                f"encoder: the model must have parts among {tuple(encoder)} and other parts; it has the "
                f"parts {', '.join(sorted(params))}"
            )
        return phi, {name: value for name, value in params.items() if name not in phi}

    def init(params):
        phi, theta = parts(params)
        if unknown := [part for part in getattr(optimizer, "parts", ()) if part not in params]:
            raise BadOption(f": no part {unknown[0]!r} of the model learns{nearest(unknown[0], params)}")
        return {"turn": start, "encoder": of_parts(phi).init(phi), "rest": of_parts(theta).init(theta)}

    def update(gradients, state, params=None, **extra):
        turn, whose = decide(state["turn"], params=params, **extra)
        updates, new = {}, {"turn": turn}
        for index, name in ((ENCODER, "encoder"), (REST, "rest")):
            g, p = parts(gradients)[index], parts(params)[index]
            own = optax.with_extra_args_support(of_parts(p))
            move = lambda g=g, s=state[name], p=p, own=own: own.update(g, s, p, **extra)  # noqa: E731
            rest = lambda g=g, s=state[name]: (jax.tree.map(jnp.zeros_like, g), s)  # noqa: E731
            moved, new[name] = jax.lax.cond((whose == index) | (whose == BOTH), move, rest)
            updates |= moved
        return updates, new

    def rates(state):
        of_turn = {}
        for part in ("encoder", "rest"):
            names = getattr(state[part], "inner_states", ())  # with an optimiser a part, {part: its state}
            told = rates_of(of_parts(names))(state[part])
            of_turn |= {f"{name}_{part}": rate for name, rate in told.items()}
        return of_turn

    return with_rates(optax.GradientTransformationExtraArgs(init, update), rates)
