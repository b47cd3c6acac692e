"""The Sylvester flow: a planar flow along each of D orthogonal directions, coupled by triangular matrices."""

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.bijectors.planar import FLOOR, ridge_log_det, ridge_root


@struct.dataclass
class Sylvester:
    """One step of the Sylvester flow, arXiv:1803.05649.

        y = x + Q R₁ tanh(R₂ Qᵀ x + b),     |det| = Π_i (1 + r₁ᵢ r₂ᵢ tanh'(·)_i)

    The diagonals r₁, r₂ of R₁, R₂ are tanh(`diagonal`) √(1 - 10⁻³), so r₁ᵢ r₂ᵢ > -1 and the map is invertible. The
    inverse is as ill-conditioned as the triangular matrices: if their entries are large, float32 suffices for few
    dimensions only.

    Attributes:
      reflections: [H, D], whose rows v give the Householder reflections I - 2 v vᵀ / |v|². Q is their product; a row
        v = 0 gives none, and Q = I for H = 0.
      upper: [2, D, D], whose strictly upper parts are those of the upper triangular R₁ and R₂.
      diagonal: [2, D].
      b: a vector [D].
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
        """Solve for x by back-substitution.

        With v = Qᵀ x and w = Qᵀ y, v_i + r₁ᵢ tanh(r₂ᵢ v_i + c_i) = t_i for i = D, ..., 1, where t_i and c_i depend on
        v_{i+1}, ..., v_D. This is the scalar equation of `planar`, for a = r₂ᵢ v_i + c_i.
        """
        r1, r2, slope = self._triangles()
        rotate, rotate_back = self._rotations()
        w, b = rotate_back(y), jnp.asarray(self.b)

        def substitute(step, carry):
            v, height = carry
            i = w.size - 1 - step
            target, constant = w[i] - r1[i] @ height, r2[i] @ v + b[i]
            height_i = jnp.tanh(ridge_root(slope[i], r2[i, i] * target + constant))
            return v.at[i].set(target - r1[i, i] * height_i), height.at[i].set(height_i)

        _, height = jax.lax.fori_loop(0, w.size, substitute, (jnp.zeros_like(w), jnp.zeros_like(w)))
        return y - rotate(r1 @ height), -jnp.sum(ridge_log_det(slope, height))

    def _triangles(self):
        """Return R₁, R₂ and the products r₁ᵢ r₂ᵢ of their diagonals [D]."""
        r1, r2 = (1.0 - FLOOR) ** 0.5 * jnp.tanh(self.diagonal)
        return jnp.triu(self.upper[0], 1) + jnp.diag(r1), jnp.triu(self.upper[1], 1) + jnp.diag(r2), r1 * r2

    def _rotations(self):
        """Return the functions x -> Q x and x -> Qᵀ x.

        Q = I - Vᵀ T⁻¹ V, where the rows of V are the unit vectors v / |v|, and T is the upper triangle of V Vᵀ with
        half its diagonal.
        """
        square = jnp.sum(jnp.square(self.reflections), axis=1, keepdims=True)
        v = jnp.where(square > 1e-12, self.reflections * jax.lax.rsqrt(jnp.maximum(square, 1e-12)), 0.0)
        tril = jnp.tril(v @ v.T, -1) + 0.5 * jnp.eye(len(v))
        solve = lambda b, trans: jax.scipy.linalg.solve_triangular(tril, b, trans=trans, lower=True)  # noqa: E731
        return (lambda x: x - solve(v @ x, 1) @ v), (lambda x: x - solve(v @ x, 0) @ v)
