"""The loss of flow matching, which trains the velocity of a continuous flow without solving its equation.

z_t = (1 - t) ε + t y     ε ~ N(0, I)     dz_t/dt = y - ε

The velocity that minimises the loss at all z and t carries N(0, I) at t = 0 to the distribution of y at t = 1.
"""

import jax
import jax.numpy as jnp

from vae_jax.objectives.diffusion import low_discrepancy

TIMES = ("uniform", "logit_normal")


def flow_matching(velocity, key, y, t):
    """Return |v(z_t, t) - (y - ε)|² for one draw of ε.  arXiv:2209.03003 eq. (1), arXiv:2210.02747 sec. 4.1.

    y is one example of any shape, t a scalar in [0, 1], and `velocity` is (z, t) -> v(z, t).
    """
    epsilon = jax.random.normal(key, y.shape)
    return jnp.sum(jnp.square(velocity((1.0 - t) * epsilon + t * y, t) - (y - epsilon)))


def times(key, size, law="uniform"):
    """Return the times of a batch [B], B = `size`, whose distribution is "uniform" on [0, 1) or "logit_normal".

    The uniform times are those of `diffusion.low_discrepancy`. "logit_normal" is sigmoid(Φ⁻¹(t_i)) of them, which has
    more times in the middle, arXiv:2403.03206 sec. 3.1.
    """
    t = low_discrepancy(key, size)
    return t if law == "uniform" else jax.nn.sigmoid(jax.scipy.special.ndtri(jnp.clip(t, 1e-6, 1.0 - 1e-6)))
