"""Denoisers of diffusion models: from the output of a network to ε̂, and p(x|z_0).  arXiv:2107.00630.

    epsilon     ε̂ = n(z_t)
    v           ε̂ = α_t n(z_t) + σ_t z_t,  arXiv:2202.00512 app. D
    levels      ε̂ = (z_t - α_t x̂) / σ_t,  x̂_d = Σ_v v p_dv,  p_dv ∝ exp{n_dv(z_t) - ½ e^{-γ} (z_td / α_t - v)²}

The last one is for bits and levels. It is the exact mean of y_d if n_dv is the log-probability of v at the other pixels
of z_t. Where the noise is smaller than the distance of two levels, it is exact for every n.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.core import Denoiser, embedded
from vae_jax.distributions import Bernoulli, Categorical, Normal
from vae_jax.distributions.diffusion import alpha_sigma
from vae_jax.networks import noise_schedules, timed
from vae_jax.networks.network import compute_in
from vae_jax.spec import BadOption, build, call, integers, one_of
from vae_jax.support import Binary, Levels, Unit, centred

PARAMETERISATIONS = ("epsilon", "v", "levels")
DIRECT = 32  # so many levels have an output of the network each; of more, log-weights are a product with a table
SAMPLERS = {"ancestral": 1.0, "ddim": 0.0}  # their η


def denoiser(network, schedule, event, *, parameterisation="epsilon", features=16, context=None):
    """Return the `core.Denoiser` of a network, and its `init`, (key, context) -> {"network", "schedule", "table"}.

    Args:
      network: outputs -> a `Network` of (z, t, context), t = (γ - γ_0) / (γ_1 - γ_0) at the first γ_0 and γ_1.
      schedule: one of `networks.noise_schedules`.
      event: the `core.Event` x.
      parameterisation: "epsilon", "v" or "levels".
      features: for "levels" with more than 32 levels, the rank of n: n_dv = Σ_f h_df(z_t) E_fv.
      context: the `core.Context` of x; None for none.

    Raises `BadOption` for "levels" with other data than bits and levels.
    """
    one_of(PARAMETERISATIONS, parameterisation=parameterisation)
    integers(features=features)
    shape, number = tuple(event.shape), event.support.num_levels
    by_levels = parameterisation == "levels"
    if by_levels and number is None:
        raise BadOption(f"parameterisation: 'levels' is for bits and levels, and the data are {event.support}; use 'v'")
    per_entry = {2: 1}.get(number, number if number is not None and number <= DIRECT else features)
    has_table = by_levels and number > DIRECT
    net = network(((*shape, per_entry) if by_levels else shape,))
    low, high = schedule.range
    values = None if number is None else np.linspace(-1.0, 1.0, number, dtype=np.float32)

    def init(key, context_of_x=None):
        key_network, key_schedule, key_table = jax.random.split(key, 3)
        c = embedded(context, context_of_x)
        params = {"network": net.init(key_network, jnp.zeros(shape), jnp.zeros(()), c)}
        if (learned := schedule.init(key_schedule)) is not None:
            params["schedule"] = learned
        if has_table:
            table = jax.random.normal(key_table, (features, number)) / np.sqrt(features)
            params["table"] = {"kernel": table, "bias": jnp.zeros(number)}
        return params

    def clean(params, z, gamma, outputs):
        """Return x̂, the mean of y given its noisy values and the log-weights of its levels."""
        alpha, _ = alpha_sigma(gamma)
        if number == 2:  # p(1) / p(-1) = exp{n + 2 e^{-γ} z / α}
            return jnp.tanh(0.5 * outputs[..., 0] + jnp.exp(-gamma) * z / alpha)
        logits = outputs
        if has_table:
            logits = outputs @ params["table"]["kernel"] + _last(params["table"]["bias"], shape)
        distance = z[..., None] / alpha - _last(values, shape)
        return jax.nn.softmax(logits - 0.5 * jnp.exp(-gamma) * jnp.square(distance)) @ values

    def noise(params, z, gamma, context_of_x=None, *, keep=None, dropout_key=None):
        c = embedded(context, context_of_x)
        c = c if keep is None or c is None else keep * c
        t = (gamma - low) / (high - low)
        (outputs,) = net.apply(params["network"], z, t, c, dropout_key=dropout_key)
        if parameterisation == "epsilon":
            return outputs
        alpha, sigma = alpha_sigma(gamma)
        if parameterisation == "v":
            return alpha * outputs + sigma * z
        return (z - alpha * clean(params, z, gamma, outputs)) / sigma

    return (
        Denoiser(
            shape,
            lambda params, t: schedule.gamma(params.get("schedule"), t),
            lambda params, t: schedule.rate(params.get("schedule"), t),
            noise,
            functools.partial(centred, event.support),
            functools.partial(_decode, event.support),
            (-1.0, 1.0) if isinstance(event.support, Unit) or (values is not None and not by_levels) else None,
        ),
        init,
        net.drops,
    )


def from_config(event, *, network, schedule, parameterisation, features=16, context=None, compute_dtype="float32"):
    """Return `denoiser` from dicts.

    `network` names one of `networks.timed`, `schedule` one of `networks.noise_schedules`. Other options are those
    of `denoiser`. Raises `BadOption` that names the key.
    """
    chosen = build(noise_schedules, schedule, where="schedule")

    def of_outputs(outputs):
        return compute_in(compute_dtype, build(timed, network, outputs, where="network"))

    options = {"parameterisation": parameterisation, "features": features, "context": context}
    return denoiser(of_outputs, chosen, event, **options)


def sampler(spec) -> dict:
    """Return the options `num_steps` and `eta` of `distributions.diffusion.reverse` from a dict.

    `spec` is {"name": "ancestral" or "ddim", "num_steps": N}. Raises `BadOption` that names the key.
    """

    def options(*, name, num_steps):
        one_of(SAMPLERS, name=name)
        integers(num_steps=num_steps)
        return {"num_steps": num_steps, "eta": SAMPLERS[name]}

    return call(options, spec, where="sampler")


def _last(values, shape):
    """Return `values` [V] with an axis of size one for each of `shape`."""
    return jnp.reshape(values, (*[1] * len(shape), -1))


def _decode(support, y, gamma):
    """Return p(x|z_0) ∝ exp{-½ e^{-γ} (y - scale(x))²} over the values of x, y = z_0 / α_0.

    arXiv:2107.00630 sec. 3.3.
    """
    if isinstance(support, Binary):
        return Bernoulli(2.0 * jnp.exp(-gamma) * y)
    if isinstance(support, Levels):
        values = np.linspace(-1.0, 1.0, support.num_levels, dtype=np.float32)
        return Categorical(-0.5 * jnp.exp(-gamma) * jnp.square(y[..., None] - _last(values, jnp.shape(y))))
    log_scale = jnp.full(jnp.shape(y), 0.5 * gamma)
    if isinstance(support, Unit):
        return Normal(0.5 * (y + 1.0), log_scale - jnp.log(2.0))
    return Normal(y, log_scale)
