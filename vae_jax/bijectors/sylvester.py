"""The Sylvester flow: as many ridges as there are dimensions, each seeing those behind it."""

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.bijectors.planar import FLOOR, ridge_log_det, ridge_root


@struct.dataclass
class Sylvester:
    """y = x + Q R₁ tanh(R₂ Qᵀ x + b);  |det| = Π_i 1 + r₁ᵢ r₂ᵢ tanh'(·)_i.  arXiv:1803.05649.

    R₁, R₂ are upper triangular, with the strict upper parts of `upper` [2, D, D]. Their diagonals r₁, r₂ are the tanh
    of `diagonal` [2, D], times √(1 - 10⁻³), so that r₁ᵢ r₂ᵢ > -1 and the map does not fold. Q is the product of the
    Householder reflections I - 2 v vᵀ / |v|², v the rows of `reflections` [H, D]: none of v = 0, and Q = I for H = 0.
    The inverse is as sensitive as the triangles are: where they are extreme, float32 holds few dimensions.
    """

    reflections: jax.Array
    upper: jax.Array
    diagonal: jax.Array
    b: jax.Array

    def forward_and_log_det(self, x):
        r1, r2, slope = self._triangles()
        rotate, rotate_back = self._rotations()
        height = jnp.tanh(r2 @ rotate_back(x) + self.b)
        return x + rotate(r1 @ height), jnp.sum(ridge_log_det(slope, height))

    def inverse_and_log_det(self, y):
        """Back-substitution: with v = Qᵀx and w = Qᵀy, v_i + r₁ᵢ tanh(r₂ᵢ v_i + c_i) = t_i for i = D, ..., 1, where t_i
        and c_i hold what is known of v behind i: the scalar equation of `planar`, for a = r₂ᵢ v_i + c_i.
        """
        r1, r2, slope = self._triangles()
        rotate, rotate_back = self._rotations()
        w, b = rotate_back(y), jnp.asarray(self.b)

        def substitute(step, carry):
            v, height = carry
            i = w.size - 1 - step
            target, constant = w[i] - r1[i] @ height, r2[i] @ v + b[i]
            one = jnp.tanh(ridge_root(slope[i], r2[i, i] * target + constant))
            return v.at[i].set(target - r1[i, i] * one), height.at[i].set(one)

        _, height = jax.lax.fori_loop(0, w.size, substitute, (jnp.zeros_like(w), jnp.zeros_like(w)))
        return y - rotate(r1 @ height), -jnp.sum(ridge_log_det(slope, height))

    def _triangles(self):
        """R₁, R₂ and the products r₁ᵢ r₂ᵢ of their diagonals."""
        r1, r2 = (1.0 - FLOOR) ** 0.5 * jnp.tanh(self.diagonal)
        return jnp.triu(self.upper[0], 1) + jnp.diag(r1), jnp.triu(self.upper[1], 1) + jnp.diag(r2), r1 * r2

    def _rotations(self):
        """x -> Q x and x -> Qᵀ x, from Q = I - Vᵀ T⁻¹ V, T the upper triangle of V Vᵀ with half its diagonal."""
        square = jnp.sum(jnp.square(self.reflections), axis=1, keepdims=True)
        v = jnp.where(square > 1e-12, self.reflections * jax.lax.rsqrt(jnp.maximum(square, 1e-12)), 0.0)
        tril = jnp.tril(v @ v.T, -1) + 0.5 * jnp.eye(len(v))
        solve = lambda b, trans: jax.scipy.linalg.solve_triangular(tril, b, trans=trans, lower=True)  # noqa: E731
        return (lambda x: x - solve(v @ x, 1) @ v), (lambda x: x - solve(v @ x, 0) @ v)
