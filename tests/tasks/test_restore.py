"""Methods of restoration on problems whose p(x|y) is known: means, log p(x|y), coverage, and what each requires."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax import degradations
from vae_jax.core import Event, Latent, Model, tractable
from vae_jax.distributions import Autoregressive, Bernoulli, Mixture, Normal, Reshaped
from vae_jax.runs import restoring
from vae_jax.support import Binary, Levels, Real
from vae_jax.tasks import denoise, known, restore

PROBLEMS = known.problems()
COVERED = ("coverage_50", "coverage_90", "projected_50", "projected_90")


@functools.cache
def case(name, task, seed=0):
    problem = PROBLEMS[name]
    degradation = known.tasks(problem.event)[task]
    x, y = known.simulated(problem, degradation, jax.random.key(seed))
    return problem, degradation, x, y


def applied(method, model, degradation, y, key=0, **options):
    """Return `method` of a model without parameters, compiled."""
    return jax.jit(lambda key, y: method(model, None, key, degradation, y, **options))(jax.random.key(key), y)


def summed(model, degradation, y, x):
    return applied(restore.enumerated, model, degradation, y, num_draws=1, truth=x)


def run(method, name, task, num_draws=400, **options):
    """Return what a method makes of one y, and the problem's own answer."""
    problem, degradation, x, y = case(name, task)
    return applied(method, problem.model, degradation, y, 1, num_draws=num_draws, truth=x, **options), known_answer(
        name, task
    )


@functools.cache
def known_answer(name, task):
    problem, degradation, _, y = case(name, task)
    return jax.jit(lambda key, y: problem.exact(key, degradation, y, num_draws=400))(jax.random.key(2), y)


def differ(restored):
    return float(jnp.max(jnp.std(restored.draws, axis=0))) > 0.05


# --------------------------------------------------------------------------------------------------- exact methods


@pytest.mark.parametrize(("name", "task", "method"), [("mixture", "downsample", "exact"), ("tree", "bottom", "exact")])
def test_exact_methods_cover_as_often_as_they_say(name, task, method):
    problem = PROBLEMS[name]
    scores = restoring.known_scores(
        problem, known.tasks(problem.event)[task], method, num_images=80, num_draws=19, seed=3
    )
    for kind in COVERED:
        mean, error = scores[kind]
        assert abs(mean - int(kind[-2:]) / 100) < 4.0 * error, kind
    assert abs(scores["crps_excess"][0]) < 4.0 * scores["crps_excess"][1] + 1e-6


def test_the_coverage_of_draws_that_are_too_narrow_is_noticed():
    problem = PROBLEMS["mixture"]
    narrow = problem._replace(
        exact=lambda key, degradation, y, num_draws: (
            lambda r: r._replace(draws=r.mean[None] + 0.5 * (r.draws - r.mean[None]))
        )(problem.exact(key, degradation, y, num_draws))
    )
    options = {"num_images": 80, "num_draws": 19, "seed": 3}
    mean, error = restoring.known_scores(narrow, known.tasks(problem.event)["downsample"], None, **options)[
        "coverage_90"
    ]
    assert mean < 0.9 - 4.0 * error


@pytest.mark.parametrize("task", ["bottom", "noise"])
def test_messages_of_a_tree_are_the_sum_over_all_images(task):
    restored, truth = run(restore.exact, "tree", task)
    np.testing.assert_allclose(restored.mean, truth.mean, atol=1e-4)
    problem, degradation, x, y = case("tree", task)
    np.testing.assert_allclose(restored.log_prob, summed(problem.model, degradation, y, x).log_prob, atol=1e-3)
    np.testing.assert_allclose(restored.draws.mean(0), truth.mean, atol=0.12)


def test_a_mixture_of_bits_is_the_sum_over_all_images():
    rng = np.random.default_rng(0)
    density = Mixture(
        jnp.log(jnp.array([0.3, 0.7])), Bernoulli(jnp.asarray(rng.normal(size=(2, 3, 4, 1)), jnp.float32))
    )
    model = tractable(None, lambda params, context=None: density)
    for name, degradation in known.tasks(known.BITS).items():
        x = density.sample(jax.random.key(0))
        y = degradation.sample(jax.random.key(1), x)
        options = {"num_draws": 300, "truth": x}
        both = [applied(method, model, degradation, y, 2, **options) for method in (restore.exact, restore.enumerated)]
        np.testing.assert_allclose(both[0].mean, both[1].mean, atol=1e-4, err_msg=name)
        np.testing.assert_allclose(both[0].log_prob, both[1].log_prob, atol=1e-3)
        np.testing.assert_allclose(both[0].draws.mean(0), both[1].mean, atol=0.12)


# ---------------------------------------------------------------------------------------------------- pixel by pixel


def test_the_last_rows_of_an_ordered_model_are_exact():
    restored, truth = run(restore.ordered, "bits", "bottom")
    problem, degradation, x, y = case("bits", "bottom")
    np.testing.assert_allclose(restored.log_prob, summed(problem.model, degradation, y, x).log_prob, rtol=1e-4)
    np.testing.assert_allclose(restored.ess(), 400.0, rtol=1e-4)
    np.testing.assert_allclose(restored.mean, truth.mean, atol=0.1)
    np.testing.assert_array_equal(restored.draws[:, :1], jnp.broadcast_to(x[:1], (400, 1, 4, 1)))


@pytest.mark.parametrize("task", ["top", "noise"])
def test_otherwise_particles_are_weighted(task):
    restored, truth = run(restore.ordered, "bits", task, num_samples=4000)
    problem, degradation, x, y = case("bits", task)
    np.testing.assert_allclose(restored.mean, truth.mean, atol=0.1)
    np.testing.assert_allclose(restored.log_prob, summed(problem.model, degradation, y, x).log_prob, atol=0.15)
    assert restored.ess() < 4000.0


def test_blocks_of_an_image_drawn_row_by_row(raster):
    """Particles see the mean of a block when its last row is drawn; the answer is that of all 4096 images."""
    model, event = raster
    degradation = degradations.downsample(event, size=(1, 2), scale=0.1)
    x = model.sample(None, jax.random.key(3))
    y = degradation.sample(jax.random.key(4), x)
    best = summed(model, degradation, y, x)
    restored = applied(restore.ordered, model, degradation, y, 1, num_draws=100, num_samples=4000, truth=x)
    np.testing.assert_allclose(restored.mean, best.mean, atol=0.08)
    np.testing.assert_allclose(restored.log_prob, best.log_prob, atol=0.3)


@pytest.fixture(scope="module")
def raster():
    from vae_jax import models

    event = Event((3, 4, 1), Binary())
    network = {"channels": (4, 4), "first_kernel": 3, "kernel": 3, "hidden": (), "zero_output": False}
    built = models.from_config("pixel_cnn", {"network": network, "likelihood": {"name": "bernoulli"}}, event=event)
    params = jax.jit(built.init)(jax.random.key(5), {"x": jnp.zeros((1, *event.shape))})
    params = jax.tree.map(lambda a: 2.0 * a, params)
    fixed = tractable(None, lambda _, context=None: built.density(params))
    return fixed, event


# ------------------------------------------------------------------------------------------------------------- codes


@pytest.mark.parametrize(("task", "proposal"), [("bottom", "prior"), ("noise", "encoder"), ("downsample", "laplace")])
def test_importance_weights_of_codes(task, proposal):
    restored, truth = run(restore.importance, "factors", task, num_samples=4000, proposal=proposal)
    problem, degradation, x, y = case("factors", task)
    best = applied(restore.exact, problem.model, degradation, y, num_draws=1, truth=x)
    atol = 0.2 if proposal == "encoder" else 0.08  # that of x is narrower than p(z|y)
    np.testing.assert_allclose(restored.mean, truth.mean, atol=atol)
    np.testing.assert_allclose(restored.log_prob, best.log_prob, atol=0.5)
    np.testing.assert_allclose(restored.draws.std(0), truth.draws.std(0), atol=atol)
    assert 1.0 <= restored.ess() <= 4000.0 and differ(restored)


def two_bits():
    """Two codes of one bit, and 2x2 pixels around a map of them: p(x) has four components."""
    weights = jnp.asarray([[1.5, -1.0, 0.5, 2.0], [-0.5, 2.0, 1.0, -1.5]])

    def likelihood(_, z, context=None):
        return Normal((z @ weights).reshape(2, 2, 1), jnp.full((2, 2, 1), -0.7))

    prior = Bernoulli(jnp.asarray([0.3, -0.6]))
    return Latent(lambda _, context=None: prior, lambda _, x, context=None: prior, likelihood)


def test_bits_have_no_laplace_approximation_and_get_the_encoder():
    latent, event = two_bits(), Event((2, 2, 1), Real())
    model = Model(None, None, None, latent=latent)
    half = degradations.half(event)
    y = half.apply(jnp.asarray([[0.4, -0.3], [1.0, 0.2]])[..., None])
    codes = jnp.asarray([[a, b] for a in (0.0, 1.0) for b in (0.0, 1.0)])
    seen = restore.observed(latent, half)
    log_joint = jnp.asarray([latent.prior(None).log_prob(z) + seen.likelihood(None, z).log_prob(y) for z in codes])
    means = jnp.stack([jnp.where(half.mask, y, latent.likelihood(None, z).mean()) for z in codes])
    expected = jnp.tensordot(jax.nn.softmax(log_joint), means, axes=1)
    for options in ({}, {"proposal": "prior"}):
        restored = applied(restore.importance, model, half, y, num_draws=5, num_samples=4000, **options)
        np.testing.assert_allclose(restored.mean, expected, atol=0.1)
    with pytest.raises(ValueError, match="'laplace' is for z that is one vector of real numbers"):
        applied(restore.importance, model, half, y, num_draws=5, proposal="laplace")


def test_annealed_chains_find_both_ends_of_the_bar():
    restored, truth = run(restore.annealed, "bar", "downsample", num_draws=200, num_temperatures=40)
    np.testing.assert_allclose(restored.mean, truth.mean, atol=0.03)
    np.testing.assert_allclose(restored.draws.std(0), truth.draws.std(0), atol=0.03)


def test_levels_with_noise_are_summed_exactly():
    """p(y|z) and p(x|z, y) of bits under noise, against the sum over all images."""
    event = Event((2, 3, 1), Binary())
    degradation = degradations.identity(event, scale=0.6)
    logits = jnp.asarray(np.random.default_rng(0).normal(size=event.shape), jnp.float32)
    seen = restore.through(Bernoulli(logits), degradation)
    y = degradation.sample(jax.random.key(0), jnp.ones(event.shape))
    model = tractable(None, lambda params, context=None: Bernoulli(logits))
    x = restore.all_images(event)
    joint = jax.vmap(lambda x: model.log_prob(None, x) + degradation.log_prob(y, x))(x)
    np.testing.assert_allclose(seen.log_prob(y), jax.nn.logsumexp(joint), rtol=1e-5)
    given = seen.given(y)
    np.testing.assert_allclose(jax.vmap(given.log_prob)(x), joint - jax.nn.logsumexp(joint), atol=1e-4)


# --------------------------------------------------------------------------------------------------------- diffusion


def test_twisted_particles_approach_the_posterior():
    restored, truth = run(denoise.twisted, "mixture", "downsample", num_samples=600, num_steps=60)
    plain, _ = run(denoise.guided, "mixture", "downsample", num_steps=60)
    distance = [float(jnp.sqrt(jnp.mean(jnp.square(r.mean - truth.mean)))) for r in (restored, plain)]
    assert distance[0] < 0.08 and distance[0] < distance[1] + 0.02
    assert 1.0 <= restored.ess() <= 600.0 and differ(restored)


@pytest.mark.parametrize("guide", denoise.GUIDES)
def test_guided_draws_fit_y(guide):
    restored, _ = run(denoise.guided, "mixture", "downsample", num_draws=50, num_steps=40, guide=guide)
    problem, degradation, _, y = case("mixture", "downsample")
    misfit = lambda x: jnp.mean(jax.vmap(lambda x: degradations.misfit(degradation, y, x))(x))  # noqa: E731
    prior = jax.vmap(problem.sample)(jax.random.split(jax.random.key(9), 50))
    assert misfit(restored.draws) < 0.3 * misfit(prior) and differ(restored)


def test_resampling_makes_replaced_pixels_fit():
    near = {}
    for resample in (1, 8):
        restored, truth = run(
            denoise.replaced, "mixture", "bottom", num_draws=150, num_steps=40, jump=4, resample=resample
        )
        _, _, x, _ = case("mixture", "bottom")
        np.testing.assert_array_equal(restored.draws[:, :2], jnp.broadcast_to(x[:2], (150, 2, 4, 1)))
        near[resample] = float(jnp.sqrt(jnp.mean(jnp.square(restored.mean - truth.mean))))
        assert differ(restored)
    assert near[8] < near[1]


def test_jumps_go_down_and_up():
    moves = denoise.jumps(20, 5, 3)
    assert moves[0].tolist() == [20, 19] and moves[-1].tolist() == [1, 0]
    assert set((moves[:, 1] - moves[:, 0]).tolist()) == {-1, 1}
    np.testing.assert_array_equal(moves[1:, 0], moves[:-1, 1])
    assert len(denoise.jumps(20, 5, 1)) == 20 and len(moves) == 20 + 3 * 2 * 10


# -------------------------------------------------------------------------------------------------------- conditional


def test_a_conditional_model_is_drawn_given_y():
    event = Event((4, 4, 1), Real())
    degradation = degradations.downsample(event, size=(2, 2))
    spread = lambda y: jnp.repeat(jnp.repeat(y, 2, 0), 2, 1)  # noqa: E731
    model = tractable(None, lambda params, y=None: Normal(spread(y), jnp.full(event.shape, -2.0)))
    y = jnp.arange(4.0).reshape(2, 2, 1)
    restored = applied(restore.conditional, model, degradation, y, num_draws=300, truth=spread(y))
    np.testing.assert_allclose(restored.mean, spread(y), atol=0.05)
    np.testing.assert_allclose(restored.log_prob, 16 * (2.0 - 0.5 * np.log(2 * np.pi)), rtol=1e-4)


def test_a_conditional_model_keeps_the_shown_pixels_and_scores_the_hidden_ones():
    event = Event((4, 4, 1), Real())
    degradation = degradations.half(event)
    normal = Normal(jnp.zeros(event.shape), jnp.full(event.shape, -2.0))
    latent = Latent(lambda params, y: Normal(jnp.zeros(2), jnp.zeros(2)), None, lambda params, z, y: normal)
    model = Model(None, None, None, sample=lambda params, key, y: normal.sample(key), latent=latent)
    x = jnp.ones(event.shape)
    y = degradation.apply(x)
    for each in (model, model._replace(latent=None)):
        restored = applied(restore.conditional, each, degradation, y, num_draws=50)
        np.testing.assert_array_equal(restored.draws[:, :2], 1.0)
        np.testing.assert_array_equal(restored.mean[:2], 1.0)
        np.testing.assert_allclose(restored.mean[2:], 0.0, atol=0.1)
    given = restore.hidden_only(latent, degradation).likelihood(None, jnp.zeros(2), y)
    np.testing.assert_allclose(given.log_prob(x), normal.log_probs(x)[2:].sum(), rtol=1e-5)


# ------------------------------------------------------------------------------------------------------------- errors

LEVELS = Event((4, 4, 1), Levels(4))
NOTHING = Model(None, None, None)
SERIES = tractable(
    None,
    lambda params, context=None: Reshaped(Autoregressive(None, lambda p, x: Bernoulli(x), (16,), Binary()), (4, 4, 1)),
)
MASK, LOW = degradations.half(known.REAL), degradations.downsample(known.REAL, size=(2, 2))


@pytest.mark.parametrize(
    ("method", "model", "degradation", "options", "message"),
    [
        (restore.exact, NOTHING, MASK, {}, "`exact` requires a model with a density"),
        (
            restore.exact,
            PROBLEMS["bits"].model,
            degradations.half(known.BITS),
            {},
            "closed form .* is a Autoregressive",
        ),
        (
            restore.exact,
            PROBLEMS["tree"].model,
            degradations.downsample(known.BITS, size=(1, 2)),
            {},
            "a tree takes masks",
        ),
        (restore.enumerated, NOTHING, MASK, {}, r"requires a model with an exact log p\(x\)"),
        (restore.enumerated, PROBLEMS["mixture"].model, MASK, {}, "at most 16 bits; these have 16 entries, real"),
        (restore.ordered, PROBLEMS["mixture"].model, MASK, {}, "requires a model that draws pixel by pixel"),
        (restore.ordered, SERIES, LOW, {}, "requires a mask, or a linear degradation with noise"),
        (restore.importance, NOTHING, MASK, {}, r"`importance` requires a latent-variable model with p\(z\)"),
        (restore.importance, PROBLEMS["factors"].model, MASK, {"proposal": "best"}, "proposal: unknown value 'best'"),
        (restore.importance, PROBLEMS["factors"].model, MASK, {"num_samples": 0}, "num_samples must be .*at least 1"),
        (restore.annealed, NOTHING, MASK, {}, r"`annealed` requires a latent-variable model with p\(z\)"),
        (restore.conditional, NOTHING, MASK, {}, "`conditional` requires a model that draws"),
        (denoise.replaced, NOTHING, MASK, {}, r"`replaced` requires a diffusion model \(`denoiser`\)"),
        (
            denoise.replaced,
            PROBLEMS["mixture"].model,
            LOW,
            {},
            "requires a mask without noise, and 'downsample' is none",
        ),
        (denoise.guided, NOTHING, MASK, {}, r"`guided` requires a diffusion model"),
        (denoise.guided, PROBLEMS["mixture"].model, MASK, {"guide": "up"}, "guide: unknown value 'up'"),
        (denoise.guided, PROBLEMS["mixture"].model, MASK, {"strength": 0}, "strength must be .*above 0"),
        (denoise.twisted, NOTHING, MASK, {}, r"`twisted` requires a diffusion model"),
    ],
)
def test_a_model_without_the_field_is_refused_in_one_line(method, model, degradation, options, message):
    y = degradation.apply(jnp.zeros(degradation.event.shape))
    with pytest.raises(ValueError, match=message) as error:
        method(model, None, jax.random.key(0), degradation, y, num_draws=2, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("method", "name"),
    [
        (restore.exact, "mixture"),
        (restore.importance, "factors"),
        (restore.annealed, "factors"),
        (denoise.guided, "mixture"),
        (denoise.replaced, "mixture"),
        (denoise.twisted, "mixture"),
    ],
)
def test_a_y_of_another_shape_is_refused(method, name):
    with pytest.raises(ValueError, match=r"y of the degradation 'half' .* has the shape \[4, 4, 1\], got \[2, 4, 1\]"):
        method(PROBLEMS[name].model, None, jax.random.key(0), MASK, jnp.zeros((2, 4, 1)), num_draws=2)
