"""Reorderings of a vector: volume is kept, log |det| = 0."""

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Permutation:
    """y_i = x_{order[i]};  `order` [D] holds 0..D-1, each once."""

    order: jax.Array

    def forward_and_log_det(self, x):
        return jnp.asarray(x)[self.order], jnp.zeros(())

    def inverse_and_log_det(self, y):
        return jnp.asarray(y)[jnp.argsort(self.order)], jnp.zeros(())


@struct.dataclass
class Flip:
    """y = (x_D, ..., x_1): between couplings, so that each half is changed in its turn."""

    def forward_and_log_det(self, x):
        return x[::-1], jnp.zeros(())

    def inverse_and_log_det(self, y):
        return y[::-1], jnp.zeros(())
