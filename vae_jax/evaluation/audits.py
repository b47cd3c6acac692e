"""Checks of a likelihood: what would make the number in a table wrong, and how to see it from outside."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.evaluation import likelihood, yardstick
from vae_jax.inference import psis
from vae_jax.objectives.bounds import log_weight


def tail_shapes(model, params, key, data, *, num_samples):
    """Return the Pareto shape k̂ of the importance weights of every example [N], arXiv:1507.02646.

    Above 0.7 the bound of `num_samples` weights is far from log p(x), however small its standard error is.
    """
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(len(data["x"])))
    return np.asarray(_tail_shapes(model.latent, num_samples, params, keys, data["x"], data.get("context")))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _tail_shapes(latent, num_samples, params, keys, x, context):
    def one(item):
        key, x, context = item
        each = jax.random.split(key, num_samples)
        weigh = lambda k: log_weight(latent, params, k, x, context)  # noqa: E731
        return psis.smooth(jax.lax.map(weigh, each, batch_size=min(num_samples, likelihood.SAMPLES_AT_ONCE))).shape

    return jax.lax.map(one, (keys, x, context))


def of_batch_mates(model, params, key, data, *, num_samples, offset=0.0):
    """Return by how much log p(x) of the examples changes when every other one is replaced, [N] nats; 0 is right.

    A network that normalises over a batch has another number for other batch-mates. The noise of an example is that of
    its place, hence the same. Raises `ValueError` for fewer than three examples, which have no other batch-mates.
    """
    if len(data["x"]) < 3:
        raise ValueError(
            f"at least three examples are required, so that each gets other batch-mates; got {len(data['x'])}"
        )

    def measure(data):  # always with the same noise
        return yardstick.measure(
            model, params, jax.random.clone(key), data, num_samples=num_samples, offset=offset
        ).log_prob

    whole = measure(data)
    odd = np.arange(len(whole)) % 2 == 1
    change = np.zeros(len(whole))
    for replaced in (odd, ~odd):
        order = np.where(replaced, np.roll(np.arange(len(whole)), 2), np.arange(len(whole)))
        others = measure(jax.tree.map(lambda a, order=order: np.asarray(a)[order], data))
        change[~replaced] = np.abs(others - whole)[~replaced]
    return change


def total_mass(model, params, key, data, *, num_samples, repeats=4) -> tuple[float, float]:
    """Return Σ_x p(x) over `data`, which are all x, and its standard error, by the function that measures tables.

    The exponential of an importance-weighted bound of K samples is an unbiased estimate of p(x), arXiv:1509.00519 eq.
    (8). Hence the sum is 1 in the mean, whatever K is. With the exponential of another bound it is at most 1.

    Args:
      model: a `core.Model` of few bits.
      params: its parameters.
      key: the randomness.
      data: {"x": [N, ...]}, all that can be, and "context".
      num_samples: K.
      repeats: how often a sum is estimated.
    """
    sampled = yardstick.is_bound(yardstick.kind_of(model, num_samples))
    keys = jax.random.split(key, repeats if sampled else 1)
    measured = [yardstick.measure(model, params, k, data, num_samples=num_samples) for k in keys]
    p = np.exp(np.array([one.log_prob for one in measured], np.float64))
    spread = np.var(p, axis=0, ddof=1).sum() / len(p) if len(p) > 1 else 0.0
    return float(p.sum(axis=1).mean()), float(np.sqrt(spread))
