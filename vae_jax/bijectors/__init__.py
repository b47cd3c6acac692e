"""Bijectors are values: frozen pytrees with `forward_and_log_det(x)` and `inverse_and_log_det(y)`, for one vector.

Each of the two returns the mapped vector and log |det J| of the Jacobian J of this map, in nats. At the same pair
(x, y), the log-determinant of the inverse is minus that of the forward map.
"""

from vae_jax.bijectors.autoregressive import InverseAutoregressive
from vae_jax.bijectors.chain import Chain
from vae_jax.bijectors.continuous import Continuous
from vae_jax.bijectors.coupling import AffineCoupling, dense_conditioner
from vae_jax.bijectors.permutation import Flip, Permutation
from vae_jax.bijectors.planar import Planar
from vae_jax.bijectors.sylvester import Sylvester

__all__ = [
    "AffineCoupling",
    "Chain",
    "Continuous",
    "Flip",
    "InverseAutoregressive",
    "Permutation",
    "Planar",
    "Sylvester",
    "dense_conditioner",
]
