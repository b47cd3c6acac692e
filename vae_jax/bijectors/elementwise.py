"""Monotone maps of single numbers, whose parameters a coupling computes: an affine one."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from vae_jax.bijectors.coupling import LOG_SCALE_LIMIT
from vae_jax.numerics import soft_clip


class Elementwise(NamedTuple):
    """A monotone map of one number to another, applied to every entry of an array.

    The parameters `raw` of x [...] are [..., num_params] reals of any size. At zero they give the map with which
    training starts.
    """

    num_params: int
    forward: Callable  # (x, raw) -> y and log dy/dx, both of the shape of x
    inverse: Callable  # (y, raw) -> x and log dy/dx


def affine() -> Elementwise:
    """Return y = x exp(s) + t, arXiv:1605.08803 eq. (4), with s softly clipped to (-2, 2)."""

    def parameters(raw):
        return raw[..., 0], soft_clip(raw[..., 1], LOG_SCALE_LIMIT)

    def forward(x, raw):
        shift, log_scale = parameters(raw)
        return x * jnp.exp(log_scale) + shift, log_scale

    def inverse(y, raw):
        shift, log_scale = parameters(raw)
        return (y - shift) * jnp.exp(-log_scale), log_scale

    return Elementwise(2, forward, inverse)
