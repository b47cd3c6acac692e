"""The planar flow, which moves every point along one direction by a tanh of one projection."""

import jax
import jax.numpy as jnp
from flax import struct

FLOOR = 1e-3  # the smallest slope along û: with a smaller one, float32 could not represent the inverse
BISECTIONS = 30  # halvings of a bracket that is twice as wide as |w·û|


@struct.dataclass
class Planar:
    """One step of the planar flow, arXiv:1505.05770 eq. (10) to (12).

        y = x + û tanh(w·x + b),     |det| = 1 + w·û tanh'(w·x + b)

    û = u + (m(w·u) - w·u) w / |w|² ensures w·û > -1, without which the map is not invertible (app. A.1). The paper's
    m(a) = -1 + log(1 + eᵃ) has no limit as w -> 0. Here m(a) = a for a > 0, and c (e^{a/c} - 1) with c = 1 - 10⁻³
    otherwise. At u = 0 or w = 0 this map is the identity, up to a shift.

    Attributes:
      u: a vector [D].
      w: a vector [D].
      b: a scalar.
    """

    u: jax.Array
    w: jax.Array
    b: jax.Array

    def forward_and_log_det(self, x):
        u, slope = self._ridge()
        height = jnp.tanh(self.w @ x + self.b)
        return x + u * height, ridge_log_det(slope, height)

    def inverse_and_log_det(self, y):
        """Compute x = y - û tanh(a), where a = w·x + b solves the scalar equation a + w·û tanh(a) = w·y + b."""
        u, slope = self._ridge()
        height = jnp.tanh(ridge_root(slope, self.w @ y + self.b))
        return y - u * height, -ridge_log_det(slope, height)

    def _ridge(self):
        """Return û and w·û."""
        inner, square = self.w @ self.u, self.w @ self.w
        below = jnp.where(inner > 0, 0.0, inner)  # the branch that is not taken must not overflow in the gradient
        slope = jnp.where(inner > 0, inner, (1.0 - FLOOR) * jnp.expm1(below / (1.0 - FLOOR)))
        return self.u + self.w * ((slope - inner) / jnp.maximum(square, 1e-12)), slope


def ridge_log_det(slope, height):
    """Return log (1 + slope tanh'(a)), nats, where `height` = tanh(a)."""
    return jnp.log1p(slope * (1.0 - jnp.square(height)))


def ridge_root(slope, target):
    """Return the root a of a + slope tanh(a) = target, for scalars with slope > -1.

    Bisection finds a. One step of Newton's method then gives it the gradients of the implicit function.
    """
    a = _bisect(*jax.lax.stop_gradient((slope, target)))
    height = jnp.tanh(a)
    return a - (a + slope * height - target) / (1.0 + slope * (1.0 - height**2))


def _bisect(slope, target):
    """Return this root without gradients; it lies within |slope| of the target."""

    def halve(_, bracket):
        low, high = bracket
        middle = 0.5 * (low + high)
        above = middle + slope * jnp.tanh(middle) > target
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    low, high = jax.lax.fori_loop(0, BISECTIONS, halve, (target - jnp.abs(slope), target + jnp.abs(slope)))
    return 0.5 * (low + high)
