"""Vectors drawn one dimension after the other."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.distributions.transformed import mean_of_draws


@struct.dataclass
class Autoregressive:
    """p(x) = Π_d p(x_d | x_1, ..., x_{d-1}), x of the shape `event_shape`, D its first axis.  arXiv:1502.03509 eq. (4).

    `conditionals(params, x)` is a distribution of independent dimensions, the d-th p(x_d | x_<d): its parameters must
    not depend on x_d or what is behind it. A density is one call of it, a draw D.
    """

    params: Any
    conditionals: Callable = struct.field(pytree_node=False)
    event_shape: tuple = struct.field(pytree_node=False)
    support: str = struct.field(pytree_node=False)

    def sample(self, key):
        def draw(d, x):
            return x.at[d].set(self.conditionals(self.params, x).sample(jax.random.fold_in(key, d))[d])

        return jax.lax.fori_loop(0, self.event_shape[0], draw, jnp.zeros(self.event_shape))

    def log_prob(self, x):
        return self.conditionals(self.params, x).log_prob(x)

    def mean(self):
        """No closed form: the average of 128 draws of one fixed key."""
        return mean_of_draws(self)
