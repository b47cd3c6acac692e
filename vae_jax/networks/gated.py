"""The gate of PixelCNN and WaveNet, arXiv:1606.05328 eq. (2), arXiv:1609.03499 eq. (2)."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class Gate(nn.Module):
    """[..., 2 F] -> tanh(a + V c) ⊙ σ(b + U c) [..., F].

    The context c is [..., C], one for every place, or [1, ..., C], the same for all.
    """

    dropout: float = 0.0

    @nn.compact
    def __call__(self, a, context):
        if context is not None:
            a = a + nn.Dense(a.shape[-1], use_bias=False)(context)
        a, b = jnp.split(a, 2, axis=-1)
        y = jnp.tanh(a) * jax.nn.sigmoid(b)
        return nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))(y)


def with_ones(x):
    """Append a one to x [..., C] at every place: a layer can then tell black, or silence, from padding."""
    return jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1)
