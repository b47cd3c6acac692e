"""The sentence VAE against the enumeration of all sentences and quadrature over its code."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from toys import kind

from vae_jax import models
from vae_jax.evaluation import latents, likelihood
from vae_jax.numerics import log_mean_exp
from vae_jax.objectives import schedules
from vae_jax.objectives.bounds import plain_elbo
from vae_jax.training import alternating, gradient

V, T = 5, 4
LSTM = {"name": "lstm", "width": 6}
CONFIG = {
    "latent_dim": 1,
    "encoder": {"name": "transformer", "width": 8, "num_layers": 1, "num_heads": 2},
    "decoder": LSTM,
    "posterior": {"name": "normal"},
    "objective": {"name": "elbo"},
}
ROWS = np.array([[1, 0, 0, 0], [3, 1, 0, 0], [4, 2, 1, 0], [2, 2, 1, 0], [2, 3, 4, 1], [3, 3, 3, 3]], np.int32)


def build(**changes):
    return models.from_config("text_vae", {**CONFIG, **changes}, **kind((T,), vocabulary_size=V))


@functools.cache
def randomized():
    """A model, and params of which none is zero; those of the encoder small, so that q(z|x) lies within a grid."""
    model = build()
    shapes = jax.eval_shape(model.init, jax.random.key(0), {"x": ROWS})
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda a: jnp.asarray(rng.normal(scale=0.8, size=a.shape), a.dtype), shapes)
    return model, {**params, "encoder": jax.tree.map(lambda a: a / 2, params["encoder"])}


@pytest.fixture(scope="module")
def table(all_sentences):
    """A grid of codes [G], all sentences [N, T] and their log p(x|z) [G, N]."""
    model, params = randomized()
    z, x = np.linspace(-14.0, 14.0, 561), all_sentences(T, V)
    log_prob = jax.vmap(lambda z, x: model.latent.likelihood(params, z[None]).log_prob(x), (None, 0))
    return z, x, np.asarray(jax.jit(jax.vmap(log_prob, (0, None)))(jnp.asarray(z, jnp.float32), x), np.float64)


def test_of_every_code_the_masses_of_all_sentences_sum_to_one(table):
    z, _, log_p = table
    np.testing.assert_allclose(np.exp(log_p).sum(axis=1), 1.0, rtol=1e-5)
    assert np.all(log_p[np.abs(z + 1).argmin()] != log_p[np.abs(z - 1).argmin()])


def test_bounds_rise_with_the_number_of_samples_to_the_exact_evidence(table, assert_mean):
    model, params = randomized()
    z, x, log_p = table
    row = [np.flatnonzero((x == own).all(axis=1)).item() for own in ROWS]
    log_joint = log_p[:, row].T + scipy.stats.norm.logpdf(z)  # [R, G]
    spacing = z[1] - z[0]
    log_prob = scipy.special.logsumexp(log_joint, axis=1) + np.log(spacing)
    q = jax.jit(jax.vmap(model.latent.posterior, (None, 0)))(params, ROWS)
    log_q = scipy.stats.norm.logpdf(z, q.loc, np.exp(q.log_scale))
    np.testing.assert_allclose(np.exp(log_q).sum(axis=1) * spacing, 1.0, rtol=1e-3)  # the grid holds it
    elbo = np.sum(np.exp(log_q) * (log_joint - log_q), axis=1) * spacing
    assert np.all(elbo < log_prob - 0.02)
    keys = jax.random.split(jax.random.key(0), (4000, len(ROWS)))
    log_w = jax.jit(jax.vmap(jax.vmap(model.bound, (None, 0, 0)), (None, 0, None)))(params, keys, ROWS)
    assert_mean(log_w, elbo)
    bounds = {k: np.asarray(log_mean_exp(log_w.reshape(-1, k, len(ROWS)), axis=1)) for k in (1, 5, 50)}
    means = [bounds[k].mean(axis=0) for k in (1, 5, 50)]
    assert np.all(means[0] < means[1]) and np.all(means[1] < means[2])
    for k in (5, 50):
        assert np.all(bounds[k].mean(axis=0) < log_prob + 5 * bounds[k].std(axis=0) / np.sqrt(len(bounds[k])))


def test_padding_changes_neither_bound_nor_gradient():
    model, params = randomized()
    other = np.where(np.cumsum(ROWS == 1, axis=1) - (ROWS == 1) > 0, [[2, 3, 1, 4]], ROWS)
    assert (other != ROWS).any(axis=1).sum() == 4

    @jax.jit
    def bounds(params, x):
        def total(params):
            bound = jax.vmap(model.bound, (None, 0, 0))(params, jax.random.split(jax.random.key(0), len(x)), x)
            return bound.sum(), bound

        return jax.grad(total, has_aux=True)(params)

    own, same = bounds(params, ROWS), bounds(params, other)
    jax.tree.map(np.testing.assert_array_equal, own, same)
    assert all(np.isfinite(leaf).all() and np.any(leaf != 0) for leaf in jax.tree.leaves(own[0]))


def test_dropout_is_in_the_loss_and_nowhere_else():
    whole, params = randomized()
    batch, key = {"x": ROWS}, lambda: jax.random.key(3)

    def with_rate(rate):
        return build(encoder={**CONFIG["encoder"], "dropout": rate}, decoder={**LSTM, "word_dropout": rate})

    never, thinned = with_rate(1e-9), with_rate(0.7)  # the same keys, so the same noise of the codes
    (full, (terms, _)), (loss, (other, _)) = (jax.jit(m.loss)(params, key(), batch, 0) for m in (never, thinned))
    assert np.all(full != loss) and np.all(terms["rate"] != other["rate"]) and set(terms) == {"rate"}

    def judge(params, key, x, context=None):
        return plain_elbo(whole.latent, params, key, x, num_samples=1)[1]

    by_elbo = whole._replace(judge=judge)
    judged, expected = (likelihood.judged(m, params, key(), batch) for m in (thinned, by_elbo))
    jax.tree.map(np.testing.assert_array_equal, judged, expected)


def test_free_bits_by_a_schedule():
    _, params = randomized()
    nats = {"steps": 80, "num_cycles": 2, "ratio": 0.5, "start": 0.5, "end": 3.0}
    model = build(objective={"name": "free_bits", "free_nats": {"name": "cyclical", **nats}})
    at = jax.jit(lambda step: model.loss(params, jax.random.key(0), {"x": ROWS}, step))
    for step in (0, 15, 30, 50, 90):
        loss, (terms, _) = at(step)
        free = np.maximum(terms["rate"], schedules.cyclical(**nats)(step))
        np.testing.assert_allclose(loss, terms["distortion"] + free, rtol=1e-5)
    assert np.any(at(0)[1].terms["rate"] > 0.5) and np.any(terms["rate"] < 3.0)


def test_the_encoder_may_go_first():
    model = build(decoder={**LSTM, "word_dropout": 0.3})

    def information(params, key, batch):
        return latents.mutual_information(latents.posteriors(model, params, batch), key)

    options = {"information": information, "window": 5, "max_steps": 10, "check_every": 20}
    learner = alternating.aggressive(model, gradient.optimizer(name="adam", learning_rate=0.01), **options)
    state = jax.jit(learner.init)(jax.random.key(0), {"x": ROWS})
    new, metrics = jax.jit(learner.step)(state, {"x": ROWS})
    moved = {
        name: [np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (state.params[name], part)), strict=True)]
        for name, part in new.params.items()
    }
    assert metrics["aggressive"] == 1 and any(moved["encoder"]) and not any(moved["decoder"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": {"name": "lst"}}, r"model\.encoder\.name: unknown value 'lst'; did you mean 'lstm'"),
        (
            {"decoder": {"name": "lstm", "widht": 3}},
            r"model\.decoder: unknown key 'widht'; did you mean 'width'",
        ),
        ({"latent_dim": 0}, r"model\.latent_dim must be at least 1, got 0"),
        (
            {"decoder": {"name": "lstm", "word_dropout": 1.0}},
            "model.decoder.word_dropout must be at least 0 and below 1, got 1.0",
        ),
        ({"encoder": {"name": "lstm", "word_dropout": -0.1}}, "word_dropout must be at least 0 and below 1, got -0.1"),
        ({"encoder": {"name": "lstm", "tied": True}}, r"model\.encoder\.tied"),
        ({"prior": {"name": "vamp"}}, r"model\.prior: 'vamp' .* use 'mixture'"),
        ({"prior": {"name": "mixture"}}, r"objective\.name: 'elbo' cannot .* no closed-form KL; use 'elbo_sampled_kl'"),
    ],
)
def test_mistakes_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        model = build(**change)
        params = jax.eval_shape(model.init, jax.random.key(0), {"x": ROWS})
        jax.eval_shape(model.loss, params, jax.random.key(0), {"x": ROWS}, 0)
