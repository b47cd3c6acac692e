"""The gate of PixelCNN and WaveNet, arXiv:1606.05328 eq. (2), arXiv:1609.03499 eq. (2)."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class Gate(nn.Module):
    """[..., 2 F] -> tanh(a + V c) ⊙ σ(b + U c) [..., F], c [..., C] of every place or one for all, [1, ..., C]."""

    dropout: float = 0.0

    @nn.compact
    def __call__(self, a, context):
        if context is not None:
            a = a + nn.Dense(a.shape[-1], use_bias=False)(context)
        a, b = jnp.split(a, 2, axis=-1)
        y = jnp.tanh(a) * jax.nn.sigmoid(b)
        return nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))(y)


def with_ones(x):
    """x [..., C] and a one at every place, by which a layer tells black, or silence, from beyond the border."""
    return jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1)
