"""Reconstructions: from x to a code z and back to x̂."""

import jax


def from_mean(latent, params, x, context=None):
    """Return the mean of p(x | z = E_q[z]), the reconstruction from the mean code.

    Args:
      latent: a `core.Latent`.
      params: its parameters.
      x: one example.
      context: its context, if the model is conditional.
    """
    z = latent.posterior(params, x, context).mean()
    return latent.likelihood(params, z, context).mean()


def from_samples(latent, params, key, x, context=None, *, num_samples):
    """Return the means of p(x|z_s) for S draws z_s ~ q(z|x): `[S, *event]`. Their spread shows what z leaves open.

    Args:
      latent: a `core.Latent`.
      params: its parameters.
      key: a JAX key.
      x: one example.
      context: its context, if the model is conditional.
      num_samples: S.
    """
    q = latent.posterior(params, x, context)
    decode = lambda k: latent.likelihood(params, q.sample(k), context).mean()  # noqa: E731
    return jax.vmap(decode)(jax.random.split(key, num_samples))
