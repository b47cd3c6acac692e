"""Mixtures, p(x) = Σ_k π_k p_k(x), of Gaussians or of Bernoullis, fitted by EM (Dempster, Laird and Rubin 1977).

E:  r_nk = π_k p_k(x_n) / Σ_j π_j p_j(x_n)
M:  π_k ∝ N_k + c,  N_k = Σ_n r_nk;  each component fits its share of the examples, weighed by r_nk

Both are matrix products of a batch, [B, D] by [D, K]; nothing of the size B K D is formed. Arrays lead with K.
"""

import math
import types
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vae_jax import core
from vae_jax.core import Model, build, tractable
from vae_jax.distributions import Bernoulli, Mixture, MultivariateNormal, Normal
from vae_jax.numerics import LOG_2PI

COVARIANCES = ("spherical", "diagonal", "full", "tied")
NONE = 1e-6  # examples: a component with fewer has no moments of its own


class Components(NamedTuple):
    """One kind of component, K of them at once; `x` is [B, D], a row an example, and r [B, K]."""

    start: Callable  # (centres [K, D], x, r)        -> params, where r says to which centre a row belongs
    distribution: Callable  # (params)                      -> the components, a distribution whose arrays lead with K
    log_probs: Callable  # (params, x)                   -> log p_k(x_b) [B, K]
    sums: Callable  # (params, x, r)                -> sums over the batch
    maximize: Callable  # (params, sums)                -> params, given N [K] as sums["count"]
    revive: Callable  # (params, owner [K], noise)    -> params: k is a copy of owner[k], moved by noise [K, D]


def mixture(event_shape, components, *, num_components, concentration, revive_below) -> Model:
    """K = `num_components` of `components` (`bernoulli`, `gaussian`). π is the mode under Dirichlet(1 + c), c =
    `concentration` ≥ 0; 0 is maximum likelihood. From a pass to the next, likelihood times priors never falls, but
    where a component is revived: one left with less than `revive_below` examples (0: none) becomes a copy of the
    heaviest, with half its weight; several take the heaviest in turn. Copies would stay alike, so each is moved by
    noise of a fixed key, half a deviation in the mean or ½ in the logits: this may lower the likelihood.

    EM starts from k-means++ on the first batch: centres are drawn there, and every example goes to the nearest.
    Raises `ValueError` for fewer examples in that batch than components, and for numbers out of range.
    """
    core.integers(num_components=num_components)
    core.numbers(concentration=concentration, revive_below=revive_below, at_least=0)

    def init(key, batch):
        x = _rows(batch["x"])
        if len(x) < num_components:
            raise ValueError(
                f"config.model.num_components = {num_components} exceeds the {len(x)} examples of the first batch, "
                f"from which the components start; raise config.data.batch_size"
            )
        centres = k_means_plus_plus(key, x, num_components)
        y, c = _about_average({"mean": centres}, x)
        nearest = jnp.argmin(jnp.sum(jnp.square(c), axis=1)[None] - 2.0 * _product(y, c), axis=1)
        r = jax.nn.one_hot(nearest, num_components)
        return {"logits": _logits(jnp.sum(r, axis=0)), "components": components.start(centres, x, r)}

    def density(params, context=None):
        return Mixture(params["logits"], components.distribution(params["components"]))

    def joint(params, x):
        """log π_k p_k(x_b) [B, K]."""
        return jax.nn.log_softmax(params["logits"])[None] + components.log_probs(params["components"], _rows(x))

    def log_prob(params, x, context=None):
        return jax.nn.logsumexp(joint(params, x[None])[0])  # the density's, and under vmap a matrix product

    def loss(params, key, batch, step):
        value = jax.nn.logsumexp(joint(params, batch["x"]), axis=1)
        return -value, {"bound": value}

    def statistics(params, batch):
        log_joint = joint(params, batch["x"])
        value = jax.nn.logsumexp(log_joint, axis=1)
        r = jnp.exp(log_joint - value[:, None])
        sums = components.sums(params["components"], _rows(batch["x"]), r)
        return {"count": jnp.sum(r, axis=0), **sums}, value

    def maximize(params, sums):
        count, fitted = sums["count"], components.maximize(params["components"], sums)
        if revive_below:
            owner, count = heirs(count, revive_below)
            moved = owner != jnp.arange(num_components)
            # A key that no compiler knows: it would draw the noise itself, at length.
            key = jax.random.fold_in(jax.random.key(0), jnp.sum(moved))
            noise = 0.5 * jax.random.normal(key, (num_components, math.prod(event_shape)))
            fitted = components.revive(fitted, owner, jnp.where(moved[:, None], noise, 0.0))
        new = {"logits": _logits(count), "components": fitted}
        seen = jnp.sum(sums["count"]) > 0  # or every batch of the pass was skipped
        return jax.tree.map(lambda new, old: jnp.where(seen, new, old), new, params)

    def _logits(count):
        return jax.nn.log_softmax(jnp.log(jnp.maximum(count + concentration, jnp.finfo(count.dtype).tiny)))

    model = tractable(init, density, statistics=statistics, maximize=maximize)
    return model._replace(loss=loss, log_prob=log_prob)


def bernoulli(event_shape, *, smoothing) -> Components:
    """p_k(x) = Π_d Bernoulli(x_d; μ_kd), μ the mode under Beta(1 + a, 1 + a): (Σ_n r_nk x_nd + a) / (N_k + 2a), a =
    `smoothing`. Raises `ValueError` for one that is not positive: a pixel never seen bright would then be impossible.
    """
    core.numbers(smoothing=smoothing, above=0)

    def start(centres, x, r):
        return maximize(None, {"count": jnp.sum(r, axis=0), **sums(None, x, r)})

    def distribution(params):
        return Bernoulli(params["logits"].reshape(-1, *event_shape))

    def log_probs(params, x):
        """Σ_d x_d l_kd - Σ_d softplus(l_kd)."""
        return _product(x, params["logits"]) - jnp.sum(jax.nn.softplus(params["logits"]), axis=1)[None]

    def sums(params, x, r):
        return {"bright": _product(r.T, x.T)}

    def maximize(params, sums):
        dark = sums["count"][:, None] - sums["bright"]
        # Rounding may leave a sum of zeros a little below 0.
        bright, dark = (jnp.log(jnp.maximum(side, 0.0) + smoothing) for side in (sums["bright"], dark))
        return {"logits": bright - dark}

    def revive(params, owner, noise):
        return {"logits": params["logits"][owner] + noise}

    return Components(start, distribution, log_probs, sums, maximize, revive)


def gaussian(event_shape, *, covariance, floor) -> Components:
    """p_k(x) = N(x; m_k, Σ_k); `covariance` is "spherical" (σ_k² I), "diagonal", "full" or "tied" (one full for all).

    m and Σ are the maximum of the likelihood where no eigenvalue of Σ is below `floor` > 0 (a variance, in units of
    x²): of the weighted covariance, what is below is raised to it. A component without examples stays as it is.
    Components start with one covariance, that within the clusters. But for "full", squares are differences of matrix
    products about the components' average: float32 wants `floor` above 10⁻⁶ of the variance of the data.
    Raises `ValueError` for another covariance and for a floor that is not positive: a constant pixel has no density.
    """
    core.one_of(COVARIANCES, covariance=covariance)
    core.numbers(floor=floor, above=0)
    size = math.prod(event_shape)
    squares, second, moment = {
        "spherical": (_squares_diagonal, _second_spherical, lambda d: jnp.mean(d * d, axis=1, keepdims=True)),
        "diagonal": (_squares_diagonal, _second_diagonal, lambda d: d * d),
        "full": (_squares_full, _second_full, lambda d: d[:, :, None] * d[:, None]),
        "tied": (_squares_tied, _second_tied, lambda d: d[:, :, None] * d[:, None]),
    }[covariance]
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

    def log_probs(params, x):
        """-½ |x - m_k|²_Σ - ½ log |2πΣ_k|."""
        scale = params[name]
        if name == "scale_tril":
            log_det = jnp.sum(jnp.log(jnp.diagonal(scale, axis1=1, axis2=2)), axis=1)
        else:
            log_det = jnp.sum(scale, axis=1) * (size // scale.shape[1])
        return -0.5 * squares(params, x) - (log_det + 0.5 * size * LOG_2PI)[None]

    def sums(params, x, r):
        """Moments about the present means, from which the next are not far: little is lost to rounding."""
        first = _product(r.T, x.T) - jnp.sum(r, axis=0)[:, None] * params["mean"]
        return {"first": first, "second": second(params, x, r)}

    def moments(params, sums):
        """Means, and covariances before the floor."""
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

    return Components(start, distribution, log_probs, sums, maximize, revive)


def k_means_plus_plus(key, x, num):
    """[num, D] rows of `x` [B, D]: the first at random, each further one with a probability ∝ its squared distance to
    the nearest so far (Arthur and Vassilvitskii 2007). Where no row is left at a distance, rows repeat.
    """

    def pick(distance, i):
        row = x[jax.random.categorical(jax.random.fold_in(key, i), jnp.log(distance))]
        return jnp.minimum(distance, jnp.sum(jnp.square(x - row[None]), axis=1)), row

    return jax.lax.scan(pick, jnp.full(len(x), jnp.finfo(x.dtype).max), jnp.arange(num))[1]


def heirs(count, revive_below):
    """(owner, count): which component each is to be a copy of, itself but for those that are revived, and the examples
    that it then has. The j-th of those with less than `revive_below` is a copy of the j-th heaviest, in turn.
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
    """[I, J] of a [I, D] and b [J, D]."""
    return jnp.matmul(a, b.T, precision="highest")


def _lead(values, like):
    """[K] as [K, 1, ...]."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _about_average(params, x):
    average = jnp.mean(params["mean"], axis=0, keepdims=True)
    return x - average, params["mean"] - average


def _squares_diagonal(params, x):
    """Σ_d (x_d - m_kd)² / σ_kd²."""
    y, mean = _about_average(params, x)
    precision = jnp.broadcast_to(jnp.exp(-2.0 * params["log_scale"]), mean.shape)
    return (
        _product(y * y, precision)
        - 2.0 * _product(y, mean * precision)
        + jnp.sum(mean * mean * precision, axis=1)[None]
    )


def _second_diagonal(params, x, r):
    """Σ_n r_nk (x_n - m_k)² [K, D]."""
    y, mean = _about_average(params, x)
    count = jnp.sum(r, axis=0)[:, None]
    return _product(r.T, (y * y).T) - 2.0 * mean * _product(r.T, y.T) + count * mean * mean


def _second_spherical(params, x, r):
    return jnp.mean(_second_diagonal(params, x, r), axis=1, keepdims=True)


def _squares_full(params, x):
    """|L_k⁻¹ (x - m_k)|², a component at a time: [B, D] is the largest array."""

    def one(component):
        mean, tril = component
        return jnp.sum(jnp.square(_whiten(tril, x - mean[None])), axis=1)

    return jax.lax.map(one, (params["mean"], params["scale_tril"])).T


def _second_full(params, x, r):
    """Σ_n r_nk (x_n - m_k)(x_n - m_k)ᵀ [K, D, D]."""

    def one(component):
        mean, weight = component
        y = x - mean[None]
        return _product((weight[:, None] * y).T, y.T)

    return jax.lax.map(one, (params["mean"], r.T))


def _squares_tied(params, x):
    y, mean = (_whiten(params["scale_tril"][0], rows) for rows in _about_average(params, x))
    return jnp.sum(y * y, axis=1, keepdims=True) - 2.0 * _product(y, mean) + jnp.sum(mean * mean, axis=1)[None]


def _second_tied(params, x, r):
    """Σ_nk r_nk (x_n - m_k)(x_n - m_k)ᵀ [1, D, D], where Σ_k r_nk = 1."""
    y, mean = _about_average(params, x)
    cross = _product(mean.T, _product(r.T, y.T).T)
    between = _product(mean.T, (jnp.sum(r, axis=0)[:, None] * mean).T)
    return (_product(y.T, y.T) - cross - cross.T + between)[None]


def _whiten(tril, y):
    """Rows L⁻¹ y."""
    return jax.scipy.linalg.solve_triangular(tril, y.T, lower=True).T


def _scale(covariance, floor):
    """log σ [K, 1 or D] of variances, or L [K, D, D], Σ = L Lᵀ, of covariances, no eigenvalue below `floor`."""
    if covariance.ndim == 2:
        return 0.5 * jnp.log(jnp.maximum(covariance, floor))
    values, vectors = jnp.linalg.eigh(covariance)
    root = vectors * jnp.sqrt(jnp.maximum(values, floor))[:, None]
    # Σ = root rootᵀ and rootᵀ = QR give L = Rᵀ: no square root of a difference, as in Cholesky's, can fail.
    tril = jnp.swapaxes(jnp.linalg.qr(jnp.swapaxes(root, 1, 2), mode="r"), 1, 2)
    return tril * jnp.sign(jnp.diagonal(tril, axis1=1, axis2=2))[:, None]


KINDS = types.SimpleNamespace(bernoulli=bernoulli, gaussian=gaussian)


def from_config(*, event_shape, num_classes, num_components, components, concentration, revive_below) -> Model:
    """`components` is {"name": "bernoulli" or "gaussian", ...}. Raises `ValueError` where there is a context."""
    if num_classes:
        raise ValueError("a mixture has no context: set config.data.context=False (the family naive_bayes has one)")
    kind = build(KINDS, components, event_shape, where="config.model.components")
    options = {"concentration": concentration, "revive_below": revive_below}
    return mixture(event_shape, kind, num_components=num_components, **options)
