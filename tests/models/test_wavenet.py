"""WaveNet, linear prediction and n-grams of levels: against enumeration, least squares and the whole network."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import kind

from vae_jax import models
from vae_jax.support import Levels
from vae_jax.training import em

V, T = 3, 5
ALL = jnp.asarray(list(itertools.product(range(V), repeat=T)), jnp.float32)
NETWORK = {"width": 4, "skip": 6, "hidden": (8,), "dilations": (1, 2), "first_kernel": 2}
HEADS = {
    "softmax": {"name": "categorical", "num_levels": V},
    "logistics": {"name": "discretized_logistic_mixture", "num_components": 2, "num_levels": V},
}


@functools.cache
def randomized(head, length=T):
    """A model of two classes, and params of which none is zero."""
    config = {"network": NETWORK, "likelihood": HEADS[head]}
    model = models.from_config("wavenet", config, **kind((length,), 2))
    batch = {"x": jnp.zeros((2, length)), "context": jnp.zeros(2, jnp.int32)}
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
    rng = np.random.default_rng(0)
    return model, jax.tree.map(lambda a: jnp.asarray(rng.normal(scale=0.7, size=a.shape), a.dtype), shapes)


@pytest.mark.parametrize("head", HEADS)
def test_the_masses_of_all_series_sum_to_one(head):
    model, params = randomized(head)
    p = [np.exp(np.asarray(jax.jit(jax.vmap(lambda x, c=c: model.log_prob(params, x, c)))(ALL))) for c in (0, 1)]
    np.testing.assert_allclose([p[0].sum(), p[1].sum()], 1.0, rtol=1e-5)
    assert np.abs(p[0] - p[1]).max() > 1e-4  # a class is heard
    with pytest.raises(ValueError, match="a context is needed"):
        model.log_prob(params, ALL[0])


@pytest.mark.parametrize("head", HEADS)
def test_draws_are_those_of_the_whole_network(head):
    model, params = randomized(head, 12)
    keys = jax.random.split(jax.random.key(1), 50)
    cached = jax.jit(jax.vmap(lambda key: model.sample(params, key, 1)))(keys)
    whole = jax.jit(jax.vmap(lambda key: model.density(params, 1).uncached().sample(key)))(keys)
    assert np.all(np.std(cached, axis=0) > 0)
    np.testing.assert_array_equal(cached, whole)
    given = jax.jit(jax.vmap(lambda key, x: model.density(params, 1).complete(key, x, 7)))(keys, cached[::-1])
    np.testing.assert_array_equal(given[:, :7], cached[::-1, :7])
    assert np.all(np.std(given[:, 7:], axis=0) > 0)


def test_it_begins_as_the_uniform_distribution():
    config = {"network": NETWORK, "likelihood": HEADS["softmax"]}
    model = models.from_config("wavenet", config, **kind((T,)))
    params = model.init(jax.random.key(0), {"x": ALL[:2]})
    np.testing.assert_allclose(model.log_prob(params, ALL[5]), -T * np.log(V), rtol=1e-6)


def autoregression(num=400, length=30, seed=0):
    """x_t = 0.5 + 1.2 (x_{t-1} - 0.5) - 0.5 (x_{t-2} - 0.5) + e, e of two scales; float32 [N, T]."""
    rng = np.random.default_rng(seed)
    scale = np.where(rng.uniform(size=(num, length)) < 0.3, 0.1, 0.02)
    e, x = scale * rng.normal(size=(num, length)), np.zeros((num, length + 2))
    for t in range(length):
        x[:, t + 2] = 1.2 * x[:, t + 1] - 0.5 * x[:, t] + e[:, t]
    return jnp.asarray(x[:, 2:] + 0.5, jnp.float32)


@functools.cache
def predictor(num_scales, passes):
    """Params after each pass of EM, and the bound of each."""
    config = {"order": 2, "num_scales": num_scales, "floor": 1e-6}
    model, x = models.from_config("linear_predictor", config, **kind((30,))), autoregression()
    learner = em.em(model, batches_per_pass=2)
    state, step, bounds = learner.init(jax.random.key(0), {"x": x[:200]}), jax.jit(learner.step), []
    for _ in range(passes):
        own = []
        for half in (x[:200], x[200:]):
            state, metrics = step(state, {"x": half})
            own.append(float(metrics["bound"]))
        bounds.append(np.mean(own))
    return model, state.params, bounds


def test_one_scale_is_least_squares():
    _, params, _ = predictor(1, 2)
    x = np.asarray(autoregression(), np.float64) - 0.5
    padded = np.pad(x, ((0, 0), (2, 0)))
    rows = np.stack([np.ones_like(x), padded[:, :-2], padded[:, 1:-1]], axis=-1).reshape(-1, 3)
    weights, residual, _, _ = np.linalg.lstsq(rows, x.ravel(), rcond=None)
    np.testing.assert_allclose(params["weights"], weights, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(np.exp(2 * params["log_scales"]), residual / x.size, rtol=1e-3)


def test_em_never_lowers_the_likelihood_and_finds_both_scales():
    model, params, bounds = predictor(2, 25)
    assert np.all(np.diff(bounds) > -1e-3) and bounds[-1] > predictor(1, 2)[2][-1] + 3  # nats a window
    np.testing.assert_allclose(params["weights"][1:], [-0.5, 1.2], atol=0.02)
    order = np.argsort(params["log_scales"])
    np.testing.assert_allclose(np.exp(params["log_scales"])[order], [0.02, 0.1], rtol=0.1)
    np.testing.assert_allclose(jax.nn.softmax(params["logits"])[order], [0.7, 0.3], atol=0.05)

    @jax.jit
    def by_steps(x):
        """Σ_t log p(x_t | x_<t), as a draw takes them."""
        density = model.density(params)

        def walk(state, item):
            (kept, previous), (t, x) = state, item
            kept, conditional = density.step(density.params, kept, previous, t)
            return (kept, x), conditional.log_prob(x)

        return jax.lax.scan(walk, ((density.start(params)), 7.0), (jnp.arange(len(x)), x))[1].sum()

    x = autoregression(seed=1)[0]
    np.testing.assert_allclose(by_steps(x), model.log_prob(params, x), rtol=1e-5)
    keys = jax.random.split(jax.random.key(0), 400)
    drawn = jax.jit(jax.vmap(lambda key: model.sample(params, key)))(keys)
    whole = jax.jit(jax.vmap(lambda key: model.density(params).uncached().sample(key)))(keys[:20])
    np.testing.assert_allclose(drawn[:20], whole, atol=1e-5)
    np.testing.assert_allclose(np.std(drawn), np.std(autoregression()), rtol=0.1)


def test_ngrams_of_levels_are_those_of_words():
    levels = {"order": 3, "discounts": "modified", "num_levels": V}
    model = models.from_config("ngram", levels, **kind((T,), support=Levels(V)))
    words = {"order": 3, "discounts": "modified"}
    of_words = models.from_config("ngram", words, **kind((T,), vocabulary_size=V + 2))
    x = np.asarray(ALL, np.uint8)[np.random.default_rng(0).integers(len(ALL), size=80)]
    params = jax.tree.map(jnp.asarray, model.fit(x))
    jax.tree.map(np.testing.assert_array_equal, params, jax.tree.map(jnp.asarray, of_words.fit(x.astype(np.int32) + 2)))
    log_p = np.asarray(jax.jit(jax.vmap(model.log_prob, (None, 0)))(params, ALL))
    np.testing.assert_allclose(
        log_p, jax.jit(jax.vmap(of_words.log_prob, (None, 0)))(params, ALL.astype(jnp.int32) + 2), rtol=1e-6
    )
    assert 0.9 < np.exp(log_p).sum() < 1.0  # what is left is an end's
    drawn = jax.jit(jax.vmap(lambda key: model.sample(params, key)))(jax.random.split(jax.random.key(0), 200))
    assert set(np.unique(drawn)) == set(range(V))


@pytest.mark.parametrize(
    ("family", "config", "shape", "message"),
    [
        (
            "wavenet",
            {"network": NETWORK, "likelihood": HEADS["softmax"]},
            (3, 3, 1),
            "^model: the family 'wavenet' models series",
        ),
        (
            "wavenet",
            {"network": NETWORK, "likelihood": {"name": "multivariate_normal"}},
            (4,),
            "model.likelihood: 'multivariate_normal' does not model independent pixels",
        ),
        ("linear_predictor", {"order": 0, "num_scales": 1, "floor": 1e-6}, (4,), "order must be at least 1, got 0"),
        ("linear_predictor", {"order": 1, "num_scales": 1, "floor": 0.0}, (4,), "floor must be above 0"),
        ("linear_predictor", {"order": 1, "num_scales": 1, "floor": 1e-6}, (2, 2, 1), "^model: the family .* series"),
        (
            "ngram",
            {"order": 2, "discounts": "modified"},
            (4,),
            "model.num_levels must be 0 for text, .* got 0 and data",
        ),
        (
            "ngram",
            {"order": 2, "discounts": "modified", "num_levels": 3},
            (2, 2, 1),
            "num_levels must be .* got 3 and data of shape",
        ),
    ],
)
def test_what_cannot_be_is_refused(family, config, shape, message):
    with pytest.raises(ValueError, match=message):
        models.from_config(family, config, **kind(shape))
