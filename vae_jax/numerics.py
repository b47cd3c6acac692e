"""Numerically safe pieces that several densities share. All finite, with finite gradients, up to |x| = 1e4."""

import math

import jax
import jax.numpy as jnp

LOG_2 = math.log(2.0)
LOG_2PI = math.log(2.0 * math.pi)


def log_mean_exp(x, axis=None):
    """log (1/K) Σ_k exp(x_k), without overflow."""
    size = x.size if axis is None else x.shape[axis]
    return jax.nn.logsumexp(x, axis=axis) - math.log(size)


def effective_sample_size(log_sum, log_sum_squares, size):
    """(Σ w)² / Σ w² in 1..K = `size`, from log Σ w and log Σ w²; 0 where all weights are 0."""
    ess = jnp.exp(2.0 * log_sum - jnp.where(jnp.isneginf(log_sum), 0.0, log_sum_squares))
    return jnp.where(jnp.isneginf(log_sum), 0.0, jnp.clip(ess, 1.0, size))  # rounding may leave 1..K at |log w| > 1e5


def log1mexp(x):
    """log(1 - exp(-x)) for x > 0, accurate at both ends (Mächler 2012): switch at log 2."""
    x = jnp.maximum(x, jnp.finfo(x.dtype).tiny)
    # Both branches are made safe before the choice: the gradient of `where` sees the branch that was not taken.
    near = jnp.log(-jnp.expm1(-jnp.minimum(x, LOG_2)))
    far = jnp.log1p(-jnp.exp(-jnp.maximum(x, LOG_2)))
    return jnp.where(x < LOG_2, near, far)


@jax.custom_jvp
def sum_softplus(x):
    """Σ log(1 + exp(x)) over all of `x`, finite at any x.

    log(1 + eˣ) = max(x, 0) + log(1 + e^-|x|), and up to sixteen of the last factors, each in (1, 2], share one
    logarithm: a product of 2¹⁶ is far from overflow. On CPU this costs a ninth of `jax.nn.softplus`, which would
    otherwise be half the price of a Bernoulli decoder.
    """
    group = max(d for d in range(1, 17) if x.size % d == 0)
    factors = (1.0 + jnp.exp(-jnp.abs(x))).reshape(group, -1)
    return jnp.sum(jnp.maximum(x, 0.0)) + jnp.sum(jnp.log(jnp.prod(factors, axis=0)))


@sum_softplus.defjvp
def _sum_softplus_jvp(primals, tangents):
    return sum_softplus(primals[0]), jnp.sum(jax.nn.sigmoid(primals[0]) * tangents[0])


def soft_clip(x, limit):
    """A smooth clip to [-limit, limit] that is the identity near 0: bounds a log-scale, and keeps its gradient alive
    up to |x| = 7 limit, beyond which tanh rounds to 1 in float32.
    """
    return limit * jnp.tanh(x / limit)


def straight_through(value, surrogate):
    """`value` forward, `surrogate` backward: a rounded quantity with the slope of a soft one, a bound with the gradient
    of its estimator. Exactly `value` wherever `surrogate` is finite.
    """
    return jax.lax.stop_gradient(value) + (surrogate - jax.lax.stop_gradient(surrogate))


def moments(x, centre):
    """Of the rows of x [B, D], e = x - `centre`: {"count": B, "sum": Σ e [D], "square": Σ e eᵀ [D, D]}, which add.

    A centre among the data keeps float32's digits: Σ x xᵀ / n - m mᵀ would lose those of m², were m far from 0.
    """
    e = x - centre[None]
    square = jnp.matmul(e.T, e, precision="highest")  # accelerators would round to fewer bits
    return {"count": jnp.asarray(len(x), e.dtype), "sum": jnp.sum(e, axis=0), "square": square}


def mean_and_covariance(sums):
    """From `moments`: the mean less the centre [D], and the covariance [D, D] (over n, that of maximum likelihood)."""
    mean = sums["sum"] / sums["count"]
    return mean, sums["square"] / sums["count"] - jnp.outer(mean, mean)


@jax.custom_jvp
def scale_gradient(x, scale):
    """The array x, whose gradient is multiplied by `scale`.

    A rule of its own, not x + scale (x - x): what is computed from the result is then the same expression as what was
    computed from x, and the compiler computes it once.
    """
    return x


@scale_gradient.defjvp
def _scale_gradient_jvp(primals, tangents):
    return primals[0], primals[1] * tangents[0]


def bits_per_dim(nats, event_size):
    """Nats of one event, as a code length in bits for each of its `event_size` dimensions."""
    return -nats / (event_size * LOG_2)


def as_jax(tree):
    """`tree` with JAX arrays for NumPy arrays. A traced index cannot read an array of NumPy, which parameters from a
    file or from `jax.device_get` are.
    """
    return jax.tree.map(jnp.asarray, tree)
