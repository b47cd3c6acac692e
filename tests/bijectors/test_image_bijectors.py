"""The laws of couplings, squeezes and stacks of images and vectors, in float32 and at extreme inputs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax import bijectors
from vae_jax.bijectors import (
    ActNorm,
    Chain,
    ChannelCoupling,
    CheckerboardCoupling,
    Flatten,
    InverseAutoregressive,
    Inverted,
    Logit,
    MaskedAutoregressive,
    Mixing,
    Probability,
    Rescale,
    Reverse,
    Split,
    Squeeze,
    Stacked,
    monotone,
)
from vae_jax.bijectors.mixture import levels_mixture, normal_of_logit
from vae_jax.bijectors.squeeze import nested

IMAGE = (2, 2, 2)


def array(seed, *shape, scale=1.0):
    return jnp.asarray(np.random.default_rng(seed).normal(scale=scale, size=shape), jnp.float32)


def linear(params, x, context):
    """A conditioner: bounded functions of all that it sees."""
    return jnp.tanh(params @ x.ravel())


@functools.cache
def channels(g, shape=IMAGE, seed=0):
    size = int(np.prod(shape)) // 2
    return ChannelCoupling(array(seed, size * g.num_params, size), None, linear, g, shape[-1] // 2)


@functools.cache
def checkerboard(g, parity):
    entries = int(np.prod(IMAGE))
    seen = entries + IMAGE[0] * IMAGE[1]
    return CheckerboardCoupling(array(1, entries * g.num_params, seen), None, linear, g, parity)


def earlier(params, x, context):
    return jnp.tanh(jnp.tril(params, -1) @ x)[:, None] + context


def shift_and_scale(params, x, context):
    return jnp.tril(params, -1) @ x, jnp.tanh(jnp.tril(params, -1) @ x)


AFFINE, SPLINE, MIXTURE = monotone.affine(), monotone.spline(num_bins=4), monotone.mixture(num_components=2)
LEVELS = levels_mixture(8, num_components=2)
ONE = lambda params, context: ChannelCoupling(params, context, linear, AFFINE, 1)  # noqa: E731
EXAMPLES = {
    "act norm": (ActNorm(array(0, 2), array(1, 2)), IMAGE),
    "1x1 convolution": (Mixing(array(0, 3, 3), array(1, 3, 3), array(2, 3)), (2, 1, 3)),
    "matrix": (Mixing(array(0, 5, 5), array(1, 5, 5), array(2, 5)), (5,)),
    "affine channels": (channels(AFFINE), IMAGE),
    "spline channels": (channels(SPLINE), IMAGE),
    "mixture channels": (channels(MIXTURE), IMAGE),
    "affine vector": (channels(AFFINE, (4,)), (4,)),
    "affine checkerboard": (checkerboard(AFFINE, 0), IMAGE),
    "spline checkerboard": (checkerboard(SPLINE, 1), IMAGE),
    "masked autoregressive": (MaskedAutoregressive(array(0, 4, 4), array(1, 4, 11), earlier, SPLINE), (4,)),
    "inverted": (Inverted(InverseAutoregressive(array(0, 4, 4), array(1), shift_and_scale)), (4,)),
    "squeeze": (Squeeze(2), (4, 2, 2)),
    "nested squeeze": (Squeeze(2, nested(2, 2, 2)[0]), (2, 4, 2)),
    "flatten": (Flatten(IMAGE), IMAGE),
    "reverse": (Reverse(), IMAGE),
    "stacked": (Stacked(array(0, 5, 2, 1), None, ONE), (2,)),
    "split": (Split(channels(AFFINE), Flatten((2, 2, 1)), IMAGE), IMAGE),
}
BOUNDED = {
    "logit": (Logit(8.0), 0.0, 8.0),
    "rescale": (Rescale(8.0), 0.0, 8.0),
    "levels": (channels(LEVELS), -1.0, 1.0 - 1e-5),
}


def check(bijector, x, atol):
    """Compare the inverse, and both log-determinants, with x and the dense Jacobian."""

    @jax.jit
    def everything(bijector, x):
        y, log_det = bijector.forward_and_log_det(x)
        back, inverse_log_det = bijector.inverse_and_log_det(y)
        jacobian = jax.jacfwd(lambda x: bijector.forward_and_log_det(x)[0])(x).reshape(x.size, x.size)
        return back, log_det, inverse_log_det, jnp.linalg.slogdet(jacobian)[1]

    back, log_det, inverse_log_det, expected = everything(bijector, x)
    np.testing.assert_allclose(back, x, atol=atol)
    np.testing.assert_allclose(log_det, expected, rtol=1e-4, atol=2e-3)
    np.testing.assert_allclose(inverse_log_det, -log_det, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_inverse_undoes_it_and_the_log_determinant_is_that_of_the_jacobian(name):
    bijector, shape = EXAMPLES[name]
    check(bijector, array(3, *shape, scale=1.5), atol=2e-4)


@pytest.mark.parametrize("name", BOUNDED)
def test_maps_of_an_interval_do_so_too(name):
    bijector, low, high = BOUNDED[name]
    check(bijector, jnp.asarray(np.random.default_rng(3).uniform(low, high, IMAGE), jnp.float32), atol=2e-4)


@pytest.mark.parametrize("name", ["affine channels", "spline checkerboard", "mixture channels"])
@pytest.mark.parametrize("size", [1e4, 1e3])
def test_extreme_inputs_are_inverted_with_finite_gradients(name, size):
    bijector, shape = EXAMPLES[name]
    x = size * jnp.sign(array(4, *shape))

    @jax.jit
    def both(bijector, x):
        def total(bijector, x):
            y, log_det = bijector.forward_and_log_det(x)
            back, inverse_log_det = bijector.inverse_and_log_det(y)
            return jnp.sum(y) + log_det + jnp.sum(back) + inverse_log_det, back

        return jax.grad(total, (0, 1), has_aux=True)(bijector, x)

    gradients, back = both(bijector, x)
    np.testing.assert_allclose(back, x, rtol=1e-4)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize(("g", "span"), [(SPLINE, 12.0), (MIXTURE, 1e4), (LEVELS, 1.0)])
def test_a_map_of_one_number_is_monotone_and_finite_for_parameters_of_any_size(g, span):
    """Sorted inputs stay sorted, beyond the bounds of a spline as well; gradients are finite everywhere."""
    raw = jnp.asarray(np.random.default_rng(0).choice([-1e4, -5.0, 0.0, 5.0, 1e4], (32, 1, g.num_params)), jnp.float32)
    x = jnp.linspace(-span, span, 129)[:-1]
    raw = jnp.broadcast_to(raw, (32, 128, g.num_params))

    @jax.jit
    def both(x, raw):
        total = lambda x, raw: sum(jnp.sum(a) for a in g.forward(x, raw))  # noqa: E731
        return g.forward(x, raw), jax.grad(total, (0, 1))(x, raw)

    (y, log_slope), gradients = both(jnp.broadcast_to(x, (32, 128)), raw)
    assert np.all(np.diff(y, axis=1) >= 0) and np.isfinite(log_slope).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_parameters_of_zero_are_the_identity_of_a_spline():
    x = jnp.linspace(-9.0, 9.0, 50)
    y, log_slope = jax.jit(SPLINE.forward)(x, jnp.zeros((50, SPLINE.num_params)))
    np.testing.assert_allclose(y, x, atol=1e-5)
    np.testing.assert_allclose(log_slope, 0.0, atol=1e-5)


@pytest.mark.slow
def test_a_spline_is_that_of_flowjax():
    flowjax = pytest.importorskip("flowjax.bijections")
    pieces = flowjax.RationalQuadraticSpline(knots=4, interval=4.0, min_derivative=0.0)
    raw, x = array(5, SPLINE.num_params), jnp.linspace(-6.0, 6.0, 25)
    y, log_slope = jax.jit(SPLINE.forward)(x, jnp.broadcast_to(raw, (25, raw.size)))
    from vae_jax.bijectors.spline import _knots

    ours = (_knots(raw[:4], 4.0), _knots(raw[4:8], 4.0), 4.0 * jnp.tanh(raw[8:] / 4.0))
    slopes = jnp.pad(jnp.exp(ours[2]), 1, constant_values=1.0)
    import equinox
    import paramax

    pieces = equinox.tree_at(
        lambda p: (p.x_pos, p.y_pos, p.derivatives),
        paramax.unwrap(pieces),
        (ours[0], ours[1], slopes),
    )
    expected = jax.jit(jax.vmap(pieces.transform_and_log_det))(x)
    np.testing.assert_allclose(y, expected[0], atol=1e-5)
    np.testing.assert_allclose(log_slope, expected[1], atol=1e-4)


def test_the_normal_quantile_of_a_logit_is_exact_in_both_tails():
    scipy = pytest.importorskip("scipy.special")
    logit = np.concatenate([-np.geomspace(1e-3, 1e4, 60)[::-1], [0.0], np.geomspace(1e-3, 1e4, 60)])
    z = np.asarray(normal_of_logit(jnp.asarray(logit, jnp.float32)), np.float64)
    log_p = scipy.log_ndtr(-np.abs(z))  # minus softplus of the logit's size
    np.testing.assert_allclose(log_p, -np.logaddexp(0, np.abs(logit)), rtol=1e-4)
    assert np.all(np.diff(z) > 0)


def test_an_activation_norm_of_constant_pixels_is_finite():
    x = jnp.concatenate([jnp.full((8, 2, 2, 1), 3.0), array(0, 8, 2, 2, 1)], axis=-1)
    norm = ActNorm.fitted(x)
    y, log_det = jax.vmap(norm.forward_and_log_det)(x)
    np.testing.assert_allclose(y[..., 0], 0.0, atol=1e-5)
    np.testing.assert_allclose(jnp.std(y[..., 1]), 1.0, rtol=1e-3)
    assert np.isfinite(log_det).all() and np.max(log_det) < 2 * 4 * 4


def test_a_loop_over_layers_is_their_chain_and_its_program_does_not_grow():
    params, x = array(0, 5, 2, 1), array(1, 2)
    loop, chain = Stacked(params, None, ONE), Chain(tuple(ONE(p, None) for p in params))
    for method in ("forward_and_log_det", "inverse_and_log_det"):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
            *(jax.jit(getattr(bijector, method))(x) for bijector in (loop, chain)),
        )
    count = lambda depth: len(  # noqa: E731
        str(jax.make_jaxpr(lambda p: Stacked(p, None, ONE).forward_and_log_det(x))(array(0, depth, 2, 1))).splitlines()
    )
    assert count(3) == count(300)


def test_nested_squares_begin_with_the_coarsest_pixels():
    order, ends = nested(4, 1, largest=8)
    rows, columns = np.divmod(np.asarray(order), 4)
    assert ends == (1, 2, 4, 8, 16) and nested(4, 1, largest=4)[1] == (1, 2, 4, 8, 12, 16)
    assert order[0] == 0 and set(order[:2]) == {0, 10} and set(order[:4]) == {0, 2, 8, 10}
    assert np.all((rows[:8] + columns[:8]) % 2 == 0)


def test_nested_squares_of_colours_take_one_colour_after_the_other():
    order, ends = nested(2, 3, largest=8)
    assert sorted(order) == list(range(12)) and ends == (3, 4, 5, 6, 8, 10, 12)
    assert order == (0, 1, 2, 9, 10, 11, 3, 6, 4, 7, 5, 8)


def test_a_uniform_level_costs_nothing():
    """At the weight 1 of the first level its dequantised values have the density V / 2 on [-1, 1)."""
    raw = jnp.zeros(LEVELS.num_params).at[0].set(30.0)
    x = jnp.linspace(-1.0, -0.76, 20)
    y, log_slope = jax.jit(LEVELS.forward)(x, jnp.broadcast_to(raw, (20, raw.size)))
    log_density = log_slope - 0.5 * (y**2 + np.log(2 * np.pi))
    np.testing.assert_allclose(log_density, np.log(8 / 2), atol=2e-3)


def test_a_probability_keeps_away_from_both_ends():
    both = jax.jit(Probability(1e-3).forward_and_log_det)
    y, log_det = both(jnp.asarray([-1e4, -3.0, 0.0, 3.0, 1e4]))
    assert 0 < np.min(y) and np.max(y) < 1 and np.isfinite(log_det)
    check(Probability(1e-3), jnp.asarray([-2.5, 0.0, 3.0]), atol=1e-3)


def test_every_bijector_has_a_law():
    tested = {type(bijector).__name__ for bijector, *_ in (*EXAMPLES.values(), *BOUNDED.values())}
    elsewhere = {
        "AffineCoupling",
        "Chain",
        "Continuous",
        "Flip",
        "InverseAutoregressive",
        "Permutation",
        "Planar",
        "Sylvester",
    }
    assert tested | elsewhere | {"Probability", "dense_conditioner"} >= set(bijectors.__all__)
