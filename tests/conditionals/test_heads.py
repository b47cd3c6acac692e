"""No raw output of a network, however large, gives an infinite density or gradient."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.conditionals import heads
from vae_jax.conditionals.conditional import abstract, zeros
from vae_jax.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    ContinuousBernoulli,
    DiscretizedLogisticMixture,
    LowRankNormal,
    Mixture,
    MultivariateNormal,
    NegativeBinomial,
    Normal,
    Poisson,
    RelaxedBernoulli,
    StudentT,
    Transformed,
    VonMisesFisher,
    ZeroInflated,
)
from vae_jax.support import Binary, Levels, Real, Unit, standardize

FAR = (-1e4, -100.0, 0.0, 100.0, 1e4)
VECTORS = (
    "coupling_flow",
    "inverse_autoregressive_flow",
    "low_rank_normal",
    "multivariate_normal",
    "planar_flow",
    "sylvester_flow",
    "von_mises_fisher",
)
PIXELS = ("bernoulli", "categorical", "discretized_logistic", "discretized_logistic_mixture")
ELSEWHERE = ("columns", "pixel_cnn")  # `test_tables.py`, `test_chains.py`
UNIT = ("bernoulli", "beta", "continuous_bernoulli")
COUNTS = ("negative_binomial", "poisson", "zero_inflated_negative_binomial", "zero_inflated_poisson")


def far_outputs(shapes):
    """Arrays [N, *shape]: every combination of extremes, one value an array, then 20 events that mix them all."""
    extremes = FAR if len(shapes) < 6 else FAR[::2]
    rng, combinations = np.random.default_rng(0), np.array(list(itertools.product(extremes, repeat=len(shapes))))
    for shape, values in zip(shapes, combinations.T, strict=True):
        constant = np.broadcast_to(values.reshape(-1, *[1] * len(shape)), (len(values), *shape))
        yield jnp.asarray(np.concatenate([constant, rng.choice(FAR, size=(20, *shape))]), jnp.float32)


def assert_finite(name, shape, context=None, **options):
    """log p(x) and its gradient, at both ends of the data and at the density's own samples."""
    head = getattr(heads, name)(shape, **options)
    more = {} if context is None else {"context": context}
    rng = np.random.default_rng(2)
    weights = zeros(head)[len(head.shapes) :]  # of the head's own networks
    weights = jax.tree.map(lambda a: jnp.asarray(rng.normal(scale=0.3, size=a.shape), jnp.float32), weights)
    top = 1.0 if name in UNIT else 255.0 if name in PIXELS else 3.0
    log_prob = lambda raw, x: head.distribution(*raw, *weights, **more).log_prob(x)  # noqa: E731

    @jax.jit
    @jax.vmap
    def value_and_gradient(raw):
        x = jnp.stack(
            [
                jnp.zeros(shape),
                jnp.full(shape, top),
                head.distribution(*raw, *weights, **more).sample(jax.random.key(0)),
            ]
        )
        return jax.vmap(jax.value_and_grad(log_prob), in_axes=(None, 0))(raw, x)

    for leaf in jax.tree.leaves(value_and_gradient(list(far_outputs(head.shapes)))):
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize("name", [name for name in heads.__all__ if name not in (*VECTORS, *ELSEWHERE)])
def test_every_density_is_finite(name):
    assert_finite(name, (2, 3, 1))


@pytest.mark.parametrize("name", VECTORS)
def test_every_density_of_a_vector_is_finite(name):
    assert_finite(name, (2,))


@pytest.mark.parametrize("name", COUNTS)
def test_every_density_of_shares_is_finite(name):
    """Means that are shares of a total count, with a share of nearly nothing."""
    dispersion = {} if "poisson" in name else {"dispersion": "example"}
    assert_finite(name, (3,), jnp.array([9.0]), library=True, **dispersion)


def test_a_student_of_a_shared_scale_is_finite():
    assert_finite("student_t", (3,), scale="shared")


def test_the_means_of_a_library_are_shares_of_it():
    raw = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3)), jnp.float32)
    for name in COUNTS:
        head = getattr(heads, name)((2, 3), library=True)
        distribution = head.distribution(*[raw] * len(zeros(head)), context=jnp.log(jnp.array([70.0])))
        counts = getattr(distribution, "base", distribution)
        np.testing.assert_allclose(jnp.sum(counts.mean()), 70.0, rtol=1e-5)
        np.testing.assert_allclose(counts.mean().ravel(), 70.0 * jax.nn.softmax(raw.ravel()), rtol=1e-5)


def test_the_full_covariance_is_finite_up_to_eight_dimensions():
    assert_finite("multivariate_normal", (8,))


@pytest.mark.parametrize(
    "name, kind",
    [
        ("bernoulli", Bernoulli),
        ("beta", Beta),
        ("continuous_bernoulli", ContinuousBernoulli),
        ("negative_binomial", NegativeBinomial),
        ("normal_shared_scale", Normal),
        ("poisson", Poisson),
        ("student_t", StudentT),
        ("zero_inflated_negative_binomial", ZeroInflated),
        ("zero_inflated_poisson", ZeroInflated),
        ("categorical", Categorical),
        ("coupling_flow", Transformed),
        ("inverse_autoregressive_flow", Transformed),
        ("discretized_logistic", DiscretizedLogisticMixture),
        ("discretized_logistic_mixture", DiscretizedLogisticMixture),
        ("low_rank_normal", LowRankNormal),
        ("multivariate_normal", MultivariateNormal),
        ("normal", Normal),
        ("normal_fixed_scale", Normal),
        ("relaxed_bernoulli", RelaxedBernoulli),
        ("normal_mixture", Mixture),
        ("planar_flow", Transformed),
        ("sylvester_flow", Transformed),
        ("von_mises_fisher", VonMisesFisher),
    ],
)
def test_a_head_says_what_shapes_it_takes(name, kind):
    shape = (6,) if name in VECTORS else (3, 2, 1)
    distribution = abstract(getattr(heads, name)(shape))
    assert isinstance(distribution, kind)
    mean, sample = jax.eval_shape(lambda d, key: (d.mean(), d.sample(key)), distribution, jax.random.key(0))
    assert mean.shape == sample.shape == shape


@pytest.mark.parametrize("name", VECTORS)
def test_a_density_of_vectors_refuses_an_image(name):
    with pytest.raises(ValueError, match=rf"{name}' is a distribution over vectors, got an event of shape \(3, 2, 1\)"):
        getattr(heads, name)((3, 2, 1))


def test_every_head_is_tested_here():
    plain = ("normal", "normal_fixed_scale", "normal_mixture", "normal_shared_scale", "relaxed_bernoulli", "student_t")
    assert set(heads.__all__) == {*plain, *VECTORS, *PIXELS, *UNIT, *COUNTS, *ELSEWHERE}


def test_data_are_standardised_to_about_one():
    for name, top in (("categorical", 255), ("discretized_logistic", 255), ("discretized_logistic_mixture", 255)):
        support = abstract(getattr(heads, name)((1,))).support
        np.testing.assert_allclose([standardize(support, 0.0), standardize(support, float(top))], [-1, 1])
    for name in ("categorical", "discretized_logistic", "discretized_logistic_mixture"):
        with pytest.raises(ValueError, match="num_levels must be at least 2, got 1"):
            getattr(heads, name)((1,), num_levels=1)
    levels = abstract(heads.categorical((1,), num_levels=17)).support
    assert levels == Levels(17)
    np.testing.assert_allclose(standardize(levels, jnp.array([0.0, 8, 16])), [-1, 0, 1])
    for support in (Binary(), Real(), Unit()):
        np.testing.assert_array_equal(standardize(support, jnp.array([0.0, 0.5, 1.0])), [0.0, 0.5, 1.0])


def test_the_full_covariance_is_positive_definite():
    raw = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4)), jnp.float32)
    tril = np.asarray(heads.multivariate_normal((4,)).distribution(jnp.zeros(4), raw).scale_tril)
    assert np.all(np.triu(tril, 1) == 0) and np.all(np.diag(tril) > 0)


def test_the_fixed_scale_is_the_one_asked_for():
    np.testing.assert_allclose(
        heads.normal_fixed_scale((2,), scale=0.3).distribution(jnp.ones(2)).log_scale, np.log(0.3), rtol=1e-6
    )
    for scale in (0.0, -1.0, float("nan"), float("inf"), 1e-15):
        with pytest.raises(ValueError, match=r"scale must be (between 0\.000335463 and 2980\.96|one finite number)"):
            heads.normal_fixed_scale((2,), scale=scale)
