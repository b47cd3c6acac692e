"""A toy of the kind of a GAN: two players in one loss, draws, and no likelihood of any kind.

x = σ(a + b ε), ε ~ N(0, I), and a critic that is linear in x and x²: non-saturating losses, arXiv:1406.2661 sec. 3.
"""

import jax
import jax.numpy as jnp

from vae_jax.core import Aux, Model, per_example


def from_config(*, event):
    """Return the toy; its players are the parts "generator" and "critic" of the parameters."""

    def init(key, batch):
        zeros = jnp.zeros(event.shape)
        return {"generator": {"a": zeros, "b": zeros + 1.0}, "critic": {"linear": zeros, "square": zeros}}

    def generate(generator, key):
        return jax.nn.sigmoid(generator["a"] + generator["b"] * jax.random.normal(key, event.shape))

    def logit(critic, x):
        return jnp.sum(critic["linear"] * x + critic["square"] * jnp.square(x)) / x.size

    @per_example
    def losses(params, key, x, context):
        stop = jax.lax.stop_gradient
        fake = generate(params["generator"], key)
        fooled = jax.nn.softplus(-logit(stop(params["critic"]), fake))
        told_apart = jax.nn.softplus(-logit(params["critic"], x)) + jax.nn.softplus(logit(params["critic"], stop(fake)))
        return fooled, told_apart

    def loss(params, key, batch, step):
        fooled, told_apart = losses(params, key, batch)
        return fooled + told_apart, Aux({"generator": fooled, "critic": told_apart})

    def sample(params, key, context=None):
        return generate(params["generator"], key)

    return Model(init, loss, judge=lambda params, key, x, context=None: {}, sample=sample)
