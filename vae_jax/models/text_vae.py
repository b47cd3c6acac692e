"""The sentence VAE, arXiv:1511.06349: a language model of which a code says what the whole sentence is about.

p(z) = prior      q(z|x) = posterior(encoder(w_1, ..., w_L, end))      p(x|z) = Π_t Categorical(w_t; logits_t(w_<t, z))
"""

import functools

import jax
import jax.numpy as jnp

from vae_jax import core, networks, objectives, posteriors, priors, spec
from vae_jax.core import Latent, Model, unconditional
from vae_jax.distributions import Sentence, heads, sentence
from vae_jax.networks import language
from vae_jax.networks.tokens import AtEnd
from vae_jax.networks.weights import with_weights
from vae_jax.objectives import objective as objective_of
from vae_jax.spec import BadOption, build


def text_vae(
    encoder,
    decoder,
    event_shape,
    vocabulary_size,
    *,
    latent_dim,
    posterior,
    prior=None,
    objective=objectives.elbo,
    drops=False,
    **options,
) -> Model:
    """`encoder` puts out what `posterior` takes, from x alone (`networks.tokens.AtEnd`); `decoder` puts out the logits
    [T, V] from the words before and z (`networks.language`). The rest is as in `vae`.

    `drops`: training leaves out units or words, those of the networks' own rates, anew for every sentence and step; the
    bound, draws and evaluation are of the whole networks. Words that the decoder cannot see it must learn from z.
    """
    (length,) = event_shape
    prior = prior or priors.standard((latent_dim,))
    seen = functools.partial(bag_of_words, vocabulary_size=vocabulary_size)
    objective = objective_of.of(objective, standardize=seen, **options)

    def encode(params, x, context=None):
        return posterior.distribution(*encoder.apply(params["encoder"], x))

    def decode(params, z, context=None, dropout_key=None):
        return Sentence.of(decoder, params["decoder"], z, length, vocabulary_size, dropout_key=dropout_key)

    def prior_of(params, context=None):
        return prior.distribution(params.get("prior"), lambda x: encode(params, x))

    def encode_thinned(params, x, key):
        rngs = {"dropout": jax.random.fold_in(key, 0)}
        return posterior.distribution(*encoder.apply(params["encoder"], x, dropping=True, rngs=rngs))

    def decode_thinned(params, z, key):
        return decode(params, z, dropout_key=jax.random.fold_in(key, 1))

    def init(key, batch):
        key_encoder, key_decoder = jax.random.split(key)
        x, z = batch["x"][0], jnp.zeros(latent_dim)
        return core.learned(
            encoder=encoder.init(key_encoder, x),
            decoder=decoder.init(key_decoder, x, z),
            prior=prior.init(jax.random.fold_in(key, 2), batch),
            objective=objective.init(jax.random.fold_in(key, 3), {"x": seen(x), "z": z}),
        )

    model = objective_of.model(init, Latent(prior_of, encode, decode), objective)
    if not drops:
        return model
    return objective_of.thinned(model, objective, Latent(prior_of, encode_thinned, decode_thinned))


def bag_of_words(x, vocabulary_size):
    """How often each word is in the row x [T], ends included [V]: what a network of the objective's own sees of it."""
    return jnp.zeros(vocabulary_size).at[x].add(sentence.predicted(x))


def from_config(
    *,
    event_shape,
    num_classes,
    vocabulary_size,
    latent_dim,
    encoder,
    decoder,
    posterior,
    objective,
    prior=priors.STANDARD,
) -> Model:
    """From plain dicts: `encoder` and `decoder` name `lstm` or `transformer` (`networks.language`), each with its own
    keyword arguments, `dropout` and `word_dropout` among them; the rest is as in `vae`.

    Raises `ValueError` that names the key, also where the objective cannot be used with this posterior and prior, and
    for the prior `vamp`, whose pseudo-inputs could not move: between two words there is nothing.
    """
    unconditional("text_vae", num_classes)
    spec.integers(latent_dim=latent_dim)
    if spec.name_of(prior) == "vamp":
        raise BadOption("prior: 'vamp' learns pseudo-inputs, and words have no gradient; use 'mixture'")
    posterior = build(posteriors, posterior, (latent_dim,), where="posterior")
    prior = build(priors, prior, (latent_dim,), where="prior")
    given = {"vocabulary_size": vocabulary_size, "length": event_shape[0]}
    reader, decoder = (
        build(language, spec, where=f"{part}", **given) for part, spec in (("encoder", encoder), ("decoder", decoder))
    )
    pair = heads.abstract(posterior), priors.abstract(prior, posterior, event_shape)
    equation, options = objective_of.from_config(objective, *pair, build_network=functools.partial(build, networks))
    return text_vae(
        with_weights(AtEnd(posterior.shapes, reader), posterior),
        decoder,
        event_shape,
        vocabulary_size,
        latent_dim=latent_dim,
        posterior=posterior,
        prior=prior,
        objective=equation,
        drops=reader.drops or decoder.drops,
        **options,
    )
