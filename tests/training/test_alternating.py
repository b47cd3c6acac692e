"""Parts of the parameters that take turns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vae_jax.core import Aux, Model
from vae_jax.training import alternating

TARGET = {"encoder": 1.0, "decoder": 2.0, "prior": 3.0}
MODEL = Model(
    init=lambda key, batch: {part: jnp.zeros(3) for part in TARGET},
    loss=lambda params, key, batch, step: (
        sum(jnp.sum(jnp.square(params[part] - target)) for part, target in TARGET.items()) * jnp.ones(2),
        Aux({}),
    ),
    judge=None,
)
BATCH = {"x": jnp.zeros((2, 1))}


def moves(learner, num_steps):
    """The parts that moved, of every step; the others' optimiser states stood still."""
    state, step, moved = learner.init(jax.random.key(0), BATCH), jax.jit(learner.step), []
    for _ in range(num_steps):
        before, (state, _) = state, step(state, BATCH)
        changed = {part for part in TARGET if not np.array_equal(before.params[part], state.params[part])}
        for part, own in (("encoder", {"encoder"}), ("rest", {"decoder", "prior"})):
            if not own & changed:
                jax.tree.map(np.testing.assert_array_equal, before.opt_state[part], state.opt_state[part])
        moved.append("".join(sorted(part[0] for part in changed)))
    return moved, state


def test_one_part_moves_at_a_time():
    learner = alternating.alternating(MODEL, optax.adam(0.1), encoder_steps=3, decoder_steps=1)
    assert moves(learner, 8)[0] == (["e"] * 3 + ["dp"]) * 2


def test_it_comes_to_the_optimum():
    learner = alternating.alternating(MODEL, optax.adam(0.1), encoder_steps=2, decoder_steps=1)
    state = learner.init(jax.random.key(0), BATCH)
    state, _ = jax.lax.scan(lambda s, _: learner.step(s, BATCH), state, length=900)
    jax.tree.map(lambda p, t: np.testing.assert_allclose(p, np.full(3, t), atol=1e-3), learner.params(state), TARGET)


def aggressive(information, optimizer=None, **options):
    options = {"window": 2, "max_steps": 100, "check_every": 10_000} | options
    return alternating.aggressive(MODEL, optimizer or optax.sgd(0.1), information=information, **options)


def test_the_encoder_moves_until_it_gains_no_more():
    """With a rate of one half, φ is at its optimum after one step: of the windows [1, 2] and [3, 4] the second is
    lower, and the third is not lower than the second.
    """
    moved, _ = moves(aggressive(lambda *_: jnp.zeros(()), optax.sgd(0.5)), 12)
    assert moved[0] == "e" and [i for i, parts in enumerate(moved) if parts == "dp"] == [5]


def test_the_encoder_moves_no_longer_than_told():
    moved, _ = moves(aggressive(lambda *_: jnp.zeros(()), optax.sgd(1e-3), max_steps=3), 9)
    assert moved == ["e", "e", "dp"] * 3


def test_it_ends_when_the_code_learns_nothing_more():
    """Information that rises between checks keeps the phase; the first check without a rise ends it for good."""
    rising = aggressive(lambda params, key, batch: jnp.sum(params["encoder"]), optax.sgd(1e-3), check_every=4)
    assert "dep" not in moves(rising, 16)[0]
    level = aggressive(lambda *_: jnp.ones(()), optax.sgd(1e-3), check_every=4)
    moved, state = moves(level, 12)
    assert moved == ["e"] * 8 + ["dep"] * 4  # the first check sets the mark, the second is no higher
    _, metrics = jax.jit(level.step)(state, BATCH)
    assert metrics["aggressive"] == 0 and float(state.opt_state["turn"].best) == 1.0


def test_a_state_is_of_no_part_and_moves_at_every_step():
    """In the turns of either part; no optimiser is asked for it."""

    def loss(params, key, batch, step):
        value, aux = MODEL.loss(params, key, batch, step)
        return value, aux._replace(state={"steps": params["state"]["steps"] + 1.0})

    model = MODEL._replace(
        init=lambda key, batch: {**MODEL.init(key, batch), "state": {"steps": jnp.zeros(())}}, loss=loss
    )
    learner = alternating.alternating(model, optax.sgd(0.1), encoder_steps=1, decoder_steps=1)
    moved, state = moves(learner, 3)
    assert moved == ["e", "dp", "e"] and state.params["state"]["steps"] == 3.0


@pytest.mark.parametrize(
    "build, words",
    [
        (
            functools.partial(alternating.alternating, encoder_steps=0, decoder_steps=1),
            "encoder_steps must be at least 1",
        ),
        (
            functools.partial(alternating.aggressive, information=None, window=0, max_steps=1, check_every=1),
            "window must be at least 1",
        ),
    ],
)
def test_turns_without_steps_are_refused(build, words):
    with pytest.raises(ValueError, match=words):
        build(MODEL, optax.sgd(0.1))


def test_parameters_without_an_encoder_are_refused():
    with pytest.raises(ValueError, match=r"^encoder: .* has the parts prior"):
        alternating.in_turns(optax.sgd(0.1), 1, 1).init({"prior": jnp.zeros(1)})


def test_a_sweep_of_it_is_a_program_too():
    """Under vmap both sides of a choice are computed, and a key may still be used once."""
    learner = aggressive(lambda params, key, batch: jax.random.normal(key), check_every=1)
    keys = lambda: jax.random.split(jax.random.key(0), 2)  # noqa: E731
    states = jax.vmap(learner.init, (0, None))(keys(), BATCH)
    states, metrics = jax.jit(jax.vmap(learner.step, (0, None)))(states, BATCH)
    alone, _ = jax.jit(learner.step)(learner.init(keys()[1], BATCH), BATCH)
    np.testing.assert_allclose(states.opt_state["turn"].best[1], alone.opt_state["turn"].best, rtol=1e-6)
    assert states.opt_state["turn"].best[0] != states.opt_state["turn"].best[1] and metrics["aggressive"].shape == (2,)
