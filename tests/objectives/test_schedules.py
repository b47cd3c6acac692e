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


def test_cyclical_rises_again_and_again_and_ends_at_the_end():
    beta = schedules.cyclical(steps=80, num_cycles=2, ratio=0.5, start=1.0, end=3.0)
    np.testing.assert_allclose(
        [beta(step) for step in (0, 10, 20, 39, 40, 50, 60, 80, 90)], [1, 2, 3, 3, 1, 2, 3, 3, 3]
    )
    np.testing.assert_allclose(jax.jit(beta)(jnp.int32(45)), 1.5, rtol=1e-6)
    linear, one = schedules.linear(steps=10), schedules.cyclical(steps=20, num_cycles=1, ratio=0.5)
    np.testing.assert_allclose([one(step) for step in range(30)], [linear(step) for step in range(30)], rtol=1e-6)


def test_logistic_is_half_way_at_its_midpoint():
    beta = schedules.logistic(midpoint=100, width=10, start=1.0, end=3.0)
    np.testing.assert_allclose(
        [beta(0), beta(100), beta(110), beta(10**6)], [1.0, 2.0, 1 + 2 / (1 + np.exp(-1)), 3.0], rtol=1e-4
    )
    np.testing.assert_allclose(jax.jit(beta)(jnp.int32(100)), 2.0)


@pytest.mark.parametrize(
    "name, options, words",
    [
        ("cyclical", {"steps": 0}, "steps must be at least 1, got 0"),
        ("cyclical", {"steps": 9, "num_cycles": 0}, "num_cycles must be at least 1, got 0"),
        ("cyclical", {"steps": 9, "ratio": 0.0}, r"ratio must be above 0 and at most 1, got 0.0"),
        ("cyclical", {"steps": 9, "ratio": 1.5}, "got 1.5"),
        ("logistic", {"midpoint": 3, "width": 0}, "width must be above 0, got 0"),
    ],
)
def test_a_schedule_that_does_not_exist_is_refused(name, options, words):
    with pytest.raises(ValueError, match=words):
        getattr(schedules, name)(**options)
