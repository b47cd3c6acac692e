"""A bijector run backwards."""

from typing import Any

from flax import struct


@struct.dataclass
class Inverted:
    """The inverse of `bijector`: its forward map is the inverse of that one, and the other way round.

    A distribution `Transformed(base, Inverted(f))` has a density by one pass of f, from data to the base.
    The inverted `InverseAutoregressive` is the masked autoregressive flow, arXiv:1705.07057 sec. 3.4.
    """

    bijector: Any

    def forward_and_log_det(self, x):
        return self.bijector.inverse_and_log_det(x)

    def inverse_and_log_det(self, y):
        return self.bijector.forward_and_log_det(y)
