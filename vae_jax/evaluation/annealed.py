"""log p(x) of many images by annealed importance sampling: closer than importance weights, and dearer."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.evaluation.devices import mesh_of, over_devices
from vae_jax.inference import annealed

CHAINS_AT_ONCE = 2000  # over images
TUNED_ON = 16


class _Path(NamedTuple):
    """What a compiled program of AIS is specialised to: keyword arguments of `inference.annealed`."""

    num_chains: int
    num_leapfrog: int
    initial: str

    def at_once(self, size):
        """How many of `size` images run side by side."""
        return max(1, min(size, CHAINS_AT_ONCE // self.num_chains))


def log_likelihood(
    model, params, key, data, *, num_temperatures, num_chains, num_leapfrog, step_size, steepness=4.0, initial="prior"
) -> dict:
    """AIS of every example, all temperatures and all examples one compiled program: {"log_prob": [N], a lower bound in
    the mean, nats; "ess": [N], of the chains; "acceptance": [N], mean over temperatures}.

    The step sizes are tuned, from `step_size`, by a run of their own for every image; example i uses fold_in(key, i).
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
    """Bidirectional Monte Carlo on images drawn from the model, one for each key [N] of `key`: {"x": [N, ...], "lower":
    [N], "upper": [N]}, nats: in the mean, log p(x) lies between them.

    `contexts` [N] are classes, None for a model without. The step size of every temperature is the median over
    TUNED_ON images of their own, which are drawn from the model, too.
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
