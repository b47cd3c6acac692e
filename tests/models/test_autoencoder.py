"""Auto-encoders against closed forms: the linear one is PCA, the contractive one's Jacobian is known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import kind

from vae_jax import models
from vae_jax.data.pipeline import Stream
from vae_jax.distributions import Mixture, MultivariateNormal
from vae_jax.evaluation import latents, likelihood
from vae_jax.networks.tied import transposed
from vae_jax.tasks import interpolate, reconstruct
from vae_jax.tasks.generate import with_code_density
from vae_jax.training import loop
from vae_jax.training.gradient import gradient

DIM, SIZE = 6, 200
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(SIZE, DIM)) @ RNG.normal(size=(DIM, DIM)) + 1.0, jnp.float32)
key = jax.random.key


def build(num_classes=0, **changes):
    linear = {"name": "mlp", "hidden": (), "activation": "tanh"}
    config = {
        "latent_dim": 2,
        "encoder": linear,
        "decoder": linear,
        "code": {"name": "linear"},
        "likelihood": {"name": "normal_fixed_scale", "scale": 1.0},
        "corruption": {"name": "none"},
        "penalties": {},
    }
    return models.from_config("autoencoder", {**config, **changes}, **kind((DIM,), num_classes))


def trained(model, num_steps=1500):
    learner = gradient(model, optax.adam(optax.cosine_decay_schedule(0.03, num_steps)))
    state = learner.init(key(0), {"x": X})
    run = jax.jit(lambda state: jax.lax.scan(lambda s, _: learner.step(s, {"x": X}), state, None, num_steps))
    return learner.params(run(state)[0])


@pytest.fixture(scope="module")
def linear():
    model = build()
    return model, trained(model)


def principal(x, rank):
    """The best reconstruction of rank `rank` (Eckart and Young)."""
    x = np.asarray(x, np.float64)
    _, _, directions = np.linalg.svd(x - x.mean(0), full_matrices=False)
    return x.mean(0) + (x - x.mean(0)) @ directions[:rank].T @ directions[:rank]


def test_the_linear_bottleneck_learns_the_principal_subspace(linear):
    model, params = linear
    kept = likelihood.reconstructions(model, params, {"x": X})
    best = np.mean((np.asarray(X) - principal(X, 2)) ** 2)
    np.testing.assert_allclose(kept["mse"].mean(), best, rtol=1e-3)
    assert kept["mse"].mean() >= best * (1 - 1e-5)
    nats = 0.5 * DIM * kept["mse"] + 0.5 * DIM * np.log(2 * np.pi)
    np.testing.assert_allclose(kept["distortion"], nats, rtol=1e-5)


def test_tasks_and_evaluation_take_it_as_any_latent_variable_model(linear):
    model, params = linear
    codes = latents.posterior_means(model, params, {"x": X})
    assert codes.shape == (SIZE, 2) and latents.active_units(codes) == 2
    given = jax.vmap(lambda x: reconstruct.from_mean(model.latent, params, x))(X)
    np.testing.assert_allclose(given, principal(X, 2), atol=0.15)
    same = reconstruct.from_samples(model.latent, params, key(0), X[0], num_samples=3)
    np.testing.assert_allclose(same, np.tile(given[0], (3, 1)), rtol=1e-5)
    path = interpolate.linear(codes[0], codes[1], jnp.linspace(0.0, 1.0, 3))
    decoded = interpolate.decode_path(model.latent, params, path)
    np.testing.assert_allclose(decoded[1], (given[0] + given[1]) / 2, rtol=1e-3, atol=1e-3)


def test_what_it_has_not_is_said(linear):
    model, params = linear
    assert model.sample is None and model.bound is None and model.log_prob is None and model.latent.prior is None
    q = latents.posteriors(model, params, {"x": X[:5]})
    with pytest.raises(TypeError, match="a point mass has no density"):
        latents.mutual_information(q, key(0))
    with pytest.raises(TypeError, match="without p"):
        latents.rate_per_dimension(model, params, {"x": X})


def test_a_density_of_codes_makes_it_generative(linear, assert_mean):
    """x = W z + b + ε with z as the codes are: the draws have the moments of the data's principal part, and noise."""
    model, params = linear
    codes = np.asarray(latents.posterior_means(model, params, {"x": X}), np.float64)
    tril = np.linalg.cholesky(np.cov(codes.T, bias=True))
    normal = MultivariateNormal(jnp.asarray(codes.mean(0), jnp.float32), jnp.asarray(tril, jnp.float32))
    density = Mixture(jnp.zeros(2), jax.tree.map(lambda a: jnp.stack([a, a]), normal))
    filled = with_code_density(model, density)
    drawn = jax.jit(jax.vmap(lambda k: filled.sample(params, k)))(jax.random.split(key(0), 4000))
    decoded = np.asarray(jax.vmap(lambda x: reconstruct.from_mean(model.latent, params, x))(X), np.float64)
    assert_mean(drawn, decoded.mean(0))
    assert_mean((np.asarray(drawn) - decoded.mean(0)) ** 2, decoded.var(0) + 1.0)
    assert filled.latent.prior(params) is density
    exact = model._replace(log_prob=lambda *_: 0.0, density=lambda *_: None, bounds=(("old", None),))
    old = with_code_density(exact, density)
    assert old.log_prob is old.density is old.bound is None and old.bounds == ()
    with pytest.raises(ValueError, match="no `latent`"):
        with_code_density(model._replace(latent=None), density)


def test_a_denoising_one_is_judged_against_the_clean_data():
    """All of x masked: whatever x, f sees 0, and the distortion is that of one reconstruction for all."""
    model = build(corruption={"name": "masking", "rate": 1.0})
    params = model.init(key(0), {"x": X})
    loss, (terms, state) = model.loss(params, key(0), {"x": X}, 0)
    assert state is None
    centre = reconstruct.from_mean(model.latent, params, jnp.zeros(DIM))
    expected = 0.5 * np.sum(np.square(X - centre[None]), axis=1) + 0.5 * DIM * np.log(2 * np.pi)
    np.testing.assert_allclose(terms["distortion"], expected, rtol=1e-5)
    np.testing.assert_array_equal(loss, terms["distortion"])
    half = build(corruption={"name": "masking", "rate": 0.5})
    first, other, again = (half.loss(params, jax.random.key(n), {"x": X}, 0)[0] for n in (0, 1, 0))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_a_linear_denoiser_shrinks_as_the_best_linear_predictor_does():
    """f wide enough: x̂ = argmin E|x - A x̃ - b|², A = Σ (Σ + s²)⁻¹, so the mean squared error is tr Σ - tr A Σ."""
    noise, covariance = 1.0, np.cov(np.asarray(X, np.float64).T, bias=True)
    model = build(latent_dim=DIM, corruption={"name": "gaussian", "scale": noise})
    params = trained(model)
    drawn = jax.jit(lambda keys: jax.lax.map(lambda k: model.loss(params, k, {"x": X}, 0)[0], keys))
    distortion = np.mean(drawn(jax.random.split(key(0), 500)), dtype=np.float64)
    error = 2 * (distortion - 0.5 * DIM * np.log(2 * np.pi))
    gain = covariance @ np.linalg.inv(covariance + noise**2 * np.eye(DIM))
    np.testing.assert_allclose(error, np.trace(covariance) - np.trace(gain @ covariance), rtol=0.02)


def test_the_loss_is_the_weighted_sum_of_its_terms():
    penalties = {"l2": {"weight": 0.5}, "contractive": {"weight": 2.0}, "target_activation": {"weight": 3.0}}
    penalties["target_activation"]["activation"] = 0.1
    model = build(code={"name": "sigmoid"}, penalties=penalties)
    params = model.init(key(0), {"x": X})
    loss, (terms, _) = jax.jit(model.loss)(params, key(0), {"x": X}, 0)
    expected = terms["distortion"] + sum(penalties[name]["weight"] * terms[name] for name in penalties)
    assert set(terms) == {"distortion", *penalties}
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    given = likelihood.judged(model, params, key(0), {"x": X})
    np.testing.assert_allclose(given["distortion"], terms["distortion"], rtol=1e-5)
    assert set(given) == {"distortion", "mse"}


def test_early_stopping_goes_by_the_loss():
    model = build(penalties={"l1": {"weight": 0.1}})
    learner = gradient(model, optax.adam(0.03))
    validate = likelihood.validation(model, key(0), {"x": X[:50]})
    options = {"num_steps": 30, "log_every": 10, "eval_every": 10, "patience": 2, "progress": False}
    feed = {"key": np.zeros((2, 2), np.uint32), "stored": {}}
    stream = Stream(lambda step, length: feed, lambda feed, step, i: {"x": X}, SIZE, 1)
    fitted = loop.fit(learner, stream, key=key(0), validate=validate, **options)
    valid = validate(fitted.params, fitted.record["best_step"])
    assert set(valid) == {"loss", "distortion", "l1"}
    np.testing.assert_allclose(fitted.record["best_bound"], -valid["loss"], rtol=1e-5)
    np.testing.assert_allclose(valid["loss"], valid["distortion"] + 0.1 * valid["l1"], rtol=1e-5)


def test_conditional_on_a_class():
    model = build(num_classes=3)
    batch = {"x": X, "context": jnp.arange(SIZE) % 3}
    params = model.init(key(0), batch)
    loss = model.loss(params, key(0), batch, 0)[0]
    other = model.loss(params, key(0), {**batch, "context": batch["context"] * 0}, 0)[0]
    np.testing.assert_array_equal(loss == other, batch["context"] == 0)


TIED = {"tied": True, "encoder": {"name": "mlp", "hidden": (5, 4)}, "decoder": {"name": "mlp", "hidden": (4, 5)}}


def test_tied_weights_are_those_of_the_encoder_transposed():
    model, free = build(**TIED), build(**{**TIED, "tied": False})
    params, shapes = model.init(key(0), {"x": X}), jax.eval_shape(free.init, key(0), {"x": X})
    size = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))  # noqa: E731
    assert size(shapes) - size(params) == size(params["encoder"]) - (5 + 4 + 2) == DIM * 5 + 5 * 4 + 4 * 2
    w1, w2, w3 = (np.asarray(layer["kernel"], np.float64) for layer in layers(params["encoder"]))
    b1, b2, b3 = (RNG.normal(size=width) for width in (4, 5, DIM))
    for layer, bias in zip(layers(params["decoder"]), (b1, b2, b3), strict=True):
        assert set(layer) == {"bias"}
        layer["bias"] = jnp.asarray(bias, jnp.float32)
    relu, z = lambda a: np.maximum(a, 0.0), RNG.normal(size=2)
    expected = w1 @ relu(w2 @ relu(w3 @ z + b1) + b2) + b3
    given = model.latent.likelihood(params, jnp.asarray(z, jnp.float32)).mean()
    np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5)


def test_a_tied_kernel_learns_from_both_uses():
    tied, free = build(**TIED), build(**{**TIED, "tied": False})
    params = tied.init(key(0), {"x": X})
    whole = {**params, "decoder": transposed(params["decoder"], params["encoder"])}
    gradient_of = lambda model: jax.jit(jax.grad(lambda p: jnp.mean(model.loss(p, key(0), {"x": X}, 0)[0])))  # noqa: E731
    own, apart = gradient_of(tied)(params), gradient_of(free)(whole)
    encoding, decoding = layers(apart["encoder"]), layers(apart["decoder"])
    for layer, there, back in zip(layers(own["encoder"]), encoding, reversed(decoding), strict=True):
        assert np.abs(there["kernel"]).max() > 0.01 and np.abs(back["kernel"]).max() > 0.01
        np.testing.assert_allclose(layer["kernel"], there["kernel"] + back["kernel"].T, rtol=1e-3, atol=1e-4)


def layers(variables):
    *dense, last = (variables["params"][name] for name in ("Dense_0", "Dense_1", "DenseHead_0"))
    return [*dense, last["Dense_0"]]


@pytest.mark.parametrize(
    "changes", [{"decoder": TIED["encoder"]}, {"num_classes": 3}, {"likelihood": {"name": "normal"}}]
)
def test_weights_that_cannot_be_tied_are_refused(changes):
    model = build(**{**TIED, **changes})
    context = {"context": jnp.zeros(SIZE, jnp.int32)} if "num_classes" in changes else {}
    with pytest.raises(ValueError, match=r"^tied: the decoder's kernels .* do not have the shapes of the transposed"):
        jax.eval_shape(model.init, key(0), {"x": X, **context})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"tied": True, "encoder": {"name": "conv_encoder"}},
            "model.tied requires encoder and decoder 'mlp', got conv_encoder",
        ),
        (
            {"tied": True, "penalties": {"weight_decay": {"weight": 1.0}}},
            "model.tied cannot be used with the penalty 'weight_decay', which sums over the decoder's kernels",
        ),
        ({"latent_dim": 0}, "latent_dim must be at least 1, got 0"),
        ({"penalties": {"l3": {"weight": 1.0}}}, "model.penalties.l3.name: unknown value 'l3'"),
        ({"penalties": {"l1": {}}}, "model.penalties.l1: missing key 'weight'"),
        ({"penalties": {"target_activation": {"weight": 1.0, "activation": 0.1}}}, "requires codes in .*'sigmoid'"),
        ({"corruption": {"name": "masking", "rate": 1.5}}, r"rate must be between 0 and 1, got 1.5"),
        ({"code": {"name": "k_sparse", "num_active": 3}}, "num_active must be between 1 and 2, got 3"),
    ],
)
def test_a_mistake_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        build(**changes)
