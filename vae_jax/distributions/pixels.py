"""Distributions of single pixels or samples: over ordered levels, or over the reals."""

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.numerics import LOG_2PI, log1mexp
from vae_jax.support import Levels, Real


@struct.dataclass
class DiscretizedLogisticMixture:
    """A mixture of logistics over levels, P(v) = Σ_m π_m [σ((y + ½δ - μ_m)/s_m) - σ((y - ½δ - μ_m)/s_m)], y = -1 + δv.

    arXiv:1701.05517 eq. (2), every subpixel independent (no coupling of the colour channels). The first and the last
    bin take the tails. `logits`, `locs`, `log_scales`: [*event, M]; x: levels 0..V-1 of shape [*event], V =
    `num_levels`, δ = 2/(V-1). M = 1 is the discretised logistic.

    Published code switches to a density times the bin width if a bin's mass underflows, and no longer sums to one. Here
    the mass is taken in log space and needs no switch.
    """

    logits: jax.Array
    locs: jax.Array
    log_scales: jax.Array
    num_levels: int = struct.field(pytree_node=False, default=256)

    @property
    def support(self):
        return Levels(self.num_levels)

    def sample(self, key):
        return jnp.round(self._level(_sample(self, key, jax.random.logistic)))

    def log_prob(self, x):
        return jnp.sum(self.log_probs(x))

    def log_probs(self, x):
        """Return log P(v) of every entry, in nats."""
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
        return jax.nn.logsumexp(jax.nn.log_softmax(self.logits) + log_mass, axis=-1)

    def mean(self):
        """Return the mean of the mixture before rounding, as a level."""
        y = jnp.sum(jax.nn.softmax(self.logits) * self.locs, axis=-1)
        return self._level(y)

    def _level(self, y):
        return jnp.clip((y + 1.0) * (0.5 * (self.num_levels - 1)), 0, self.num_levels - 1)


@struct.dataclass
class NormalMixtures:
    """The distribution p(x) = Π_d Σ_m π_dm N(x_d; μ_dm, s_dm²): every dimension has a mixture of its own.

    In a `Mixture`, by contrast, one choice of the component holds for all dimensions. `logits`, `locs`, `log_scales`:
    [*event, M]; x: [*event].
    """

    logits: jax.Array
    locs: jax.Array
    log_scales: jax.Array

    support = Real()

    def sample(self, key):
        return _sample(self, key, jax.random.normal)

    def log_prob(self, x):
        return jnp.sum(self.log_probs(x))

    def log_probs(self, x):
        """Return log p(x_d) of every entry, in nats."""
        return jax.nn.logsumexp(self.log_joint(x), axis=-1)

    def log_joint(self, x):
        """Return log π_dm N(x_d; μ_dm, s_dm²) [*event, M], nats."""
        z = (x[..., None] - self.locs) * jnp.exp(-self.log_scales)
        return jax.nn.log_softmax(self.logits) - 0.5 * (z * z + LOG_2PI) - self.log_scales

    def mean(self):
        return jnp.sum(jax.nn.softmax(self.logits) * self.locs, axis=-1)


def _sample(mixtures, key, noise):
    """Return μ_m + s_m ε of every dimension, m drawn from its logits, ε = noise(key, shape, dtype)."""
    key_mixture, key_noise = jax.random.split(key)
    component = jax.random.categorical(key_mixture, mixtures.logits)[..., None]
    loc, log_scale = (jnp.take_along_axis(a, component, -1)[..., 0] for a in (mixtures.locs, mixtures.log_scales))
    return loc + jnp.exp(log_scale) * noise(key_noise, loc.shape, loc.dtype)
