"""Paths between two codes; those of a hierarchy, tuples, level by level (`by_level`)."""

import jax
import jax.numpy as jnp


def linear(z_a, z_b, t):
    """(1 - t) z_a + t z_b: [T, D] for t [T]. Halfway it is shorter than either end: it leaves the shell |z| ≈ √D."""
    return jnp.outer(1.0 - t, z_a) + jnp.outer(t, z_b)


def spherical(z_a, z_b, t):
    """[sin((1-t) Ω) z_a + sin(t Ω) z_b] / sin Ω, Ω the angle between the codes: [T, D].  arXiv:1609.04468 sec. 2.

    For codes that are parallel, where Ω gives no direction, the straight line.
    """
    norms = jnp.linalg.norm(z_a) * jnp.linalg.norm(z_b)
    omega = jnp.arccos(jnp.clip(z_a @ z_b / jnp.maximum(norms, 1e-12), -1.0, 1.0))
    flat = jnp.sin(omega) < 1e-4
    safe = jnp.where(flat, 1.0, jnp.sin(omega))
    arc = (jnp.outer(jnp.sin((1.0 - t) * omega), z_a) + jnp.outer(jnp.sin(t * omega), z_b)) / safe
    return jnp.where(flat, linear(z_a, z_b, t), arc)


def by_level(path, z_a, z_b, t):
    """`path`, `linear` or `spherical`, at every level: a tuple of [T, D] for tuples of codes, else one [T, D]."""
    return jax.tree.map(lambda a, b: path(a, b, t), z_a, z_b)


def decode_path(latent, params, path, context=None):
    """The mean of p(x|z) along a path of codes [T, D] (or a tuple of such): [T, *event]. `context` is one for the whole
    path: give a conditional model a path between two examples of one class.
    """
    return jax.vmap(lambda z: latent.likelihood(params, z, context).mean())(path)
