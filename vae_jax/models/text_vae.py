"""The sentence VAE, arXiv:1511.06349: a language model whose code carries the content of the whole sentence.

p(z) = prior      q(z|x) = posterior(encoder(w_1, ..., w_L, end))      p(x|z) = Π_t Categorical(w_t; logits_t(w_<t, z))
"""

import functools

import jax.numpy as jnp

from vae_jax import networks, objectives
from vae_jax.conditionals import conditional, heads, priors
from vae_jax.conditionals.chains import sentence_conditional
from vae_jax.core import Model
from vae_jax.distributions import sentence
from vae_jax.networks import language, readers
from vae_jax.objectives import objective as objective_of
from vae_jax.spec import BadOption, build, integers, name_of
from vae_jax.support import Tokens

TAKES = (Tokens,)


def text_vae(
    encoder, decoder, *, event, latent_dim, prior=None, objective=objectives.elbo, drops=False, **options
) -> Model:
    """Return a sentence VAE; its arguments are those of `models.vae`, with z in the place of a context of the decoder.

    `drops`: training drops units or words, by the rates of the networks, with a new mask for every sentence and step.
    The bound, draws and evaluation never drop. The decoder must learn the words that it cannot see from z.
    """
    prior = prior or priors.standard((latent_dim,))
    priors.check_support(prior, encoder.abstract)
    count_words = functools.partial(bag_of_words, vocabulary_size=event.support.num_levels)
    return objective_of.latent_variable_model(
        encoder,
        decoder,
        prior,
        event=event,
        latent_shape=(latent_dim,),
        objective=objective_of.of(objective, see=count_words, **options),
        drops=drops,
    )


def bag_of_words(x, vocabulary_size):
    """Return how often each word is in the row x [T], ends included [V]: what a network of the objective sees of x."""
    return jnp.zeros(vocabulary_size).at[x].add(sentence.predicted(x))


def from_config(*, event, latent_dim, encoder, decoder, posterior, objective, prior=priors.STANDARD) -> Model:
    """Return a sentence VAE from plain dicts.

    `encoder` and `decoder` name `lstm` or `transformer` (`networks.language`), with their own options, `dropout` and
    `word_dropout` among them; the rest is as in `models.vae`. Raises `BadOption` that names the key, and for the prior
    `vamp`: its pseudo-inputs could not move, as there is nothing between two words.
    """
    integers(latent_dim=latent_dim)
    if name_of(prior) == "vamp":
        raise BadOption("prior: 'vamp' learns pseudo-inputs, and words have no gradient; use 'mixture'")
    sizes = {"vocabulary_size": event.support.num_levels, "length": event.shape[0]}
    q = build(heads, posterior, (latent_dim,), where="posterior")
    reader = build(readers, encoder, q.shapes, where="encoder", **sizes)
    writer = build(language, decoder, where="decoder", **sizes)
    equation, options = objective_of.from_config(objective, build_network=functools.partial(build, networks))
    return text_vae(
        conditional(reader, q),
        sentence_conditional(writer, event.shape[0], event.support.num_levels),
        event=event,
        latent_dim=latent_dim,
        prior=build(priors, prior, (latent_dim,), where="prior"),
        objective=equation,
        drops=reader.drops or writer.drops,
        **options,
    )
