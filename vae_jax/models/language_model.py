"""Language models: the chain rule over the words of a sentence, with all conditionals from one network.

p(w_1, ..., w_L, end | c) = Π_t Categorical(w_t; logits_t(w_1, ..., w_{t-1}, c))
"""

from vae_jax import core
from vae_jax.conditionals.chains import sentence
from vae_jax.core import Model, embedded, tractable
from vae_jax.networks import language
from vae_jax.spec import build
from vae_jax.support import Tokens

TAKES = (Tokens,)


def language_model(network, event, *, context=None) -> Model:
    """Return a language model, fitted by `gradient`: `network` returns the logits [T, V] (`networks.language`).

    In training a network with dropout has a new mask for every sentence and step. `log_prob`, which validation and test
    use, never drops.
    """
    chain = sentence(network, event.shape[0], event.support.num_levels)

    def density(params, c=None, dropout_key=None):
        return chain(params, embedded(context, c), dropout_key)

    def init(key, batch):
        x, c = core.first_example(batch)
        return network.init(key, x, embedded(context, c))

    return tractable(init, density, drops=network.drops)


def from_config(*, event, context, network) -> Model:
    """Return a language model from a dict: `network` names `lstm` or `transformer`, with its options."""
    sizes = {"vocabulary_size": event.support.num_levels, "length": event.shape[0]}
    return language_model(build(language, network, where="network", **sizes), event, context=context)
