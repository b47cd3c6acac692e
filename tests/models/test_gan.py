"""GANs: two players in one loss, their learners, their draws, and log p(x) under Gaussian noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax import models
from vae_jax.configs import gan_digits
from vae_jax.core import Event
from vae_jax.data import values
from vae_jax.evaluation import annealed, yardstick
from vae_jax.models import gan
from vae_jax.networks.adversarial import doubled, halved
from vae_jax.runs import build, observation, outliers, train
from vae_jax.spec import BadOption
from vae_jax.support import Binary, Levels, Real, Unit, centred
from vae_jax.training import alternating, gradient

LAYERS = {"name": "mlp", "hidden": (16,), "activation": "leaky_relu"}
RNG = np.random.default_rng(0)


def family(event, context=None, **options):
    config = {"latent_dim": 2, "generator": LAYERS, "critic": LAYERS, "r1": 0.2, "r2": 0.1} | options
    return models.from_config("gan", config, event=event, context=context)


def adam(rate=1e-2):
    return gradient.optimizer(name="adam", learning_rate=rate, b1=0.0, b2=0.9)


def close(a, b, **options):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **{"rtol": 1e-4, "atol": 1e-6} | options), a, b)


VECTORS = {"x": jnp.asarray(RNG.normal(size=(8, 3)), jnp.float32)}


def test_neither_player_feels_the_loss_of_the_other():
    model = family(Event((3,), Real()), gradient_penalty=1.0)
    params = model.init(jax.random.key(0), VECTORS)

    @jax.jit
    def gradients(params):
        loss = lambda p: model.loss(p, jax.random.key(1), VECTORS, 0)  # noqa: E731
        names = ("critic", "generator", "penalty")
        terms = [jax.grad(lambda p, name=name: jnp.mean(loss(p)[1].terms[name]))(params) for name in names]
        return jax.grad(lambda p: jnp.mean(loss(p)[0]))(params), *terms

    whole, critic, generator, penalty = gradients(params)
    close(whole["generator"], generator["generator"])
    close(whole["critic"], jax.tree.map(jnp.add, critic["critic"], penalty["critic"]))
    for player, other in ((critic, "generator"), (penalty, "generator"), (generator, "critic")):
        assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(player[other]))


def test_penalties_at_every_third_step_have_the_same_mean():
    always, lazy = (family(Event((3,), Real()), penalty_every=n) for n in (1, 3))
    params, losses = always.init(jax.random.key(0), VECTORS), [jax.jit(model.loss) for model in (always, lazy)]
    penalty = [f(params, jax.random.key(1), VECTORS, step)[1].terms["penalty"] for f in losses for step in range(3)]
    close(sum(penalty[:3]), sum(penalty[3:]))
    assert np.all(penalty[4] == 0)


def test_turns_of_the_critic_with_an_optimiser_a_player():
    model = family(Event((3,), Real()), loss="wasserstein", gradient_penalty=10.0)
    optimizer = gradient.by_part(default=adam(), critic=gradient.optimizer(name="sgd", learning_rate=0.1))
    learner = alternating.alternating(model, optimizer, encoder=("critic",), encoder_steps=2, decoder_steps=1)
    state, step, moved = learner.init(jax.random.key(0), VECTORS), jax.jit(learner.step), []
    for _ in range(6):
        new, metrics = step(state, VECTORS)
        same = jax.tree.map(lambda a, b: bool(jnp.all(a == b)), state.params, new.params)
        moved.append(tuple(not all(jax.tree.leaves(same[part])) for part in ("critic", "generator")))
        state = new
    assert moved == [(True, False), (True, False), (False, True)] * 2
    rates = {name: float(value) for name, value in metrics.items() if name.startswith("learning_rate")}
    assert rates["learning_rate_critic_encoder"] == pytest.approx(0.1)
    assert rates["learning_rate_default_rest"] == pytest.approx(0.01)
    with pytest.raises(BadOption, match="no part 'critik' of the model learns; did you mean 'critic'"):
        optimizer = gradient.by_part(default=adam(), critik=adam())
        alternating.alternating(model, optimizer, encoder=("critic",), encoder_steps=2, decoder_steps=1).init(
            jax.random.key(0), VECTORS
        )


@pytest.mark.parametrize("support", [Real(), Unit(), Binary(), Levels(17)], ids=str)
def test_draws_are_values_of_the_data(support):
    model = family(Event((4, 4, 1), support))
    batch = {"x": jnp.zeros((2, 4, 4, 1))}
    params = jax.tree.map(lambda a: 5.0 * a, model.init(jax.random.key(0), batch))
    x = np.asarray(jax.vmap(model.sample, (None, 0))(params, jax.random.split(jax.random.key(1), 50)))
    if isinstance(support, Real):
        assert np.abs(x).max() > 1
        return
    largest = 1 if isinstance(support, Unit) else support.num_levels - 1
    assert x.min() >= 0 and x.max() <= largest and x.std() > 0.1 * largest
    assert isinstance(support, Unit) or np.array_equal(x, np.round(x))
    ends = np.asarray(centred(support, jnp.asarray([0.0, largest])))
    np.testing.assert_allclose(ends, [-1, 1])
    np.testing.assert_allclose(gan.from_generator(support, ends), [0, largest])


def test_both_players_see_the_class():
    networks = {
        "generator": {"name": "generator", "channels": (3,)},
        "critic": {"name": "critic", "channels": (3,), "hidden": 4},
    }
    model = family(Event((4, 4, 1), Unit()), values.label(3), **networks)
    batch = {"x": jnp.full((2, 4, 4, 1), 0.3), "context": jnp.asarray([0, 2])}
    params = jax.jit(model.init)(jax.random.key(0), batch)
    sample, judge = jax.jit(model.sample), jax.jit(model.judge)
    draws = [sample(params, jax.random.key(1), jnp.asarray(c)) for c in (0, 1)]
    assert np.abs(draws[0] - draws[1]).max() > 1e-3
    terms = [judge(params, jax.random.key(1), batch["x"][0], jnp.asarray(c)) for c in (0, 1)]
    assert terms[0]["critic"] != terms[1]["critic"]
    with pytest.raises(ValueError, match="conditional on 3 classes: a context is needed"):
        model.sample(params, jax.random.key(1))


def test_resampling_is_bilinear():
    x = jnp.asarray(RNG.normal(size=(4, 6, 2)), jnp.float32)
    np.testing.assert_allclose(doubled(x), jax.image.resize(x, (8, 12, 2), "bilinear"), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(doubled(x, "nearest"), jax.image.resize(x, (8, 12, 2), "nearest"))
    resized = jax.image.resize(x, (2, 3, 2), "bilinear", antialias=False)
    np.testing.assert_allclose(halved(x), resized, rtol=1e-5, atol=1e-6)


LOC, SCALE = np.array([1.0, -2.0]), np.array([0.5, 1.5])


@pytest.mark.parametrize("loss", ["relativistic", pytest.param("wasserstein", marks=pytest.mark.slow)])
def test_two_players_find_a_gaussian(loss):
    """An affine generator; the mean and the deviations of its draws, which converge with penalties only."""
    penalties = {"gradient_penalty": 1.0} if loss == "wasserstein" else {"r1": 0.3, "r2": 0.3}
    affine = {"name": "mlp", "hidden": ()}
    critic = {"name": "mlp", "hidden": (32,), "activation": "leaky_relu"}
    model = family(
        Event((2,), Real()), loss=loss, generator=affine, critic=critic, **{"r1": 0.0, "r2": 0.0} | penalties
    )
    cosine = {"name": "cosine_decay_schedule", "init_value": 1.0, "decay_steps": 2500, "alpha": 0.02}
    optimizer = gradient.optimizer(name="adam", learning_rate=5e-3, b1=0.0, b2=0.9, schedule=cosine)
    learner = gradient.gradient(model, optimizer, average_decay=0.99)

    @jax.jit
    def fit(key):
        def step(state, key):
            x = jax.vmap(lambda key: LOC + SCALE * jax.random.normal(key, (2,)))(jax.random.split(key, 64))
            return learner.step(state, {"x": x.astype(jnp.float32)})[0], None

        key_init, key_data, key_draw = jax.random.split(key, 3)
        first = learner.init(key_init, {"x": jnp.zeros((64, 2))})
        state, _ = jax.lax.scan(step, first, jax.random.split(key_data, 2500))
        return jax.vmap(model.sample, (None, 0))(learner.params(state), jax.random.split(key_draw, 5000))

    x = np.asarray(fit(jax.random.key(0)))
    np.testing.assert_allclose(x.mean(axis=0), LOC, atol=0.2)
    np.testing.assert_allclose(x.std(axis=0), SCALE, rtol=0.25)


def test_annealing_gives_the_exact_log_p_of_a_linear_generator():
    """Probabilistic PCA: x = W z + b + s ε, hence p(x) = N(b, W Wᵀ + s² I)."""
    pytest.importorskip("blackjax", reason="pip install 'vae_jax[inference]'")
    scale, event = 0.4, Event((3,), Real())
    linear = {"generator": {"name": "mlp", "hidden": ()}}
    params = family(event, **linear).init(jax.random.key(0), VECTORS)
    model = family(event, **linear, observation_scale=scale)
    mean = lambda z: model.latent.likelihood(params, z).mean()  # noqa: E731
    weight, bias = np.asarray(jax.jacobian(mean)(jnp.zeros(2)), np.float64), np.asarray(mean(jnp.zeros(2)))
    covariance = weight @ weight.T + scale**2 * np.eye(3)
    x = np.asarray(jax.vmap(lambda key: model.sample(params, key))(jax.random.split(jax.random.key(1), 6)))
    centred = x - bias
    square = np.einsum("nd,de,ne->n", centred, np.linalg.inv(covariance), centred)
    exact = -0.5 * (square + np.linalg.slogdet(2 * np.pi * covariance)[1])
    path = {"num_temperatures": 300, "num_chains": 64, "num_leapfrog": 4, "step_size": 0.2}
    found = annealed.log_likelihood(model, params, jax.random.key(2), {"x": x}, **path)
    np.testing.assert_allclose(found["log_prob"], exact, atol=0.15)  # four standard errors
    assert yardstick.kind_of(model, 5) == "≥ IW-5"  # honest, with p(z) as the proposal


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    import vae_jax

    folder = tmp_path_factory.mktemp("gan") / "run"
    train.complete(gan_digits.get_config("smoke").to_dict(), folder, figures=False)
    return vae_jax.load(folder)


def test_draws_are_those_of_the_averaged_generator(run):
    fitted = build.restore(run.folder, run.experiment)
    close(run.params["generator"], fitted.state.average["generator"])
    away = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), run.params, jax.device_get(fitted.state.params))
    assert max(jax.tree.leaves(away["generator"])) > 1e-4
    assert run.sample(3).shape == (3, 8, 8, 1) and run.sample(3).dtype == np.uint8


def test_a_likelihood_asked_of_a_gan_is_one_clear_error(run):
    x = np.zeros((2, 8, 8, 1), np.uint8)
    says = r"only draws samples \(`sample`\): it has no density.*runs.observation.log_prob"
    questions = [lambda: run.log_prob(x), lambda: run.score(x), lambda: run.score(x, method="distortion")]
    options = {"num_images": 4, "num_samples": 2, "num_steps": 1, "learning_rate": 0.1, "coder": "zlib"}
    for ask in (*questions, lambda: outliers.measure(run.folder, "digits", **options)):
        with pytest.raises(ValueError, match=says):
            ask()
    with pytest.raises(ValueError, match=r"encode requires a model with `latent`.*it has sample"):
        run.encode(x)


@pytest.mark.slow
def test_it_has_a_likelihood_under_noise(run):
    pytest.importorskip("blackjax", reason="pip install 'vae_jax[inference]'")
    path = {"num_temperatures": 4, "num_chains": 2, "num_leapfrog": 2}
    x = np.full((2, 8, 8, 1), 3, np.uint8)
    found = observation.log_prob(run, x, scale=0.3, **path)
    assert found["log_prob"].shape == (2,) and np.isfinite(found["log_prob"]).all()
    model = observation.observed(run.experiment, 0.3)
    both = observation.gap(run.experiment, model, run.params, num_images=2, **path)
    assert np.isfinite([both["lower"], both["upper"]]).all()


@pytest.mark.parametrize(
    ("support", "change", "message"),
    [
        (Real(), {"loss": "wasserstien"}, "model.loss: unknown value 'wasserstien'; did you mean 'wasserstein'"),
        (Real(), {"loss": "wasserstein", "r1": 0.0, "r2": 0.0}, "requires a critic of bounded slope"),
        (Real(), {"r1": -1.0}, "model.r1 must be at least 0, got -1.0"),
        (Real(), {"penalty_every": 0}, "model.penalty_every must be at least 1, got 0"),
        (Levels(17), {"observation_scale": 0.1}, "a density of real numbers.*dequantize"),
        (Unit(), {"observation_scale": 0.0}, "scale must be above 0"),
        (Unit(), {"critic": {"name": "critic", "channels": (2, 2)}}, "cannot be halved 2 times"),
    ],
)
def test_a_mistake_is_named(support, change, message):
    event = Event((6, 6, 1), support)
    with pytest.raises(BadOption, match=message):
        jax.eval_shape(family(event, **change).init, jax.random.key(0), {"x": jnp.zeros((2, 6, 6, 1))})


def test_penalties_at_some_steps_are_refused_where_players_move_in_turns():
    """The critic would have the penalty at all of its steps, or at none."""
    config = gan_digits.get_config("smoke").to_dict()
    turns = {"name": "alternating", "encoder_steps": 1, "decoder_steps": 1, "encoder": ("critic",)}
    config |= {"learner": turns, "model": config["model"] | {"penalty_every": 2}}
    with pytest.raises(ValueError, match=r"config\.model\.penalty_every must be 1 with a learner of turns.*got 2"):
        build.build(config)
    build.build(config | {"model": config["model"] | {"penalty_every": 1}})


def test_an_unknown_player_is_named():
    config = gan_digits.get_config("smoke").to_dict()
    config["optimizer"]["critik"] = config["optimizer"].pop("critic")
    with pytest.raises(ValueError, match="no part 'critik' of the model learns; did you mean 'critic'"):
        build.build(config)
