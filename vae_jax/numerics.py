"""Safe numerical functions that several densities share: finite, with finite gradients, up to |x| = 1e4."""

import math

import jax
import jax.numpy as jnp

LOG_2 = math.log(2.0)
LOG_2PI = math.log(2.0 * math.pi)


def log_mean_exp(x, axis=None):
    """Return log (1/K) Σ_k exp(x_k), without overflow."""
    size = x.size if axis is None else x.shape[axis]
    return jax.nn.logsumexp(x, axis=axis) - math.log(size)


def effective_sample_size(log_sum, log_sum_squares, size):
    """Return (Σ w)² / Σ w², between 1 and K = `size`, from log Σ w and log Σ w²; 0 if all weights are 0."""
    ess = jnp.exp(2.0 * log_sum - jnp.where(jnp.isneginf(log_sum), 0.0, log_sum_squares))
    return jnp.where(jnp.isneginf(log_sum), 0.0, jnp.clip(ess, 1.0, size))  # rounding may leave 1..K at |log w| > 1e5


def log1mexp(x):
    """Return log(1 - exp(-x)) for x > 0, accurate at both ends: two forms that meet at log 2 (Mächler 2012)."""
    x = jnp.maximum(x, jnp.finfo(x.dtype).tiny)
    # Both branches are made safe before the choice: the gradient of `where` sees the branch that was not taken.
    near = jnp.log(-jnp.expm1(-jnp.minimum(x, LOG_2)))
    far = jnp.log1p(-jnp.exp(-jnp.maximum(x, LOG_2)))
    return jnp.where(x < LOG_2, near, far)


@jax.custom_jvp
def sum_softplus(x):
    """Return Σ log(1 + exp(x)) over all of `x`, finite at any x.

    log(1 + eˣ) = max(x, 0) + log(1 + e^-|x|). Up to sixteen of the last factors, each in (1, 2], share one logarithm: a
    product of 2¹⁶ is far from overflow. On CPU this takes a ninth of the time of `jax.nn.softplus`, which would be half
    the time of a Bernoulli decoder.
    """
    group = max(d for d in range(1, 17) if x.size % d == 0)
    factors = (1.0 + jnp.exp(-jnp.abs(x))).reshape(group, -1)
    return jnp.sum(jnp.maximum(x, 0.0)) + jnp.sum(jnp.log(jnp.prod(factors, axis=0)))


@sum_softplus.defjvp
def _sum_softplus_jvp(primals, tangents):
    return sum_softplus(primals[0]), jnp.sum(jax.nn.sigmoid(primals[0]) * tangents[0])


def soft_clip(x, limit):
    """Return x clipped smoothly to [-limit, limit]: the identity near 0.

    It bounds a log-scale and keeps its gradient above 0 up to |x| = 7 limit. Beyond, tanh rounds to 1 in float32.
    """
    return limit * jnp.tanh(x / limit)


def straight_through(value, surrogate):
    """Return `value` with the gradient of `surrogate`, such as a rounded number with the slope of a soft one.

    The result is exactly `value` if `surrogate` is finite.
    """
    return jax.lax.stop_gradient(value) + (surrogate - jax.lax.stop_gradient(surrogate))


def moments(x, centre):
    """Return the sums {"count": B, "sum": Σ e [D], "square": Σ e eᵀ [D, D]} over the rows e = x - `centre` of x [B, D].

    The sums of batches add up. A centre among the data keeps the digits of float32: Σ x xᵀ / n - m mᵀ would lose those
    of m² if m were far from 0.
    """
    e = x - centre[None]
    square = jnp.matmul(e.T, e, precision="highest")  # accelerators would round to fewer bits
    return {"count": jnp.asarray(len(x), e.dtype), "sum": jnp.sum(e, axis=0), "square": square}


def mean_and_covariance(sums):
    """Return the mean minus the centre [D] and the covariance [D, D] (divided by n) from the sums of `moments`."""
    mean = sums["sum"] / sums["count"]
    return mean, sums["square"] / sums["count"] - jnp.outer(mean, mean)


@jax.custom_jvp
def scale_gradient(x, scale):
    """Return the array x; its gradient is multiplied by `scale`.

    With this rule of its own, and not as x + scale (x - x), the result is the same expression as x for the compiler,
    which then computes what depends on it only once.
    """
    return x


@scale_gradient.defjvp
def _scale_gradient_jvp(primals, tangents):
    return primals[0], primals[1] * tangents[0]


def bits_per_dim(nats, event_size):
    """Return the log-probability of one event, in nats, as a code length in bits per dimension of `event_size`."""
    return -nats / (event_size * LOG_2)


@jax.custom_vjp
def scaled_later(x):
    """Return x, a tuple of scalars, and a mark, 0.

    The gradient of x is multiplied by the scale that `with_scale` gets together with the mark. The scale may depend on
    numbers that are computed from x, and still one backward pass is enough.
    """
    return x, 0.0 * x[0]  # `vmap` must see that every example has its own mark


scaled_later.defvjp(
    lambda x: ((x, 0.0 * x[0]), None),
    lambda _, cotangents: (jax.tree.map(lambda a: cotangents[1] * a, cotangents[0]),),
)


@jax.custom_vjp
def with_scale(value, mark, scale):
    """Return `value`. The gradient of the argument of `scaled_later`, which returned `mark`, is scaled by `scale`."""
    return value


with_scale.defvjp(
    lambda value, mark, scale: (value, scale),
    lambda scale, cotangent: (cotangent, scale, jnp.zeros_like(scale)),
)


def as_jax(tree):
    """Return `tree` with JAX arrays in the place of NumPy arrays.

    Parameters from a file or from `jax.device_get` are NumPy arrays, which a traced index cannot read.
    """
    return jax.tree.map(jnp.asarray, tree)
