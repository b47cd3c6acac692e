"""Options that move with the step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.objectives import schedules


def test_linear_goes_from_start_to_end_and_stays():
    beta = schedules.linear(steps=4, start=1.0, end=3.0)
    np.testing.assert_allclose([beta(step) for step in (0, 1, 2, 4, 100)], [1.0, 1.5, 2.0, 3.0, 3.0])
    np.testing.assert_allclose(jax.jit(beta)(jnp.int32(3)), 2.5)
    np.testing.assert_allclose(schedules.linear(steps=1)(0), 0.0)


def test_constant():
    assert schedules.constant(value=0.3)(0) == schedules.constant(value=0.3)(10**6) == jnp.float32(0.3)


def test_resolve_reads_schedules_and_keeps_numbers():
    options = schedules.resolve({"beta": schedules.linear(steps=10), "num_samples": 5}, 5)
    assert options == {"beta": 0.5, "num_samples": 5}


@pytest.mark.parametrize("steps", [0, -1])
def test_a_schedule_without_steps_is_refused(steps):
    with pytest.raises(ValueError, match=f"steps must be at least 1, got {steps}"):
        schedules.linear(steps=steps)
