"""Parameters that come from a file or from `jax.device_get` are NumPy arrays: every distribution must take them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax import bijectors, distributions
from vae_jax.bijectors.monotone import affine
from vae_jax.distributions import (
    Autoregressive,
    BackedOff,
    Bernoulli,
    Categorical,
    CodeMap,
    Codes,
    Deterministic,
    DiscretizedLogisticMixture,
    LinearLogisticMixture,
    LowRankNormal,
    Mixture,
    MultivariateNormal,
    Normal,
    NormalMixtures,
    OneHot,
    OrderedCategorical,
    PointMass,
    RasterScan,
    RelaxedBernoulli,
    RelaxedOneHot,
    Reshaped,
    Sentence,
    Sequential,
    Series,
    Squares,
    Transformed,
    Tree,
    UniformSphere,
    VonMisesFisher,
)
from vae_jax.distributions.sentence import LevelSeries
from vae_jax.distributions.support import supports
from vae_jax.models.ngram import levels, modified
from vae_jax.support import Binary, Columns, Support

RNG = np.random.default_rng(0)
D, V = 4, 3


def reals(*shape):
    return RNG.normal(scale=0.5, size=shape).astype(np.float32)


def bits(params, x):
    """Conditionals that are parameters themselves: what a caller may hand over without any operation of JAX."""
    return Bernoulli(params)


SENTENCES = RNG.integers(2, 5, size=(20, 6)).astype(np.int32)
GRAMS = levels(SENTENCES, order=3, discounts=modified)
UNIT = np.array([0.6, 0.0, -0.8, 0.0], np.float32)
ORDER = np.array([2, 0, 3, 1])


def words(length=6):
    def log_probs(params, x):
        histories = jnp.concatenate([jnp.zeros(2, x.dtype), x])[jnp.arange(len(x))[:, None] + jnp.arange(2)[None]]
        return jax.vmap(lambda h, w: BackedOff(params, h, 5).log_prob(w))(histories, x)

    step = lambda params, seen, w: (jnp.append(seen[1:], w), BackedOff(params, jnp.append(seen[1:], w), 5))  # noqa: E731
    return Sentence(GRAMS, log_probs, lambda params: jnp.zeros(2, jnp.int32), step, length, 5)


def flow(bijector):
    return Transformed(Normal(reals(D), reals(D)), bijector)


def scan(of=Bernoulli, shape=(2, 2, 1)):
    pixel = lambda params, kept, left, i, j, given: (kept, of(params[i, j]))  # noqa: E731
    cached = distributions.Cached(lambda p: (jnp.zeros(()),) * 2, lambda p, kept, above, i: (kept, above), pixel)
    return RasterScan(reals(*shape), lambda params, x: of(params), cached, (2, 2, 1), of(np.zeros(shape)).support)


def series():
    step = lambda params, kept, previous, t: (kept, Bernoulli(params[t]))  # noqa: E731
    return Series(reals(D), bits, lambda params: jnp.zeros(()), step, (D,), Binary())


def ordered(channels, levels, features):
    shapes = {
        "shift": (channels, features),
        "levels": (channels * (channels - 1) // 2, levels, features),
        "kernel": (channels, features, levels),
        "bias": (channels, levels),
    }
    return {name: reals(*shape) for name, shape in shapes.items()}


def rows():
    parts = (Normal(reals(2), reals(2)), Bernoulli(reals(1)))
    return distributions.Rows(parts, ((0, 2), (1,)), Columns(("real", "binary", "real")))


def points(number):
    arrays = [reals(number, *shape) for shape in ((2,), (2, 2), (2, 2), (2,), (3,))]
    return distributions.PenPoints(*arrays[:3], np.tanh(arrays[3]), arrays[4], 3)


def drawing():
    place = lambda params, t: jax.tree.map(lambda a: jnp.asarray(a)[t], params)  # noqa: E731
    step = lambda params, t, previous: (t + 1, place(params, t))  # noqa: E731
    return distributions.Drawing(points(5), lambda params, x: params, lambda params: 0, step, 5, 3)


EXAMPLES = {  # one of each, all its arrays NumPy's
    "Autoregressive": Autoregressive(reals(D), bits, (D,), Binary()),
    "Averaged": distributions.Averaged((Bernoulli(reals(D)), Bernoulli(reals(D))), 1),
    "BackedOff": BackedOff(GRAMS, np.array([2, 3], np.int32), 5),
    "Bernoulli": Bernoulli(reals(D)),
    "Beta": distributions.Beta(reals(D), reals(D)),
    "Categorical": Categorical(reals(D, V)),
    "CodeMap": CodeMap(scan(Categorical, (2, 2, 1, V))),
    "Codes": Codes(reals(2, 2, V)),
    "ContinuousBernoulli": distributions.ContinuousBernoulli(reals(D)),
    "Deterministic": Deterministic(reals(D)),
    "DiscretizedLogisticMixture": DiscretizedLogisticMixture(reals(D, 2), reals(D, 2), reals(D, 2), 8),
    "DiscretizedNormalMixture": distributions.DiscretizedNormalMixture(reals(D, 2), reals(D, 2), reals(D, 2), 8),
    "Drawing": drawing(),
    "LevelSeries": LevelSeries(words(), 3),
    "LinearLogisticMixture": LinearLogisticMixture(reals(2), reals(D, 2), reals(D, 2), reals(6, 2), 8),
    "LowRankNormal": LowRankNormal(reals(D), reals(D), reals(D, 2)),
    "Mixture": Mixture(reals(V), Normal(reals(V, D), reals(V, D))),
    "Mixture of mixtures": Mixture(reals(2), Mixture(reals(2, V), Normal(reals(2, V, D), reals(2, V, D)))),
    "MultivariateNormal": MultivariateNormal(reals(D), np.eye(D, dtype=np.float32)),
    "NegativeBinomial": distributions.NegativeBinomial(reals(D), reals(D)),
    "Normal": Normal(reals(D), reals(D)),
    "NormalMixtures": NormalMixtures(reals(D, 2), reals(D, 2), reals(D, 2)),
    "Observed": distributions.Observed(Normal(reals(D), reals(D))),
    "OneHot": OneHot(reals(D, V)),
    "OrderedCategorical": OrderedCategorical(reals(D), ordered(2, 3, D)),
    "PenPoints": distributions.PenPoints(
        reals(D, 2), reals(D, 2, 2), reals(D, 2, 2), 0.5 * reals(D, 2), reals(D, 3), 3
    ),
    "PointMass": PointMass(np.array([[0, 1], [2, 1]]), V),
    "PointMass of two levels": PointMass((np.array([[0, 1]]), np.array([[2]])), (V, V)),
    "Poisson": distributions.Poisson(reals(D)),
    "RasterScan": scan(),
    "RelaxedBernoulli": RelaxedBernoulli(reals(D), np.float32(0.5)),
    "RelaxedOneHot": RelaxedOneHot(reals(D, V), np.float32(0.5)),
    "Reshaped": Reshaped(Bernoulli(reals(D)), (2, 2)),
    "Rows": rows(),
    "Squares": Squares(Bernoulli(reals(2, 1, 4)), (4, 2, 1), 2),
    "Sentence": words(),
    "Sequential": Sequential(Normal(reals(D), reals(D)), reals(D), None, (lambda p, _, z: Normal(z[0] + p, p),)),
    "Series": series(),
    "Transformed, coupling": flow(
        bijectors.AffineCoupling(reals(2, 2), lambda params, x: (params[0] + x, params[1] * x))
    ),
    "Transformed, autoregressive": flow(
        bijectors.InverseAutoregressive(reals(D), reals(D), lambda p, x, h: (p + h, jnp.cumsum(x) - x))
    ),
    "Transformed, permutation": flow(bijectors.Chain((bijectors.Permutation(ORDER), bijectors.Flip()))),
    "Transformed, planar": flow(bijectors.Planar(reals(D), reals(D), np.float32(0.1))),
    "Transformed, Sylvester": flow(bijectors.Sylvester(reals(2, D), reals(2, D, D), reals(2, D), reals(D))),
    "Transformed, inverted": flow(bijectors.Inverted(bijectors.ActNorm(reals(D), reals(D)))),
    "Transformed, act norm": flow(bijectors.ActNorm(reals(D), reals(D))),
    "Transformed, mixing": flow(bijectors.Mixing(reals(D, D), reals(D, D), reals(D))),
    "Transformed, stacked": flow(bijectors.Stacked(reals(2, D), None, lambda p, c: bijectors.ActNorm(p, p))),
    "Transformed, channels": flow(bijectors.ChannelCoupling(reals(4, 2), None, lambda p, x, c: p @ x, affine(), 2)),
    "Transformed, masked": flow(bijectors.MaskedAutoregressive(reals(D, 2), None, lambda p, x, c: p * 1.0, affine())),
    "Transformed, checkerboard": Transformed(
        Normal(reals(2, 2, 1), reals(2, 2, 1)),
        bijectors.CheckerboardCoupling(reals(8, 8), None, lambda p, x, c: p @ x.ravel(), affine(), 1),
    ),
    "Transformed, continuous": flow(bijectors.Continuous(reals(D, D), lambda p, z, t: jnp.tanh(p @ z) * t)),
    "Transformed, split": Transformed(
        Normal(reals(1, 1, D), reals(1, 1, D)),
        bijectors.Split(
            bijectors.ChannelCoupling(reals(4, 2), None, lambda p, x, c: p @ x.ravel(), affine(), 2),
            bijectors.Flatten((1, 1, 2)),
            (1, 1, D),
        ),
    ),
    "Dequantised": distributions.Dequantised(
        reals(D),
        np.array([0.0, 1, 1, 0], np.float32),
        None,
        lambda params, c: bijectors.ActNorm(params, params),
        lambda params, x, c: distributions.UniformNoise((D,)),
    ),
    "GivenLinear": distributions.given_linear(Normal(reals(D), reals(D)), reals(2, D), reals(2), reals(2))[0],
    "Hierarchy": distributions.Hierarchy(
        reals(D), None, lambda p, f, noise, z: ((noise or z)[:1], p[:1] * jnp.sum((noise or z)[0]), None), ((2, D),)
    ),
    "Rounded": distributions.Rounded(reals(D), 3),
    "UniformNoise": distributions.UniformNoise((D,)),
    "StudentT": distributions.StudentT(reals(D), reals(D), np.full(D, 5.0, np.float32)),
    "Tree": Tree(np.arange(D), np.array([0, 0, 1, 1]), reals(D, 2)),
    "UniformSphere": UniformSphere(D),
    "VonMisesFisher": VonMisesFisher(UNIT, np.float32(3.0)),
    "ZeroInflated": distributions.ZeroInflated(reals(D), distributions.Poisson(reals(D))),
}


def test_every_distribution_and_every_bijector_has_an_example():
    functions = {
        "Cached",
        "averaged",
        "check_continuous",
        "check_support",
        "draw",
        "given_linear",
        "has_closed_form",
        "has_discrete_part",
        "is_factorised",
        "is_standard_normal",
        "kl_divergence",
        "kl_per_dim",
        "order_of",
    }
    functions.add("relax")
    missing = set(distributions.__all__) - functions - {name.partition(",")[0] for name in EXAMPLES}
    parts = jax.tree.leaves(list(EXAMPLES.values()), is_leaf=lambda d: hasattr(d, "forward_and_log_det"))
    used = {type(part).__name__ for part in parts} | {"Chain", "Flip", "Permutation"}
    used |= {"Flatten", "Logit", "Rescale", "Reverse", "Probability", "Squeeze"}  # which have no arrays
    missing |= set(bijectors.__all__) - {"dense_conditioner"} - used
    assert not missing


@pytest.mark.parametrize("name", EXAMPLES)
def test_numpy_parameters_beside_traced_values(name):
    """Under `jit` the key or x is traced and the parameters are not, or the other way round: either must be read."""
    held = EXAMPLES[name]
    key = jax.random.key(0)
    x = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), jax.eval_shape(held.sample, key))
    x = UNIT if name in ("VonMisesFisher", "UniformSphere") else x
    calls = {"sample": key, "log_prob": x, "sample_and_log_prob": key, "hard": x, "soft": x, "log_joint": x}
    if hasattr(held, "mean"):
        assert jax.eval_shape(lambda: held.mean()) is not None
        jax.eval_shape(lambda d: d.mean(), held)
    for method, argument in calls.items():
        if hasattr(held, method) and not (name == "Deterministic" and method == "log_prob"):
            shapes = jax.eval_shape(getattr(held, method), argument)  # parameters NumPy's, the argument traced
            other = jax.eval_shape(lambda d, m=method, a=argument: getattr(d, m)(a), held)  # and the other way round
            assert jax.tree.map(lambda s: (s.shape, s.dtype), shapes) == jax.tree.map(
                lambda s: (s.shape, s.dtype), other
            ), method


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_distribution_says_over_what_it_is(name):
    assert all(isinstance(support, Support) for support in supports(EXAMPLES[name]))


@pytest.mark.parametrize("name", ["Tree", "BackedOff", "VonMisesFisher", "Transformed, Sylvester"])
def test_values_are_those_of_the_same_arrays_on_the_device(name):
    held, key, same_key = EXAMPLES[name], jax.random.key(1), jax.random.key(1)
    x = {"Tree": np.array([1.0, 0, 1, 1], np.float32), "BackedOff": np.int32(3)}.get(name, UNIT)

    def everything(d, key, x):
        return d.sample(key), d.log_prob(x), d.mean() if hasattr(d, "mean") else ()

    given = jax.jit(lambda key, x: everything(held, key, x))(key, x)
    expected = jax.jit(everything)(held, same_key, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), given, expected)
