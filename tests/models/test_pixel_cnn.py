"""PixelCNN against the enumeration of all images, and its cached draws against those of the whole network."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import kind

from vae_jax import degradations, models
from vae_jax.core import Event
from vae_jax.distributions import Normal, averaged
from vae_jax.evaluation import likelihood
from vae_jax.spec import BadOption
from vae_jax.support import Binary
from vae_jax.tasks import inpaint, restore

IMAGES = jnp.asarray(list(itertools.product([0.0, 1.0], repeat=9))).reshape(-1, 3, 3, 1)
NETWORK = {"channels": (6, 6, 6), "first_kernel": 3, "kernel": 3, "hidden": (8,), "shortcuts": True}
HEADS = {
    "bernoulli": {"name": "bernoulli"},
    "categorical": {"name": "categorical", "num_levels": 5},
    "logistics": {"name": "discretized_logistic_mixture", "num_components": 2, "num_levels": 5},
    "normal": {"name": "normal"},
    "linear": {"name": "discretized_logistic_mixture", "num_components": 2, "num_levels": 3, "channels": "linear"},
    "bits": {"name": "categorical", "num_levels": 2, "channels": "ordered", "features": 6},
    "ordered": {"name": "categorical", "num_levels": 3, "channels": "ordered", "features": 6},
}


@functools.cache
def randomized(head="bernoulli", num_classes=0, event_shape=(3, 3, 1), dropout=0.0, block=1, turns=0, relative=False):
    """A model, and params of which none is zero."""
    config = {"network": {**NETWORK, "dropout": dropout}, "likelihood": HEADS[head], "block": block, "turns": turns}
    config["relative"] = relative
    model = models.from_config("pixel_cnn", config, **kind(event_shape, num_classes))
    batch = {"x": jnp.zeros((2, *event_shape))} | ({"context": jnp.zeros(2, jnp.int32)} if num_classes else {})
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
    rng = np.random.default_rng(0)
    return model, jax.tree.map(lambda a: jnp.asarray(rng.normal(scale=0.6, size=a.shape), a.dtype), shapes)


@functools.cache
def log_probs(context):
    model, params = randomized(num_classes=3)
    return np.asarray(jax.jit(jax.vmap(lambda x: model.log_prob(params, x, context)))(IMAGES), np.float64)


def test_the_masses_of_all_images_sum_to_one():
    for context in (0, 2):
        np.testing.assert_allclose(np.exp(log_probs(context)).sum(), 1.0, rtol=1e-5)


def test_a_class_changes_every_pixel():
    given = [np.exp(log_probs(c)) @ np.asarray(IMAGES).reshape(-1, 9) for c in (0, 2)]
    assert np.all(np.abs(given[0] - given[1]) > 1e-5)  # far above rounding
    model, params = randomized(num_classes=3)
    with pytest.raises(ValueError, match="a context is needed"):
        model.log_prob(params, IMAGES[0])


@pytest.mark.parametrize(
    "head, classes, shape, relative",
    [
        ("bernoulli", 3, (4, 5, 1), False),
        ("ordered", 0, (4, 3, 2), False),
        ("linear", 0, (4, 3, 2), True),
        ("categorical", 0, (4, 3, 2), False),
    ],
)
def test_cached_draws_are_those_of_the_whole_network(head, classes, shape, relative):
    model, params = randomized(head, classes, shape, relative=relative)
    context = 1 if classes else None
    keys = jax.random.split(jax.random.key(1), 64)
    cached = jax.jit(jax.vmap(lambda key: model.sample(params, key, context)))(keys)
    whole = jax.jit(jax.vmap(lambda key: model.density(params, context).uncached().sample(key)))(keys)
    assert np.mean(np.std(cached, axis=0) > 0) > 0.9
    np.testing.assert_array_equal(cached, whole.reshape(cached.shape))


@pytest.mark.parametrize("head", ["ordered", "linear"])
def test_the_masses_of_all_images_of_dependent_channels_sum_to_one(head):
    model, params = randomized(head, 0, (2, 2, 2))
    images = jnp.asarray(list(itertools.product([0.0, 1.0, 2.0], repeat=8))).reshape(-1, 2, 2, 2)
    p = np.exp(np.asarray(jax.jit(jax.vmap(lambda x: model.log_prob(params, x)))(images), np.float64))
    np.testing.assert_allclose(p.sum(), 1.0, rtol=1e-5)


def test_squares_of_pixels_are_another_order_of_the_chain_rule(assert_mean):
    """The masses sum to one; draws, and completions of whole rows of squares, have their frequencies."""
    model, params = randomized("bits", 3, (4, 2, 1), block=2)
    images = jnp.asarray(list(itertools.product([0.0, 1.0], repeat=8))).reshape(-1, 4, 2, 1)
    p = np.exp(np.asarray(jax.jit(jax.vmap(lambda x: model.log_prob(params, x, 1)))(images), np.float64))
    np.testing.assert_allclose(p.sum(), 1.0, rtol=1e-5)
    x, keys = images[0b01101001], jax.random.split(jax.random.key(2), 10_000)
    for num_given in (0, 4):
        draw = jax.jit(jax.vmap(lambda key, n=num_given: inpaint.complete(model, params, key, x, 1, num_given=n)))
        code = np.asarray(draw(keys)).reshape(-1, 8) @ 2 ** np.arange(8)[::-1]
        given = np.where(np.arange(256) >> (8 - num_given) == 0b01101001 >> (8 - num_given), p, 0.0)
        common = np.flatnonzero(given / given.sum() > 4e-3)
        assert len(common) > 5
        assert_mean((code[:, None] == common[None]).astype(float), given[common] / given.sum())


def test_squares_that_see_differences_are_a_distribution_too():
    """The masses sum to one, and draws that are cached row by row are those of the whole network."""
    model, params = randomized("bits", 0, (4, 2, 1), block=2, relative=True)
    images = jnp.asarray(list(itertools.product([0.0, 1.0], repeat=8))).reshape(-1, 4, 2, 1)
    log_p = np.asarray(jax.jit(jax.vmap(lambda x: model.log_prob(params, x)))(images), np.float64)
    np.testing.assert_allclose(np.exp(log_p).sum(), 1.0, rtol=1e-5)
    density, keys = model.density(params), jax.random.split(jax.random.key(1), 64)
    cached, whole = (jax.jit(jax.vmap(p.sample))(keys) for p in (density.base, density.base.uncached()))
    np.testing.assert_array_equal(cached, whole.reshape(cached.shape))


def test_squares_have_the_pixels_of_the_image():
    """A square sees the squares above and on its left, and in a square a pixel sees those before it."""
    model, params = randomized("bits", 0, (4, 4, 1), block=2)
    x = jnp.asarray(np.random.default_rng(0).integers(2, size=(4, 4, 1)), jnp.float32)
    density = model.density(params)
    np.testing.assert_array_equal(density.from_base(density.to_base(x)), x)
    np.testing.assert_array_equal(density.to_base(x)[0, 1], x[:2, 2:].reshape(4))
    log_p = jax.jit(lambda x: density.base.conditionals(density.base.params, density.to_base(x)).features)
    changed = np.asarray(jnp.any(log_p(x) != log_p(x.at[1, 2].set(1 - x[1, 2])), axis=-1))
    assert not changed[0].any() and changed[1].any()  # the square of pixel 1, 2 is the last one of the first row


@pytest.mark.parametrize("block, turns", [(2, 1), (1, 2)])
def test_a_scan_from_another_corner_is_another_order_of_the_chain_rule(assert_mean, block, turns):
    """The masses sum to one, draws have them, and the first pixel that is drawn lies in another corner."""
    model, params = randomized("bits" if block > 1 else "bernoulli", 0, shape := (4, 2, 1), block=block, turns=turns)
    images = jnp.asarray(list(itertools.product([0.0, 1.0], repeat=8))).reshape(-1, *shape)
    p = np.exp(np.asarray(jax.jit(jax.vmap(lambda x: model.log_prob(params, x)))(images), np.float64))
    np.testing.assert_allclose(p.sum(), 1.0, rtol=1e-5)
    draws = jax.jit(jax.vmap(lambda key: model.sample(params, key)))(jax.random.split(jax.random.key(2), 10_000))
    code = np.asarray(draws).reshape(-1, 8) @ 2 ** np.arange(8)[::-1]
    common = np.flatnonzero(p > 4e-3)
    assert_mean((code[:, None] == common[None]).astype(float), p[common])
    density = model.density(params)
    np.testing.assert_array_equal(jax.vmap(lambda x: density.from_base(density.to_base(x)))(images), images)
    corner = density.from_base(jnp.zeros(density.base.event_shape).at[0, 0, 0].set(1.0))
    assert corner[(0, 1) if turns == 1 else (3, 1)] == 1
    with pytest.raises(ValueError, match=f"the first 4 pixels .*after {turns} quarter turns; use tasks.restore"):
        inpaint.complete(model, params, jax.random.key(0), images[0], num_given=4)


def test_pixels_that_a_turned_scan_reaches_last_are_restored_exactly():
    model, params = randomized("bits", 0, shape := (4, 2, 1), block=2, turns=2)
    images = jnp.asarray(list(itertools.product([0.0, 1.0], repeat=8))).reshape(-1, *shape)
    log_p = np.asarray(jax.jit(jax.vmap(lambda x: model.log_prob(params, x)))(images), np.float64)
    shown = np.zeros(shape, bool)
    shown[2:] = True  # the scan begins there
    degradation, x = degradations.half(Event(shape, Binary()), side="top"), images[0b01101001]
    same = (np.asarray(images)[:, 2:] == np.asarray(x)[2:]).all(axis=(1, 2, 3))
    found = restore.ordered(model, params, jax.random.key(1), degradation, x * jnp.asarray(shown), num_draws=8, truth=x)
    np.testing.assert_allclose(found.log_prob, log_p[0b01101001] - np.log(np.exp(log_p[same]).sum()), rtol=1e-4)
    np.testing.assert_array_equal(found.draws[:, 2:], jnp.broadcast_to(x[2:], (8, 2, 2, 1)))


def test_the_average_of_conditionals_is_a_distribution_of_its_own(assert_mean):
    """Its masses sum to one, its draws have them, and its log p is above the mean of those of its members."""
    model, params = randomized("bits", 0, shape := (4, 2, 1), block=2)
    params = (params, jax.tree.map(lambda a: -0.5 * a, params))
    average = averaged(model.density(p) for p in params)
    images = jnp.asarray(list(itertools.product([0.0, 1.0], repeat=8))).reshape(-1, *shape)
    log_p = np.asarray(jax.jit(jax.vmap(average.log_prob))(images), np.float64)
    np.testing.assert_allclose(np.exp(log_p).sum(), 1.0, rtol=1e-5)
    each = np.stack([jax.jit(jax.vmap(model.log_prob, (None, 0)))(p, images) for p in params])
    assert np.all(log_p >= each.mean(axis=0) - 1e-4) and not np.allclose(log_p, each.mean(axis=0), atol=0.1)
    draws = np.asarray(jax.jit(jax.vmap(average.sample))(jax.random.split(jax.random.key(3), 10_000)))
    code = (draws[:, None] == np.asarray(images)[None]).all(axis=(2, 3, 4))
    common = np.exp(log_p) > 4e-3
    assert_mean(code[:, common].astype(float), np.exp(log_p)[common])


def test_the_average_of_one_model_with_itself_is_the_model():
    model, params = randomized("ordered", 0, (4, 3, 2))
    average, x = averaged([model.density(params)] * 3), jnp.ones((4, 3, 2))
    np.testing.assert_allclose(jax.jit(average.log_prob)(x), jax.jit(model.log_prob)(params, x), rtol=1e-5)
    keys = jax.random.split(jax.random.key(1), 8)
    whole = jax.jit(jax.vmap(average.uncached().sample))(keys)
    np.testing.assert_array_equal(jax.jit(jax.vmap(average.sample))(keys), whole.reshape(8, 4, 3, 2))


def test_models_of_other_orders_have_no_average():
    (model, params), (squares, other) = randomized("bits", 0, (4, 2, 1)), randomized("bits", 0, (4, 2, 1), block=2)
    with pytest.raises(ValueError, match=r"in the same order .*got RasterScan over \[4, 2, 1\], Squares of"):
        averaged([model.density(params), squares.density(other)])
    turned, _ = randomized("bits", 0, (4, 2, 1), block=2, turns=2)
    with pytest.raises(ValueError, match="got Squares of 2x2 after 2 quarter turns over"):
        averaged([turned.density(other), squares.density(other)])
    with pytest.raises(ValueError, match=r"draw pixel by pixel .*got Normal over"):
        averaged([Normal(jnp.zeros(3), jnp.zeros(3))])


def test_squares_that_do_not_fit_are_refused():
    with pytest.raises(BadOption, match="block: 2 does not divide the sides of images of 3x3 pixels"):
        randomized("bits", block=2)
    with pytest.raises(BadOption, match=r"block must be .*at least 1"):
        randomized("bits", event_shape=(4, 4, 1), block=0)
    with pytest.raises(BadOption, match=r"turns must be .*between 0 and 3, got 4"):
        randomized("bits", event_shape=(4, 4, 1), block=2, turns=4)
    model, params = randomized("bits", 0, (4, 4, 1), block=2)
    with pytest.raises(ValueError, match=r"whole number of rows of squares of 2x2 pixels, .*multiple of 8, got 4"):
        inpaint.complete(model, params, jax.random.key(0), jnp.zeros((4, 4, 1)), num_given=4)


@pytest.mark.parametrize("head", ["logistics", "normal"])
def test_cached_conditionals_are_those_of_one_pass(head):
    model, params = randomized(head, 0, (3, 2, 1))
    x, density = jnp.array([3.0, 0.0, 4.0, 1.0, 1.0, 2.0]).reshape(3, 2, 1), model.density(params)
    expected = jax.jit(density.conditionals)(density.params, x)

    def cached(x):
        kept_rows, kept_pixels = density.cached.start(density.params)
        for i in range(3):
            kept_rows, given = density.cached.row(density.params, kept_rows, x[i - 1], i)
            kept = kept_pixels
            for j in range(2):
                own = jax.tree.map(lambda a, j=j: a[j], given)
                kept, conditional = density.cached.pixel(density.params, kept, x[i, j - 1], i, j, own)
                yield conditional

    given = jax.jit(lambda x: jax.tree.map(lambda *a: jnp.stack(a), *cached(x)))(x)
    for one, other in zip(jax.tree.leaves(given), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other.reshape(one.shape), atol=1e-5)


def test_draws_and_completions_have_the_frequencies_of_all_images(assert_mean):
    model, params = randomized(num_classes=3)
    x = IMAGES[0b010110000]  # all images in the order of their code, the first pixel its highest bit
    draw = jax.jit(jax.vmap(lambda key, n: inpaint.complete(model, params, key, x, 2, num_given=n), in_axes=(0, None)))
    for num_given in (0, 5):
        alike = np.arange(512) >> (9 - num_given) == 0b010110000 >> (9 - num_given)
        p = np.where(alike, np.exp(log_probs(2)), 0.0)
        drawn = np.asarray(draw(jax.random.split(jax.random.key(2), 10_000), num_given))
        np.testing.assert_array_equal(drawn.reshape(-1, 9)[:, :num_given], np.tile(x.ravel()[:num_given], (10_000, 1)))
        image, p = drawn.reshape(-1, 9) @ 2 ** np.arange(9)[::-1], p / p.sum()
        common = np.flatnonzero(p > 4e-3)
        assert len(common) > 5
        assert_mean((image[:, None] == common[None]).astype(float), p[common])


def test_dropout_is_of_training_alone():
    model, params = randomized(dropout=0.5)
    plain, _ = randomized()
    batch = {"x": IMAGES[100:104]}
    exact = jax.jit(jax.vmap(plain.log_prob, (None, 0)))(params, batch["x"])
    loss = jax.jit(model.loss)
    noisy = [loss(params, jax.random.key(seed), batch, 0)[0] for seed in (0, 1)]
    assert np.all(noisy[0] != noisy[1]) and np.all(np.abs(noisy[0] + exact) > 1e-4)
    valid = likelihood.validation(model, jax.random.key(0), batch)(params, 0)
    np.testing.assert_allclose(valid["bound"], exact.mean(), rtol=1e-5)


def test_gradients_are_finite_and_reach_every_parameter():
    model, params = randomized("logistics")
    x = jnp.asarray(np.random.default_rng(3).integers(5, size=(8, 3, 3, 1)), jnp.float32)
    gradient = jax.jit(jax.grad(lambda p: model.loss(p, jax.random.key(0), {"x": x}, 0)[0].mean()))(params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        unused = "down_1" in str(path) and "Gate" in str(path)  # the last v has no layer to go to
        assert np.isfinite(leaf).all() and (unused or np.any(leaf != 0)), path


def test_bfloat16_is_of_the_network_alone():
    config = {"network": NETWORK, "likelihood": HEADS["bernoulli"], "compute_dtype": "bfloat16"}
    model, params = models.from_config("pixel_cnn", config, **kind((3, 3, 1))), randomized()[1]
    assert jax.eval_shape(model.sample, params, jax.random.key(0)).dtype == jnp.float32
    logits = [
        jax.jit(d.conditionals)(d.params, IMAGES[0]).logits
        for d in (model.density(params), randomized()[0].density(params))
    ]
    assert logits[0].dtype == jnp.float32
    assert 1e-4 < np.max(np.abs(logits[0] - logits[1])) < 0.1  # rounded to 8 bits on the way, and no more


def test_it_begins_as_the_uniform_distribution():
    model, _ = randomized()
    params = jax.jit(model.init)(jax.random.key(0), {"x": IMAGES[:2]})
    np.testing.assert_allclose(jax.jit(model.log_prob)(params, IMAGES[77]), -9 * np.log(2.0), rtol=1e-6)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"likelihood": {"name": "normal_mixture"}},
            "model.likelihood: 'normal_mixture' does not model independent pixels",
        ),
        ({"network": {"channel": (3,)}}, r"model\.network: unknown key 'channel'; did you mean 'channels'"),
        ({"network": {"kernel": 4}}, "kernel must be odd, got 4"),
        ({"network": {"dropout": 1.0}}, "dropout must be at least 0 and below 1, got 1.0"),
    ],
)
def test_mistakes_are_named(change, message):
    config = {"network": NETWORK, "likelihood": {"name": "bernoulli"}} | change
    with pytest.raises(ValueError, match=message):
        model = models.from_config("pixel_cnn", config, **kind((3, 3, 1)))
        jax.eval_shape(model.init, jax.random.key(0), {"x": IMAGES[:2]})
