"""log p(x) of a data set by annealed importance sampling: closer than importance weights, and dearer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.evaluation.devices import mesh_of, over_devices
from vae_jax.inference import annealed

CHAINS_AT_ONCE = 2000  # over images


def log_likelihood(
    model, params, key, data, *, num_temperatures, num_chains, num_leapfrog, step_size, steepness=4.0, initial="prior"
) -> dict:
    """AIS of every example, all temperatures and all examples one compiled program: {"log_prob": [N], a lower bound in
    the mean, nats; "ess": [N], of the chains; "acceptance": [N], mean over temperatures}.

    The step sizes are tuned, from `step_size`, by a run of their own for every image; example i uses fold_in(key, i).
    """
    betas = annealed.temperatures(num_temperatures, steepness=steepness)
    options = (num_chains, num_leapfrog, initial)
    results = _log_likelihood(model.latent, mesh_of(params), options, params, key, data, betas, step_size)
    return jax.tree.map(np.asarray, results)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _log_likelihood(latent, mesh, options, params, key, data, betas, step_size):
    num_chains, num_leapfrog, initial = options

    def one(params, item):
        index, example = item
        key_tune, key_run = jax.random.split(jax.random.fold_in(key, index))
        path = {"betas": betas, "num_chains": num_chains, "num_leapfrog": num_leapfrog, "initial": initial}
        case = (example["x"], example.get("context"))
        sizes = annealed.tuned_step_size(latent, params, key_tune, *case, step_size=step_size, **path)
        result = annealed.anneal(latent, params, key_run, *case, step_size=sizes, **path)
        return {"log_prob": result.log_prob(), "ess": result.ess(), "acceptance": jnp.mean(result.acceptance)}

    def some(params, examples):
        images = max(1, min(len(examples[0]), CHAINS_AT_ONCE // num_chains))
        return jax.lax.map(lambda item: one(params, item), examples, batch_size=images)

    return over_devices(some, mesh, params, (jnp.arange(len(data["x"])), data))
