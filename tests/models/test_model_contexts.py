"""A context of every kind, from `data.values` to the weights of the network that sees it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax import models
from vae_jax.core import Event
from vae_jax.data import values
from vae_jax.support import Binary, Levels, Tokens

IMAGE, SERIES, SENTENCE = Event((4, 4, 1), Binary()), Event((6,), Levels(5)), Event((4,), Tokens(5))
CONTEXTS = {
    "label": values.label(3),
    "vector": values.vector(3),
    "image": values.image((4, 4, 2), Levels(4)),
    "small image": values.image((2, 2, 1), Levels(4)),  # of another size than x
    "prefix of a series": values.prefix(3, Levels(5)),
    "prefix of a sentence": values.prefix(2, Tokens(5)),
}


def vae(encoder, decoder, **likelihood):
    config = {"latent_dim": 2, "encoder": encoder, "decoder": decoder, "posterior": {"name": "normal"}}
    return "vae", config | {"likelihood": {"name": "bernoulli"} | likelihood, "objective": {"name": "elbo"}}, IMAGE


DENSE = {"name": "mlp", "hidden": (3,), "activation": "tanh"}
PIXELS = {"channels": (3, 3), "first_kernel": 3, "hidden": ()}
LEVELS = {"name": "categorical", "num_levels": 5}
FAMILIES = {
    "dense": vae(DENSE, DENSE),
    "convolutional": vae(
        {"name": "conv_encoder", "channels": (3,), "activation": "tanh"},
        {"name": "conv_decoder", "channels": (3,), "activation": "tanh"},
    ),
    "residual": vae(
        {"name": "resnet_encoder", "channels": (3,), "num_blocks": 1},
        {"name": "resnet_decoder", "channels": (3,), "num_blocks": 1},
    ),
    "pixel_vae": vae(DENSE, DENSE, name="pixel_cnn", pixel={"name": "bernoulli"}, features=2, **PIXELS),
    "pixel_cnn": ("pixel_cnn", {"network": PIXELS, "likelihood": {"name": "bernoulli"}}, IMAGE),
    "made": ("belief_network", {"network": {"name": "made", "hidden": (20,), "activation": "tanh"}}, IMAGE),
    "nade": ("belief_network", {"network": {"name": "nade", "num_hidden": 4}}, IMAGE),
    "wavenet": (
        "wavenet",
        {"network": {"width": 3, "skip": 4, "hidden": (), "dilations": (1, 2)}, "likelihood": LEVELS},
        SERIES,
    ),
    "lstm": ("language_model", {"network": {"name": "lstm", "width": 4}}, SENTENCE),
    "transformer": (
        "language_model",
        {"network": {"name": "transformer", "width": 4, "num_layers": 1, "num_heads": 1}},
        SENTENCE,
    ),
}
CASES = [
    *((family, "vector") for family in FAMILIES if family != "residual"),
    *(
        (family, "image")
        for family in ("convolutional", "pixel_vae", "pixel_cnn", "nade", "wavenet", "lstm", "transformer")
    ),
    *((family, "small image") for family in ("dense", "convolutional", "residual", "pixel_cnn", "made")),
    *((family, "label") for family in ("nade", "wavenet", "transformer")),
    ("wavenet", "prefix of a series"),
    ("lstm", "prefix of a sentence"),
    ("transformer", "prefix of a sentence"),
    ("dense", "prefix of a series"),
]


def build(family, context=None):
    name, config, event = FAMILIES[family]
    return models.from_config(name, config, event=event, context=context)


def draws(shape, support, seed, size=4):
    rng = np.random.default_rng(seed)
    if support.num_levels:
        dtype = jnp.int32 if isinstance(support, Tokens) or shape == () else jnp.float32
        return jnp.asarray(rng.integers(int(isinstance(support, Tokens)), support.num_levels, (size, *shape)), dtype)
    return jnp.asarray(rng.normal(size=(size, *shape)), jnp.float32)


def batch_of(family, context):
    event = FAMILIES[family][2]
    return {"x": draws(event.shape, event.support, seed=0), "context": draws(context.shape, context.support, seed=1)}


@functools.cache
def randomized(family, context):
    """A model, and params of which none is zero."""
    model = build(family, CONTEXTS[context])
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch_of(family, CONTEXTS[context]))
    rng = np.random.default_rng(2)
    return model, jax.tree.map(lambda a: jnp.asarray(rng.normal(scale=0.5, size=a.shape), a.dtype), shapes)


def weights_of_context(family, params):
    """{path: the rows of a kernel that a model without a context lacks}, and whole arrays that it lacks."""
    plain = jax.eval_shape(build(family).init, jax.random.key(0), {"x": draws(*FAMILIES[family][2][:2], seed=0)})
    sizes = {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree.leaves_with_path(plain)}
    rows = {}
    for path, leaf in jax.tree.leaves_with_path(params):
        name = jax.tree_util.keystr(path)
        if name not in sizes:
            rows[name] = slice(None)
        elif leaf.shape != sizes[name]:
            rows[name] = (..., slice(sizes[name][-2], None), slice(None))  # the context comes behind x, or z
    return rows


@pytest.mark.parametrize(("family", "context"), CASES)
def test_the_loss_is_finite_and_every_weight_of_the_context_learns(family, context):
    model, params = randomized(family, context)
    batch = batch_of(family, CONTEXTS[context])

    @jax.jit
    def evaluate(params, batch):
        def mean_loss(params):
            return jnp.mean(model.loss(params, jax.random.key(0), batch, 0)[0])

        evidence = model.log_prob or (lambda params, x, c: model.bound(params, jax.random.key(0), x, c))
        densities = [
            jax.vmap(evidence, (None, 0, 0))(params, batch["x"], c)
            for c in (batch["context"], jnp.roll(batch["context"], 1, axis=0))
        ]
        return *jax.value_and_grad(mean_loss)(params), densities

    loss, gradient, (density, of_another) = evaluate(params, batch)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((loss, gradient, density)))
    other = jnp.roll(batch["context"], 1, axis=0)
    same = np.asarray(batch["context"] == other).reshape(len(other), -1).all(axis=1)
    assert not same.all() and np.all((np.abs(density - of_another) > 1e-5) | same)
    rows = weights_of_context(family, params)
    assert rows
    for path, leaf in jax.tree.leaves_with_path(gradient):
        name = jax.tree_util.keystr(path)
        unused = "down_1" in name and "Gate" in name  # the last v has no layer to go to
        if name in rows and not unused:
            assert np.abs(leaf[rows[name]]).max() > 0, name


@pytest.mark.parametrize("family", FAMILIES)
def test_an_unconditional_model_refuses_a_context_and_a_conditional_one_needs_it(family):
    context = CONTEXTS["vector"]
    batch = batch_of(family, context)
    plain = {"x": batch["x"]}
    cases = [(build(family), plain, batch, "takes no context, and one was given; leave it out")]
    cases.append((build(family, context), batch, plain, r"conditional on a context of shape \(3,\): a context is"))
    for model, right, wrong, words in cases:
        params = jax.eval_shape(model.init, jax.random.key(0), right)
        with pytest.raises(ValueError, match=words):
            jax.eval_shape(model.init, jax.random.key(0), wrong)
        with pytest.raises(ValueError, match=words):
            jax.eval_shape(model.loss, params, jax.random.key(0), wrong, 0)
        with pytest.raises(ValueError, match=words):
            jax.eval_shape(model.sample, params, jax.random.key(0), wrong.get("context", [None])[0])


@pytest.mark.parametrize("context", ["image", "small image"])
def test_a_draw_sees_at_each_pixel_the_part_of_the_image_that_its_density_sees(context):
    model, params = randomized("pixel_cnn", context)
    c = batch_of("pixel_cnn", CONTEXTS[context])["context"][0]
    keys = jax.random.split(jax.random.key(1), 32)
    cached = jax.jit(jax.vmap(lambda key: model.sample(params, key, c)))(keys)
    whole = jax.jit(jax.vmap(lambda key: model.density(params, c).uncached().sample(key)))(keys)
    assert np.std(cached, axis=0).max() > 0
    np.testing.assert_array_equal(cached, whole.reshape(cached.shape))


@pytest.mark.parametrize("family", ["convolutional", "residual", "pixel_cnn"])
def test_a_small_image_stands_for_its_enlargement(family):
    """Each pixel of x sees its nearest pixel of the context."""
    small = batch_of(family, CONTEXTS["small image"])
    large = {**small, "context": jnp.repeat(jnp.repeat(small["context"], 2, axis=1), 2, axis=2)}
    model, params = randomized(family, "small image")
    same = build(family, values.image((4, 4, 1), Levels(4)))

    @jax.jit
    def both(params):
        def evaluate(model, batch):
            function = model.log_prob or (lambda *args: model.latent.posterior(*args).loc)
            return jax.vmap(function, (None, 0, 0))(params, batch["x"], batch["context"])

        return evaluate(model, small), evaluate(same, large)

    np.testing.assert_allclose(*both(params), rtol=1e-5)
