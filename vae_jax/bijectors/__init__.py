"""Bijectors are values: frozen pytrees with `forward_and_log_det(x)` and `inverse_and_log_det(y)`, for one example.

Each of the two returns the mapped array and log |det J| of the Jacobian J of this map, in nats. At the same pair
(x, y), the log-determinant of the inverse is minus that of the forward map. Vectors are [D], images [H, W, C].
"""

from vae_jax.bijectors.act_norm import ActNorm
from vae_jax.bijectors.autoregressive import InverseAutoregressive
from vae_jax.bijectors.chain import Chain
from vae_jax.bijectors.continuous import Continuous
from vae_jax.bijectors.coupling import AffineCoupling, dense_conditioner
from vae_jax.bijectors.inverted import Inverted
from vae_jax.bijectors.masked import ChannelCoupling, CheckerboardCoupling, MaskedAutoregressive
from vae_jax.bijectors.mixing import Mixing, Reverse
from vae_jax.bijectors.permutation import Flip, Permutation
from vae_jax.bijectors.planar import Planar
from vae_jax.bijectors.scaling import Logit, Probability, Rescale
from vae_jax.bijectors.split import Split
from vae_jax.bijectors.squeeze import Flatten, Squeeze
from vae_jax.bijectors.stacked import Stacked
from vae_jax.bijectors.sylvester import Sylvester

__all__ = [
    "ActNorm",
    "AffineCoupling",
    "Chain",
    "ChannelCoupling",
    "CheckerboardCoupling",
    "Continuous",
    "Flatten",
    "Flip",
    "InverseAutoregressive",
    "Inverted",
    "Logit",
    "MaskedAutoregressive",
    "Mixing",
    "Permutation",
    "Planar",
    "Probability",
    "Rescale",
    "Reverse",
    "Split",
    "Squeeze",
    "Stacked",
    "Sylvester",
    "dense_conditioner",
]
