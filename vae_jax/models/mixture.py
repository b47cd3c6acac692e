"""Mixtures, p(x) = Σ_k π_k p_k(x), of Gaussians or of Bernoullis, fitted by EM (Dempster, Laird and Rubin 1977).

E:  r_nk = π_k p_k(x_n) / Σ_j π_j p_j(x_n)
M:  π_k ∝ N_k + c,  N_k = Σ_n r_nk;  each component is fitted to all examples, weighted by r_nk

Both are matrix products of a batch, [B, D] by [D, K]; no array has the size B K D. The first axis of parameters is K.

A matrix product expands squares, |x|² - 2 x·m + |m|². float32 then loses digits if components are narrow and far apart.
EM therefore bounds the error of the products of every batch. If the bound is too large, it computes squares of the
differences x - m_k instead, one component at a time. log p(x) is always computed in this second way.
"""

import math
import types
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vae_jax import spec
from vae_jax.core import Aux, Model, Sums, tractable
from vae_jax.distributions import Bernoulli, Mixture, MultivariateNormal, Normal
from vae_jax.numerics import LOG_2PI
from vae_jax.spec import BadOption, build

COVARIANCES = ("spherical", "diagonal", "full", "tied")
NONE = 1e-6  # a component with fewer examples has no moments
ROUNDING = 1.2e-7  # relative error of float32
LOG_PROB_ERROR = 1e-3  # nats: EM uses matrix products for log p_k(x) if the bound of their error is smaller
MOMENT_ERROR = 1e-3  # the same for sums of squares, as a share of the variance


class Components(NamedTuple):
    """One kind of component, K of them at once. The rows of `x` [B, D] are examples; r is [B, K]."""

    start: Callable  # (centres [K, D], x, r)        -> params; r is one-hot, the centre of each row
    distribution: Callable  # (params)                      -> the components, a distribution of arrays [K, ...]
    log_probs: Callable  # (params, x)                   -> log p_k(x_b) [B, K]
    fast_log_probs: Callable | None  # (params, x)      -> the same by matrix products, and a bound of the error [B, K]
    sums: Callable  # (params, x, r)                -> sums over the batch
    maximize: Callable  # (params, sums)                -> params; sums["count"] is N [K]
    revive: Callable  # (params, owner [K], noise)    -> params: k is a copy of owner[k], moved by noise [K, D]


def mixture(event_shape, components, *, num_components, concentration, revive_below) -> Model:
    """Return a mixture, fitted by `em`.

    The likelihood times the priors never falls from one pass to the next, except if a component is revived: one with
    fewer than `revive_below` examples becomes a copy of the heaviest component, and each has half the weight. Several
    are copies of the heaviest ones in turn. Equal components would stay equal, so each copy is moved by noise of a
    fixed key: half a standard deviation of the mean, or ½ in the logits. This may lower the likelihood.

    EM starts from k-means++ on the first batch: it draws the centres there, and assigns every example to the nearest.

    Args:
      event_shape: the shape of x.
      components: `bernoulli` or `gaussian`.
      num_components: K.
      concentration: c ≥ 0; π is the mode under Dirichlet(1 + c). 0 is maximum likelihood.
      revive_below: a number of examples; 0 revives no component.

    Raises `BadOption` for numbers out of range, and from `init` if the first batch has fewer examples than components.
    """
    spec.integers(num_components=num_components)
    spec.numbers(concentration=concentration, revive_below=revive_below, at_least=0)

    def init(key, batch):
        x = _rows(batch["x"])
        if len(x) < num_components:
            raise BadOption(
                f"num_components must be at most the {len(x)} examples of the first batch, from which the components "
                f"start, got {num_components}; raise batch_size"
            )
        centres = k_means_plus_plus(key, x, num_components)
        y, c = _about_average({"mean": centres}, x)
        nearest = jnp.argmin(jnp.sum(jnp.square(c), axis=1)[None] - 2.0 * _product(y, c), axis=1)
        r = jax.nn.one_hot(nearest, num_components)
        return {"logits": _logits(jnp.sum(r, axis=0)), "components": components.start(centres, x, r)}

    def density(params, context=None):
        return Mixture(params["logits"], components.distribution(params["components"]))

    def log_weights(params):
        return jax.nn.log_softmax(params["logits"])[None]

    def log_prob(params, x, context=None):
        """Return log p(x) as `density` does, but under vmap with arrays [B, D], not [B, K, D]."""
        exact = components.log_probs(params["components"], _rows(x[None]))
        return jax.nn.logsumexp((log_weights(params) + exact)[0])

    def joint(params, x):
        """Return log π_k p_k(x_b) [B, K], by matrix products if the error of every log p(x_b) is small enough."""
        exact = lambda: log_weights(params) + components.log_probs(params["components"], x)  # noqa: E731
        if components.fast_log_probs is None:
            return exact()
        fast, error = components.fast_log_probs(params["components"], x)
        fast = log_weights(params) + fast
        width = jax.nn.logsumexp(fast + error, axis=1) - jax.nn.logsumexp(fast - error, axis=1)
        return jax.lax.cond(jnp.max(width) < 2.0 * LOG_PROB_ERROR, lambda: fast, exact)

    def loss(params, key, batch, step):
        value = jax.nn.logsumexp(joint(params, _rows(batch["x"])), axis=1)
        return -value, Aux({"bound": value})

    def expect(params, batch):
        x = _rows(batch["x"])
        log_joint = joint(params, x)
        value = jax.nn.logsumexp(log_joint, axis=1)
        r = jnp.exp(log_joint - value[:, None])
        return {"count": jnp.sum(r, axis=0), **components.sums(params["components"], x, r)}, value

    def maximize(params, sums):
        count, fitted = sums["count"], components.maximize(params["components"], sums)
        if revive_below:
            owner, count = heirs(count, revive_below)
            moved = owner != jnp.arange(num_components)
            # The key depends on data, so that XLA does not compute the noise while it compiles, which is slow.
            key = jax.random.fold_in(jax.random.key(0), jnp.sum(moved))
            noise = 0.5 * jax.random.normal(key, (num_components, math.prod(event_shape)))
            fitted = components.revive(fitted, owner, jnp.where(moved[:, None], noise, 0.0))
        new = {"logits": _logits(count), "components": fitted}
        seen = jnp.sum(sums["count"]) > 0  # False if every batch of the pass was skipped
        return jax.tree.map(lambda new, old: jnp.where(seen, new, old), new, params)

    def _logits(count):
        return jax.nn.log_softmax(jnp.log(jnp.maximum(count + concentration, jnp.finfo(count.dtype).tiny)))

    def judge(params, key, x, context=None):
        return {"bound": log_prob(params, x)}

    model = tractable(init, density, sums=Sums(expect, maximize))
    return model._replace(loss=loss, judge=judge, log_prob=log_prob)


def bernoulli(event_shape, *, smoothing) -> Components:
    """Return components p_k(x) = Π_d Bernoulli(x_d; μ_kd) for `mixture`.

    μ_kd = (Σ_n r_nk x_nd + a) / (N_k + 2a) is the mode under Beta(1 + a, 1 + a), a = `smoothing`. Raises `BadOption`
    for a smoothing that is not positive: a pixel that was never 1 would be impossible.
    """
    spec.numbers(smoothing=smoothing, above=0)

    def start(centres, x, r):
        return maximize(None, {"count": jnp.sum(r, axis=0), **sums(None, x, r)})

    def distribution(params):
        return Bernoulli(params["logits"].reshape(-1, *event_shape))

    def log_probs(params, x):
        """Return Σ_d x_d log σ(l_kd) + (1 - x_d) log σ(-l_kd): no term is positive, so no digits cancel."""
        bright, dark = -jax.nn.softplus(-params["logits"]), -jax.nn.softplus(params["logits"])
        return _product(x, bright) + _product(1.0 - x, dark)

    def fast_log_probs(params, x):
        """Return Σ_d x_d l_kd - Σ_d softplus(l_kd), and a bound of its error."""
        normalizer = jnp.sum(jax.nn.softplus(params["logits"]), axis=1)[None]
        value = _product(x, params["logits"]) - normalizer
        return value, ROUNDING * (jnp.abs(value) + 2.0 * normalizer)

    def sums(params, x, r):
        return {"bright": _product(r.T, x.T)}

    def maximize(params, sums):
        dark = sums["count"][:, None] - sums["bright"]
        # Rounding can make a sum slightly negative.
        bright, dark = (jnp.log(jnp.maximum(side, 0.0) + smoothing) for side in (sums["bright"], dark))
        return {"logits": bright - dark}

    def revive(params, owner, noise):
        return {"logits": params["logits"][owner] + noise}

    return Components(start, distribution, log_probs, fast_log_probs, sums, maximize, revive)


def gaussian(event_shape, *, covariance, floor) -> Components:
    """Return components p_k(x) = N(x; m_k, Σ_k) for `mixture`.

    m and Σ maximise the likelihood under the constraint that no eigenvalue of Σ is below `floor`: smaller eigenvalues
    of the weighted covariance are raised to it. A component without examples does not change. All components start with
    the covariance within the clusters. A `floor` below 10⁻⁶ of the variance of the data makes a pass of EM a few times
    slower: float32 then requires squares of differences (see above).

    Args:
      event_shape: the shape of x.
      covariance: "spherical" (σ_k² I), "diagonal", "full" or "tied" (one full covariance for all).
      floor: a variance above 0, in units of x².

    Raises `BadOption` for any other covariance, and for a floor that is not positive: a constant pixel has no density.
    """
    spec.one_of(COVARIANCES, covariance=covariance)
    spec.numbers(floor=floor, above=0)
    size = math.prod(event_shape)
    moment = {
        "spherical": lambda d: jnp.mean(d * d, axis=1, keepdims=True),
        "diagonal": lambda d: d * d,
    }.get(covariance, lambda d: d[:, :, None] * d[:, None])
    name = "log_scale" if covariance in ("spherical", "diagonal") else "scale_tril"

    def start(centres, x, r):
        width = {"spherical": (1,), "diagonal": (size,)}.get(covariance, (size, size))
        params = {"mean": centres, name: jnp.zeros((1 if covariance == "tied" else len(centres), *width))}
        count = jnp.sum(r, axis=0)
        params["mean"], within = moments(params, {"count": count, **sums(params, x, r)})
        if covariance != "tied":
            within = jnp.tensordot(count / jnp.sum(count), within, axes=1)[None]
        return {"mean": params["mean"], name: jnp.broadcast_to(_scale(within, floor), params[name].shape)}

    def distribution(params):
        mean = params["mean"].reshape(-1, *event_shape)
        if name == "scale_tril":
            return MultivariateNormal(mean, jnp.broadcast_to(params[name], (len(mean), size, size)))
        return Normal(mean, jnp.broadcast_to(params[name], params["mean"].shape).reshape(mean.shape))

    def log_normalizer(params):
        """Return ½ log |2πΣ_k| [1, K or 1]."""
        scale = params[name]
        if name == "scale_tril":
            log_det = jnp.sum(jnp.log(jnp.diagonal(scale, axis1=1, axis2=2)), axis=1)
        else:
            log_det = jnp.sum(scale, axis=1) * (size // scale.shape[1])
        return (log_det + 0.5 * size * LOG_2PI)[None]

    def log_probs(params, x):
        """Return -½ |x - m_k|²_Σ - ½ log |2πΣ_k|, one component at a time: [B, D] is the largest array."""
        scale = jnp.broadcast_to(params[name], (len(params["mean"]), *params[name].shape[1:]))
        whiten = _whiten if name == "scale_tril" else lambda log_scale, y: y * jnp.exp(-log_scale)[None]
        square = lambda part: jnp.sum(jnp.square(whiten(part[1], x - part[0][None])), axis=1)  # noqa: E731
        return -0.5 * jax.lax.map(square, (params["mean"], scale)).T - log_normalizer(params)

    def fast_log_probs(params, x):
        """Return the same from |x - m|² = |x|² - 2 x·m + |m|², centred at the mean of the components."""
        y, mean = _about_average(params, x)
        if name == "scale_tril":
            y, mean = (_whiten(params[name][0], rows) for rows in (y, mean))
            positive = jnp.sum(y * y, axis=1, keepdims=True) + jnp.sum(mean * mean, axis=1)[None]
            product = _product(y, mean)
        else:
            precision = jnp.broadcast_to(jnp.exp(-2.0 * params[name]), mean.shape)
            positive = _product(y * y, precision) + jnp.sum(mean * mean * precision, axis=1)[None]
            product = _product(y, mean * precision)
        return product - 0.5 * positive - log_normalizer(params), ROUNDING * positive

    def sums(params, x, r):
        """Return moments about the present means. The next means are close to them, so rounding errors are small."""
        exact = lambda: _moments(params, x, r, covariance)  # noqa: E731
        if covariance == "full":
            return exact()
        fast, error = _fast_moments(params, x, r, covariance)
        if covariance == "tied":  # the smallest eigenvalue is at most the smallest squared entry of L's diagonal
            enough = len(x) * jnp.square(jnp.min(jnp.diagonal(params[name][0])))
        else:
            enough = jnp.maximum(fast["second"], jnp.sum(r, axis=0)[:, None] * floor)
        return jax.lax.cond(jnp.all(error <= MOMENT_ERROR * enough), lambda: fast, exact)

    def moments(params, sums):
        """Return the means, and the covariances before the floor."""
        count = sums["count"]
        seen = jnp.maximum(count, NONE)
        shift = sums["first"] / seen[:, None]
        if covariance == "tied":
            within = sums["second"] - jnp.tensordot(count, moment(shift), axes=1)[None]
            return params["mean"] + shift, within / jnp.maximum(jnp.sum(count), NONE)
        within = sums["second"] / _lead(seen, sums["second"]) - moment(shift)
        return params["mean"] + shift, within

    def maximize(params, sums):
        mean, within = moments(params, sums)
        has = sums["count"] > NONE
        scale = _scale(within, floor)
        if covariance != "tied":
            scale = jnp.where(_lead(has, scale), scale, params[name])
        return {"mean": jnp.where(has[:, None], mean, params["mean"]), name: scale}

    def revive(params, owner, noise):
        if name == "log_scale":
            scale = params[name][owner]
            return {"mean": params["mean"][owner] + jnp.exp(scale) * noise, name: scale}
        scale = params[name] if covariance == "tied" else params[name][owner]
        return {"mean": params["mean"][owner] + jnp.sum(scale * noise[:, None], axis=-1), name: scale}

    fast = None if covariance == "full" else fast_log_probs
    return Components(start, distribution, log_probs, fast, sums, maximize, revive)


def k_means_plus_plus(key, x, num):
    """Return `num` rows [num, D] of `x` [B, D] as centres, by k-means++ (Arthur and Vassilvitskii 2007).

    The first is uniform; each further one has a probability ∝ its squared distance to the nearest centre so far. Rows
    repeat if all are centres.
    """

    def pick(distance, i):
        row = x[jax.random.categorical(jax.random.fold_in(key, i), jnp.log(distance))]
        return jnp.minimum(distance, jnp.sum(jnp.square(x - row[None]), axis=1)), row

    return jax.lax.scan(pick, jnp.full(len(x), jnp.finfo(x.dtype).max), jnp.arange(num))[1]


def heirs(count, revive_below):
    """Return (owner, count): the component that each one becomes a copy of, and the examples that it then has.

    The owner is the component itself unless it is revived. The j-th with fewer than `revive_below` examples is a copy
    of the j-th heaviest one, in turn.
    """
    size = len(count)
    empty = (count < revive_below) & (jnp.max(count) >= 2.0 * revive_below)
    order = jnp.argsort(jnp.where(empty, -1.0, count))  # the empty ones first
    num_empty = jnp.sum(empty)
    turn = jnp.arange(size) % jnp.maximum(size - num_empty, 1)
    donor = jnp.zeros(size, order.dtype).at[order].set(order[size - 1 - turn])
    owner = jnp.where(empty, donor, jnp.arange(size))
    shares = jnp.zeros(size).at[owner].add(1.0)
    return owner, (count / jnp.maximum(shares, 1.0))[owner]


def _rows(x):
    return x.reshape(len(x), -1)


def _product(a, b):
    """Return a bᵀ [I, J] for a [I, D] and b [J, D]."""
    return jnp.matmul(a, b.T, precision="highest")


def _lead(values, like):
    """Reshape [K] to [K, 1, ...]."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _about_average(params, x):
    average = jnp.mean(params["mean"], axis=0, keepdims=True)
    return x - average, params["mean"] - average


def _fast_moments(params, x, r, covariance):
    """Return `_moments` by matrix products, centred at the mean of all components, and a bound of its error."""
    y, mean = _about_average(params, x)
    count = jnp.sum(r, axis=0)[:, None]
    weighed = _product(r.T, y.T)
    first = weighed - count * mean
    if covariance == "tied":
        cross = _product(mean.T, weighed.T)
        total, between = _product(y.T, y.T), _product(mean.T, (count * mean).T)
        error = ROUNDING * (jnp.max(jnp.diagonal(total)) + jnp.max(jnp.diagonal(between)))
        return {"first": first, "second": (total - cross - cross.T + between)[None]}, error
    total, between = _product(r.T, (y * y).T), count * mean * mean
    second, error = total - 2.0 * mean * weighed + between, ROUNDING * (total + between)
    if covariance == "spherical":
        second, error = (jnp.mean(a, axis=1, keepdims=True) for a in (second, error))
    return {"first": first, "second": second}, error


def _moments(params, x, r, covariance):
    """Return the first and second moments about the present means, computed for one component at a time.

    `first` is Σ_n r_nk (x_n - m_k) [K, D]. `second` is Σ_n r_nk (x_n - m_k)², in the shape of the variances, or
    Σ_n r_nk (x_n - m_k)(x_n - m_k)ᵀ [K, D, D]; for "tied" it is the sum over k [1, D, D].
    """

    def one(total, component):
        mean, weight = component
        y = x - mean[None]
        weighed = weight[:, None] * y
        first = jnp.sum(weighed, axis=0)
        if covariance == "tied":
            return total + _product(weighed.T, y.T), (first, None)
        if covariance == "full":
            return total, (first, _product(weighed.T, y.T))
        square = jnp.sum(weighed * y, axis=0)
        return total, (first, jnp.mean(square, keepdims=True) if covariance == "spherical" else square)

    size = x.shape[1] if covariance == "tied" else 0
    total, (first, second) = jax.lax.scan(one, jnp.zeros((size, size)), (params["mean"], r.T))
    return {"first": first, "second": total[None] if covariance == "tied" else second}


def _whiten(tril, y):
    """Return L⁻¹ y for every row y."""
    return jax.scipy.linalg.solve_triangular(tril, y.T, lower=True).T


def _scale(covariance, floor):
    """Return log σ [K, 1 or D] of variances, or L [K, D, D], Σ = L Lᵀ, of covariances with eigenvalues ≥ `floor`."""
    if covariance.ndim == 2:
        return 0.5 * jnp.log(jnp.maximum(covariance, floor))
    values, vectors = jnp.linalg.eigh(covariance)
    root = vectors * jnp.sqrt(jnp.maximum(values, floor))[:, None]
    # Σ = root rootᵀ and rootᵀ = QR give L = Rᵀ. Unlike Cholesky's method, this takes no root of a difference.
    tril = jnp.swapaxes(jnp.linalg.qr(jnp.swapaxes(root, 1, 2), mode="r"), 1, 2)
    return tril * jnp.sign(jnp.diagonal(tril, axis1=1, axis2=2))[:, None]


KINDS = types.SimpleNamespace(bernoulli=bernoulli, gaussian=gaussian)


def from_config(*, event, num_components, components, concentration, revive_below) -> Model:
    """Return a mixture from the keys of a config; `components` is {"name": "bernoulli" or "gaussian", ...}."""
    kind = build(KINDS, components, event.shape, where="components")
    options = {"concentration": concentration, "revive_below": revive_below}
    return mixture(event.shape, kind, num_components=num_components, **options)
