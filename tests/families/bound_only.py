"""A toy of the kind of a diffusion model: a bound on log p(x) and draws, but neither p(x) nor a code.

p(x) = N(x; μ, s² I), and the bound is log p(x) - ε²/2 with ε ~ N(0, 1): half a nat below log p(x) on average.
"""

import jax
import jax.numpy as jnp

from vae_jax.core import Aux, Model, per_example
from vae_jax.distributions import Normal

GAP = 0.5  # nats, E[ε²/2]


def from_config(*, event, log_scale):
    """Return the toy. `log_scale` is where log s begins."""

    def density(params):
        return Normal(params["loc"], params["log_scale"] * jnp.ones(event.shape))

    def init(key, batch):
        return {"loc": jnp.mean(batch["x"], axis=0), "log_scale": jnp.asarray(log_scale, jnp.float32)}

    def bound(params, key, x, context=None):
        return density(params).log_prob(x) - 0.5 * jnp.square(jax.random.normal(key))

    def loss(params, key, batch, step):
        value = per_example(bound)(params, key, batch)
        return -value, Aux({"bound": value})

    def judge(params, key, x, context=None):
        return {"bound": bound(params, key, x)}

    def sample(params, key, context=None):
        return density(params).sample(key)

    return Model(init, loss, judge, sample=sample, bound=bound)
