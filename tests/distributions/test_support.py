"""Data on which a density is none are refused, and the error says what to do."""

import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    ContinuousBernoulli,
    DiscretizedLogisticMixture,
    Normal,
    Poisson,
    Sequential,
    UniformSphere,
    check_support,
    has_discrete_part,
)
from vae_jax.distributions.support import real_coordinates
from vae_jax.support import Sphere, Tokens

BITS, SOFTMAX = Bernoulli(jnp.zeros(3)), Categorical(jnp.zeros((3, 17)))
SPHERE = UniformSphere(3)
COUNTS, GREY, BETA = Poisson(jnp.zeros(3)), ContinuousBernoulli(jnp.zeros(3)), Beta(jnp.zeros(3), jnp.zeros(3))
LOGISTIC, GAUSSIAN = DiscretizedLogisticMixture(*[jnp.zeros((3, 1))] * 3), Normal.standard((3,))


@pytest.mark.parametrize(
    "distribution, x",
    [
        (BITS, [0, 1, 1]),
        (SOFTMAX, [0, 7, 16]),
        (LOGISTIC, [0, 255, 3]),
        (GAUSSIAN, [-3.5, 0, 1e6]),
        (SPHERE, [0, 0.6, -0.8]),
        (COUNTS, [0, 7, 1e6]),
        (GREY, [0, 0.5, 1]),
        (BETA, [0.1, 0.5, 0.9]),
    ],
)
def test_data_in_the_support(distribution, x):
    check_support(distribution, np.asarray(x, np.float32))
    check_support(distribution, jnp.asarray([x, x], jnp.float32))


@pytest.mark.parametrize(
    "distribution, x, words",
    [
        (BITS, [0, 0.5, 1], r"Bernoulli likelihood is a density of 0 and 1 only; .*\[0, 1\].*binarize"),
        (BITS, [0, 255, 1], r"range over \[0, 255\]"),
        (SOFTMAX, [0, 7, 17], r"Categorical likelihood is a density of integers below 17.*num_levels"),
        (SOFTMAX, [0, 7, -1], r"range over \[-1, 7\]"),
        (LOGISTIC, [0, 0.5, 1], r"density of integers below 256.*levels"),
        (LOGISTIC, [0, 256, 1], r"range over \[0, 256\]"),
        (SPHERE, [0, 0.6, 0.9], r"UniformSphere likelihood is a density of unit vectors"),
        (GAUSSIAN, [0, float("nan"), 1], r"NaN or infinite"),
        (GAUSSIAN, [0, float("inf"), 1], r"NaN or infinite"),
        (COUNTS, [0, 1.5, 3], r"a Poisson likelihood is a density of 0, 1, 2, \.\.\.; .*\[0, 3\].*transform='counts'"),
        (COUNTS, [0, -1, 3], r"range over \[-1, 3\]"),
        (GREY, [0, 0.5, 1.5], r"a ContinuousBernoulli likelihood is a density of real numbers in \[0, 1\].*'unit'"),
        (BETA, [0, 0.5, 1.5], r"a Beta likelihood is a density of real numbers in \(0, 1\)"),
        (BETA, [0.5, 0.5, 1], r"33.3% of the data are 0 or 1, where it is zero or infinite.*continuous_bernoulli"),
    ],
)
def test_data_outside(distribution, x, words):
    with pytest.raises(ValueError, match=words):
        check_support(distribution, np.asarray(x, np.float32))


def test_only_countable_sets_are_discrete():
    assert [has_discrete_part(d) for d in (BITS, SOFTMAX, GAUSSIAN, SPHERE)] == [True, True, False, False]
    chain = lambda second: Sequential(GAUSSIAN, conditionals=(lambda params, given, before: second,))  # noqa: E731
    assert has_discrete_part(chain(BITS)) and not has_discrete_part(chain(SPHERE))
    levels = [distribution.support.num_levels for distribution in (BITS, SOFTMAX, GAUSSIAN, SPHERE)]
    assert levels == [2, SOFTMAX.logits.shape[-1], None, None]


def test_vectors_of_any_length_are_directions():
    to_data, to_real = real_coordinates(Sphere())
    np.testing.assert_allclose(to_data(jnp.array([[0.0, 3.0, -4.0]])), [[0.0, 0.6, -0.8]])
    np.testing.assert_array_equal(to_real(jnp.array([0.0, 1.0])), [0.0, 1.0])


def test_words_have_no_real_coordinates():
    with pytest.raises(ValueError, match="values that are 'tokens below 7' have no real coordinates"):
        real_coordinates(Tokens(7))
