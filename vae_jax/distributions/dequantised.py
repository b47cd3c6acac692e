"""Levels as intervals of real numbers: noise within a level, codes of dequantised levels, and the way back."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.support import Binary, Levels, Real, Unit

PLACES = 2**15  # with 256 levels, 2¹⁵ places in each of them are exact in float32


@struct.dataclass
class UniformNoise:
    """The uniform distribution on the cube [0, 1)^`shape`. Draws are midpoints of 2⁻¹⁵ wide intervals."""

    shape: tuple = struct.field(pytree_node=False)

    support = Unit()

    def sample(self, key):
        return self.sample_and_log_prob(key)[0]

    def sample_and_log_prob(self, key):
        bits = jax.random.bits(key, self.shape, jnp.uint16) >> 1
        return (bits.astype(jnp.float32) + 0.5) / PLACES, jnp.zeros(())

    def log_prob(self, x):
        inside = jnp.all((x >= 0.0) & (x < 1.0))
        return jnp.where(inside, 0.0, -jnp.inf)

    def mean(self):
        return jnp.full(self.shape, 0.5)


@struct.dataclass
class Dequantised:
    """The code z = f(x + u) of levels x, with noise u ~ q(u|x) in [0, 1)^D and a bijector f.  arXiv:1902.00275 eq. (6).

        log q(z|x) = log q(u|x) - log |det ∂f/∂x|

    Attributes:
      params: the parameters of f and q, which all examples share.
      x: the levels.
      context: of the example, or None.
      flow: (params, context) -> f.
      noise: (params, x, context) -> q(u|x).
    """

    params: Any
    x: jax.Array
    context: Any
    flow: Callable = struct.field(pytree_node=False)
    noise: Callable = struct.field(pytree_node=False)

    support = Real()

    def sample(self, key):
        return self.sample_and_log_prob(key)[0]

    def sample_and_log_prob(self, key):
        u, log_q = self.noise(self.params, self.x, self.context).sample_and_log_prob(key)
        z, log_det = self.flow(self.params, self.context).forward_and_log_det(self.x + u)
        return z, log_q - log_det

    def log_prob(self, z):
        """Return log q(z|x), which is -inf for the code of other levels."""
        y, log_det = self.flow(self.params, self.context).inverse_and_log_det(z)
        u = y - self.x
        inside = jnp.all((u >= 0.0) & (u < 1.0))
        log_q = self.noise(self.params, self.x, self.context).log_prob(jnp.clip(u, 1e-6, 1.0 - 1e-6))
        return jnp.where(inside, log_q + log_det, -jnp.inf)

    def mean(self):
        """Return the code of the centre of each level, f(x + ½), in place of the mean, which has no closed form."""
        return self.flow(self.params, self.context).forward_and_log_det(self.x + 0.5)[0]


@struct.dataclass
class Rounded:
    """The point mass at the levels min(max(⌊loc⌋, 0), V - 1), V = `num_levels`."""

    loc: jax.Array
    num_levels: int = struct.field(pytree_node=False)

    @property
    def support(self):
        return Binary() if self.num_levels == 2 else Levels(self.num_levels)

    def sample(self, key):
        return self.mean()

    def log_prob(self, x):
        """Return 0 at these levels, and -inf elsewhere."""
        return jnp.where(jnp.all(x == self.mean()), 0.0, -jnp.inf)

    def mean(self):
        return jnp.clip(jnp.floor(self.loc), 0.0, self.num_levels - 1.0)
