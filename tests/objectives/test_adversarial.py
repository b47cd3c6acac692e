"""The losses of two players, and the penalties of a critic, against Jacobians, closed forms and the other player."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax import models
from vae_jax.core import Event
from vae_jax.objectives import adversarial
from vae_jax.spec import BadOption
from vae_jax.support import Binary, Levels, Unit

RNG = np.random.default_rng(0)
IN_UNIT = Event((3, 3, 1), Unit())
IMAGES = jnp.asarray(RNG.normal(size=(6, 4, 4, 3)), jnp.float32)
CRITIC = {
    "in": jnp.asarray(0.3 * RNG.normal(size=(48, 5)), jnp.float32),
    "out": jnp.asarray(RNG.normal(size=5), jnp.float32),
}


def score(critic, x):
    return jnp.tanh(x.ravel() @ critic["in"]) @ critic["out"]


def test_the_losses_at_equilibrium_and_by_hand():
    zero = jnp.zeros(())
    values = {name: tuple(map(float, loss(zero, zero))) for name, loss in adversarial.LOSSES.items()}
    log_2 = math.log(2)
    expected = {"relativistic": (log_2, log_2), "nonsaturating": (2 * log_2, log_2), "hinge": (2, 0)}
    assert values.keys() == {*expected, "wasserstein"} and values["wasserstein"] == (0, 0)
    for name, pair in expected.items():
        np.testing.assert_allclose(values[name], pair, rtol=1e-6)
    real, fake = 1.5, -0.25
    probability = lambda d: 1 / (1 + math.exp(-d))  # noqa: E731
    critic, generator = adversarial.nonsaturating(real, fake)
    np.testing.assert_allclose(critic, -math.log(probability(real)) - math.log(1 - probability(fake)), rtol=1e-6)
    np.testing.assert_allclose(generator, -math.log(probability(fake)), rtol=1e-6)
    np.testing.assert_allclose(adversarial.hinge(real, fake), (0.75, 0.25), rtol=1e-6)
    np.testing.assert_allclose(adversarial.wasserstein(real, fake), (-1.75, 0.25), rtol=1e-6)
    critic, generator = adversarial.relativistic(real, fake)
    np.testing.assert_allclose(generator - critic, real - fake, rtol=1e-6)  # log-odds of the pair, either way round


@pytest.mark.parametrize("name", adversarial.LOSSES)
def test_a_game_gives_each_player_its_own_gradient(name):
    loss, real, start = adversarial.LOSSES[name], IMAGES[0], 0.1 * IMAGES[1]

    def both(critic, fake):
        return sum(adversarial.game(loss, score, critic, real, fake))

    of_critic, of_fake = jax.grad(both, (0, 1))(CRITIC, start)
    only_critic = jax.grad(lambda critic: loss(score(critic, real), score(critic, start)).critic)(CRITIC)
    only_fake = jax.grad(lambda fake: loss(score(CRITIC, real), score(CRITIC, fake)).generator)(start)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), of_critic, only_critic)
    np.testing.assert_allclose(of_fake, only_fake, rtol=1e-4, atol=1e-6)
    assert np.abs(of_fake).max() > 0


def test_the_penalties_are_norms_of_the_whole_jacobian():
    slope = lambda x: score(CRITIC, x)  # noqa: E731
    jacobians = jax.vmap(jax.jacobian(slope))(IMAGES)  # [N, 4, 4, 3]
    squares = np.sum(np.square(jacobians, dtype=np.float64), axis=(1, 2, 3))
    values = jax.vmap(lambda x: adversarial.zero_centred(slope, x))(IMAGES)
    np.testing.assert_allclose(values, squares, rtol=1e-5)
    real, fake, u = IMAGES[0], IMAGES[1], jax.random.uniform(jax.random.key(3))
    norm = np.linalg.norm(np.ravel(jax.jacobian(slope)(u * real + (1 - u) * fake)))
    np.testing.assert_allclose(
        adversarial.one_centred(slope, jax.random.key(3), real, fake), (norm - 1) ** 2, rtol=1e-4
    )


def test_the_penalty_of_a_linear_critic_has_a_closed_form():
    """(|w| - 1)², with the gradient 2 (|w| - 1) w / |w|, whatever the two images are; the norm is over all axes."""
    weight = 0.1 * IMAGES[2]

    def penalty(weight):
        return adversarial.one_centred(lambda x: jnp.sum(weight * x) + 3.0, jax.random.key(0), IMAGES[0], IMAGES[1])

    value, gradient = jax.value_and_grad(penalty)(weight)
    norm = np.linalg.norm(np.ravel(weight))
    np.testing.assert_allclose(value, (norm - 1) ** 2, rtol=1e-4)
    np.testing.assert_allclose(gradient, 2 * (norm - 1) * weight / norm, rtol=1e-4, atol=1e-5)


def test_the_penalties_are_finite_for_a_critic_without_slope():
    at_zero = jax.tree.map(jnp.zeros_like, CRITIC)

    def penalty(critic):
        slope = lambda x: score(critic, x)  # noqa: E731
        zero = adversarial.zero_centred(slope, IMAGES[0])
        return zero + adversarial.one_centred(slope, jax.random.key(0), IMAGES[0], IMAGES[1])

    value, gradient = jax.value_and_grad(penalty)(at_zero)
    np.testing.assert_allclose(value, 1.0, atol=1e-5)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def auto_encoder(event=IN_UNIT, **objective):
    layers = {"name": "mlp", "hidden": (8,)}
    scale = {"name": "normal_fixed_scale", "scale": 0.3}
    levels = isinstance(event.support, Levels) and {"name": "categorical", "num_levels": event.support.num_levels}
    config = {
        "latent_dim": 2,
        "encoder": layers,
        "decoder": layers,
        "posterior": {"name": "normal"},
        "likelihood": levels or scale,
        "objective": objective | {"critic": layers},
    }
    return models.from_config("vae", config, event=event)


def test_the_penalty_of_a_vae_gan_does_not_depend_on_the_scale_of_the_data():
    """γ is on the scale that networks see: levels 0..4 and the same images on another scale have one penalty."""

    levels = RNG.integers(5, size=(5, 3, 3, 1))

    def excess(num_levels):
        event, batch = (
            Event((3, 3, 1), Levels(num_levels)),
            {"x": jnp.asarray(levels * (num_levels - 1) // 4, jnp.float32)},
        )
        with_penalty, without = (auto_encoder(event, name="vae_gan", weight=1.0, r1=r1) for r1 in (1.0, 0.0))
        params = jax.jit(with_penalty.init)(jax.random.key(0), batch)

        def slope(model):
            loss = lambda params: jnp.mean(model.loss(params, jax.random.key(1), batch, 0)[0])  # noqa: E731
            return jax.jit(jax.grad(loss))(params)["objective"]

        both = zip(*map(jax.tree.leaves, (slope(with_penalty), slope(without))), strict=True)
        return np.concatenate([np.ravel(a - b) for a, b in both])

    np.testing.assert_allclose(excess(5), excess(257), rtol=1e-3, atol=1e-6)
    assert np.abs(excess(5)).max() > 1e-3


def test_a_likelihood_without_the_gradient_of_its_mean_is_refused():
    event = Event((3, 3, 1), Binary())
    layers = {"name": "mlp", "hidden": (8,)}
    config = {"latent_dim": 2, "encoder": layers, "posterior": {"name": "normal"}}
    config["decoder"] = {"name": "mlp", "hidden": (8,)}
    pixels = {"channels": (2,), "first_kernel": 3, "hidden": (2,), "features": 2, "spatial": True}
    config["likelihood"] = {"name": "pixel_cnn", "pixel": {"name": "bernoulli"}, **pixels}
    config["objective"] = {"name": "vae_gan", "weight": 1.0, "critic": layers}
    batch = {"x": jnp.zeros((2, 3, 3, 1))}
    with pytest.raises(BadOption, match="'vae_gan' cannot be used with the likelihood RasterScan, whose values depend"):
        model = models.from_config("vae", config, event=event)
        jax.eval_shape(lambda key: model.loss(model.init(key, batch), key, batch, 0), jax.random.key(0))


@pytest.mark.parametrize("name", ["adversarial_autoencoder", "vae_gan"])
def test_a_game_over_codes_moves_each_part_by_its_own_loss(name):
    batch = {"x": jnp.asarray(RNG.uniform(size=(5, 3, 3, 1)), jnp.float32)}
    model, without = (auto_encoder(name=name, weight=weight) for weight in (2.0, 0.0))
    params = jax.jit(model.init)(jax.random.key(0), batch)

    @jax.jit
    def gradients(params):
        def means(params, model):
            value, aux = model.loss(params, jax.random.key(1), batch, 0)
            return jax.tree.map(jnp.mean, {**aux.terms, "loss": value})

        terms, back = jax.vjp(lambda params: means(params, model), params)
        of_term = {
            name: back({term: jnp.asarray(float(term == name)) for term in terms})[0]
            for name in ("critic", "generator", "loss")
        }
        return terms, of_term, of_term["loss"], jax.grad(lambda params: means(params, without)["loss"])(params)

    terms, of_term, whole, plain = gradients(params)
    close = lambda a, b: jax.tree.map(  # noqa: E731
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), a, b
    )
    close(whole["objective"], of_term["critic"]["objective"])  # the critic minimises its loss, at any weight
    close(plain["objective"], of_term["critic"]["objective"])
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(whole["objective"])) > 0
    game = jax.tree.map(lambda a, b: (a - b) / 2.0, whole, plain)
    for part in ("encoder", "decoder"):
        close(game[part], of_term["generator"][part])
    idle = "decoder" if name == "adversarial_autoencoder" else "encoder"
    assert all(np.abs(leaf).max() < 1e-5 for leaf in jax.tree.leaves(game[idle]))
    np.testing.assert_allclose(terms["bound"], -terms["distortion"] - terms["rate"], rtol=1e-4)
