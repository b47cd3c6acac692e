"""Networks of a time: shapes, what reaches what, both forms of a convolution, and clear refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.networks import conv, timed
from vae_jax.networks.network import compute_in
from vae_jax.networks.unet import normalized, sinusoids

SMALL = {"width": 4, "multipliers": (1, 2), "num_blocks": 1, "num_heads": 2, "activation": "tanh"}
SLOW = pytest.mark.slow
NETWORKS = {
    "unet": (timed.unet, SMALL, (4, 4, 1), ((4, 4, 1), (4, 4, 2))),
    "unet of patches": (timed.unet, {**SMALL, "patch": 2, "fourier": (0,)}, (8, 4, 1), ((8, 4, 1),)),
    "time_mlp": (timed.time_mlp, {"hidden": (6, 6), "activation": "tanh"}, (3,), ((3,), (2, 2))),
}


@functools.cache
def fitted(name, **options):
    """(the network, variables with no zero among them, x, t, a context)."""
    build, small, shape, outputs = NETWORKS[name]
    network = build(outputs, **{**small, **options})
    rng = np.random.default_rng(1)
    x, t, context = jnp.asarray(rng.normal(size=shape), jnp.float32), jnp.float32(0.3), jnp.eye(3)[1]
    shapes = jax.eval_shape(network.init, jax.random.key(0), x, t, context)
    variables = jax.tree.map(lambda a: np.asarray(0.5 * rng.normal(size=a.shape), a.dtype), shapes)
    return network, variables, x, t, context


CHEAP = ["time_mlp", *[pytest.param(name, marks=SLOW) for name in ("unet", "unet of patches")]]
TWO = ["time_mlp", "unet", pytest.param("unet of patches", marks=SLOW)]


@pytest.mark.parametrize("shape, patch", [((28, 28, 1), 1), ((32, 32, 3), 2), ((12, 28, 2), 2), ((8, 8, 1), 1)][::-1])
def test_images_come_back_in_their_shape(shape, patch):
    multipliers = (1, 2, 2) if patch == 1 else (1, 2)
    network = timed.unet((shape, (*shape, 5)), multipliers=multipliers, num_blocks=1, patch=patch, fourier=(6, 7))
    inputs = jnp.zeros(shape), jnp.zeros(()), jnp.zeros(10)
    variables = jax.eval_shape(network.init, jax.random.key(0), *inputs)
    assert [a.shape for a in jax.eval_shape(network.apply, variables, *inputs)] == [shape, (*shape, 5)]


@pytest.mark.parametrize("name", CHEAP)
def test_all_outputs_begin_at_zero(name):
    network, _, *inputs = fitted(name)
    outputs = jax.jit(lambda key: network.apply(network.init(key, *inputs), *inputs))(jax.random.key(0))
    assert not any(np.any(a) for a in outputs)


@pytest.mark.parametrize("name", TWO)
def test_every_input_the_time_and_the_context_reach_every_output(name):
    network, variables, x, t, context = fitted(name)

    @jax.jit
    def slopes(variables, x, t, context):
        flat = lambda *args: jnp.concatenate([jnp.ravel(a) for a in network.apply(variables, *args)])  # noqa: E731
        return jax.jacrev(flat, (0, 1, 2))(x, t, context)

    to_x, to_t, to_context = slopes(variables, x, t, context)
    assert np.all(to_x) and np.all(to_t) and np.all(to_context) and np.isfinite(to_x).all()


def test_a_context_may_be_an_image():
    network, _, x, t, _ = fitted("unet")
    plane = jnp.ones((2, 2, 3))
    variables = jax.eval_shape(network.init, jax.random.key(0), x, t, plane)
    outputs = jax.eval_shape(network.apply, variables, x, t, plane)
    assert [a.shape for a in outputs] == [(4, 4, 1), (4, 4, 2)]


@pytest.mark.parametrize("name", ["unet", pytest.param("unet of patches", marks=SLOW)])
def test_both_forms_of_a_convolution_agree(monkeypatch, name):
    network, variables, *inputs = fitted(name)
    outputs = []
    for form in ("products", "native"):
        monkeypatch.setattr(conv, "by_platform", lambda *args, form=form, **forms: forms[form](*args))
        outputs.append(jax.jit(lambda *args: network.apply(*args))(variables, *inputs))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *outputs)


def test_the_program_does_not_grow_with_the_number_of_blocks():
    def size(num_blocks):
        network = timed.unet(((4, 4, 1),), **{**SMALL, "multipliers": (1,), "num_blocks": num_blocks})
        inputs = jnp.zeros((4, 4, 1)), jnp.zeros(())
        variables = jax.eval_shape(network.init, jax.random.key(0), *inputs)
        return len(str(jax.make_jaxpr(network.apply)(variables, *inputs)).splitlines())

    assert abs(size(3) - size(5)) < 5


@pytest.mark.parametrize("name", CHEAP)
def test_units_are_dropped_only_with_a_key(name):
    plain, variables, *inputs = fitted(name)
    network = fitted(name, dropout=0.5)[0]
    assert network.drops and not plain.drops
    run = jax.jit(lambda key: network.apply(variables, *inputs, dropout_key=key)[0])
    without = jax.jit(plain.apply)(variables, *inputs)[0]
    np.testing.assert_array_equal(jax.jit(network.apply)(variables, *inputs)[0], without)
    one, other = run(jax.random.key(0)), run(jax.random.key(1))
    assert np.any(one != other) and np.any(one != without)


@pytest.mark.parametrize("name", CHEAP)
def test_bfloat16_leaves_the_time_as_it_is(name):
    network, variables, x, _, context = fitted(name)
    half = compute_in("bfloat16", network)
    near, far = jnp.float32(0.897), jnp.float32(0.900)  # one and the same number in bfloat16
    run = jax.jit(lambda apply, t: apply(variables, x, t, context)[0], static_argnums=0)
    exact = run(network.apply, near)
    assert run(half.apply, near).dtype == jnp.float32
    assert np.linalg.norm(run(half.apply, near) - exact) < 0.1 * np.linalg.norm(exact)
    assert np.any(run(half.apply, near) != run(half.apply, far))


def test_normalisation_of_groups_is_its_definition():
    rng = np.random.default_rng(0)
    x, scale, shift = rng.normal(3.0, 2.0, (3, 4, 16)), rng.normal(size=16), rng.normal(size=16)
    groups = x.reshape(12, 2, 8)
    mean, std = (f(groups, axis=(0, 2), keepdims=True) for f in (np.mean, np.std))
    expected = ((groups - mean) / std).reshape(x.shape) * scale + shift
    np.testing.assert_allclose(
        normalized(*(jnp.asarray(a, jnp.float32) for a in (x, scale, shift))), expected, atol=1e-4
    )
    flat = jax.grad(lambda x: jnp.sum(normalized(x, jnp.ones(16), jnp.zeros(16)) ** 2))(jnp.full((3, 4, 16), 1e4))
    assert np.isfinite(flat).all()


def test_times_are_told_apart():
    features = jax.vmap(lambda t: sinusoids(t, 32))(jnp.linspace(-3, 3, 101))
    assert features.shape == (101, 32)
    distances = np.linalg.norm(features[:, None] - features[None], axis=-1) + 9 * np.eye(101)
    assert distances.min() > 0.5


@pytest.mark.parametrize(
    "options, message",
    [
        ({"multipliers": (1, 2, 2, 2)}, "28x28 cannot be halved 3 times"),
        ({"patch": 3}, "patch = 3 must divide both sides of the image, got 28x28"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        ({"attention": 4}, "attention must be a whole number, between 0 and 3|attention must be between 0 and 3"),
        ({"num_heads": 5}, "num_heads must divide the channels of levels with attention"),
        ({"fourier": 6}, "fourier must be a tuple"),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"num_blocks": 0}, "num_blocks must be at least 1, got 0"),
        ({"activation": "silo"}, "activation: unknown value 'silo'; did you mean 'silu'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        timed.unet(((28, 28, 1),), **options)


def test_a_network_for_images_refuses_vectors():
    with pytest.raises(ValueError, match="use 'mlp'"):
        timed.unet(((5,),))
    network = timed.unet(((8, 8, 1),))
    with pytest.raises(ValueError, match="returns images as large as its input"):
        jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((4, 4, 1)), jnp.zeros(()))
