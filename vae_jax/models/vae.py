"""The variational auto-encoder, arXiv:1312.6114; where there is a class label, conditional on it, arXiv:1406.5298.

p(z) = prior         q(z|x, c) = posterior(encoder(x, c))       p(x|z, c) = likelihood(decoder(z, c))

With the likelihood `pixel_cnn` it is PixelVAE, arXiv:1611.05013: z tells the rest to the chain rule over pixels.
"""

import functools

import jax
import jax.numpy as jnp

from vae_jax import core, likelihoods, networks, objectives, posteriors, priors, spec
from vae_jax.core import Latent, Model
from vae_jax.distributions import heads
from vae_jax.networks.precision import compute_in
from vae_jax.networks.weights import with_weights
from vae_jax.objectives import objective as objective_of
from vae_jax.spec import build


def vae(
    encoder,
    decoder,
    *,
    latent_dim,
    posterior,
    likelihood,
    prior=None,
    objective=objectives.elbo,
    num_classes=0,
    **options,
):
    """A VAE from two networks and two heads; `objective` is maximised with `options` (`objectives.objective.of`).

    `encoder` puts out what `posterior`, one of `posteriors`, takes, `decoder` what `likelihood`, one of `likelihoods`;
    `prior` is one of `priors`, None for N(0, I). What it learns is params["prior"], what an objective does
    params["objective"].
    Raises `ValueError` where a conditional model meets no context.
    """
    prior = prior or priors.standard((latent_dim,))
    objective = objective_of.of(objective, standardize=likelihood.standardize, **options)
    one_hot = functools.partial(core.one_hot, num_classes=num_classes)

    def encode(params, x, context=None):
        return posterior.distribution(*encoder.apply(params["encoder"], likelihood.standardize(x), one_hot(context)))

    def decode(params, z, context=None):
        return likelihood.distribution(*decoder.apply(params["decoder"], z, one_hot(context)))

    def prior_of(params, context=None):
        return prior.distribution(params.get("prior"), lambda x: encode(params, x, context))

    latent = Latent(prior=prior_of, posterior=encode, likelihood=decode)

    def init(key, batch):
        key_encoder, key_decoder = jax.random.split(key)
        x, context = jax.tree.map(lambda a: a[0], (batch["x"], batch.get("context")))
        example = {"x": likelihood.standardize(x), "z": jnp.zeros(latent_dim)}
        return core.learned(
            encoder=encoder.init(key_encoder, example["x"], one_hot(context)),
            decoder=decoder.init(key_decoder, example["z"], one_hot(context)),
            prior=prior.init(jax.random.fold_in(key, 2), batch),
            objective=objective.init(jax.random.fold_in(key, 3), example),
        )

    return objective_of.model(init, latent, objective)


def from_config(
    *,
    event_shape,
    num_classes,
    latent_dim,
    encoder,
    decoder,
    posterior,
    likelihood,
    objective,
    prior=priors.STANDARD,
    compute_dtype="float32",
) -> Model:
    """A VAE from plain dicts: each has the `name` of a network, head, prior or objective, and its keyword arguments.

    A number among the objective's options may be a schedule, `{"name": "linear", "steps": 1000}`. `compute_dtype` is
    what the networks compute in, "float32" or "bfloat16"; distributions and bounds are float32 in any case.
    Raises `ValueError` that names the key, also where the objective cannot be used with this posterior and prior.
    """
    spec.integers(latent_dim=latent_dim)
    posterior = build(posteriors, posterior, (latent_dim,), where="posterior")
    likelihood = build(likelihoods, likelihood, tuple(event_shape), where="likelihood")
    prior = build(priors, prior, (latent_dim,), heads.abstract(likelihood).support, where="prior")

    def network(spec, outputs, *, where):
        return compute_in(compute_dtype, build(networks, spec, outputs, where=where))

    pair = heads.abstract(posterior), priors.abstract(prior, posterior, event_shape)
    equation, options = objective_of.from_config(objective, *pair, build_network=network)
    return vae(
        with_weights(network(encoder, posterior.shapes, where="encoder"), posterior),
        with_weights(network(decoder, likelihood.shapes, where="decoder"), likelihood),
        latent_dim=latent_dim,
        posterior=posterior,
        likelihood=likelihood,
        prior=prior,
        num_classes=num_classes,
        objective=equation,
        **options,
    )
