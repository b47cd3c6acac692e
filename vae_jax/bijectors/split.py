"""The multi-scale split: a part of the channels leaves the flow early."""

from typing import Any

import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Split:
    """The map x [H, W, C] -> z [H W C]: channels b leave at once, the others go on.  arXiv:1605.08803 eq. (13).

        z = (`rest`(x_a), z_b),     z_b = (x_b - μ(x_a)) exp(-s(x_a))

    Under z ~ N(0, I), x_b given x_a is the learned Gaussian N(μ, e^{2s}), as in the code of arXiv:1807.03039. Here it
    is written as a coupling, so that the base stays N(0, I).

    Attributes:
      leave: a coupling whose fixed channels are a: it maps x to (x_a, z_b).
      rest: the bijector of x_a [H, W, num_fixed] to a vector.
      shape: [H, W, C].
    """

    leave: Any
    rest: Any
    shape: tuple = struct.field(pytree_node=False)

    def forward_and_log_det(self, x):
        x, log_det_b = self.leave.forward_and_log_det(x)
        number = self.leave.num_fixed
        z_a, log_det_a = self.rest.forward_and_log_det(x[..., :number])
        return jnp.concatenate([z_a, x[..., number:].ravel()]), log_det_a + log_det_b

    def inverse_and_log_det(self, z):
        number, (*place, channels) = self.leave.num_fixed, self.shape
        size = z.size // channels * number
        x_a, log_det_a = self.rest.inverse_and_log_det(z[:size])
        x_b = z[size:].reshape(*place, channels - number)
        x, log_det_b = self.leave.inverse_and_log_det(jnp.concatenate([x_a, x_b], axis=-1))
        return x, log_det_a + log_det_b
