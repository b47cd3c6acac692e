"""Networks that put out the logits of the next token, from those before it and a context."""

from vae_jax.networks.recurrent import LSTM as lstm
from vae_jax.networks.transformer import Transformer as transformer

__all__ = ["lstm", "transformer"]
