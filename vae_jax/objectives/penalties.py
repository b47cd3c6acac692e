"""Penalties Ω that an auto-encoder pays in addition to its distortion; z = f(x) is the mean of `latent.posterior`.

None is in nats; a weight brings each to the scale of the distortion.
"""

import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vae_jax.objectives.equation import check_mean
from vae_jax.spec import BadOption, build, numbers, shown, under

__all__ = ["contractive", "gradient_penalty", "l1", "l2", "target_activation", "weight_decay"]


class Penalty(NamedTuple):
    """A penalty of one example or of a batch."""

    value: Callable  # (latent, params, x, context=None) -> number; with `of_batch`, (latent, params, batch) -> number
    of_batch: bool = False  # True if it is a function of a whole batch


def l1():
    """The L1 norm Σ_d |z_d|: codes with few entries that are not 0."""
    return Penalty(lambda latent, params, x, context=None: jnp.sum(jnp.abs(_code(latent, params, x, context))))


def l2():
    """Half the squared norm, ½ |z|²: codes near 0, where a density can be fitted.  L_z of arXiv:1903.12436 sec. 3."""
    return Penalty(lambda latent, params, x, context=None: 0.5 * jnp.sum(jnp.square(_code(latent, params, x, context))))


def target_activation(*, activation):
    """The KL from a target activation, Σ_d KL(ρ || ρ̂_d): units that are rarely on.

    ρ = `activation`, and ρ̂_d is the mean of z_d in (0, 1) over the batch. KL(ρ || ρ̂) = ρ log ρ/ρ̂ + (1-ρ) log
    (1-ρ)/(1-ρ̂) (Ng 2011, lecture notes on sparse auto-encoders). Means are clipped to a distance of 10⁻⁶ from 0 and 1.
    Raises `BadOption` for ρ outside (0, 1).
    """
    numbers(activation=activation, above=0, below=1)

    def penalty(latent, params, batch):
        codes = jax.vmap(lambda x, c: _code(latent, params, x, c))(batch["x"], batch.get("context"))
        mean = jnp.clip(jnp.mean(codes, axis=0), 1e-6, 1.0 - 1e-6)
        on = activation * (jnp.log(activation) - jnp.log(mean))
        return jnp.sum(on + (1.0 - activation) * (jnp.log1p(-activation) - jnp.log1p(-mean)))

    return Penalty(penalty, of_batch=True)


def contractive():
    """The squared Frobenius norm ‖∂f/∂x‖²_F of the encoder's Jacobian at x, exact (Rifai et al. 2011)."""

    def penalty(latent, params, x, context=None):
        return _squared_jacobian(lambda x: _code(latent, params, x, context), x)

    return Penalty(penalty)


def gradient_penalty():
    """The squared Jacobian of the decoder, ‖∂E[x|z]/∂z‖²_F at z = f(x): a smooth decoder.

    RAE-GP, arXiv:1903.12436 sec. 3. It is the whole Jacobian; published code differentiates the sum over pixels, whose
    parts may cancel.
    """

    def penalty(latent, params, x, context=None):
        z = _code(latent, params, x, context)
        check_mean("gradient_penalty", latent.likelihood(params, z, context))
        return _squared_jacobian(lambda z: latent.likelihood(params, z, context).mean(), z)

    return Penalty(penalty)


def weight_decay():
    """The sum Σ θ² over all parameters of the decoder.  RAE-L2, arXiv:1903.12436 sec. 3."""

    def penalty(latent, params, x, context=None):
        return sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(params["decoder"]))

    return Penalty(penalty)


def _code(latent, params, x, context=None):
    return latent.posterior(params, x, context).mean()


def _squared_jacobian(function, at):
    """Return Σ (∂f_i/∂a_j)². It takes as many passes as the smaller of the two spaces has dimensions."""
    fewer_outputs = jax.eval_shape(function, at).size < at.size
    jacobian = (jax.jacrev if fewer_outputs else jax.jacfwd)(function)
    return jnp.sum(jnp.square(jacobian(at)))


def from_config(penalties) -> dict:
    """Return {name: (weight, `Penalty`)} from dicts such as {"l1": {"weight": 0.1}}; {} for no penalty.

    Raises `BadOption` that names the key.
    """
    if not isinstance(penalties, Mapping):
        raise BadOption(f"penalties must be a dict of dicts, each with a 'weight', got {shown(penalties)}")
    weighted = {}
    for name, options in penalties.items():
        with under(f"penalties.{name}"):
            if not isinstance(options, Mapping):
                raise BadOption(f" must be a dict with a 'weight', got {shown(options)}")
            if "weight" not in options:
                raise BadOption(": missing key 'weight'")
            numbers(weight=options["weight"], at_least=0)
            rest = {key: value for key, value in options.items() if key != "weight"}
            weighted[name] = options["weight"], build(sys.modules[__name__], {"name": name, **rest}, where="")
    return weighted
