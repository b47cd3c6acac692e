"""Estimates of log p(x) for many images by annealed importance sampling (AIS).

They are closer than importance weights, and more expensive.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.evaluation.devices import mesh_of, over_devices
from vae_jax.inference import annealed

CHAINS_AT_ONCE = 2000  # of all images together
TUNED_ON = 16  # images


class _Path(NamedTuple):
    """The keyword arguments of `inference.annealed` for which a program is compiled."""

    num_chains: int
    num_leapfrog: int
    initial: str

    def at_once(self, size):
        """Return how many of `size` images run side by side."""
        return max(1, min(size, CHAINS_AT_ONCE // self.num_chains))


def log_likelihood(
    model, params, key, data, *, num_temperatures, num_chains, num_leapfrog, step_size, steepness=4.0, initial="prior"
) -> dict:
    """Return AIS of every example: {"log_prob": [N], "ess": [N], "acceptance": [N]}.

    `log_prob` is a lower bound in the mean, in nats; `ess` is that of the chains; `acceptance` is the mean over
    temperatures. All temperatures and all examples are one compiled program. For every image a separate run tunes the
    step sizes, starting from `step_size`. Example i uses fold_in(key, i).

    Args:
      model: a `core.Model` with a `latent`.
      params: its parameters.
      key: the randomness.
      data: {"x": [N, ...]}, and "context".
      num_temperatures: the number of steps from the start to the posterior.
      num_chains: chains for each image.
      num_leapfrog: leapfrog steps at each temperature.
      step_size: the start of the tuning.
      steepness: of the temperatures (`inference.annealed.temperatures`).
      initial: "prior" or "posterior", where the chains start.
    """
    betas = annealed.temperatures(num_temperatures, steepness=steepness)
    path = _Path(num_chains, num_leapfrog, initial)
    results = _log_likelihood(model.latent, mesh_of(params), path, params, key, data, betas, step_size)
    return jax.tree.map(np.asarray, results)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _log_likelihood(latent, mesh, path, params, key, data, betas, step_size):
    options = {"betas": betas, **path._asdict()}

    def one(params, item):
        index, example = item
        key_tune, key_run = jax.random.split(jax.random.fold_in(key, index))
        case = (example["x"], example.get("context"))
        sizes = annealed.tuned_step_size(latent, params, key_tune, *case, step_size=step_size, **options)
        result = annealed.anneal(latent, params, key_run, *case, step_size=sizes, **options)
        return {"log_prob": result.log_prob(), "ess": result.ess(), "acceptance": jnp.mean(result.acceptance)}

    def some(params, examples):
        return jax.lax.map(lambda item: one(params, item), examples, batch_size=path.at_once(len(examples[0])))

    return over_devices(some, mesh, params, (jnp.arange(len(data["x"])), data))


def simulated(
    model,
    params,
    keys,
    contexts=None,
    *,
    num_temperatures,
    num_chains,
    num_leapfrog,
    step_size,
    steepness=4.0,
    initial="prior",
) -> dict:
    """Run bidirectional Monte Carlo on images drawn from the model: {"x": [N, ...], "lower": [N], "upper": [N]}, nats.

    In the mean, log p(x) lies between the two. The step size of each temperature is the median over TUNED_ON further
    images that are drawn from the model too.

    Args:
      model: a `core.Model` with a `latent`.
      params: its parameters.
      keys: [N], one key for each image.
      contexts: [N, ...], or None for a model without.
      num_temperatures: the number of steps from the start to the posterior.
      num_chains: chains for each image.
      num_leapfrog: leapfrog steps at each temperature.
      step_size: the start of the tuning.
      steepness: of the temperatures (`inference.annealed.temperatures`).
      initial: "prior" or "posterior", where the chains start.
    """
    betas = annealed.temperatures(num_temperatures, steepness=steepness)
    path = _Path(num_chains, num_leapfrog, initial)
    results = _simulated(model.latent, mesh_of(params), path, params, keys, contexts, betas, step_size)
    return jax.tree.map(np.asarray, results)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _simulated(latent, mesh, path, params, keys, contexts, betas, step_size):
    options = {"betas": betas, **path._asdict()}

    def tune(item):
        key, context = item
        key_z, key_x, key_run = jax.random.split(key, 3)
        z = latent.prior(params, context).sample(key_z)
        x = latent.likelihood(params, z, context).sample(key_x)
        return annealed.tuned_step_size(latent, params, key_run, x, context, step_size=step_size, **options)

    others = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys[:TUNED_ON])
    sizes = jnp.median(jax.vmap(tune)((others, jax.tree.map(lambda c: c[:TUNED_ON], contexts))), axis=0)

    def some(params, items):
        def one(item):
            key, context = item
            key = jax.random.fold_in(key, 0)
            result = annealed.sandwich(latent, params, key, context, step_size=sizes, **options)
            return {"x": result.x, "lower": result.lower, "upper": result.upper}

        return jax.lax.map(one, items, batch_size=path.at_once(len(items[0])))

    return over_devices(some, mesh, params, (keys, contexts))
