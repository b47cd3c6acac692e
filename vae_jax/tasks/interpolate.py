"""Paths between two codes. For the codes of a hierarchy, which are tuples, see `by_level`."""

import jax
import jax.numpy as jnp


def linear(z_a, z_b, t):
    """Return the straight path (1 - t) z_a + t z_b [T, ...] for t [T] and codes of any shape.

    In its middle, |z| is smaller than at the ends, so the path leaves the shell |z| ≈ √D of a standard normal.
    """
    return _combined(1.0 - t, z_a, t, z_b)


def spherical(z_a, z_b, t):
    """Return the path along a great circle [T, ...] for t [T] and codes of any shape, arXiv:1609.04468 sec. 2.

        [sin((1 - t) Ω) z_a + sin(t Ω) z_b] / sin Ω,     Ω the angle between the codes

    For parallel codes, where sin Ω = 0, it is the straight path.
    """
    norms = jnp.linalg.norm(jnp.ravel(z_a)) * jnp.linalg.norm(jnp.ravel(z_b))
    omega = jnp.arccos(jnp.clip(jnp.vdot(z_a, z_b) / jnp.maximum(norms, 1e-12), -1.0, 1.0))
    flat = jnp.sin(omega) < 1e-4
    safe = jnp.where(flat, 1.0, jnp.sin(omega))
    arc = _combined(jnp.sin((1.0 - t) * omega) / safe, z_a, jnp.sin(t * omega) / safe, z_b)
    return jnp.where(flat, linear(z_a, z_b, t), arc)


def _combined(weight_a, z_a, weight_b, z_b):
    """Return the sums [T, ...] of codes with the weights [T] of each."""
    return jnp.tensordot(weight_a, z_a, axes=0) + jnp.tensordot(weight_b, z_b, axes=0)


def by_level(path, z_a, z_b, t):
    """Apply `path` (`linear` or `spherical`) at every level: tuples of codes give a tuple of paths [T, D].

    Args:
      path: the function of z_a, z_b and t.
      z_a: the first code, a vector or a tuple of vectors.
      z_b: the last code.
      t: places on the path, between 0 and 1 [T].
    """
    return jax.tree.map(lambda a, b: path(a, b, t), z_a, z_b)


def decode_path(latent, params, path, context=None):
    """Return the mean of p(x|z) along a path of codes: [T, *event].

    Args:
      latent: a `core.Latent`.
      params: its parameters.
      path: codes [T, D], or a tuple of them.
      context: one context for the whole path; the two ends should share it.
    """
    return jax.vmap(lambda z: latent.likelihood(params, z, context).mean())(path)
