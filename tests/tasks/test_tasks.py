"""Reconstruction, paths between codes, and the plane of a two-dimensional code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from vae_jax.core import Latent, tractable
from vae_jax.distributions import Mixture, Normal, Sequential
from vae_jax.tasks import cluster, interpolate, manifold, reconstruct

RNG = np.random.default_rng(0)
T = jnp.linspace(0.0, 1.0, 9)


def code(dim=5, norm=None):
    z = RNG.normal(size=dim)
    return jnp.asarray(z if norm is None else norm * z / np.linalg.norm(z), jnp.float32)


@pytest.mark.parametrize("path", [interpolate.linear, interpolate.spherical])
def test_paths_begin_and_end_at_the_codes(path):
    a, b = code(), code()
    given = path(a, b, T)
    assert given.shape == (9, 5)
    np.testing.assert_allclose(given[0], a, atol=1e-5)
    np.testing.assert_allclose(given[-1], b, atol=1e-5)


def test_the_line_passes_the_middle():
    a, b = code(), code()
    np.testing.assert_allclose(interpolate.linear(a, b, T)[4], (a + b) / 2, rtol=1e-5, atol=1e-6)


def test_the_arc_keeps_the_norm_and_turns_evenly():
    path = np.asarray(interpolate.spherical(code(norm=3.0), code(norm=3.0), T))
    np.testing.assert_allclose(np.linalg.norm(path, axis=1), 3.0, rtol=1e-4)
    angles = np.sum(path[1:] * path[:-1], axis=1) / 9.0
    np.testing.assert_allclose(angles, angles[0], rtol=1e-4)


@pytest.mark.parametrize("factor", [1.0, 2.5, 1.00001, -1.0])
def test_parallel_codes_take_the_straight_line(factor):
    a = code()
    given = interpolate.spherical(a, factor * a, T)
    np.testing.assert_allclose(given, interpolate.linear(a, factor * a, T), rtol=1e-3, atol=1e-3)


def test_the_zero_code_takes_the_straight_line_or_stays_finite():
    assert np.isfinite(interpolate.spherical(jnp.zeros(5), code(), T)).all()
    assert np.isfinite(interpolate.spherical(jnp.zeros(5), jnp.zeros(5), T)).all()


def test_a_path_is_decoded_code_by_code(linear_gaussian):
    path = interpolate.linear(code(2), code(2), T)
    given = interpolate.decode_path(linear_gaussian.latent, linear_gaussian.exact, path)
    expected = np.asarray(path) @ linear_gaussian.weight.T + linear_gaussian.bias
    np.testing.assert_allclose(given, expected, atol=1e-5)


def test_a_path_of_a_hierarchy_is_one_of_every_level():
    a, b = (code(5), code(2)), (code(5), code(2))
    for path in (interpolate.linear, interpolate.spherical):
        given = interpolate.by_level(path, a, b, T)
        assert isinstance(given, tuple)
        for level in range(2):
            np.testing.assert_array_equal(given[level], path(a[level], b[level], T))
    np.testing.assert_array_equal(interpolate.by_level(path, a[0], b[0], T), path(a[0], b[0], T))


# ------------------------------------------------------------------------------------------------------- the plane


def plane(dim=2):
    return Latent(
        prior=lambda params, context=None: Normal.standard((dim,)),
        posterior=None,
        likelihood=lambda params, z, context=None: Normal(jnp.append(z, context or 0.0), jnp.zeros(dim + 1)),
    )


def test_z1_runs_along_a_row_and_z2_down_the_columns():
    values = jnp.array([-2.0, 0.5, 3.0])
    given = manifold.decode_grid(plane(), None, values, 7.0)
    assert given.shape == (3, 3, 3)
    for i, j in np.ndindex(3, 3):
        np.testing.assert_array_equal(given[i, j], [values[j], values[i], 7.0])


@pytest.mark.parametrize("dim", [1, 3])
def test_the_manifold_wants_two_dimensions(dim):
    with pytest.raises(ValueError, match=rf"two latent dimensions, but this prior has the shape \({dim},\)"):
        manifold.decode_grid(plane(dim), None, jnp.arange(3.0))


def test_the_manifold_wants_a_single_level():
    chain = Sequential(Normal.standard((2,)), conditionals=(lambda params, given, before: Normal.standard((3,)),))
    latent = plane()._replace(prior=lambda params, context=None: chain)
    with pytest.raises(ValueError, match=r"two latent dimensions, but this prior has the shape \(\(2,\), \(3,\)\)"):
        manifold.decode_grid(latent, None, jnp.arange(3.0))


def test_quantiles_cut_the_normal_into_equal_masses():
    expected = scipy.stats.norm.ppf((np.arange(20) + 0.5) / 20)
    np.testing.assert_allclose(jax.jit(manifold.normal_quantiles, static_argnums=0)(20), expected, rtol=1e-4)


def test_grid_values():
    np.testing.assert_allclose(manifold.grid_values(5, extent=3.0), [-3, -1.5, 0, 1.5, 3])


# --------------------------------------------------------------------------------------------------- reconstruction


def test_reconstruction_from_the_mean(linear_gaussian):
    x = linear_gaussian.data(1)
    expected = linear_gaussian.posterior_mean(x)[0] @ linear_gaussian.weight.T + linear_gaussian.bias
    given = reconstruct.from_mean(linear_gaussian.latent, linear_gaussian.exact, x[0])
    np.testing.assert_allclose(given, expected, atol=1e-5)


def test_reconstructions_from_samples_spread_as_the_posterior_does(linear_gaussian, assert_mean):
    x = linear_gaussian.data(1)
    latent, exact = linear_gaussian.latent, linear_gaussian.exact
    given = np.asarray(reconstruct.from_samples(latent, exact, jax.random.key(0), x[0], num_samples=3000))
    centre = linear_gaussian.posterior_mean(x)[0] @ linear_gaussian.weight.T + linear_gaussian.bias
    assert_mean(given, centre)
    spread = np.diag(linear_gaussian.weight @ linear_gaussian.posterior_covariance @ linear_gaussian.weight.T)
    assert_mean((given - centre) ** 2, spread)


# ---------------------------------------------------------------------------------------------------------- clusters


def test_clusters_are_the_components_of_a_mixture(linear_gaussian):
    mixed = Mixture(jnp.log(jnp.array([0.3, 0.7])), Normal(jnp.array([[-1.0], [2.0]]), jnp.zeros((2, 1))))
    model = tractable(None, lambda params, context=None: mixed)
    x = jnp.array([0.4])
    p = np.array([0.3, 0.7]) * scipy.stats.norm([-1.0, 2.0]).pdf(0.4)
    np.testing.assert_allclose(cluster.responsibilities(model, None, x), p / p.sum(), rtol=1e-5)
    assert cluster.label(model, None, x) == np.argmax(p)
    for other in (tractable(None, lambda params, context=None: Normal.standard((1,))), model._replace(density=None)):
        with pytest.raises(ValueError, match="this density has none"):
            cluster.label(other, None, x)


def test_an_autoencoder_has_no_manifold(linear_gaussian):
    with pytest.raises(ValueError, match="but this model has no prior"):
        manifold.decode_grid(linear_gaussian.latent._replace(prior=None), None, jnp.arange(3.0))
