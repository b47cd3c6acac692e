"""The sentence VAE, arXiv:1511.06349: a language model with a latent code for the whole sentence.

p(z) = prior     q(z|x) = posterior(encoder(w_1, ..., w_L, end))     p(x|z) = Π_t Categorical(w_t; `logits_t(w_<t, z)`)
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
    """Return a sentence VAE, whose decoder is a language model with the context z.

    Args:
      encoder: a `core.Conditional`, x -> q(z|x).
      decoder: a `core.Conditional`, z -> p(x|z).
      event: the `core.Event` x.
      latent_dim: D, the size of z.
      prior: one of `conditionals.priors`; None for N(0, I).
      objective: an equation of `objectives`, which training maximises.
      drops: True if training drops units or words, at the rates of the networks, with a new mask for every sentence and
        step. A decoder that does not see a word must learn it from z. The bound, draws and evaluation never drop.
      **options: options of the objective.

    Raises `BadOption` if p(z) and q(z|x) have different supports.
    """
    prior = prior or priors.standard((latent_dim,))
    priors.check_density(prior)
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
    """Return the number of each word in x [T], with its end, as [V]: the input of the networks of an objective."""
    return jnp.zeros(vocabulary_size).at[x].add(sentence.predicted(x))


def from_config(*, event, latent_dim, encoder, decoder, posterior, objective, prior=priors.STANDARD) -> Model:
    """Return a sentence VAE from plain dicts.

    Args:
      event: the `core.Event` x.
      latent_dim: D, the size of z.
      encoder: `lstm` or `transformer` (`networks.readers`), with its options, such as `dropout` and `word_dropout`.
      decoder: `lstm` or `transformer` (`networks.language`), with its options.
      posterior: a head of `conditionals.heads` over z.
      objective: an equation of `objectives`, as in `models.vae`.
      prior: one of `conditionals.priors`.

    Raises `BadOption` that names the key, and for the prior `vamp`, whose pseudo-inputs need a gradient that words do
    not have.
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
