"""The sentence VAE against the enumeration of all sentences and quadrature over its code."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax import models
from vae_jax.evaluation import latents, likelihood
from vae_jax.inference import grid
from vae_jax.numerics import log_mean_exp
from vae_jax.objectives import schedules
from vae_jax.training import alternating, gradient

V, T = 5, 4
NETWORKS = {
    "lstm": {"name": "lstm", "width": 6},
    "transformer": {"name": "transformer", "width": 8, "num_layers": 1, "num_heads": 2},
}
CONFIG = {
    "latent_dim": 1,
    "encoder": NETWORKS["lstm"],
    "decoder": NETWORKS["lstm"],
    "posterior": {"name": "normal"},
    "objective": {"name": "elbo"},
}
ROWS = jnp.array([[1, 0, 0, 0], [3, 1, 0, 0], [4, 2, 1, 0], [2, 2, 1, 0], [2, 3, 4, 1], [3, 3, 3, 3]])


def build(**changes):
    given = {"event_shape": (T,), "num_classes": 0, "vocabulary_size": V}
    return models.from_config("text_vae", {**CONFIG, **changes}, **given)


@functools.cache
def randomized(name="lstm"):
    """A model and params of which none is zero."""
    model = build(encoder=NETWORKS[name], decoder=NETWORKS[name])
    shapes = jax.eval_shape(model.init, jax.random.key(0), {"x": ROWS})
    rng = np.random.default_rng(0)
    return model, jax.tree.map(lambda a: jnp.asarray(rng.normal(scale=0.8, size=a.shape), a.dtype), shapes)


def test_of_every_code_the_masses_of_all_sentences_sum_to_one(all_sentences):
    x = all_sentences(T, V)
    for name in NETWORKS:
        model, params = randomized(name)
        log_prob = lambda z, x, model=model, params=params: model.latent.likelihood(params, z).log_prob(x)  # noqa: E731
        p = np.exp(jax.jit(jax.vmap(jax.vmap(log_prob, (None, 0)), (0, None)))(jnp.array([[-1.5], [0.0], [1.0]]), x))
        np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-5)
        assert np.all(np.abs(p[0] - p[2]) > 0)


def test_bounds_rise_with_the_number_of_samples_to_the_exact_evidence(assert_mean):
    model, params = randomized()
    points = grid.even((1,), low=-9.0, high=9.0, num_points=361)

    @jax.jit
    def truth(x):
        exact = grid.posterior(model.latent, params, x, grid=points)
        return exact.log_prob, grid.kl_to_posterior(model.latent.posterior(params, x), exact, grid=points), exact.error

    log_prob, kl, error = (np.asarray(a, np.float64) for a in jax.vmap(truth)(ROWS))
    assert np.all(error < 1e-3) and np.all(kl > 0.02)
    keys = jax.random.split(jax.random.key(0), (4000, len(ROWS)))
    log_w = jax.jit(jax.vmap(jax.vmap(model.bound, (None, 0, 0)), (None, 0, None)))(params, keys, ROWS)
    assert_mean(log_w, log_prob - kl)  # the ELBO
    bounds = {k: np.asarray(log_mean_exp(log_w.reshape(-1, k, len(ROWS)), axis=1)) for k in (1, 5, 50)}
    means = [bounds[k].mean(axis=0) for k in (1, 5, 50)]
    assert np.all(means[0] < means[1]) and np.all(means[1] < means[2])
    for k in (5, 50):
        assert np.all(bounds[k].mean(axis=0) < log_prob + 5 * bounds[k].std(axis=0) / np.sqrt(len(bounds[k])))


@pytest.mark.parametrize("name", NETWORKS)
def test_padding_changes_neither_posterior_nor_bound_nor_gradient(name):
    model, params = randomized(name)
    other = np.where(np.cumsum(ROWS == 1, axis=1) - (ROWS == 1) > 0, [[2, 3, 1, 4]], ROWS)
    assert (other != ROWS).any(axis=1).sum() == 4
    keys = jax.random.split(jax.random.key(0), len(ROWS))

    def total(params, x):
        bound = jax.vmap(model.bound, (None, 0, 0))(params, keys, x)
        return bound.sum(), (bound, jax.vmap(model.latent.posterior, (None, 0))(params, x))

    slope = jax.jit(jax.grad(total, has_aux=True))
    own, same = slope(params, ROWS), slope(params, jnp.asarray(other))
    jax.tree.map(np.testing.assert_array_equal, own, same)
    assert all(np.isfinite(leaf).all() and np.any(leaf != 0) for leaf in jax.tree.leaves(own[0]))


def test_word_dropout_is_in_the_loss_and_nowhere_else():
    whole, params = randomized()
    batch, key = {"x": ROWS}, jax.random.key(3)
    # The same keys, so the same codes: a rate that never drops anything, and one that does.
    never, dropping = (build(decoder={**NETWORKS["lstm"], "word_dropout": rate}) for rate in (1e-9, 0.7))
    (full, terms), (loss, same) = (jax.jit(model.loss)(params, key, batch, 0) for model in (never, dropping))
    assert np.any(full != loss) and full[0] == loss[0]  # of no words none can be dropped
    np.testing.assert_array_equal(terms["rate"], same["rate"])
    assert set(terms) == {"rate"}
    np.testing.assert_array_equal(*(model.bound(params, key, ROWS[4]) for model in (whole, dropping)))
    plain = whole._replace(coupled=True)  # validated by its ELBO too
    own, expected = (likelihood.bound_terms(model, params, key, batch) for model in (dropping, plain))
    jax.tree.map(np.testing.assert_array_equal, own, expected)


def test_dropout_of_the_encoder_is_of_training_alone():
    whole, params = randomized()
    thinned = build(encoder={**NETWORKS["lstm"], "dropout": 0.5})
    rates = [np.asarray(jax.jit(thinned.loss)(params, jax.random.key(n), {"x": ROWS}, 0)[1]["rate"]) for n in (0, 1)]
    assert np.all(rates[0] != rates[1])
    jax.tree.map(
        np.testing.assert_array_equal, *(model.latent.posterior(params, ROWS[2]) for model in (whole, thinned))
    )


def test_schedules_and_free_bits():
    _, params = randomized()
    options = {"steps": 80, "num_cycles": 2, "ratio": 0.5}
    cyclical = build(objective={"name": "elbo", "beta": {"name": "cyclical", **options}})
    at, beta = (
        jax.jit(lambda step: cyclical.loss(params, jax.random.key(0), {"x": ROWS}, step)),
        schedules.cyclical(**options),
    )
    for step in (0, 15, 30, 50, 90):
        loss, terms = at(step)
        np.testing.assert_allclose(loss, terms["distortion"] + beta(step) * terms["rate"], rtol=1e-5)
    free = build(objective={"name": "free_bits", "free_nats": 1.0})
    loss, terms = jax.jit(free.loss)(params, jax.random.key(0), {"x": ROWS}, 0)
    assert np.any(terms["rate"] < 1.0) and np.any(terms["rate"] > 1.0)
    np.testing.assert_allclose(loss, terms["distortion"] + np.maximum(terms["rate"], 1.0), rtol=1e-6)


def test_the_encoder_may_go_first():
    model = build(decoder={**NETWORKS["lstm"], "word_dropout": 0.3})
    information = lambda params, key, batch: latents.mutual_information(latents.posteriors(model, params, batch), key)  # noqa: E731
    options = {"information": information, "window": 5, "max_steps": 10, "check_every": 20}
    learner = alternating.aggressive(model, gradient.optimizer(name="adam", learning_rate=0.01), **options)
    state = jax.jit(learner.init)(jax.random.key(0), {"x": ROWS})
    new, metrics = jax.jit(learner.step)(state, {"x": ROWS})
    assert np.isfinite(metrics["loss"]) and metrics["aggressive"] == 1.0
    moved = {
        part
        for part in state.params
        if jax.tree.leaves(state.params[part])[0].tolist() != jax.tree.leaves(new.params[part])[0].tolist()
    }
    assert moved == {"encoder"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": {"name": "lst"}}, r"config\.model\.encoder\.name: unknown value 'lst'; did you mean 'lstm'"),
        (
            {"decoder": {"name": "lstm", "widht": 3}},
            r"config\.model\.decoder: unknown key 'widht'; did you mean 'width'",
        ),
        ({"latent_dim": 0}, r"config\.model\.latent_dim must be a positive integer, got 0"),
        (
            {"decoder": {"name": "lstm", "word_dropout": 1.0}},
            "lstm: word_dropout must be at least 0 and below 1, got 1.0",
        ),
        ({"encoder": {"name": "lstm", "word_dropout": -0.1}}, "word_dropout must be at least 0 and below 1, got -0.1"),
        ({"encoder": {"name": "lstm", "tied": True}}, r"config\.model\.encoder\.tied"),
        ({"prior": {"name": "vamp"}}, r"config\.model\.prior: 'vamp' .* use 'mixture'"),
        ({"prior": {"name": "mixture"}}, "no closed-form KL; use 'elbo_sampled_kl'"),
    ],
)
def test_mistakes_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(build(**change).init, jax.random.key(0), {"x": ROWS})
