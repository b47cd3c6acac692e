"""The variational auto-encoder, arXiv:1312.6114; with a context, the conditional one, arXiv:1406.5298.

p(z) = prior         q(z|x, c) = posterior(encoder(x, c))       p(x|z, c) = likelihood(decoder(z, c))

With the likelihood `pixel_cnn` it is PixelVAE, arXiv:1611.05013: the chain rule over pixels models the details.
"""

import functools

from vae_jax import networks, objectives
from vae_jax.conditionals import conditional, heads, priors, tables
from vae_jax.core import Model
from vae_jax.networks.network import compute_in
from vae_jax.objectives import objective as objective_of
from vae_jax.spec import BadOption, build, integers
from vae_jax.support import seen

TABLES = True  # takes the columns of a table, and missing values


def vae(
    encoder, decoder, *, event, latent_dim, prior=None, objective=objectives.elbo, context=None, **options
) -> Model:
    """Return a VAE.

    Args:
      encoder: a `core.Conditional`, x and c -> q(z|x, c).
      decoder: a `core.Conditional`, z and c -> p(x|z, c).
      event: the `core.Event` x. If it may have missing values, the encoder sees zeros in their place and the mask of
        the observed ones (`support.seen`), and the decoder's density must be `Observed`.
      latent_dim: D, the size of z.
      prior: one of `conditionals.priors`; None for N(0, I).
      objective: an equation of `objectives`, which training maximises.
      context: the `core.Context` c; None for none.
      **options: options of the objective (`objectives.objective.of`).

    Raises `BadOption` if p(z) and q(z|x) have different supports.
    """
    prior = prior or priors.standard((latent_dim,))
    priors.check_support(prior, encoder.abstract)
    if prior.denoiser is not None and objective is not objectives.elbo_sampled_kl:
        raise BadOption(
            f"objective.name: {objective.__name__!r} needs log p(z), and the prior 'diffusion' has only a bound of it; "
            "use 'elbo_sampled_kl'"
        )
    see = functools.partial(seen, event.support, missing=event.missing)
    return objective_of.latent_variable_model(
        encoder,
        decoder,
        prior,
        event=event,
        latent_shape=(latent_dim,),
        objective=objective_of.of(objective, see=see, **options),
        context=context,
    )


def from_config(
    *,
    event,
    context,
    latent_dim,
    encoder,
    decoder,
    posterior,
    likelihood,
    objective,
    prior=priors.STANDARD,
    compute_dtype="float32",
) -> Model:
    """Return a VAE from plain dicts: each has the `name` of a network, head, prior or objective, and its options.

    Args:
      event: the `core.Event` x.
      context: the `core.Context` c; None for none.
      latent_dim: D, the size of z.
      encoder: a network of `networks`, whose outputs parametrise `posterior`.
      decoder: a network of `networks`, whose outputs parametrise `likelihood`.
      posterior: a head of `conditionals.heads` over z.
      likelihood: a head of `conditionals.heads` over x.
      objective: an equation of `objectives`. A number among its options may be a schedule, such as
        `{"name": "linear", "steps": 1000}`.
      prior: one of `conditionals.priors`.
      compute_dtype: the precision of the networks, "float32" or "bfloat16"; densities and bounds are always float32.

    Raises `BadOption` that names the key.
    """
    integers(latent_dim=latent_dim)

    def network(spec, outputs, *, where):
        return compute_in(compute_dtype, build(networks, spec, outputs, where=where))

    q = build(heads, posterior, (latent_dim,), where="posterior")
    p = tables.likelihood(heads, likelihood, event, context)
    decoder = conditional(network(decoder, p.shapes, where="decoder"), p)
    prior = build(priors, prior, (latent_dim,), decoder.abstract.support, where="prior")
    equation, options = objective_of.from_config(objective, build_network=network)
    return vae(
        conditional(network(encoder, q.shapes, where="encoder"), q),
        decoder,
        event=event,
        latent_dim=latent_dim,
        prior=prior,
        objective=equation,
        context=context,
        **options,
    )
