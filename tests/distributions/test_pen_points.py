"""Points on a lattice, whose masses can be enumerated, and drawings of them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from vae_jax.distributions import Drawing, PenPoints, check_support
from vae_jax.distributions.drawings import END, log_mass_between, points_before, predicted

SMALL, FULL = 3, 600
MASSES = jax.jit(log_mass_between, static_argnums=(4, 5))


def some_points(limit, shape=(), seed=0, atoms=0):
    """Four components with correlations, means inside and outside the lattice, and offsets with masses of their own."""
    rng = np.random.default_rng(seed)
    draw = lambda *more, scale=1.0: jnp.asarray(rng.normal(scale=scale, size=(*shape, *more)), jnp.float32)  # noqa: E731
    points = PenPoints(draw(4), draw(4, 2, scale=limit / 2), draw(4, 2), 0.95 * jnp.tanh(draw(4)), draw(3), limit)
    if not atoms:
        return points
    k, f = 2 * atoms + 1, 5
    shapes = {"offsets": (k + 2, f), "kernel": (f, k), "bias": (k,)}
    weights = {name: jnp.asarray(rng.normal(size=size), jnp.float32) for name, size in shapes.items()}
    return points.replace(atoms=draw(k), features=draw(f), weights=weights)


def lattice(limit):
    return np.array(list(itertools.product(range(-limit, limit + 1), range(-limit, limit + 1), range(3))), np.int32)


@pytest.mark.parametrize("atoms", [0, 1, SMALL])
def test_the_masses_of_all_points_sum_to_one(atoms):
    log_p = jax.jit(jax.vmap(some_points(SMALL, atoms=atoms).log_prob))(lattice(SMALL))
    np.testing.assert_allclose(np.exp(np.asarray(log_p, np.float64)).sum(), 1.0, atol=1e-6)


@pytest.mark.parametrize("scale", [0.25, 1.0, 7.0, 40.0, 300.0, 1200.0])
def test_every_component_sums_to_one_on_the_full_lattice(scale):
    x = jnp.arange(-FULL, FULL + 1)[:, None]
    locs = jnp.array([[0.0, 0.31, -17.5, 250.25, -599.9, 650.0, 5000.0, -1e5]])
    log_p = MASSES(x, x, locs, jnp.full((1, 8), np.log(scale)), -FULL, FULL)
    np.testing.assert_allclose(np.exp(np.asarray(log_p, np.float64)).sum(axis=0), 1.0, atol=1e-6)


def some_masses():
    """Return (first, last, μ, s) within three scales or so, and the exact log-masses inside the lattice."""
    rng = np.random.default_rng(0)
    loc, scale = rng.normal(scale=50.0, size=500), np.exp(rng.uniform(-1.3, 6.0, size=500))
    first = np.round(loc + 3 * scale * rng.normal(size=500)).clip(-90, 90)
    last = (first + rng.integers(0, 5, size=500)).clip(-90, 90)

    def exact(loc, log_scale):
        sign = np.where(0.5 * (first + last) < loc, 1.0, -1.0)  # by symmetry, both limits in the lower tail
        near, far = np.sort(sign * (np.stack([first - 0.5, last + 0.5]) - loc) / np.exp(log_scale), axis=0)[::-1]
        log_near, log_far = scipy.stats.norm.logcdf(near), scipy.stats.norm.logcdf(far)
        return log_near + np.log(-np.expm1(log_far - log_near))

    return (first, last, loc, np.log(scale)), exact


def test_masses_are_those_of_the_normal():
    arrays, exact = some_masses()
    found = MASSES(*(jnp.asarray(a, jnp.float32) for a in arrays), -100, 100)
    np.testing.assert_allclose(found, exact(*arrays[2:]), rtol=2e-5, atol=2e-5)


def test_slopes_are_those_of_the_masses():
    """In the inside against differences of exact masses, at the ends against those of the tails."""
    slopes = jax.jit(jax.grad(lambda m, s, x, y: jnp.sum(log_mass_between(x, y, m, s, -100, 100)), argnums=(0, 1)))
    (first, last, loc, log_scale), exact = some_masses()
    found = slopes(*(jnp.asarray(a, jnp.float32) for a in (loc, log_scale, first, last)))
    step = 1e-4 * np.exp(log_scale)
    of_loc = (exact(loc + step, log_scale) - exact(loc - step, log_scale)) / (2 * step)
    of_scale = (exact(loc, log_scale + 1e-4) - exact(loc, log_scale - 1e-4)) / 2e-4
    np.testing.assert_allclose(found[0] * np.exp(log_scale), of_loc * np.exp(log_scale), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found[1], of_scale, rtol=1e-3, atol=1e-3)
    for end, sign in ((-100.0, 1.0), (100.0, -1.0)):
        mass = lambda m, s, end=end, sign=sign: scipy.stats.norm.logcdf(sign * (end + sign * 0.5 - m) / np.exp(s))  # noqa: E731
        m, s = 90.0, 2.0
        found = slopes(*(jnp.asarray([a], jnp.float32) for a in (m, s, end, end)))
        expected = [(mass(m + 1e-4, s) - mass(m - 1e-4, s)) / 2e-4, (mass(m, s + 1e-4) - mass(m, s - 1e-4)) / 2e-4]
        np.testing.assert_allclose(np.ravel(found), expected, rtol=1e-3)


def test_far_tails_have_finite_values_and_gradients():
    points = some_points(SMALL)
    extreme = jax.tree.map(lambda a: 1e4 * jnp.sign(a), points).replace(
        log_scales=jnp.log(jnp.array([[0.25, 1200.0], [1200.0, 0.25], [0.25, 0.25], [1200.0, 1200.0]])),
        correlations=jnp.array([0.95, -0.95, 0.95, 0.0]),
    )
    for one in (points, extreme):
        value, gradient = jax.jit(jax.vmap(jax.value_and_grad(lambda p, x: p.log_prob(x)), (None, 0)))(
            one, lattice(SMALL)
        )
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((value, gradient)))


@pytest.mark.parametrize(("limit", "atoms"), [(1, 0), (2, 1)])
def test_draws_have_the_masses(limit, atoms, assert_mean):
    points, all_points = some_points(limit, seed=3, atoms=atoms), lattice(limit)
    drawn = np.asarray(jax.jit(jax.vmap(points.sample))(jax.random.split(jax.random.key(0), 10_000)))
    assert drawn.dtype == np.int32
    mass = np.exp(jax.jit(jax.vmap(points.log_prob))(all_points))
    frequent = mass > 5e-3  # with enough draws for a standard error
    same = (drawn[:, None] == all_points[frequent][None]).all(axis=2)
    assert_mean(same.astype(float), mass[frequent])


@pytest.mark.parametrize("atoms", [0, 2])
def test_its_parts_multiply_to_the_mass(atoms):
    points, x = some_points(SMALL, atoms=atoms), lattice(SMALL)[::5]

    def by_parts(point):
        levels = [point[0] + SMALL, point[1] + SMALL, point[2]]
        return sum(points.part([point[0], point[1]][:k]).log_prob(levels[k]) for k in range(3))

    np.testing.assert_allclose(
        jax.jit(jax.vmap(by_parts))(x), jax.jit(jax.vmap(points.log_prob))(x), rtol=1e-5, atol=1e-5
    )


def test_atoms_are_the_smallest_offsets_and_know_the_other():
    """With normals of no weight, P is that of the atoms: Δx in the middle, and Δy by Δx, the ends for all beyond."""
    points = some_points(SMALL, atoms=1)
    own, weights = np.asarray(points.atoms, np.float64), points.weights
    points = points.replace(atoms=points.atoms + 50.0, weights={**weights, "bias": weights["bias"] + 50.0})
    of_x = np.exp(own) / np.exp(own).sum()
    level = jnp.arange(2 * SMALL + 1)
    masses = jax.jit(lambda x: jnp.exp(jax.vmap(points.part(x).log_prob)(level)))
    np.testing.assert_allclose(masses(()), [0, 0, *of_x, 0, 0], atol=1e-6)
    between = jax.vmap(points.part(()).between)(level, level + 1)
    np.testing.assert_allclose(between[1:3], [of_x[0], of_x[0] + of_x[1]], atol=1e-6)
    for x in range(-SMALL, SMALL + 1):
        hidden = np.maximum(points.features + weights["offsets"][np.clip(x, -2, 2) + 2], 0.0)
        row = np.exp(np.asarray(hidden @ weights["kernel"] + weights["bias"], np.float64))
        np.testing.assert_allclose(masses((jnp.asarray(x),)), [0, 0, *row / row.sum(), 0, 0], atol=1e-5)


def test_a_low_temperature_draws_near_the_largest_component():
    points = some_points(FULL, seed=1).replace(log_scales=jnp.zeros((4, 2)))
    keys = jax.random.split(jax.random.key(1), 50)
    drawn = np.asarray(jax.jit(jax.vmap(points.at_temperature(1e-3).sample))(keys))
    largest = np.asarray(points.locs)[np.argmax(points.logits)]
    assert np.all(np.abs(drawn[:, :2] - largest) <= 1.0)
    assert np.all(drawn[:, 2] == np.argmax(points.pen_logits))


def chain(length, limit=1):
    """Points whose distribution depends on the point before."""
    table = some_points(limit, (3,), seed=2)  # by the pen before

    def after(params, previous):
        shifted = jax.tree.map(lambda a: a[previous[..., 2]], params)
        return shifted.replace(locs=shifted.locs + 0.3 * previous[..., None, :2])

    return Drawing(
        table,
        lambda params, x: after(params, points_before(x)),
        lambda params: (),
        lambda params, carry, previous: (carry, after(params, previous)),
        length,
        limit,
    )


def test_the_masses_of_all_drawings_sum_to_one():
    points = lattice(1)
    rows = [(p, (0, 0, 0)) for p in points if p[2] == END]
    rows += [(p, q) for p in points if p[2] != END for q in points]
    log_p = np.asarray(jax.jit(jax.vmap(chain(2).log_prob))(np.array(rows, np.int32)), np.float64)
    np.testing.assert_allclose(np.exp(log_p).sum(), 1.0, atol=1e-6)


def test_points_after_the_end_are_not_read():
    x = np.array([[1, 0, 0], [0, 1, 2], [1, 1, 1], [0, 0, 2]], np.int32)
    padded = np.where(np.arange(4)[:, None] > 1, 0, x)
    np.testing.assert_array_equal(predicted(x), [True, True, False, False])
    log_prob = jax.jit(lambda x: chain(len(x)).log_prob(x))
    assert log_prob(x) == log_prob(padded) == log_prob(x[:2])


def test_draws_of_a_drawing_are_those_without_a_cache():
    keys = jax.random.split(jax.random.key(2), 20)
    drawn = np.asarray(jax.jit(jax.vmap(chain(5).sample))(keys))
    np.testing.assert_array_equal(drawn, jax.jit(jax.vmap(chain(5).uncached().sample))(keys))
    ended = np.cumsum(drawn[:, :, 2] == END, axis=1) - (drawn[:, :, 2] == END) > 0
    assert ended.any() and not drawn[ended].any()


def test_the_support_is_the_lattice():
    check_support(chain(2), np.array([[[1, -1, 0], [0, 1, 2]]]))
    with pytest.raises(ValueError, match=r"offsets from -1 to 1, and they range over \[-2, 1\]; .* larger max_value"):
        check_support(chain(2), np.array([[[-2, 1, 0]]]))
    with pytest.raises(ValueError, match=r"rows \(Δx, Δy, pen\); the data have the shape \[1, 2\]"):
        check_support(chain(2), np.array([[1, 1]]))
    with pytest.raises(ValueError, match="a pen state is 0"):
        check_support(chain(2), np.array([[1, 1, 3]]))
