"""What the latent variables carry."""

import functools

import jax
import jax.numpy as jnp

from vae_jax.bijectors import InverseAutoregressive
from vae_jax.distributions import Normal, Sequential
from vae_jax.distributions.kl import kl_normal_normal_per_dim
from vae_jax.objectives.disentangling import log_aggregate

PIECE = 250
PAIRS_AT_ONCE = 50_000  # of a code and a posterior
SHARING = (Sequential, InverseAutoregressive)  # parts of a posterior whose `params`, networks, are the same for every x


def posteriors(model, params, data):
    """q(z|x_n) for every example: a distribution whose arrays have a leading axis N, but for networks that all examples
    share: where there are such, `jax.vmap` over it wants `in_axes=axes(q)`.
    """
    q = _each(model.latent, _own, params, data)
    one = _posterior(model.latent, params, jax.tree.map(lambda a: a[0], data))
    return _map(lambda part, one: part.replace(params=one.params), lambda part, one: part, q, one)


def axes(q):
    """Where the distributions of many examples have their axis N: `in_axes` of `jax.vmap`."""
    everywhere = lambda part: jax.tree.map(lambda _: 0, part)  # noqa: E731
    return _map(lambda part: everywhere(part.replace(params=None)), everywhere, q)


def shares_networks(q) -> bool:
    """Whether a density of one code takes a pass of a network, so that N² of them are dear."""
    return any(isinstance(part, SHARING) for part in jax.tree.leaves(q, is_leaf=lambda p: isinstance(p, SHARING)))


def posterior_means(model, params, data):
    """The mean of q(z|x) of every example, [N, D]; of a hierarchy a tuple of such, by level (`Sequential.mean`)."""
    return _each(model.latent, _mean, params, data)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _each(latent, of, params, data):
    return jax.lax.map(lambda example: of(_posterior(latent, params, example)), data, batch_size=PIECE)


def _posterior(latent, params, example):
    return latent.posterior(params, example["x"], example.get("context"))


def _own(q):
    """Without what all examples share: there would be N copies."""
    return _map(lambda part: part.replace(params=None), lambda part: part, q)


def _map(shared, other, *trees):
    """`jax.tree.map` of `shared` over the parts that share a network, of `other` over all the other arrays."""
    is_shared = lambda part: isinstance(part, SHARING)  # noqa: E731
    choose = lambda part, *rest: (shared if is_shared(part) else other)(part, *rest)  # noqa: E731
    return jax.tree.map(choose, *trees, is_leaf=is_shared)


def _mean(q):
    return q.mean()


def active_units(means, threshold=0.01):
    """How many dimensions, of all levels together, have Var_n(E_q[z_d | x_n]) above `threshold`.

    arXiv:1509.00519 sec. 5.2; of the levels of a hierarchy `means` is a tuple.
    """
    return sum(int(jnp.sum(jnp.var(level, axis=0) > threshold)) for level in jax.tree.leaves(means))


def rate_per_dimension(model, params, data):
    """The mean KL(q(z_d|x) || p(z_d)) of each dimension [D], nats; diagonal Gaussians only, else `TypeError`."""
    context = data["context"][0] if "context" in data else None
    if model.latent.prior is None:
        raise TypeError("without p(z) a code has no rate")
    q, prior = posteriors(model, params, data), model.latent.prior(params, context)
    if not (isinstance(q, Normal) and isinstance(prior, Normal)):
        raise TypeError(f"the rate of {type(q).__name__} against {type(prior).__name__} does not split by dimension")
    return jnp.mean(jax.vmap(lambda one: kl_normal_normal_per_dim(one, prior))(q), axis=0)


@jax.jit
def mutual_information(q, key):
    """I_q(x; z) = E_n E_{q(z|x_n)}[log q(z|x_n) - log (1/N) Σ_m q(z|x_m)], nats, one sample an example.

    arXiv:1606.05908's aggregate posterior taken over these N examples. By construction at most log N, which it
    approaches when the codes of different images do not overlap: then read it as "at least".
    """
    size = jax.tree.leaves(q)[0].shape[0]
    where = axes(q)

    def one(item):
        index, k = item
        q_n = jax.tree.map(lambda axis, part: _at(part, index) if axis == 0 else part, where, q, is_leaf=_is_none)
        z = q_n.sample(k)
        log_q = jax.vmap(lambda q_m: q_m.log_prob(z), in_axes=(where,))(q)
        return q_n.log_prob(z) - (jax.nn.logsumexp(log_q) - jnp.log(size))

    items = (jnp.arange(size), jax.random.split(key, size))
    return jnp.mean(jax.lax.map(one, items, batch_size=max(1, min(PIECE, PAIRS_AT_ONCE // size))))


@jax.jit
def total_correlation(q, key):
    """KL(q(z) || Π_d q(z_d)) of q(z) = (1/N) Σ_n q(z|x_n), nats, one sample an example.  arXiv:1802.04942 eq. (2).

    0 where the dimensions are independent over these N examples. What `mutual_information` misses where it nears log N
    is counted here: then compare at equal N alone. Diagonal Gaussians only, else `TypeError`.
    """
    if not isinstance(q, Normal):
        raise TypeError(f"the total correlation of a {type(q).__name__} does not split by dimension")
    size = len(q.loc)

    def one(item):
        q_n, k = item
        joint, marginals = log_aggregate(jnp.full(size, -jnp.log(size)), q, q_n.sample(k))
        return joint - jnp.sum(marginals)

    return jnp.mean(jax.lax.map(one, (q, jax.random.split(key, size)), batch_size=PIECE))


def _at(tree, index):
    return jax.tree.map(lambda a: a[index], tree)


def _is_none(axis):
    return axis is None
