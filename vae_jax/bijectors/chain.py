"""The composition of bijectors, whose log-determinants add."""

import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Chain:
    """The composition f_K ∘ ... ∘ f_1, where f_1 is the first of `bijectors`, arXiv:1505.05770 eq. (7).

    log |det| = Σ_k log |det ∂f_k|
    """

    bijectors: tuple

    def forward_and_log_det(self, x):
        total = jnp.zeros(())
        for bijector in self.bijectors:
            x, log_det = bijector.forward_and_log_det(x)
            total += log_det
        return x, total

    def inverse_and_log_det(self, y):
        total = jnp.zeros(())
        for bijector in reversed(self.bijectors):
            y, log_det = bijector.inverse_and_log_det(y)
            total += log_det
        return y, total
