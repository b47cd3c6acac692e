"""The most likely tree over binary pixels (Chow and Liu 1968, doi:10.1109/TIT.1968.1054142), by counting.

p(x) = p(x_r) Π_{d ≠ r} p(x_d | x_{parent(d)})
max over all tables of mean_n log p(x_n) = Σ_{d ≠ r} I(x_d; x_{parent(d)}) - Σ_d H(x_d), of the empirical distribution
"""

import math

import jax
import jax.numpy as jnp

from vae_jax import spec
from vae_jax.core import Model, Sums, tractable
from vae_jax.distributions import Reshaped, Tree


def chow_liu(event_shape, *, smoothing) -> Model:
    """Return the tree, fitted by `counting` all pairs of pixels.

    The tree is a spanning tree of the greatest mutual information, with the first pixel as its root. a = `smoothing` is
    added to the count of every value (v, w) of a pair: p(v, w) = (n_vw + a) / (n + 4a), and p(v) = Σ_w p(v, w).
    Raises `BadOption` for a smoothing that is not positive: a pair that was never seen would be impossible.
    """
    spec.numbers(smoothing=smoothing, above=0)
    size = math.prod(event_shape)

    def init(key, batch):
        first = jnp.zeros(size, jnp.int32)
        return {"order": jnp.arange(size, dtype=jnp.int32), "parent": first, "logits": jnp.zeros((size, 2))}

    def density(params, context=None):
        return Reshaped(Tree(**params), tuple(event_shape))

    def expect(params, batch):
        x = batch["x"].reshape(-1, size)
        sums = {"count": jnp.asarray(len(x), x.dtype), "both": x.T @ x}  # integers: exact below 2²⁴
        return sums, jax.vmap(density(params).log_prob)(batch["x"])

    def maximize(params, sums):
        joint = pairs(sums["both"], sums["count"], smoothing)
        order, parent = maximum_spanning_tree(mutual_information(joint))
        log_p = jnp.log(joint[:, :, parent, jnp.arange(size)])  # [value of the parent, value, D]
        root = jnp.diagonal(log_p[:, :, 0])  # the root is its own parent
        logits = (log_p[:, 1] - log_p[:, 0]).T.at[0].set(root[1] - root[0])
        return {"order": order, "parent": parent, "logits": logits}

    return tractable(init, density, sums=Sums(expect, maximize, one_pass=True))


def pairs(both, count, smoothing):
    """Return p(x_i = v, x_j = w) [2, 2, D, D]; on the diagonal, p(x_i = v).

    Args:
      both: the number n_ij [D, D] of images where x_i and x_j are 1.
      count: the number of images.
      smoothing: a.
    """
    ones = jnp.diagonal(both)
    first, second = jnp.broadcast_to(ones[:, None], both.shape), jnp.broadcast_to(ones[None], both.shape)
    seen = jnp.stack([jnp.stack([count - first - second + both, second - both]), jnp.stack([first - both, both])])
    extra = jnp.full((2, 2), smoothing)[:, :, None, None]
    same = 2.0 * smoothing * jnp.eye(2)[:, :, None, None]
    diagonal = jnp.eye(len(both), dtype=bool)[None, None]
    return (seen + jnp.where(diagonal, same, extra)) / (count + 4.0 * smoothing)


def mutual_information(joint):
    """Return I(x_i; x_j) = Σ_vw p(v, w) log p(v, w) / (p(v) p(w)) [D, D], in nats; on the diagonal, the entropy."""
    first, second = joint.sum(axis=1, keepdims=True), joint.sum(axis=0, keepdims=True)
    ratio = jnp.where(joint > 0, joint, 1.0) / (first * second)
    return jnp.sum(joint * jnp.log(ratio), axis=(0, 1))


def maximum_spanning_tree(weights):
    """Return the nodes in the order in which they join the tree [D], and the parent of each [D], by Prim's algorithm.

    The tree begins at node 0, which is its own parent. `weights` [D, D] is symmetric; its diagonal is not read. The
    loop has D - 1 steps, each of O(D).
    """

    def join(state, _):
        outside, best, parent = state  # best: the weight of the heaviest edge from each node to the tree
        node = jnp.argmax(jnp.where(outside, best, -jnp.inf)).astype(jnp.int32)
        outside = outside.at[node].set(False)
        closer = outside & (weights[node] > best)
        best, parent = jnp.where(closer, weights[node], best), jnp.where(closer, node, parent)
        return (outside, best, parent), node

    size = len(weights)
    start = (jnp.arange(size) > 0, weights[0], jnp.zeros(size, jnp.int32))
    (_, _, parent), joined = jax.lax.scan(join, start, length=size - 1)
    return jnp.concatenate([jnp.zeros(1, jnp.int32), joined]), parent


def from_config(*, event, smoothing) -> Model:
    """Return the tree from the keys of a config; the learner is `counting`."""
    return chow_liu(event.shape, smoothing=smoothing)
