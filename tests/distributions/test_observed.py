"""Missing values: the density of the observed entries is the marginal, and a missing entry has no influence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.conditionals import heads
from vae_jax.conditionals.conditional import abstract, zeros
from vae_jax.distributions import Bernoulli, Categorical, Mixture, Normal, Observed, Rows, check_support, is_factorised
from vae_jax.distributions.support import check_continuous
from vae_jax.support import Columns

RNG = np.random.default_rng(0)
SHAPE = (5,)
VALUES = {  # x in the support of each head of independent entries
    "bernoulli": [0, 1, 1, 0, 1],
    "beta": [0.1, 0.5, 0.9, 0.3, 0.2],
    "categorical": [0, 3, 255, 7, 1],
    "continuous_bernoulli": [0.0, 0.5, 1.0, 0.3, 0.2],
    "discretized_logistic": [0, 3, 255, 7, 1],
    "discretized_logistic_mixture": [0, 3, 255, 7, 1],
    "negative_binomial": [0, 3, 20, 1, 0],
    "normal": [0.5, -1.0, 3.0, 0.0, 0.1],
    "normal_fixed_scale": [0.5, -1.0, 3.0, 0.0, 0.1],
    "normal_mixture": [0.5, -1.0, 3.0, 0.0, 0.1],
    "normal_shared_scale": [0.5, -1.0, 3.0, 0.0, 0.1],
    "poisson": [0, 3, 20, 1, 0],
    "student_t": [0.5, -1.0, 3.0, 0.0, 0.1],
    "zero_inflated_negative_binomial": [0, 3, 20, 1, 0],
    "zero_inflated_poisson": [0, 3, 20, 1, 0],
}
MISSING = np.array([False, True, False, True, True])
JOINT = {"coupling_flow", "inverse_autoregressive_flow", "low_rank_normal", "multivariate_normal", "planar_flow"}
JOINT |= {"sylvester_flow", "von_mises_fisher"}


def raw(head):
    return jax.tree.map(lambda a: jnp.asarray(RNG.normal(size=a.shape), jnp.float32), zeros(head))


def entries(distribution, places):
    """The same distribution over some of its entries: the arrays of a factorised one lead with them."""
    if isinstance(distribution, Mixture):
        return Mixture(distribution.logits, jax.tree.map(lambda a: a[:, places], distribution.components))
    return jax.tree.map(lambda a: a[places], distribution)


@pytest.mark.parametrize("name", VALUES)
def test_the_density_of_the_observed_entries_is_the_marginal(name):
    head, x = getattr(heads, name)(SHAPE), np.array(VALUES[name], np.float32)
    arguments = raw(head)
    seen = np.where(MISSING, np.nan, x).astype(np.float32)
    places = np.flatnonzero(~MISSING)

    @jax.jit
    def values(arguments, x, seen):
        distribution = head.distribution(*arguments)
        masked = lambda arguments, x: Observed(head.distribution(*arguments)).log_prob(x)  # noqa: E731
        marginal = lambda arguments: entries(head.distribution(*arguments), places).log_prob(seen[places])  # noqa: E731
        return (
            (distribution.log_prob(x), masked(arguments, x), masked(arguments, jnp.full(SHAPE, jnp.nan))),
            jax.value_and_grad(masked)(arguments, seen),
            jax.value_and_grad(marginal)(arguments),
        )

    (plain, complete, nothing), (value, gradient), (expected, expected_gradient) = values(arguments, x, seen)
    np.testing.assert_allclose(complete, plain, rtol=1e-5)
    np.testing.assert_allclose(nothing, 0.0, atol=1e-6)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for found, wanted in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected_gradient), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_which_heads_have_independent_entries():
    for name in heads.__all__:
        if name not in ("columns", "pixel_cnn", "relaxed_bernoulli"):  # the last is a head of codes
            assert is_factorised(abstract(getattr(heads, name)(SHAPE))) == (name in VALUES), name
    assert set(VALUES) | JOINT | {"columns", "pixel_cnn", "relaxed_bernoulli"} == set(heads.__all__)


def test_the_sum_over_entries_is_the_whole():
    for name in ("bernoulli", "categorical", "discretized_logistic_mixture", "normal"):
        head, x = getattr(heads, name)(SHAPE), jnp.array(VALUES[name], jnp.float32)
        distribution = head.distribution(*raw(head))
        assert distribution.log_probs(x).shape == SHAPE
        np.testing.assert_allclose(jnp.sum(distribution.log_probs(x)), distribution.log_prob(x), rtol=1e-5)


ROWS = Rows(
    (Normal(jnp.array([0.5, -1.0]), jnp.zeros(2)), Categorical(jnp.array([[0.0, 1.0, 2.0]])), Bernoulli(jnp.zeros(1))),
    ((0, 3), (1,), (2,)),
    Columns(("real", "categorical:3", "binary", "real")),
)


def test_a_row_is_a_product_of_its_columns():
    x = jnp.array([0.1, 2.0, 1.0, -3.0])
    normal, categorical, bernoulli = ROWS.parts
    expected = [
        *normal.log_probs(x[jnp.array([0, 3])]),
        categorical.log_prob(x[1:2]),
        bernoulli.log_prob(x[2:3]),
    ]
    found = ROWS.log_probs(x)
    np.testing.assert_allclose(found, np.array(expected)[[0, 2, 3, 1]], rtol=1e-6)
    np.testing.assert_allclose(ROWS.log_prob(x), sum(map(float, expected)), rtol=1e-6)
    np.testing.assert_allclose(ROWS.mean(), [0.5, 2.0, 0.5, -1.0])
    draws = np.asarray(jax.jit(jax.vmap(ROWS.sample))(jax.random.split(jax.random.key(0), 500)))
    assert set(np.unique(draws[:, 1])) == {0, 1, 2} and set(np.unique(draws[:, 2])) == {0, 1}
    np.testing.assert_allclose(draws[:, [0, 3]].mean(axis=0), [0.5, -1.0], atol=0.3)
    assert abs(float(Observed(ROWS).log_prob(x.at[0].set(jnp.nan))) - float(found[1:].sum())) < 1e-5


def test_rows_are_checked_by_column():
    good = np.array([[0.1, 2.0, 1.0, -3.0], [5.0, 0.0, 0.0, 1.0]])
    check_support(ROWS, good)
    hidden = np.where(np.eye(2, 4) > 0, np.nan, good)
    check_support(Observed(ROWS), hidden)
    with pytest.raises(ValueError, match="NaN"):
        check_support(ROWS, hidden)
    good[0, 1] = 3
    with pytest.raises(ValueError, match="Categorical likelihood is a density of integers below 3"):
        check_support(Observed(ROWS), good)


def test_missing_values_are_no_grid():
    normal = Normal(jnp.zeros(3), jnp.zeros(3))
    x = np.where(RNG.random((100, 3)) < 0.5, np.nan, RNG.normal(size=(100, 3)))
    check_continuous(Observed(normal), x)
    check_support(Observed(normal), np.full((2, 3), np.nan))
    with pytest.raises(ValueError, match="a Normal likelihood is a density over the reals"):
        check_continuous(Observed(normal), np.round(x))
