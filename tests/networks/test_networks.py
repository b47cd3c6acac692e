"""What every encoder and decoder promises: shapes, independence of the path, and clear refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax import networks
from vae_jax.networks import autoregressive, conv
from vae_jax.networks.mlp import split
from vae_jax.networks.network import compute_in
from vae_jax.networks.resnet import ResidualBlock

IMAGE = (8, 8, 1)
CODES = ((5,), (5,), (3, 3))
PIXELS = ((8, 8, 1), (8, 8, 1, 4), (8, 8, 2))
SMALL = {
    "mlp": {"hidden": (6,)},
    "conv_encoder": {"channels": (4, 6), "hidden": (7,)},
    "conv_decoder": {"channels": (6, 4), "hidden": (7,)},
    "resnet_encoder": {"channels": (4, 6), "num_blocks": 1},
    "resnet_decoder": {"channels": (6, 4), "num_blocks": 1},
}
NETWORKS = [
    ("mlp", IMAGE, CODES),
    ("mlp", (5,), PIXELS),
    ("conv_encoder", IMAGE, CODES),
    ("conv_decoder", (5,), PIXELS),
    ("resnet_encoder", IMAGE, CODES),
    ("resnet_decoder", (5,), PIXELS),
]


def build(name, outputs, **options):
    return getattr(networks, name)(outputs, **{**SMALL[name], **options})


@functools.cache
def fitted(name, shape, outputs, with_context=False):
    """(the network, variables with no zero among them, an input, its context)."""
    network = build(name, outputs)
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    context = jax.nn.one_hot(1, 3) if with_context else None
    shapes = jax.eval_shape(network.init, jax.random.key(0), x, context)
    rng = np.random.default_rng(1)
    return network, jax.tree.map(lambda a: jnp.asarray(0.3 * rng.normal(size=a.shape), a.dtype), shapes), x, context


@pytest.mark.parametrize("name, shape, outputs", NETWORKS)
@pytest.mark.parametrize("with_context", [False, True], ids=["", "conditional"])
def test_outputs_have_the_shapes_asked_for(name, shape, outputs, with_context):
    network, variables, x, context = fitted(name, shape, outputs, with_context)
    given = jax.eval_shape(network.apply, variables, x, context)
    assert isinstance(given, tuple) and tuple(a.shape for a in given) == outputs


@pytest.mark.parametrize("name, shape, outputs", NETWORKS)
def test_every_input_and_the_context_reach_every_output(name, shape, outputs):
    _, variables, x, context = fitted(name, shape, outputs, True)
    smooth = build(name, outputs, activation="tanh")
    to_x, to_context = jax.jit(jax.jacobian(smooth.apply, (1, 2)))(variables, x, context)[0]
    assert np.abs(to_context).reshape(-1, 3).sum(axis=0).all()
    assert np.abs(to_x).reshape(-1, x.size).sum(axis=0).all() and np.abs(to_x).reshape(-1, x.size).sum(axis=1).all()


@pytest.mark.parametrize("name, shape, outputs", NETWORKS[2:])
def test_a_checkpoint_means_the_same_in_both_forms(monkeypatch, name, shape, outputs):
    network, variables, x, _ = fitted(name, shape, outputs)
    given = []
    for form in ("products", "native"):
        monkeypatch.setattr(conv, "by_platform", lambda *args, form=form, **forms: forms[form](*args))
        given.append(jax.jit(lambda v, x: network.apply(v, x))(variables, x))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *given)


@pytest.mark.parametrize("name, shape, outputs", NETWORKS)
def test_bfloat16_stays_inside_a_network(name, shape, outputs):
    """Every product is one of bfloat16; what comes out is float32 and near what float32 gives."""
    network, variables, x, context = fitted(name, shape, outputs, True)
    half = compute_in("bfloat16", network)
    jaxpr = jax.make_jaxpr(half.apply)(variables, x, context)
    products = [line for line in str(jaxpr).splitlines() if "dot_general" in line or "conv_general" in line]
    assert products and all("bf16[" in line.split("=")[0] for line in products)
    both = jax.jit(lambda *args: list(zip(half.apply(*args), network.apply(*args), strict=True)))
    for given, exact in both(variables, x, context):
        assert given.dtype == jnp.float32 and given.shape == exact.shape
        assert np.linalg.norm(given - exact) < 0.03 * np.linalg.norm(exact)


AUTOREGRESSIVE = {
    "gated_pixel_cnn": (networks.gated_pixel_cnn(((4, 4, 1),), (3, 3), shortcuts=True), (4, 4, 1)),
    "wavenet": (networks.wavenet(((8,),), width=3, skip=4, dilations=(1, 2)), (8,)),
    "made": (autoregressive.made(((6,),)), (6,)),
    "nade": (autoregressive.nade(((6,),)), (6,)),
}


@pytest.mark.parametrize("name", AUTOREGRESSIVE)
def test_all_products_of_autoregressive_networks_are_in_bfloat16(name):
    network, shape = AUTOREGRESSIVE[name]
    inputs = jnp.zeros(shape), jnp.ones(3)
    variables = jax.eval_shape(network.init, jax.random.key(0), *inputs)
    half = compute_in("bfloat16", network)
    jaxpr = jax.make_jaxpr(half.apply)(variables, *inputs)
    products = [line for line in str(jaxpr).splitlines() if "dot_general" in line or "conv_general" in line]
    assert products and all("bf16[" in line.split("=")[0] for line in products)
    assert all(a.dtype == jnp.float32 for a in jax.eval_shape(half.apply, variables, *inputs))


def test_a_fresh_residual_block_is_the_identity():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4, 3)), jnp.float32)
    block = ResidualBlock("elu")
    fresh = jax.jit(lambda x: block.apply(block.init(jax.random.key(0), x), x))
    np.testing.assert_array_equal(fresh(x), x)


@pytest.mark.parametrize("name", ["conv_encoder", "resnet_encoder"])
def test_encoders_refuse_what_does_not_halve(name):
    network = build(name, CODES, channels=(4, 4, 4))
    with pytest.raises(ValueError, match="28x28 cannot be halved 3 times"):
        jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((28, 28, 1)))


@pytest.mark.parametrize("name", ["conv_decoder", "resnet_decoder"])
def test_decoders_refuse_what_does_not_halve(name):
    with pytest.raises(ValueError, match=r"^channels: an image of 28x28 cannot be halved 3 times"):
        build(name, ((28, 28, 1),), channels=(4, 4, 4))


@pytest.mark.parametrize("name", ["conv_decoder", "resnet_decoder"])
@pytest.mark.parametrize("outputs", [((8, 8),), ((8, 8, 1), (4, 4, 1))])
def test_decoders_refuse_what_is_no_image(name, outputs):
    with pytest.raises(ValueError, match=r"requires images of one size, got outputs .*; use 'mlp'"):
        jax.eval_shape(build(name, outputs).init, jax.random.key(0), jnp.zeros(5))


@pytest.mark.parametrize("name, shape, outputs", NETWORKS)
def test_unknown_activations_are_refused_by_name(name, shape, outputs):
    with pytest.raises(ValueError, match="activation: unknown value 'rleu'; did you mean 'relu'"):
        jax.eval_shape(build(name, outputs, activation="rleu").init, jax.random.key(0), jnp.zeros(shape))


def seeing_image(**options):
    """Return a `unet_decoder`, variables with no zero among them, z and an image of half the size of the outputs."""
    network = networks.unet_decoder(PIXELS, channels=(6, 4), activation="tanh", **options)
    rng = np.random.default_rng(0)
    z, image = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((5,), (4, 4, 2)))
    shapes = jax.eval_shape(network.init, jax.random.key(0), z, image)
    return network, jax.tree.map(lambda a: jnp.asarray(0.3 * rng.normal(size=a.shape), a.dtype), shapes), z, image


@pytest.mark.parametrize("hidden", [(), (7,)])
def test_a_unet_decoder_sees_z_and_an_image_of_any_size(hidden):
    network, variables, z, image = seeing_image(hidden=hidden)
    outputs, (to_z, to_image) = jax.jit(
        lambda *args: (network.apply(*args), jax.jacobian(lambda *args: network.apply(*args)[0], (1, 2))(*args))
    )(variables, z, image)
    assert tuple(a.shape for a in outputs) == PIXELS
    assert np.abs(to_z).reshape(-1, z.size).sum(axis=0).all() and np.abs(to_z).reshape(-1, z.size).sum(axis=1).all()
    to_image = np.abs(to_image).reshape(64, -1)
    assert to_image.sum(axis=0).all() and (not hidden or (to_image > 0).all())


def test_a_unet_decoder_adds_the_enlarged_image_to_one_output():
    network, variables, z, image = seeing_image()
    residual = seeing_image(residual=1)[0]
    plain, added = jax.jit(lambda *args: (network.apply(*args), residual.apply(*args)))(variables, z, image)
    large = jax.image.resize(image, (8, 8, 2), "cubic")[..., :1]
    for n, (one, other) in enumerate(zip(plain, added, strict=True)):
        np.testing.assert_allclose(
            other - one, np.broadcast_to(large[..., None], one.shape) if n == 1 else 0.0, atol=1e-4
        )


def test_a_unet_decoder_adds_a_grey_image_to_every_colour():
    """And refuses a context whose channels are neither one nor those of the image."""
    colours = ((8, 8, 3, 2),)
    z, grey = jnp.zeros(5), jnp.asarray(np.random.default_rng(0).normal(size=(8, 8, 1)), jnp.float32)
    plain, residual = (networks.unet_decoder(colours, channels=(6, 4), residual=n) for n in (None, 0))
    variables = residual.init(jax.random.key(0), z, grey)
    added = residual.apply(variables, z, grey)[0] - plain.apply(variables, z, grey)[0]
    np.testing.assert_allclose(added, jnp.broadcast_to(grey[..., None], (8, 8, 3, 2)), atol=1e-5)
    with pytest.raises(ValueError, match="residual: the context has 2 channels and the image 3; give a context of one"):
        jax.eval_shape(residual.init, jax.random.key(0), z, jnp.zeros((8, 8, 2)))


@pytest.mark.parametrize("context", [None, jnp.zeros(3)])
def test_a_unet_decoder_refuses_a_context_that_is_no_image(context):
    network = networks.unet_decoder(PIXELS, channels=(6, 4))
    with pytest.raises(ValueError, match="'unet_decoder' requires a context that is an image; use 'conv_decoder'"):
        jax.eval_shape(network.init, jax.random.key(0), jnp.zeros(5), context)


def test_split_cuts_the_last_axis():
    pieces = split(jnp.arange(12).reshape(2, 6), [1, 3, 2])
    np.testing.assert_array_equal(jnp.concatenate(pieces, -1), jnp.arange(12).reshape(2, 6))
    assert [p.shape for p in pieces] == [(2, 1), (2, 3), (2, 2)]


def test_a_gated_layer_is_a_product_with_a_gate():
    """h = act(A x + a) ⊙ σ(B x + b), arXiv:1612.08083 eq. (1)."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=4), jnp.float32)
    for activation, act in (("identity", lambda a: a), ("tanh", np.tanh)):
        network = networks.mlp(((2,),), (3,), activation, gated=True)
        shapes = jax.eval_shape(network.init, jax.random.key(0), x)
        rng = np.random.default_rng(1)
        variables = jax.tree.map(lambda a, rng=rng: jnp.asarray(rng.normal(size=a.shape), a.dtype), shapes)
        first, head = variables["params"]["Dense_0"], variables["params"]["DenseHead_0"]["Dense_0"]
        value, gate = np.split(np.asarray(x @ first["kernel"] + first["bias"], np.float64), 2)
        h = act(value) / (1.0 + np.exp(-gate))
        np.testing.assert_allclose(network.apply(variables, x)[0], h @ head["kernel"] + head["bias"], rtol=1e-4)


def test_zero_output_is_zero_and_can_move():
    network, x = networks.mlp(((2,), (3,)), (4,), zero_output=True), jnp.ones(3)
    variables = jax.jit(network.init)(jax.random.key(0), x)
    assert all((np.asarray(a) == 0).all() for a in network.apply(variables, x))
    slope = jax.grad(lambda v: network.apply(v, x)[0].sum())(variables)
    assert np.abs(slope["params"]["DenseHead_0"]["Dense_0"]["kernel"]).max() > 0


def test_branches_see_one_input_each():
    """A hidden unit of a branch depends on its own input alone; the joint layers on both."""
    network = networks.mlp(((2,),), hidden=(3,), branches=(4,), activation="identity")
    x, context = jnp.arange(5.0), jnp.arange(3.0)
    variables = network.init(jax.random.key(0), x, context)
    shapes = {name: layer["kernel"].shape for name, layer in variables["params"].items() if name != "DenseHead_0"}
    assert shapes == {"Dense_0": (5, 4), "Dense_1": (3, 4), "Dense_2": (8, 3)}
    by_x, by_context = (jax.jacobian(lambda *a: network.apply(variables, *a)[0], n)(x, context) for n in (0, 1))
    kernel = [np.asarray(variables["params"][f"Dense_{n}"]["kernel"]) for n in range(3)]
    head = np.asarray(variables["params"]["DenseHead_0"]["Dense_0"]["kernel"])
    np.testing.assert_allclose(by_x, (kernel[0] @ kernel[2][:4] @ head).T, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(by_context, (kernel[1] @ kernel[2][4:] @ head).T, rtol=1e-4, atol=1e-5)
    alone = network.init(jax.random.key(0), x)
    assert alone["params"]["Dense_1"]["kernel"].shape == (4, 3)
