"""Codes given a degraded image: p(y|z) = ∫ p(y|x) p(x|z) dx and p(x|z, y), for p(x|z) of independent entries.

    mask without noise      p(y|z) = Π p(x_d|z) over shown entries; the others of x ~ p(x|z)                   exact
    mask with noise         p(y|z) = Π_d Σ_v p(x_d = v|z) N(y_d; v, s²), for bits and levels                   exact
    linear                  N(F m, F V Fᵀ + S²), the moments m and V = diag(v) of p(x|z)    exact for normal p(x|z)

The last one is a Gaussian approximation for bits and levels. Draws of x are then corrected as in
`distributions.linear_gaussian`, rounded to levels and clipped, so that they agree with y up to this rounding.
"""

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import degradations
from vae_jax.core import Latent
from vae_jax.distributions import MultivariateNormal, Normal
from vae_jax.numerics import LOG_2PI
from vae_jax.support import Binary, Levels, Unit

GRID = 64  # points at which a density on [0, 1] is integrated
LEAST_VARIANCE = 1e-4  # of an entry in the linear case, in units of (range / number of levels)²: F V Fᵀ stays regular


def observed(latent, degradation) -> Latent:
    """Return the latent-variable model of y: p(z) is that of `latent`, p(y|z) is `through`, and q(z|y) the encoder's.

    The encoder sees the baseline of y in the place of x. All inference on a `core.Latent` then works given y, such as
    `inference.annealed` and `inference.laplace`.
    """

    def posterior(params, y, context=None):
        return latent.posterior(params, degradation.baseline(y), context)

    def likelihood(params, z, context=None):
        return through(latent.likelihood(params, z, context), degradation)

    return Latent(latent.prior, posterior, likelihood)


def through(base, degradation):
    """Return p(y), with `log_prob(y)` in nats, and with `given(y)`: the distribution p(x|y), if p(x) is `base`.

    Raises `ValueError` for a base whose entries depend on one another, and for a degradation that is not linear.
    """
    if not hasattr(base, "log_probs"):
        raise ValueError(
            "this method requires p(x|z) of independent pixels, and this one is a "
            f"{type(base).__name__}; use a model that is conditional on y (`conditional`)"
        )
    if degradation.mask is not None and not degradation.noise:
        return _Shown(base, degradation)
    if degradation.mask is not None and not isinstance(base, Normal):
        return _Levels(base, degradation)
    if degradation.linear is None:
        raise ValueError(f"this method requires a linear degradation, and {degradation.name!r} is not linear")
    return _Moments(base, degradation)


class _Shown:
    """Some entries without noise."""

    def __init__(self, base, degradation):
        self.base, self.mask = base, degradation.mask

    def log_prob(self, y):
        log_probs = self.base.log_probs(jnp.where(self.mask, y, _inside(self.base)))
        return jnp.sum(jnp.where(self.mask, log_probs, 0.0))

    def given(self, y):
        return _ShownGiven(self.base, self.mask, y)


class _ShownGiven:
    def __init__(self, base, mask, y):
        self.base, self.mask, self.y = base, mask, y

    def sample(self, key):
        return jnp.where(self.mask, self.y, self.base.sample(key))

    def mean(self):
        return jnp.where(self.mask, self.y, self.base.mean())

    def log_prob(self, x):
        return jnp.sum(jnp.where(self.mask, 0.0, self.base.log_probs(x)))


class _Levels:
    """Some entries with noise of their own; sums over all levels."""

    def __init__(self, base, degradation):
        self.base, self.degradation = base, degradation
        self.values, self.log_p = enumerated(base)  # [V], [*event, V]

    def log_prob(self, y):
        return jnp.sum(jax.nn.logsumexp(self._joint(y), axis=-1))

    def given(self, y):
        return _LevelsGiven(self.values, self._joint(y))

    def _joint(self, y):
        mask, noise = self.degradation.mask, self.degradation.noise
        residual = (jnp.where(mask, y, 0.0)[..., None] - _last(self.values, y.ndim)) / noise
        log_lik = -0.5 * (jnp.square(residual) + LOG_2PI) - np.log(noise)
        return self.log_p + jnp.where(mask[..., None], log_lik, 0.0)


class _LevelsGiven:
    def __init__(self, values, logits):
        self.values, self.logits = values, logits

    def sample(self, key):
        return jnp.asarray(self.values)[jax.random.categorical(key, self.logits)]

    def mean(self):
        return jax.nn.softmax(self.logits) @ jnp.asarray(self.values)

    def log_prob(self, x):
        nearest = jnp.argmin(jnp.abs(x[..., None] - _last(self.values, x.ndim)), axis=-1)
        return jnp.sum(jnp.take_along_axis(jax.nn.log_softmax(self.logits), nearest[..., None], axis=-1))


class _Moments:
    """Linear observations of entries with the mean m and the variance v."""

    def __init__(self, base, degradation):
        self.base, self.linear, self.event = base, degradation.linear, degradation.event
        self.diagonal = degradation.mask is not None
        self.matrix = None if self.diagonal else degradations.matrix(degradation)
        self.mask = degradation.mask
        self.mean, self.variance = _moments(base)

    def log_prob(self, y):
        residual = self.linear.observe(y) - self.linear.forward(self.mean)
        if self.diagonal:
            variance = jnp.ravel(self.variance)[np.flatnonzero(self.mask)] + jnp.square(self.linear.scale)
            return jnp.sum(-0.5 * (jnp.square(residual) / variance + jnp.log(variance) + LOG_2PI))
        return MultivariateNormal(jnp.zeros_like(residual), self._tril()).log_prob(residual)

    def given(self, y):
        return _MomentsGiven(self, y)

    def corrected(self, x, observation):
        """Return x + K (`observation` - F x)."""
        residual, variance = observation - self.linear.forward(x), jnp.ravel(self.variance)
        if self.diagonal:
            places = np.flatnonzero(self.mask)
            gain = variance[places] / (variance[places] + jnp.square(self.linear.scale))
            return x + jnp.zeros(x.size).at[places].set(gain * residual).reshape(x.shape)
        weights = jax.scipy.linalg.cho_solve((self._tril(), True), residual)
        return x + (variance * (self.matrix.T @ weights)).reshape(x.shape)

    def _tril(self):
        spread = jnp.matmul(self.matrix * jnp.ravel(self.variance)[None], self.matrix.T, precision="highest")
        return jnp.linalg.cholesky(spread + jnp.diag(jnp.square(self.linear.scale)))


class _MomentsGiven:
    def __init__(self, through, y):
        self.through, self.y = through, y

    def sample(self, key):
        key_x, key_y = jax.random.split(key)
        linear = self.through.linear
        noise = linear.scale * jax.random.normal(key_y, linear.scale.shape)
        x = self.through.corrected(self.through.base.sample(key_x), linear.observe(self.y) - noise)
        return to_support(self.through.event.support, x)

    def mean(self):
        x = self.through.corrected(self.through.mean, self.through.linear.observe(self.y))
        return clipped(self.through.event.support, x)

    def log_prob(self, x):
        linear, scale = self.through.linear, self.through.linear.scale
        if not np.all(scale):
            return jnp.nan  # a density of y without noise does not exist
        residual = (linear.observe(self.y) - linear.forward(x)) / scale
        log_lik = jnp.sum(-0.5 * (jnp.square(residual) + LOG_2PI) - np.log(scale))
        return self.through.base.log_prob(x) + log_lik - self.through.log_prob(self.y)


def enumerated(base):
    """Return the values [V] of the entries of `base` and their log-probabilities [*event, V].

    A density on [0, 1] is taken at the midpoints of 64 equal intervals. Raises `ValueError` for other supports.
    """
    support = base.support
    if isinstance(support, Binary | Levels):
        values = np.arange(support.num_levels, dtype=np.float32)
    elif isinstance(support, Unit):
        values = (np.arange(GRID, dtype=np.float32) + 0.5) / GRID
    else:
        raise ValueError(
            f"this method requires p(x|z) of bits, of levels, on [0, 1], or normal; this one is a {type(base).__name__}"
        )
    shape = jax.eval_shape(base.mean).shape
    log_p = jax.vmap(lambda v: base.log_probs(jnp.full(shape, v)), out_axes=-1)(jnp.asarray(values))
    return values, jax.nn.log_softmax(log_p)


def to_support(support, x):
    """Return x rounded to levels or bits, and clipped to the range of the support."""
    return clipped(support, jnp.round(x) if isinstance(support, Binary | Levels) else x)


def clipped(support, x):
    """Return x clipped to the range of the support; real numbers have none."""
    return jnp.clip(x, 0.0, degradations.top_of(support)) if isinstance(support, Binary | Levels | Unit) else x


def _moments(base):
    """Return the mean and the variance of every entry of `base`."""
    if isinstance(base, Normal):
        return base.loc, jnp.exp(2.0 * base.log_scale)
    values, log_p = enumerated(base)
    p, values = jnp.exp(log_p), jnp.asarray(values)
    mean = p @ values
    step = 1.0 / GRID if isinstance(base.support, Unit) else 1.0
    return mean, jnp.maximum(p @ jnp.square(values) - jnp.square(mean), LEAST_VARIANCE * step**2)


def _inside(base):
    return 0.5 if isinstance(base.support, Unit) else 0.0


def _last(values, ndim):
    return jnp.reshape(jnp.asarray(values), (*[1] * ndim, -1))
