"""Networks that put out the logits of the next token, from those before it and a context, a vector or None.

`apply(variables, before [T], context)` -> logits [T, V] of all places, `before` = 0, w_1, ..., w_{T-1}. Place by place,
what is carried along: `start(context)` -> carry, `step(carry, previous, context)` -> carry, logits [V]. All are built
with `vocabulary_size` and `length` T, which is what a carry may need room for. `tokens.AtEnd` makes an encoder of one.
"""

from vae_jax.networks.recurrent import LSTM as lstm
from vae_jax.networks.transformer import Transformer as transformer

__all__ = ["lstm", "transformer"]
