"""The planar flow: a ridge across the space."""

import jax
import jax.numpy as jnp
from flax import struct

FLOOR = 1e-3  # the least slope along û: no ridge folds the space so tightly that float32 loses it
BISECTIONS = 30  # of a bracket whose width is twice the ridge's height


@struct.dataclass
class Planar:
    """y = x + û tanh(w·x + b);  |det| = 1 + w·û tanh'(w·x + b).  arXiv:1505.05770 eq. (10) to (12).

    û = u + (m(w·u) - w·u) w / |w|² keeps w·û > -1, without which the map folds (app. A.1). The paper's
    m(a) = -1 + log(1 + eᵃ) has no limit as w -> 0; here m(a) = a for a > 0 and c (e^{a/c} - 1) below, c = 1 - 10⁻³,
    which has: at u = 0 or w = 0 the map is the identity, up to a shift.
    """

    u: jax.Array
    w: jax.Array
    b: jax.Array

    def forward_and_log_det(self, x):
        u, slope = self._ridge()
        height = jnp.tanh(self.w @ x + self.b)
        return x + u * height, ridge_log_det(slope, height)

    def inverse_and_log_det(self, y):
        """x = y - û tanh(a), where a = w·x + b solves a + w·û tanh(a) = w·y + b: one scalar equation, monotone in a."""
        u, slope = self._ridge()
        height = jnp.tanh(ridge_root(slope, self.w @ y + self.b))
        return y - u * height, -ridge_log_det(slope, height)

    def _ridge(self):
        """û and w·û."""
        inner, square = self.w @ self.u, self.w @ self.w
        below = jnp.where(inner > 0, 0.0, inner)  # the branch that is not taken must not overflow in the gradient
        slope = jnp.where(inner > 0, inner, (1.0 - FLOOR) * jnp.expm1(below / (1.0 - FLOOR)))
        return self.u + self.w * ((slope - inner) / jnp.maximum(square, 1e-12)), slope


def ridge_log_det(slope, height):
    """log (1 + slope tanh'), where tanh = `height`."""
    return jnp.log1p(slope * (1.0 - jnp.square(height)))


def ridge_root(slope, target):
    """a of a + slope tanh(a) = target, slope > -1, scalars: where it crossed the ridge.

    Bisection finds a; one step of Newton from there, with gradients, makes them those of the implicit function.
    """
    a = _bisect(*jax.lax.stop_gradient((slope, target)))
    height = jnp.tanh(a)
    return a - (a + slope * height - target) / (1.0 + slope * (1.0 - height**2))


def _bisect(slope, target):
    """That root, which lies within |slope| of the target."""

    def halve(_, bracket):
        low, high = bracket
        middle = 0.5 * (low + high)
        above = middle + slope * jnp.tanh(middle) > target
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    low, high = jax.lax.fori_loop(0, BISECTIONS, halve, (target - jnp.abs(slope), target + jnp.abs(slope)))
    return 0.5 * (low + high)
