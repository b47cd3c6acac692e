"""Parts of the parameters that take turns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vae_jax.core import RUNNING, Model
from vae_jax.training import em

TARGET = {"encoder": 1.0, "decoder": 2.0}
MODEL = Model(
    init=lambda key, batch: {part: jnp.zeros(3) for part in TARGET},
    loss=lambda params, key, batch, step: (
        jnp.sum(jnp.square(params["encoder"] - 1.0) + jnp.square(params["decoder"] - 2.0)) * jnp.ones(2),
        {},
    ),
    sample=None,
)
BATCH = {"x": jnp.zeros((2, 1))}
OPTIMIZERS = {"encoder": optax.adam(0.1), "decoder": optax.sgd(0.1)}


def test_one_part_moves_at_a_time_in_the_order_of_the_turns():
    learner = em.em(MODEL, OPTIMIZERS, turns={"encoder": 3, "decoder": 1})
    state, step, moved = learner.init(jax.random.key(0), BATCH), jax.jit(learner.step), []
    for _ in range(8):
        before, (state, _) = state, step(state, BATCH)
        changed = [part for part in TARGET if not np.array_equal(before.params[part], state.params[part])]
        rested = {part: before.opt_state[part] for part in TARGET if part not in changed}
        jax.tree.map(np.testing.assert_array_equal, rested, {part: state.opt_state[part] for part in rested})
        moved += changed
    assert moved == (["encoder"] * 3 + ["decoder"]) * 2


def test_it_comes_to_the_optimum():
    learner = em.em(MODEL, OPTIMIZERS, turns={"encoder": 2, "decoder": 1})
    state = learner.init(jax.random.key(0), BATCH)
    state, _ = jax.lax.scan(lambda s, _: learner.step(s, BATCH), state, length=600)
    jax.tree.map(lambda p, t: np.testing.assert_allclose(p, np.full(3, t), atol=1e-3), learner.params(state), TARGET)


def test_running_statistics_are_of_no_part_and_move_at_every_step():
    """m ← m - ∂ ½ (m - 1)² = 1 at once, and no optimiser is asked for it."""

    def loss(params, key, batch, step):
        return MODEL.loss(params, key, batch, step)[0] + 0.5 * jnp.square(params["objective"][RUNNING]["m"] - 1.0), {}

    model = MODEL._replace(
        init=lambda key, batch: {**MODEL.init(key, batch), "objective": {RUNNING: {"m": jnp.zeros(())}}}, loss=loss
    )
    learner = em.em(model, OPTIMIZERS, turns={"encoder": 1, "decoder": 1})
    state, _ = jax.jit(learner.step)(learner.init(jax.random.key(0), BATCH), BATCH)
    assert state.params["objective"][RUNNING]["m"] == 1.0
    assert np.array_equal(state.params["decoder"], np.zeros(3)) and np.abs(state.params["encoder"]).min() > 0


@pytest.mark.parametrize(
    "turns, words",
    [
        ({"encoder": 1}, r"optimizers are for \['decoder', 'encoder'\], turns for \['encoder'\]"),
        ({"encoder": 0, "decoder": 1}, "at least one step a turn"),
    ],
)
def test_turns_that_do_not_fit(turns, words):
    with pytest.raises(ValueError, match=words):
        em.em(MODEL, OPTIMIZERS, turns=turns)


def test_other_parameters_are_refused():
    with pytest.raises(
        ValueError, match=r"turns are for \['decoder', 'encoder'\], and the parameters are of \['prior'\]"
    ):
        em.alternating(OPTIMIZERS, turns={"encoder": 1, "decoder": 1}).init({"prior": jnp.zeros(1)})
