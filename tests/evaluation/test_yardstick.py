"""The one yardstick: each kind of model has its kind of number, and the number is right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from toy_models import bound_only, codebook, exact_bound, gan

from vae_jax.core import Model, tractable
from vae_jax.distributions import MultivariateNormal
from vae_jax.evaluation import yardstick
from vae_jax.spec import BadOption
from vae_jax.support import Unit

SIZE, K = 60, 200
OFFSET = 3 * np.log(256)
DIFFUSION, GAN, CODEBOOK = bound_only(), gan(), codebook()


def measure(model, params, x, seed=0, **options):
    return yardstick.measure(model, params, jax.random.key(seed), {"x": x}, **{"num_samples": K, **options})


@pytest.fixture(scope="module")
def cases(linear_gaussian):
    """{kind of model: (model, params, x)}."""
    lg, rng = linear_gaussian, np.random.default_rng(0)
    x, y = lg.data(SIZE), jnp.asarray(rng.normal(size=(SIZE, 2)), jnp.float32)
    tril = np.linalg.cholesky(lg.weight @ lg.weight.T + lg.scale**2 * np.eye(3))
    normal = {"loc": jnp.asarray(lg.bias, jnp.float32), "scale_tril": jnp.asarray(tril, jnp.float32)}
    denoiser = {"scale": jnp.linspace(0.9, 0.3, 8), "shift": jnp.asarray(0.1 * rng.normal(size=(8, 2)), jnp.float32)}
    return {
        "tractable": (tractable(None, lambda params, context=None: MultivariateNormal(**params)), normal, x),
        "latent": (Model(None, None, None, latent=lg.latent), lg.wrong, x),
        "bound": (DIFFUSION, denoiser, y),
        "auto-encoder": (CODEBOOK, CODEBOOK.init(jax.random.key(0), {"x": y}), y),
        "samples": (GAN, GAN.init(jax.random.key(0), {"x": y}), y),
    }


@pytest.fixture(scope="module")
def measured(cases):
    return {name: measure(*case) for name, case in cases.items()}


def test_the_fields_decide_the_kind(measured):
    kinds = {"tractable": "=", "latent": f"≥ IW-{K}", "bound": "≥", "auto-encoder": "-", "samples": "-"}
    assert {name: result.kind for name, result in measured.items()} == kinds
    assert [yardstick.is_bound(kind) for kind in kinds.values()] == [False, True, True, False, False]
    assert all(result.note for result in measured.values())
    for name, result in measured.items():
        assert (result.log_prob is None) == (kinds[name] == "-")
        assert result.log_prob is None or result.log_prob.shape == (SIZE,)
        assert all(np.shape(values) == (SIZE,) for values in result.terms.values())


def test_the_better_number_is_taken(cases):
    """Exact before importance-weighted, and importance-weighted before a bound."""
    model, _, _ = cases["latent"]
    both = model._replace(bound=DIFFUSION.bound)
    assert yardstick.kind_of(both, 5) == "≥ IW-5"
    assert yardstick.kind_of(both._replace(log_prob=cases["tractable"][0].log_prob), 5) == "="


def test_exact_is_exact(linear_gaussian, cases, measured):
    np.testing.assert_allclose(
        measured["tractable"].log_prob, linear_gaussian.log_prob(cases["tractable"][2]), atol=1e-4
    )
    assert measured["tractable"].terms == {} and not yardstick.is_sampled(measured["tractable"])


def test_an_importance_weighted_bound_is_within_its_error(linear_gaussian, cases, measured):
    result, x = measured["latent"], cases["latent"][2]
    error = np.sqrt((K / result.terms["ess"] - 1.0) / K)
    z = (result.log_prob - linear_gaussian.log_prob(x)) / error
    assert np.all(np.abs(z) < 5) and 0.3 < z.std() < 2.0
    assert set(result.terms) == {"bound", "elbo", "rate", "distortion", "ess"}
    np.testing.assert_allclose(result.terms["elbo"], -result.terms["rate"] - result.terms["distortion"], rtol=1e-5)
    gap = linear_gaussian.log_prob(x) - result.terms["elbo"]
    np.testing.assert_allclose(gap.mean(), linear_gaussian.kl_to_posterior(linear_gaussian.wrong), rtol=0.3)
    exact = measure(cases["latent"][0], linear_gaussian.exact, x)
    np.testing.assert_allclose(exact.log_prob, linear_gaussian.log_prob(x), atol=1e-4)


def test_a_mean_bound_is_the_exact_bound_within_its_standard_error(cases, measured, assert_mean):
    _, params, x = cases["bound"]
    result, exact = measured["bound"], exact_bound(params, x)
    z = (result.log_prob - exact) / result.terms["se"]
    assert np.all(np.abs(z) < 5) and 0.7 < z.std() < 1.4 and set(result.terms) == {"se"}
    assert_mean(result.log_prob - exact, 0.0)
    more = measure(*cases["bound"], num_samples=16 * K)
    np.testing.assert_allclose(more.terms["se"].mean() / result.terms["se"].mean(), 0.25, rtol=0.1)


def test_one_estimate_has_no_standard_error(cases):
    result = measure(*cases["bound"], num_samples=1)
    assert np.isfinite(result.log_prob).all() and np.isnan(result.terms["se"]).all()


def test_an_auto_encoder_has_reconstructions_only(cases, measured):
    _, params, x = cases["auto-encoder"]
    x, codes = np.asarray(x, np.float64), np.asarray(params["state"]["total"], np.float64)
    square = np.sum(np.square(x[:, None] - codes[None]), axis=-1).min(axis=1)
    terms = measured["auto-encoder"].terms
    assert set(terms) == {"distortion", "mse"} and "no p(z)" in measured["auto-encoder"].note
    np.testing.assert_allclose(terms["distortion"], 0.5 * square + np.log(2 * np.pi), rtol=1e-5)
    np.testing.assert_allclose(terms["mse"], square / 2, rtol=1e-4, atol=1e-6)


def test_a_model_of_samples_has_no_number(measured):
    assert measured["samples"].terms == {} and "only draws samples" in measured["samples"].note


def test_the_density_of_dequantised_values_bounds_the_mass_of_their_levels(cases, measured):
    """log P(x) ≥ E log p - D log V: exact densities too become bounds; rates, errors and sample sizes do not move."""
    kinds = {
        "tractable": "≥, dequantised",
        "latent": f"≥ IW-{K}, dequantised",
        "bound": "≥, dequantised",
        "auto-encoder": "-",
        "samples": "-",
    }
    moves = {"bound": -OFFSET, "elbo": -OFFSET, "distortion": OFFSET}
    for name, case in cases.items():
        plain, moved = measured[name], measure(*case, offset=OFFSET)
        assert moved.kind == kinds[name] and yardstick.is_bound(moved.kind) == (kinds[name] != "-")
        if plain.log_prob is not None:
            np.testing.assert_allclose(moved.log_prob, plain.log_prob - OFFSET, rtol=1e-6)
        assert set(moved.terms) == set(plain.terms)
        for term, values in plain.terms.items():
            np.testing.assert_allclose(moved.terms[term], values + moves.get(term, 0.0), rtol=1e-5)


def test_no_samples_are_refused(cases):
    with pytest.raises(BadOption, match=r"^num_samples must be at least 1, got 0"):
        measure(*cases["latent"], num_samples=0)


# ------------------------------------------------------------------------------------------------------------ summaries


def test_a_summary_has_what_its_kind_has(measured):
    names = {
        "tractable": {"log_prob", "log_prob_se", "bits_per_dim"},
        "latent": {
            *("log_prob", "log_prob_se", "bits_per_dim"),
            *("num_samples", "elbo", "rate", "distortion", "effective_samples"),
        },
        "bound": {"log_prob", "log_prob_se", "bits_per_dim", "num_samples"},
        "auto-encoder": {"distortion", "mse"},
        "samples": set(),
    }
    for name, result in measured.items():
        summary = yardstick.summary(result, num_samples=K, num_examples=SIZE, event_size=3)
        assert set(summary) == names[name] | {"kind", "num_examples"}
        assert (summary["kind"], summary["num_examples"]) == (result.kind, SIZE)
        for term in {"rate", "distortion", "mse"} & set(summary):
            np.testing.assert_allclose(summary[term], result.terms[term].mean(), rtol=1e-5)


def test_a_summary_gives_means_errors_and_bits():
    log_prob = np.array([-784 * np.log(256), -784 * np.log(256) + 2], np.float32)
    terms = {name: np.full(2, value) for name, value in (("elbo", -5.0), ("rate", 2.0), ("distortion", 3.0))}
    measured = yardstick.Measured("≥ IW-10", log_prob, {**terms, "ess": np.array([3.0, 5.0])}, "")
    summary = yardstick.summary(measured, num_samples=10, num_examples=2, event_size=784)
    np.testing.assert_allclose(summary["bits_per_dim"], 8.0 - 1 / (784 * np.log(2)), rtol=1e-6)
    np.testing.assert_allclose(summary["log_prob_se"], 1.0, rtol=1e-3)  # deviation √2 over √2
    assert [summary[name] for name in ("elbo", "rate", "distortion", "effective_samples")] == [-5.0, 2.0, 3.0, 4.0]
    assert (summary["num_samples"], summary["num_examples"]) == (10, 2)


def test_a_uniform_density_takes_eight_bits_for_each_of_256_levels():
    @struct.dataclass
    class Uniform:
        """A density of 1 everywhere in [0, 1]^D."""

        support = Unit()

        def log_prob(self, x):
            return jnp.zeros(())

    model = tractable(None, lambda params, context=None: Uniform())
    result = measure(model, jnp.zeros(64), jnp.zeros((1, 64)), offset=64 * np.log(256))
    summary = yardstick.summary(result, num_samples=1, num_examples=1, event_size=64)
    np.testing.assert_allclose([summary["bits_per_dim"], summary["log_prob"]], [8.0, -64 * np.log(256)], rtol=1e-6)
    assert np.isnan(summary["log_prob_se"]) and summary["kind"] == "≥, dequantised"
