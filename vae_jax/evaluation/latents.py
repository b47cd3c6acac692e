"""Measures of the information in codes."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.bijectors import InverseAutoregressive
from vae_jax.distributions import Dequantised, Hierarchy, Normal, Sequential
from vae_jax.distributions.kl import kl_normal_normal_per_dim
from vae_jax.objectives.disentangling import log_aggregate

PIECE = 250  # examples side by side
PAIRS_AT_ONCE = 50_000  # pairs of a code and a posterior in memory
PAIRS_WITH_NETWORKS = 500  # where each pair takes a pass of a network
NEAR_LIMIT = 2.0  # nats below log N; there the estimate of the information is about 0.1 nats too small
GROUPS = 20  # groups of examples for the jackknife, and most bins of a histogram
SHARING = (
    Dequantised,
    Hierarchy,
    Sequential,
    InverseAutoregressive,
)  # parts of a posterior whose `params` all x share


def posteriors(model, params, data):
    """Return q(z|x_n) of every example: a distribution whose arrays have a leading axis N.

    Networks that all examples share have no such axis: `jax.vmap` over the result needs `in_axes=axes(q)`.
    """
    q = _each(model.latent, _without_shared, params, data)
    one = _posterior(model.latent, params, jax.tree.map(lambda a: a[0], data))
    return _map(lambda part, one: part.replace(params=one.params), lambda part, one: part, q, one)


def axes(q):
    """Return `in_axes` of `jax.vmap` for the distributions of many examples: which arrays have the axis N."""
    everywhere = lambda part: jax.tree.map(lambda _: 0, part)  # noqa: E731
    return _map(lambda part: everywhere(part.replace(params=None)), everywhere, q)


def shares_networks(q) -> bool:
    """Return True if a density of one code takes a pass of a network, so that N² of them are expensive."""
    return any(isinstance(part, SHARING) for part in jax.tree.leaves(q, is_leaf=lambda p: isinstance(p, SHARING)))


def is_invertible(model, params, data) -> bool:
    """Return True if x can be computed from its code, as with a flow: the code then tells everything about x."""
    one = jax.tree.map(lambda a: a[0], data)
    return isinstance(jax.eval_shape(lambda params: _posterior(model.latent, params, one), params), Dequantised)


def posterior_means(model, params, data):
    """Return the mean of q(z|x) of every example, [N, D]; for a hierarchy a tuple by level (`Sequential.mean`)."""
    return _each(model.latent, _mean, params, data)


def side_by_side(codes):
    """Return codes of N examples as an array [N, D]: those of all levels, and of all places of a map."""
    return np.concatenate([np.reshape(level, (len(level), -1)) for level in jax.tree.leaves(codes)], axis=1)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _each(latent, of, params, data):
    return jax.lax.map(lambda example: of(_posterior(latent, params, example)), data, batch_size=PIECE)


def _posterior(latent, params, example):
    return latent.posterior(params, example["x"], example.get("context"))


def _without_shared(q):
    """Return `q` without the networks that all examples share, so that these are not copied N times."""
    return _map(lambda part: part.replace(params=None), lambda part: part, q)


def _map(shared, other, *trees):
    """Map `shared` over the parts of the trees that share a network, and `other` over all other arrays."""
    is_shared = lambda part: isinstance(part, SHARING)  # noqa: E731
    choose = lambda part, *rest: (shared if is_shared(part) else other)(part, *rest)  # noqa: E731
    return jax.tree.map(choose, *trees, is_leaf=is_shared)


def _mean(q):
    return q.mean()


def active_units(means, threshold=0.01):
    """Return how many dimensions, of all levels together, have Var_n(E_q[z_d | x_n]) above `threshold`.

    arXiv:1509.00519 sec. 5.2. `means` is an array [N, D], or a tuple of them for the levels of a hierarchy.
    """
    return sum(int(np.sum(np.var(level, axis=0) > threshold)) for level in jax.tree.leaves(means))


def prior_of(model, params, data):
    """Return p(z), for the context of the first example if there is one.

    Raises `TypeError` for a model without a prior.
    """
    if model.latent.prior is None:
        raise TypeError("without p(z) a code has no rate")
    return model.latent.prior(params, data["context"][0] if "context" in data else None)


def rate_per_dimension(model, params, data):
    """Return the mean KL(q(z_d|x) || p(z_d)) of each dimension [D], nats.

    Raises `TypeError` unless both are diagonal Gaussians.
    """
    prior = prior_of(model, params, data)
    q = posteriors(model, params, data)
    if not (isinstance(q, Normal) and isinstance(prior, Normal)):
        raise TypeError(f"the rate of {type(q).__name__} against {type(prior).__name__} does not split by dimension")
    return _mean_rates(q, prior)


@jax.jit
def _mean_rates(q, prior):
    return jnp.mean(jax.vmap(lambda one: kl_normal_normal_per_dim(one, prior))(q), axis=0)


@jax.jit
def mutual_information(q, key):
    """Return I_q(x; z) = E_n E_{q(z|x_n)}[log q(z|x_n) - log (1/N) Σ_m q(z|x_m)], nats, from one sample an example.

    It is the index-code mutual information of arXiv:1802.04942 eq. (2) of these N examples. It is at most log N, which
    it approaches when the codes of different images do not overlap: read it as "at least" then.
    """
    where, size = axes(q), len(jax.tree.leaves(_without_shared(q))[0])

    def one(item):
        index, k = item
        q_n = jax.tree.map(lambda axis, part: _at(part, index) if axis == 0 else part, where, q, is_leaf=_is_none)
        z = q_n.sample(k)
        log_q = jax.vmap(lambda q_m: q_m.log_prob(z), in_axes=(where,))(q)
        return q_n.log_prob(z) - (jax.nn.logsumexp(log_q) - jnp.log(size))

    items = (jnp.arange(size), jax.random.split(key, size))
    pairs = PAIRS_WITH_NETWORKS if shares_networks(q) else PAIRS_AT_ONCE
    return jnp.mean(jax.lax.map(one, items, batch_size=max(1, min(PIECE, pairs // size))))


def is_capped(information, num_examples) -> bool:
    """Return True if `mutual_information` is well below the true one by its limit of log N, N = `num_examples`."""
    return information > math.log(num_examples) - NEAR_LIMIT


@jax.jit
def total_correlation(q, key):
    """Return KL(q(z) || Π_d q(z_d)) of q(z) = (1/N) Σ_n q(z|x_n), nats, from one sample an example.

    arXiv:1802.04942 eq. (2). It is 0 if the dimensions are independent over these N examples. If `mutual_information`
    is near log N, this number contains what the other misses: compare only at equal N. Raises `TypeError` unless q is a
    diagonal Gaussian.
    """
    if not isinstance(q, Normal):
        raise TypeError(f"the total correlation of a {type(q).__name__} does not split by dimension")
    size = len(q.loc)

    def one(item):
        q_n, k = item
        joint, marginals = log_aggregate(jnp.full(size, -jnp.log(size)), q, q_n.sample(k))
        return joint - jnp.sum(marginals)

    return jnp.mean(jax.lax.map(one, (q, jax.random.split(key, size)), batch_size=PIECE))


def least_aggregate_kl(q, prior, key) -> float:
    """Return a lower bound of KL(q(z) || p(z)), nats; the N posteriors are a sample of the aggregate q(z).

    It is the largest of 0 and five bounds, each less twice its standard error. With z in units of the prior:

    * KL(N(m, S) || p), m and S the moments of q(z): no density with these moments has a smaller KL from a Gaussian.
    * Σ_d KL(q(z_d) || p(z_d)), and the KL of |z|² from χ², each of bins: a function of z has no larger KL than z.
    * E[Σ_d log q_{-n}(z_d) - log p(z_d)] and E[log q_{-n}(z) - log p(z)], z ~ q(z|x_n) and q_{-n} the aggregate
      without the n-th posterior: E_q[log g(z) - log p(z)] ≤ KL(q || p) for any density g that does not depend on z.

    All except the first take one draw from each posterior. Raises `TypeError` unless both are diagonal Gaussians.
    """
    if not (isinstance(q, Normal) and isinstance(prior, Normal)):
        raise TypeError(f"a bound of KL(q(z) || p(z)) needs two diagonal Gaussians, not a {type(q).__name__}")
    from scipy import special  # not before it is needed: scipy.stats, which has the same functions, takes a second

    size = len(q.loc)
    if size < 2:
        return 0.0
    loc = ((q.loc - prior.loc[None]) * jnp.exp(-prior.log_scale)[None]).reshape(size, -1)
    log_scale = (q.log_scale - prior.log_scale[None]).reshape(size, -1)
    z = loc + jnp.exp(log_scale) * jax.random.normal(key, loc.shape)
    log_ratios = _left_out(Normal(loc, log_scale), z)
    bounds = [_at_least(np.asarray(log_ratio, np.float64)) for log_ratio in log_ratios]
    loc, variance = np.asarray(loc, np.float64), np.exp(2.0 * np.asarray(log_scale, np.float64))
    z = np.asarray(z, np.float64)
    radii = special.chdtr(z.shape[1], np.sum(z * z, axis=1))
    bounds += [_least_of_moments(loc, variance), _least_of_levels(special.ndtr(z))]
    return max(0.0, *bounds, _least_of_levels(radii[:, None]))


@jax.jit
def _left_out(q, z):
    """Return log q_{-n}(z_n) - log p(z_n) [N], from the marginals and jointly, p = N(0, I)."""
    size = len(z)

    def one(item):
        index, z = item
        log_weights = jnp.where(jnp.arange(size) == index, -jnp.inf, -jnp.log(size - 1.0))
        joint, marginals = log_aggregate(log_weights, q, z)
        log_prior = Normal.standard(z.shape).log_prob(z)
        return jnp.sum(marginals) - log_prior, joint - log_prior

    at_once = max(1, min(PIECE, PAIRS_AT_ONCE // size))
    return jax.lax.map(one, (jnp.arange(size), z), batch_size=at_once)


def _at_least(values):
    """Return the mean of `values` less twice its standard error; -inf if one draw has no density."""
    mean = values.mean()
    return mean - 2.0 * values.std(ddof=1) / math.sqrt(len(values)) if np.isfinite(mean) else -math.inf


def _least_of_moments(loc, variance):
    """Return ½ (tr S + |m|² - D - log |S|) of the aggregate, less twice its standard error.

    The jackknife over groups of examples removes the bias of a finite N, and gives the standard error.
    """
    size, dim = loc.shape
    groups = min(size, GROUPS)
    group = np.arange(size) * groups // size
    counts = np.bincount(group)
    centre = loc.mean(axis=0)
    part = [loc[group == g] - centre for g in range(groups)]
    first = np.stack([e.sum(axis=0) for e in part])
    second = np.stack([e.T @ e for e in part])
    within = np.stack([variance[group == g].sum(axis=0) for g in range(groups)])

    def divergence(count, first, second, within):
        mean = first / count
        covariance = second / count - np.outer(mean, mean) + np.diag(within / count)
        mean = mean + centre
        return 0.5 * (np.trace(covariance) + mean @ mean - dim - np.linalg.slogdet(covariance)[1])

    sums = (counts, first, second, within)
    whole = [a.sum(axis=0) for a in sums]
    value = divergence(*whole)
    left_out = np.array([divergence(*(w - a[g] for w, a in zip(whole, sums, strict=True))) for g in range(groups)])
    unbiased = groups * value - (groups - 1) * left_out.mean()
    error = math.sqrt((groups - 1) * left_out.var())
    return unbiased - 2.0 * error if np.isfinite(unbiased) else -math.inf


def _least_of_levels(levels):
    """Return Σ_d Σ_b f_db log(B f_db) without its bias, less twice its standard error.

    f_db is the share of column d of `levels` [N, D] in the b-th of B even bins of [0, 1]. Under p(z) the columns are
    uniform and independent. Chance adds D (B - 1) / 2N.
    """
    size, dim = levels.shape
    bins = min(GROUPS, max(2, size // 10))
    places = np.minimum((levels * bins).astype(int), bins - 1)
    shares = np.stack([np.bincount(column, minlength=bins) for column in places.T]) / size
    log_ratios = np.log(shares[np.arange(dim)[None], places] * bins).sum(axis=1)
    by_chance = dim * (bins - 1) / (2 * size)
    error = max(log_ratios.std() / math.sqrt(size), math.sqrt(2.0 * dim * (bins - 1)) / (2 * size))
    return log_ratios.mean() - by_chance - 2.0 * error


def _at(tree, index):
    return jax.tree.map(lambda a: a[index], tree)


def _is_none(axis):
    return axis is None
