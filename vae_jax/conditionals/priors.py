"""Priors p(z): their parameters, and the distribution.

Each is `name(event_shape, data_support, **options) -> Prior`. `event_shape` is the shape of z; `data_support` is the
support of x, which only `vamp` needs.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vae_jax import networks
from vae_jax.bijectors import AffineCoupling, Chain, Flip
from vae_jax.conditionals import codes, denoisers, gaussian
from vae_jax.conditionals.chains import raster_scan
from vae_jax.core import Denoiser, Event
from vae_jax.distributions import (
    Autoregressive,
    Bernoulli,
    Mixture,
    Normal,
    Reshaped,
    Transformed,
    UniformSphere,
)
from vae_jax.distributions.diffusion import reverse
from vae_jax.distributions.sequential import parts_at_mean
from vae_jax.distributions.support import real_coordinates
from vae_jax.networks.autoregressive import made
from vae_jax.spec import MANY, BadOption, flags, integers, numbers, sizes
from vae_jax.support import Binary, Real, Sphere, Support

__all__ = [
    "autoregressive",
    "bernoulli",
    "diffusion",
    "flow",
    "mixture",
    "pixel_cnn",
    "standard",
    "uniform_sphere",
    "vamp",
]


STANDARD = {"name": "standard"}  # N(0, I), the default of all families


class Prior(NamedTuple):
    """A prior p(z), learned or fixed. If log p(z) has only a bound, there is no `distribution` but a `denoiser`."""

    init: Callable  # (key, batch) -> params; None if nothing is learned
    distribution: Callable | None  # (params, posterior_of) -> p(z); `posterior_of` is x -> q(z|x)
    support: Support | None  # the values of z; None if they are those of the posterior
    denoiser: Denoiser | None = None  # of a diffusion (`objectives.diffusion` has the bound)
    sample: Callable | None = None  # (params, key) -> z; None: a draw of `distribution`


def check_density(prior: Prior):
    """Raise `BadOption` if log p(z) has only a bound, for a family that needs the density itself."""
    if prior.distribution is None:
        raise BadOption("prior.name: 'diffusion' has a bound of log p(z), but no density; use it in the family 'vae'")


def check_support(prior: Prior, posterior):
    """Raise `BadOption` if p(z) and q(z|x) have different supports. `posterior` is q(z|x), with arrays or shapes."""
    for part in parts_at_mean(posterior):
        if prior.support not in (None, part.support):
            use = {Real(): "standard", Binary(): "bernoulli", Sphere(): "uniform_sphere"}.get(part.support, "vamp")
            raise BadOption(
                f"prior: it is over values that are {prior.support}, and the posterior, a {type(part).__name__}, is "
                f"over {part.support}; use {use!r}"
            )


def standard(event_shape, data_support=None) -> Prior:
    """Return N(0, I): it has no parameters, and a closed-form KL from every Gaussian posterior."""
    return Prior(_nothing, lambda params, posterior_of: Normal.standard(event_shape), Real())


def uniform_sphere(event_shape, data_support=None) -> Prior:
    """Return the uniform distribution on the unit sphere S^{D-1}: the closed-form prior for `von_mises_fisher`."""
    return Prior(_nothing, lambda params, posterior_of: UniformSphere(event_shape[0]), Sphere())


def mixture(event_shape, data_support=None, *, num_components=10, spread=1.0) -> Prior:
    """Return Σ_k π_k N(μ_k, diag(s_k²)), all of it learned.

    At initialisation π is uniform, μ_k is a draw from N(0, spread² I), and s_k = 1.

    Args:
      event_shape: [D].
      data_support: not used.
      num_components: K.
      spread: the standard deviation of the first means.
    """
    numbers(spread=spread, at_least=0)
    head = gaussian.normal_mixture(event_shape, num_components=num_components)
    logits_shape, locs_shape, scales_shape = head.shapes

    def init(key, batch):
        locs = spread * jax.random.normal(key, locs_shape)
        return {"logits": jnp.zeros(logits_shape), "locs": locs, "raw_log_scales": jnp.zeros(scales_shape)}

    def distribution(params, posterior_of):
        return head.distribution(params["logits"], params["locs"], params["raw_log_scales"])

    return Prior(init, distribution, Real())


def vamp(event_shape, data_support=None, *, num_components=500, noise=0.1) -> Prior:
    """Return p(z) = 1/K Σ_k q(z|u_k), K = `num_components` learned pseudo-inputs u_k: the VampPrior, arXiv:1705.07120.

    u_k is a learned real array, mapped into the range of the data: by a logistic if it is bounded (the paper clips).
    At initialisation it is the mean of the first batch plus `noise` ε_k, in real coordinates. Each step encodes the K
    pseudo-inputs once. In a model conditional on c the prior is p(z|c), and they are encoded for every example.

    Args:
      event_shape: [D].
      data_support: the support of x.
      num_components: K.
      noise: the standard deviation of the first pseudo-inputs about the mean.
    """
    integers(num_components=num_components)
    numbers(noise=noise, at_least=0)
    to_data, to_real = real_coordinates(data_support)

    def init(key, batch):
        centre = to_real(jnp.mean(batch["x"].astype(jnp.float32), axis=0))
        epsilon = jax.random.normal(key, (num_components, *centre.shape))
        return {"pseudo_inputs": centre[None] + noise * epsilon}

    def distribution(params, posterior_of):
        return Mixture(jnp.zeros(num_components), jax.vmap(posterior_of)(to_data(params["pseudo_inputs"])))

    return Prior(init, distribution, None)


def flow(event_shape, data_support=None, *, num_flows=8, hidden=(64,), activation="relu") -> Prior:
    """Return N(0, I) through `num_flows` affine couplings of alternating halves: RealNVP, arXiv:1605.08803, as a prior.

    The last layers of the conditioners are zero at initialisation: p(z) begins as N(0, I).

    Args:
      event_shape: [D].
      data_support: not used.
      num_flows: the number of couplings.
      hidden: widths of the hidden layers of each conditioner.
      activation: the activation of the conditioners.

    Raises `BadOption` for fewer than two dimensions, which have no halves.
    """
    (dim,) = event_shape
    if dim < 2:
        raise BadOption(f"name: 'flow' needs at least two dimensions, which have halves, got {dim}")
    integers(num_flows=num_flows, at_most=MANY)
    fixed, changed = dim // 2, dim - dim // 2
    conditioner = networks.mlp(((changed,), (changed,)), hidden, activation, zero_output=True)

    def init(key, batch):
        keys = jax.random.split(key, num_flows)
        return {"couplings": jax.vmap(lambda k: conditioner.init(k, jnp.zeros(fixed)))(keys)}

    def distribution(params, posterior_of):
        each = [jax.tree.map(lambda a, k=k: a[k], params["couplings"]) for k in range(num_flows)]
        parts = [part for weights in each for part in (AffineCoupling(weights, conditioner.apply), Flip())]
        return Transformed(Normal.standard(event_shape), Chain(tuple(parts)))

    return Prior(init, distribution, Real())


def diffusion(
    event_shape,
    data_support=None,
    *,
    network,
    schedule,
    sampler,
    parameterisation="epsilon",
    compute_dtype="float32",
) -> Prior:
    """Return a diffusion model of z, arXiv:2107.00630, as a prior: latent diffusion, arXiv:2106.05931.

    log p(z) has a bound only, so that log p(x) has one too, and no importance-weighted bound.

    Args:
      event_shape: the shape of z.
      data_support: not used.
      network: one of `networks.timed`, such as "time_mlp", and its options.
      schedule: one of `networks.noise_schedules`.
      sampler: {"name": "ancestral" or "ddim", "num_steps": N}.
      parameterisation: "epsilon" or "v".
      compute_dtype: the precision of the network, "float32" or "bfloat16".
    """
    options = {"network": network, "schedule": schedule, "parameterisation": parameterisation}
    denoiser, init, _ = denoisers.from_config(Event(event_shape, Real()), compute_dtype=compute_dtype, **options)
    steps = denoisers.sampler(sampler)
    return Prior(
        lambda key, batch: init(key),
        None,
        Real(),
        denoiser,
        lambda params, key: reverse(denoiser, params, key, **steps),
    )


def bernoulli(event_shape, data_support=None, *, learned=True) -> Prior:
    """Return independent bits, for a posterior over bits. Their log-odds are learned, or fixed at 0."""
    flags(learned=learned)

    def distribution(params, posterior_of):
        return Bernoulli(params["logits"] if learned else jnp.zeros(event_shape))

    return Prior(
        (lambda key, batch: {"logits": jnp.zeros(event_shape)}) if learned else _nothing, distribution, Binary()
    )


def autoregressive(event_shape, data_support=None, *, hidden=(64,), activation="relu") -> Prior:
    """Return p(z) = Π_d p(z_d | z_1, ..., z_{d-1}) over dependent bits, from one MADE.  arXiv:1502.03509.

    The last layer is zero at initialisation: p(z) begins uniform. A draw takes one pass for every bit.

    Args:
      event_shape: [D].
      data_support: not used.
      hidden: widths of the hidden layers of the MADE.
      activation: its activation.
    """
    network = made((event_shape,), hidden, activation, zero_output=True)
    conditionals = lambda params, z: Bernoulli(*network.apply(params, z))  # noqa: E731
    return Prior(
        lambda key, batch: network.init(key, jnp.zeros(event_shape)),
        lambda params, posterior_of: Autoregressive(params, conditionals, event_shape, Binary()),
        Binary(),
    )


def pixel_cnn(
    event_shape, data_support=None, *, shape, channels=(16, 16), first_kernel=3, kernel=3, hidden=(32,)
) -> Prior:
    """Return p(z) = Π_i `p(z_i | z_<i)` over bits that form an image of `shape` [h, w, d], from one gated PixelCNN.

    The d bits of a place are independent, given the places before it. The prior of arXiv:1711.00937 sec. 3.3 is one
    over categories. Here it is uniform at initialisation.

    Args:
      event_shape: [h w d].
      data_support: not used.
      shape: (h, w, d).
      channels: widths of the layers of the network, as in `networks.gated_pixel_cnn`.
      first_kernel: size of the first convolution.
      kernel: size of the others.
      hidden: widths of the layers from the last convolution to the outputs.

    Raises `BadOption` if `shape` does not have as many bits as z.
    """
    sizes(shape=shape)
    if len(shape) != 3 or math.prod(shape) != event_shape[0]:
        raise BadOption(
            f"shape must be (h, w, d) with h w d = {event_shape[0]}, the number of bits, got {tuple(shape)}"
        )
    head = codes.bernoulli(tuple(shape))
    network = networks.gated_pixel_cnn(head.shapes, channels, kernel, first_kernel, hidden, zero_output=True)
    image = raster_scan(network, head, tuple(shape))
    return Prior(
        lambda key, batch: network.init(key, jnp.zeros(shape)),
        lambda params, posterior_of: Reshaped(image(params, None), event_shape),
        Binary(),
    )


def _nothing(key, batch):
    return None
