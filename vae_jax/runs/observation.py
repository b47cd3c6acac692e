"""Estimates of log p(x) for a trained model that only draws: its generator with Gaussian noise, arXiv:1611.04273.

p(z), p(x|z) = N(G(z), s² I), where G(z) is the draw of a GAN, or the mean of p(x|z) of any model with codes. The noise
is part of the model, so the number depends on s, and both models must have the same. Annealed importance sampling gives
a lower bound in the mean; on draws of the model itself, bidirectional Monte Carlo shows how close it is.
"""

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import models
from vae_jax.core import Model
from vae_jax.distributions import Normal
from vae_jax.evaluation import annealed
from vae_jax.runs import build, inputs, pieces, report
from vae_jax.spec import BadOption, numbers
from vae_jax.support import Real, Unit

PATH = {"num_temperatures": 300, "num_chains": 8, "num_leapfrog": 5, "step_size": 0.05}


def observed(experiment, scale) -> Model:
    """Return the model of an experiment with the observation N(mean, s² I), s = `scale` in the units of the model.

    The family of a GAN has its own (`models.gan.observed`). For a model with p(z) and p(x|z), the mean of p(x|z) is
    taken, and q(z|x) stays. It has the same parameters. Raises `BadOption` for data that are not real numbers, and for
    a family that has neither.
    """
    numbers(scale=scale, above=0)
    if not isinstance(experiment.event.support, Real | Unit):
        raise BadOption(
            f"scale: a Gaussian observation is a density of real numbers, and the data are {experiment.event.support}; "
            "train with the transform 'dequantize', 'unit' or 'real'"
        )
    family, latent = experiment.config["family"], experiment.model.latent
    if latent is None:
        options = experiment.config["model"] | {"observation_scale": scale}
        try:
            return models.from_config(family, options, event=experiment.event, context=experiment.context)
        except BadOption as error:
            if "observation_scale" not in str(error):
                raise
            raise BadOption(f"family: {family!r} has no generator to which noise could be added") from error
    if latent.prior is None:
        raise BadOption(f"family: {family!r} has no p(z), hence no log p(x) under any noise")

    def likelihood(params, z, context=None):
        mean = latent.likelihood(params, z, context).mean()
        return Normal(mean, jnp.full_like(mean, jnp.log(scale)))

    return Model(*experiment.model[:3], latent=latent.exchange(likelihood=likelihood))


def log_prob(run, x, context=None, *, scale, **path) -> dict:
    """Return AIS estimates of log p(x) under `observed`: {"log_prob", "ess", "acceptance"}, [N] each, nats.

    For dequantised levels the numbers bound the log-probability of the levels, as those of `Run.log_prob`.

    Args:
      run: a `Run`.
      x: examples on the scale of the stored data, or one example.
      context: for a conditional model.
      scale: s.
      **path: options of `evaluation.annealed.log_likelihood`; those of `PATH` by default.
    """
    model = observed(run.experiment, scale)
    data, size, single = inputs.batch(run.experiment, x, context)
    data = pieces.padded(data, pieces.power_of_two(size))
    estimates = of_data(run.experiment, model, run.params, data, **path)
    return {name: values[0] if single else values[:size] for name, values in estimates.items()}


def of_data(experiment, model, params, data, **path) -> dict:
    """Return AIS of every example of transformed data, as `log_prob`; `model` is that of `observed`."""
    key = jax.random.fold_in(report.measuring_key(experiment), 2)
    estimates = annealed.log_likelihood(model, params, key, data, **PATH | path)
    offset = build.levels_offset(experiment.config, experiment.dataset)
    return estimates | {"log_prob": estimates["log_prob"] - offset}


def gap(experiment, model, params, contexts=None, *, num_images, **path) -> dict:
    """Return bounds from both sides on draws of the model, nats: {"lower": [N], "upper": [N]} (bidirectional AIS)."""
    keys = jax.random.split(jax.random.fold_in(report.measuring_key(experiment), 3), num_images)
    both = annealed.simulated(model, params, keys, contexts, **PATH | path)
    offset = build.levels_offset(experiment.config, experiment.dataset)
    return {name: np.asarray(both[name]) - offset for name in ("lower", "upper")}
