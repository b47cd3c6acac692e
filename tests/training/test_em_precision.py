"""EM and counting in float32 against float64, wherever the data lie: x = scale u + offset."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import kind

from vae_jax import models
from vae_jax.support import Real, Unit
from vae_jax.training import em

PLACES = [(1.0, 0.0), (1.0, 1e4), (1e4, 0.0), (1e4, 1e4), (0.01, 1.0)]
DIM, SIZE, BATCHES = 6, 600, 3
RNG = np.random.default_rng(0)
LABEL = RNG.integers(3, size=SIZE)
FACTORS = RNG.normal(size=(SIZE, 2)) @ RNG.normal(size=(2, DIM))
CLOUDS = (4.0 * RNG.normal(size=(3, DIM)))[LABEL] + RNG.normal(size=(SIZE, DIM)) * RNG.uniform(0.2, 1, (3, DIM))[LABEL]
TIGHT = FACTORS + 0.003 * RNG.normal(size=(SIZE, DIM))  # 1e-5 of the variance is noise
MIXTURE = {"num_components": 3, "concentration": 0.0, "revive_below": 0.0}
FAMILIES = {
    "full": ("mixture", MIXTURE | {"components": {"name": "gaussian", "covariance": "full", "floor": 1e-9}}, CLOUDS),
    "tied": ("mixture", MIXTURE | {"components": {"name": "gaussian", "covariance": "tied", "floor": 1e-9}}, CLOUDS),
    "diagonal": (
        "mixture",
        MIXTURE | {"components": {"name": "gaussian", "covariance": "diagonal", "floor": 1e-9}},
        CLOUDS,
    ),
    "spherical": (
        "mixture",
        MIXTURE | {"components": {"name": "gaussian", "covariance": "spherical", "floor": 1e-9}},
        CLOUDS,
    ),
    "factors": (
        "factor_analysis",
        {"latent_dim": 2, "noise": "diagonal", "fit": "em", "min_variance": 1e-9},
        FACTORS + 0.3 * RNG.normal(size=(SIZE, DIM)),
    ),
    "tight factors": (
        "factor_analysis",
        {"latent_dim": 2, "noise": "isotropic", "fit": "em", "min_variance": 1e-9},
        TIGHT,
    ),
    "prediction": ("linear_predictor", {"order": 2, "num_scales": 2, "floor": 1e-9}, 0.1 * np.cumsum(CLOUDS, axis=1)),
}


@functools.cache
def learner_of(name):
    family, options, _ = FAMILIES[name]
    model = models.from_config(family, options, **kind((DIM,), support=Real()))
    learner = em.em(model, batches_per_pass=BATCHES)

    @jax.jit
    def run(parts):
        one = lambda state, x: learner.step(state, {"x": x})  # noqa: E731
        again = lambda state, _: jax.lax.scan(one, state, parts)  # noqa: E731
        state, metrics = jax.lax.scan(again, learner.init(jax.random.key(1), {"x": parts[0]}), length=15)
        return state.params, metrics["bound"].mean(axis=1)

    return model, run


@pytest.mark.parametrize(("scale", "offset"), PLACES)
@pytest.mark.parametrize("name", FAMILIES)
def test_em_never_lowers_the_bound_by_more_than_rounding(name, scale, offset):
    x = np.asarray(scale * FAMILIES[name][2] + offset, np.float32)
    _, bounds = learner_of(name)[1](x.reshape(BATCHES, -1, DIM))
    bounds = np.asarray(bounds, np.float64)
    assert np.isfinite(bounds).all() and bounds[-1] > bounds[0]
    resolution = offset * np.finfo(np.float32).eps / (scale * 0.003 if name == "tight factors" else scale * 0.2)
    assert np.diff(bounds).min() > -2e-3 - DIM * resolution, np.diff(bounds).min()


@pytest.mark.parametrize(("scale", "offset"), PLACES)
def test_a_mixture_is_an_exact_step_of_float64(scale, offset):
    """The M step from the final parameters, whose responsibilities are taken in float64."""
    model, run = learner_of("diagonal")
    x = np.asarray(scale * CLOUDS + offset, np.float32)
    params, _ = run(x.reshape(BATCHES, -1, DIM))
    sums, value = jax.jit(model.sums.expect)(params, {"x": x})
    fitted = jax.jit(model.sums.maximize)(params, sums)["components"]
    mean, log_scale = (np.asarray(params["components"][name], np.float64) for name in ("mean", "log_scale"))
    e = np.asarray(x, np.float64)[:, None] - mean
    log_joint = np.sum(-0.5 * np.square(e * np.exp(-log_scale)) - log_scale - 0.5 * np.log(2 * np.pi), axis=2)
    log_joint += np.asarray(params["logits"], np.float64)
    log_prob = np.logaddexp.reduce(log_joint, axis=1)
    r = np.exp(log_joint - log_prob[:, None])
    shift = np.einsum("nk,nkd->kd", r, e) / r.sum(0)[:, None]
    variance = np.einsum("nk,nkd->kd", r, e**2) / r.sum(0)[:, None] - shift**2
    np.testing.assert_allclose(value, log_prob, atol=1e-3)
    np.testing.assert_allclose(sums["count"], r.sum(0), rtol=1e-4)
    np.testing.assert_allclose(fitted["mean"] - params["components"]["mean"], shift, atol=1e-3 * scale + 1e-7 * offset)
    np.testing.assert_allclose(np.exp(2 * fitted["log_scale"]), variance, rtol=1e-3)


@pytest.mark.parametrize(("scale", "offset"), PLACES)
def test_counting_finds_the_covariance_of_float64(scale, offset):
    model = models.from_config("multivariate_normal", {"shrinkage": 0.0}, **kind((DIM,), support=Real()))
    x = np.asarray(scale * CLOUDS + offset, np.float32)
    x = x[np.argsort(x[:, 0])]  # the first batch is like no other
    learner = em.counting(model)
    state = learner.init(jax.random.key(0), {"x": x[:200]})
    for part in x.reshape(BATCHES, -1, DIM):
        state, _ = learner.step(state, {"x": jnp.asarray(part)})
    params = learner.params(state)
    tril, expected = np.asarray(params["scale_tril"], np.float64), np.cov(x.astype(np.float64).T, bias=True)
    unit = np.sqrt(np.diag(expected))
    np.testing.assert_allclose(tril @ tril.T / np.outer(unit, unit), expected / np.outer(unit, unit), atol=1e-5)
    np.testing.assert_allclose(params["loc"], x.astype(np.float64).mean(0), atol=1e-5 * scale + 1e-7 * offset)


@pytest.mark.parametrize(("scale", "offset"), PLACES)
def test_prediction_is_the_least_squares_of_float64(scale, offset):
    """Of smooth series, whose errors are small beside them. Where there is an offset the first samples are outliers."""
    model = models.from_config(
        "linear_predictor", {"order": 2, "num_scales": 1, "floor": 1e-12}, **kind((40,), support=Unit())
    )
    rng = np.random.default_rng(3)
    time, speed, phase = np.arange(40), rng.uniform(0.1, 0.2, (60, 1)), rng.uniform(0, 6, (60, 1))
    x = np.asarray(scale * (np.sin(speed * time + phase) + 0.01 * rng.normal(size=(60, 40))) + offset, np.float32)
    learner = em.em(model, batches_per_pass=1)
    run = jax.jit(
        lambda x: jax.lax.scan(learner.step, learner.init(jax.random.key(0), {"x": x[0]}), {"x": x})[0].params
    )
    params = run(jnp.broadcast_to(jnp.asarray(x)[None], (8, 60, 40)))
    centred = x.astype(np.float64) - 0.5
    padded = np.pad(centred, ((0, 0), (2, 0)))
    rows = np.stack([np.ones_like(centred), padded[:, :-2], padded[:, 1:-1]], axis=-1).reshape(-1, 3)
    weights = np.linalg.lstsq(rows, centred.ravel(), rcond=None)[0]
    variance = np.square(centred.ravel() - rows @ weights).mean()
    resolution = 1e-3 + 2e-3 * (offset > 1e3 * scale)  # float32 has steps of 0.001 at 10,000
    np.testing.assert_allclose(np.exp(2 * params["log_scales"]), variance, rtol=resolution)
    loss = np.square(centred.ravel() - rows @ np.asarray(params["weights"], np.float64)).mean()
    np.testing.assert_allclose(loss, variance, rtol=resolution)


def test_factors_keep_a_small_noise():
    """Probabilistic PCA in closed form, where the noise is 1e-5 of the variance."""
    params, _ = learner_of("tight factors")[1](np.asarray(TIGHT, np.float32).reshape(BATCHES, -1, DIM))
    values = np.linalg.eigvalsh(np.cov(TIGHT.T, bias=True))
    np.testing.assert_array_less(values[:-2].mean() * 0.999, np.exp(2.0 * params["log_scale"]))


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (0.5, 0.4)])
def test_em_never_falls_on_smooth_sound_of_16_bits(gain, offset):
    """Sixteen neighbours are almost alike, and the error is 1e-7 of the variance of the samples."""
    rng = np.random.default_rng(0)
    time = np.arange(400) / 8000
    tones = (rng.uniform(low, high, size=(40, 4, 1)) for low, high in ((0.01, 0.05), (500, 3700), (0, 6)))
    loudness, speed, phase = tones
    sound = 0.5 + np.sum(loudness * np.sin(speed * time + phase), axis=1)
    x = ((np.floor(65536 * (gain * sound + offset)) + rng.uniform(size=sound.shape)) / 65536).astype(np.float32)
    options = {"order": 16, "num_scales": 3, "floor": 1e-11}
    model = models.from_config("linear_predictor", options, **kind((400,), support=Unit()))
    learner = em.em(model, batches_per_pass=1)
    run = jax.jit(lambda x: jax.lax.scan(learner.step, learner.init(jax.random.key(0), {"x": x[0]}), {"x": x}))
    bounds = np.asarray(run(jnp.broadcast_to(jnp.asarray(x)[None], (12, 40, 400)))[1]["bound"], np.float64)
    assert np.diff(bounds).min() > -1e-5 * np.abs(bounds).max(), bounds
