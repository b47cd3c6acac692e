"""Language models: the chain rule over the words of a sentence, every conditional from one network.

p(w_1, ..., w_L, end) = Π_t Categorical(w_t; logits_t(w_1, ..., w_{t-1}))
"""

from vae_jax import core, spec
from vae_jax.core import Model, tractable, unconditional
from vae_jax.distributions import Sentence
from vae_jax.networks import language


def language_model(network, event_shape, vocabulary_size) -> Model:
    """Fitted by `gradient`: `network(before, context)` puts out the logits [T, V] (`networks.language`).

    With dropout the loss is that of a network thinned anew for every sentence and step; `log_prob`, which validation
    and test ask for, is of the whole one.
    """
    (length,) = event_shape

    def density(params, context=None, dropout_key=None):
        return Sentence.of(network, params, None, length, vocabulary_size, dropout_key=dropout_key)

    @core.per_example
    def thinned(params, key, x, context):
        return density(params, dropout_key=key).log_prob(x)

    def thinned_loss(params, key, batch, step):
        return -thinned(params, key, batch), {}

    model = tractable(lambda key, batch: network.init(key, batch["x"][0]), density)
    return model._replace(loss=thinned_loss, thinned=True) if network.drops else model


def from_config(*, event_shape, num_classes, vocabulary_size, network) -> Model:
    """From plain dicts: `network` names `lstm` or `transformer` (`networks.language`), with its keyword arguments."""
    unconditional("language_model", num_classes)
    given = {"vocabulary_size": vocabulary_size, "length": event_shape[0]}
    return language_model(spec.build(language, network, where="network", **given), event_shape, vocabulary_size)
