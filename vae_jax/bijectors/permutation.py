"""Permutations of a vector, which preserve volume: log |det| = 0."""

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Permutation:
    """The map y_i = x_{order[i]}, where `order` [D] is a permutation of 0, ..., D - 1."""

    order: jax.Array

    def forward_and_log_det(self, x):
        return jnp.asarray(x)[self.order], jnp.zeros(())

    def inverse_and_log_det(self, y):
        return jnp.asarray(y)[jnp.argsort(self.order)], jnp.zeros(())


@struct.dataclass
class Flip:
    """The map y = (x_D, ..., x_1). Between couplings, it exchanges the half that is changed."""

    def forward_and_log_det(self, x):
        return x[::-1], jnp.zeros(())

    def inverse_and_log_det(self, y):
        return y[::-1], jnp.zeros(())
