"""Distributions of single pixels or samples: over ordered levels, or over the reals."""

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.distributions.discrete import Categorical
from vae_jax.numerics import LOG_2PI, as_jax, log1mexp
from vae_jax.support import Levels, Real


@struct.dataclass
class DiscretizedLogisticMixture:
    """A mixture of logistics over levels, P(v) = Σ_m π_m [σ((y + ½δ - μ_m)/s_m) - σ((y - ½δ - μ_m)/s_m)], y = -1 + δv.

    arXiv:1701.05517 eq. (2), every subpixel independent (`LinearLogisticMixture` couples channels). The first and the
    last bin take the tails. `logits`, `locs`, `log_scales`: [*event, M]; x: levels 0..V-1 of shape [*event], V =
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
        return jnp.round(_level(_sample(self, key, jax.random.logistic), self.num_levels))

    def log_prob(self, x):
        return jnp.sum(self.log_probs(x))

    def log_probs(self, x):
        """Return log P(v) of every entry, in nats."""
        log_mass = _log_mass(x[..., None], self.locs, self.log_scales, self.num_levels)
        return jax.nn.logsumexp(jax.nn.log_softmax(self.logits) + log_mass, axis=-1)

    def between(self, first, last):
        """Return P(first ≤ v ≤ last) of every entry; `first` and `last` are levels of the shape of x."""
        first, last = first[..., None], last[..., None]
        log_mass = _log_mass_between(first, last, self.locs, self.log_scales, self.num_levels)
        return jnp.sum(jax.nn.softmax(self.logits) * jnp.exp(log_mass), axis=-1)

    def mean(self):
        """Return the mean of the mixture before rounding, as a level."""
        y = jnp.sum(jax.nn.softmax(self.logits) * self.locs, axis=-1)
        return _level(y, self.num_levels)


@struct.dataclass
class LinearLogisticMixture:
    """Discretised logistics whose means are linear in the earlier channels of the pixel, arXiv:1701.05517 eq. (3).

    P(v_1, ..., v_C) = Σ_m π_m Π_c `P_m(v_c | v_<c)`. Here `P_m(v_c | v_<c)` is a `DiscretizedLogisticMixture` of one
    component, with the mean μ_cm + Σ_{c' < c} a_cc'm y_c', y = -1 + δv. One choice of the component holds for all
    channels of a pixel. For red, green and blue, a holds the α, β and γ of the paper, here without a tanh.

    `logits` [*pixels, M]; `locs`, `log_scales` [*pixels, C, M]; `slopes` [*pixels, C (C - 1) / 2, M] in the order (c,
    c') = (1, 0), (2, 0), (2, 1), ...; x: levels 0..V-1 of shape [*pixels, C], V = `num_levels`.
    """

    logits: jax.Array
    locs: jax.Array
    log_scales: jax.Array
    slopes: jax.Array
    num_levels: int = struct.field(pytree_node=False, default=256)

    @property
    def support(self):
        return Levels(self.num_levels)

    def sample(self, key):
        """Draw the component of each pixel, then its channels in order, each rounded before the next one sees it."""
        key_mixture, *keys = jax.random.split(key, 1 + self.locs.shape[-2])
        component = jax.random.categorical(key_mixture, self.logits)[..., None, None]
        parts = (self.locs, self.log_scales, self.slopes)
        loc, log_scale, slopes = (jnp.take_along_axis(jnp.asarray(a), component, -1) for a in parts)
        levels = []
        for c, key in enumerate(keys):
            y = _shifted(loc, slopes, [_standard(v, self.num_levels)[..., None] for v in levels], c)[..., 0]
            y = y + jnp.exp(log_scale[..., c, 0]) * jax.random.logistic(key, y.shape, y.dtype)
            levels.append(jnp.round(_level(y, self.num_levels)))
        return jnp.stack(levels, axis=-1)

    def channel(self, earlier):
        """Return `P(v_c | v_<c)`, a `DiscretizedLogisticMixture`, after the levels `earlier`, each [*pixels].

        The weights of its components are those given the earlier channels.
        """
        c = len(earlier)
        y = [_standard(v.astype(self.locs.dtype), self.num_levels)[..., None] for v in earlier]
        logits = jax.nn.log_softmax(self.logits)
        for place, v in enumerate(earlier):
            loc = _shifted(self.locs, self.slopes, y[:place], place)
            logits = logits + _log_mass(v[..., None], loc, self.log_scales[..., place, :], self.num_levels)
        loc = _shifted(self.locs, self.slopes, y, c)
        return DiscretizedLogisticMixture(logits, loc, self.log_scales[..., c, :], self.num_levels)

    def log_prob(self, x):
        y = _standard(x.astype(self.locs.dtype), self.num_levels)
        y = [y[..., c, None] for c in range(self.locs.shape[-2])]
        locs = jnp.stack([_shifted(self.locs, self.slopes, y[:c], c) for c in range(len(y))], axis=-2)
        log_mass = jnp.sum(_log_mass(x[..., None], locs, self.log_scales, self.num_levels), axis=-2)
        return jnp.sum(jax.nn.logsumexp(jax.nn.log_softmax(self.logits) + log_mass, axis=-1))

    def mean(self):
        """Return the mean before rounding, as a level; a later channel sees the means of the earlier ones."""
        weights, means = jax.nn.softmax(self.logits), []
        for c in range(self.locs.shape[-2]):
            means.append(jnp.clip(_shifted(self.locs, self.slopes, means, c), -1.0, 1.0))
        return _level(jnp.sum(weights[..., None, :] * jnp.stack(means, -2), axis=-1), self.num_levels)


@struct.dataclass
class OrderedCategorical:
    """A softmax over the levels of each channel of a pixel, given its earlier channels: Π_c `P(v_c | v_<c)`.

    With the features f of the pixel, `P(v_c | v_<c)` = softmax(relu(f + b_c + Σ_{c' < c} E_cc'[v_c']) W_c + w_c). All
    pixels share the weights b, E, W, w, and a channel may depend on the earlier ones in any way.

    `features` [*pixels, F]; `weights`: {"shift": b [C, F], "levels": E [C (C - 1) / 2, V, F] in the order (c, c') = (1,
    0), (2, 0), (2, 1), ..., "kernel": W [C, F, V], "bias": w [C, V]}; x: levels 0..V-1 of shape [*pixels, C].
    """

    features: jax.Array
    weights: dict

    @property
    def support(self):
        return Levels(self.weights["bias"].shape[-1])

    def over_places(self, function):
        """Return the distribution with `function` of the arrays that have an entry for each pixel."""
        return self.replace(features=function(self.features))

    def sample(self, key):
        levels = []
        for key_channel in jax.random.split(key, len(self.weights["bias"])):
            levels.append(jax.random.categorical(key_channel, self._logits(levels)))
        return jnp.stack(levels, axis=-1)

    def log_prob(self, x):
        levels = [x[..., c].astype(jnp.int32) for c in range(len(self.weights["bias"]))]
        each = [
            jnp.sum(jnp.take_along_axis(jax.nn.log_softmax(self._logits(levels[:c])), v[..., None], axis=-1))
            for c, v in enumerate(levels)
        ]
        return sum(each)

    def mean(self):
        """Return the expected level of every channel, given the rounded expected levels of the earlier ones."""
        values = jnp.arange(self.support.num_levels, dtype=jnp.float32)
        means = []
        for _ in range(len(self.weights["bias"])):
            rounded = [jnp.round(mean).astype(jnp.int32) for mean in means]
            means.append(jax.nn.softmax(self._logits(rounded)) @ values)
        return jnp.stack(means, axis=-1)

    def channel(self, earlier):
        """Return `P(v_c | v_<c)`, a `Categorical`, after the levels `earlier`, each an integer [*pixels]."""
        return Categorical(self._logits([v.astype(jnp.int32) for v in earlier]))

    def _logits(self, earlier):
        """Return the logits [*pixels, V] of the channel after the levels `earlier`, each [*pixels]."""
        weights, c = as_jax(self.weights), len(earlier)
        to_all = lambda a: a.reshape(*[1] * (self.features.ndim - 1), -1)  # noqa: E731
        h = self.features + to_all(weights["shift"][c])
        for place, levels in enumerate(earlier, c * (c - 1) // 2):
            h = h + weights["levels"][place][levels]
        return jax.nn.relu(h) @ weights["kernel"][c] + to_all(weights["bias"][c])


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


def _standard(level, num_levels):
    return level / (0.5 * (num_levels - 1)) - 1.0


def _level(y, num_levels):
    return jnp.clip((y + 1.0) * (0.5 * (num_levels - 1)), 0, num_levels - 1)


def _log_mass(x, locs, log_scales, num_levels):
    """Return the log-mass of the levels x under each logistic, in nats; x is broadcast against `locs`."""
    return _log_mass_between(x, x, locs, log_scales, num_levels)


def _log_mass_between(first, last, locs, log_scales, num_levels):
    """Return the log-mass of the levels first, ..., last under each logistic, in nats."""
    first, last = (a.astype(locs.dtype) for a in (first, last))
    top = num_levels - 1
    half_bin = 1.0 / top
    inverse_scale = jnp.exp(-log_scales)
    upper = (last / (0.5 * top) - 1.0 - locs + half_bin) * inverse_scale
    lower = (first / (0.5 * top) - 1.0 - locs - half_bin) * inverse_scale
    width = (last - first) / (0.5 * top) + 2.0 * half_bin
    # σ(u) - σ(l) = σ(u) σ(-l) (1 - exp(l - u)): three factors, each with an exact logarithm.
    log_mass = -jax.nn.softplus(-upper) - jax.nn.softplus(lower) + log1mexp(width * inverse_scale)
    log_mass = jnp.where(first <= 0, -jax.nn.softplus(-upper), log_mass)  # log σ(u)
    below = jnp.where(first <= 0, 0.0, -jax.nn.softplus(lower))  # log (1 - σ(l)); 0 for all levels
    return jnp.where(last >= top, below, log_mass)


def _shifted(locs, slopes, earlier, c):
    """Return μ_c + Σ_{c' < c} a_cc' y_c' [*pixels, M] of channel c; `earlier` are the y_c', each [*pixels, 1 or M]."""
    loc = locs[..., c, :]
    for place, y in enumerate(earlier, c * (c - 1) // 2):
        loc = loc + slopes[..., place, :] * y
    return loc
