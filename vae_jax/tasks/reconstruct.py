"""x -> z -> x̂."""

import jax


def from_mean(latent, params, x, context=None):
    """The mean of p(x | z = E_q[z]): what the model keeps of `x`."""
    z = latent.posterior(params, x, context).mean()
    return latent.likelihood(params, z, context).mean()


def from_samples(latent, params, key, x, context=None, *, num_samples):
    """[S, *event]: the means of p(x|z_s), z_s ~ q(z|x): what the model is unsure of."""
    q = latent.posterior(params, x, context)
    decode = lambda k: latent.likelihood(params, q.sample(k), context).mean()  # noqa: E731
    return jax.vmap(decode)(jax.random.split(key, num_samples))
