"""Networks that return the logits of the next token, from the tokens before it and a context.

`apply(variables, before [T], context)` -> logits [T, V] of all places, where `before` = 0, w_1, ..., w_{T-1}. One place
at a time: `start(variables, context)` -> carry, then `step(variables, carry, previous, context)` -> carry, logits [V].
They are built with `vocabulary_size` V and the greatest `length` T. `networks.readers` builds encoders from them.
"""

from vae_jax.networks.network import network
from vae_jax.networks.recurrent import LSTM
from vae_jax.networks.transformer import Transformer

lstm, transformer = network(LSTM), network(Transformer)

__all__ = ["lstm", "transformer"]
