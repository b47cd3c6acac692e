"""Distributions over the levels of a pixel, in their order."""

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.numerics import log1mexp


@struct.dataclass
class DiscretizedLogisticMixture:
    """P(v) = Σ_m π_m [σ((y + ½δ - μ_m)/s_m) - σ((y - ½δ - μ_m)/s_m)], y = -1 + δv; the first and the last bin take
    the tails.  arXiv:1701.05517 eq. (2), every subpixel on its own (no coupling of the colour channels).

    `logits`, `locs`, `log_scales`: [*event, M]; x: levels 0..V-1 of shape [*event], V = `num_levels`, δ = 2/(V-1).
    M = 1 is the discretised logistic.
    Published code switches to a density times the bin width where a bin's mass underflows, which no longer sums
    to one; here the mass is taken in log space and needs no switch.
    """

    logits: jax.Array
    locs: jax.Array
    log_scales: jax.Array
    num_levels: int = struct.field(pytree_node=False, default=256)

    @property
    def support(self):
        return f"integers below {self.num_levels}"

    def sample(self, key):
        key_mixture, key_logistic = jax.random.split(key)
        component = jax.random.categorical(key_mixture, self.logits)[..., None]
        loc, log_scale = (jnp.take_along_axis(a, component, -1)[..., 0] for a in (self.locs, self.log_scales))
        y = loc + jnp.exp(log_scale) * jax.random.logistic(key_logistic, loc.shape, loc.dtype)
        return jnp.round(self._level(y))

    def log_prob(self, x):
        v = x[..., None].astype(self.locs.dtype)
        top = self.num_levels - 1
        half_bin = 1.0 / top
        centred = v / (0.5 * top) - 1.0 - self.locs
        inverse_scale = jnp.exp(-self.log_scales)
        upper = (centred + half_bin) * inverse_scale
        lower = (centred - half_bin) * inverse_scale
        # σ(u) - σ(l) = σ(u) σ(-l) (1 - exp(l - u)): three factors, each with an exact logarithm.
        log_mass = -jax.nn.softplus(-upper) - jax.nn.softplus(lower) + log1mexp(2.0 * half_bin * inverse_scale)
        log_mass = jnp.where(v <= 0, -jax.nn.softplus(-upper), log_mass)  # log σ(u)
        log_mass = jnp.where(v >= top, -jax.nn.softplus(lower), log_mass)  # log (1 - σ(l))
        return jnp.sum(jax.nn.logsumexp(jax.nn.log_softmax(self.logits) + log_mass, axis=-1))

    def mean(self):
        """The mean of the mixture before rounding, as a level."""
        y = jnp.sum(jax.nn.softmax(self.logits) * self.locs, axis=-1)
        return self._level(y)

    def _level(self, y):
        return jnp.clip((y + 1.0) * (0.5 * (self.num_levels - 1)), 0, self.num_levels - 1)
