"""A small residual network over images of one size, for the couplings of a flow."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jax.networks.conv import Conv, image_channels, image_head, with_context
from vae_jax.networks.mlp import activation_function
from vae_jax.spec import MANY, flags, integers


class GatedResNet(nn.Module):
    """Outputs [H, W, ...] from an image [H, W, C] by gated residual blocks, as in arXiv:1902.00275 app. B.

        h ← h + v ⊙ σ(g),     (v, g) = W₁ act(W₃ * act(n(h)))

    n is the layer norm of the channels of a pixel, * a 3x3 convolution to `width` channels, and W₁ acts on single
    pixels. After the first convolution, a learned array [H, W, width] is added, which tells where a pixel is. The
    context is an image, or a vector that all pixels see. With `zero_output` all outputs are zero at initialisation.
    A learned array of the outputs' own shape is then added, which starts at zero as well.

    Attributes:
      outputs: the shapes of the outputs, all with the height and the width of the input.
      width: the number of channels inside.
      num_blocks: the number of residual blocks.
      activation: the activation, elementwise.
      places: False to leave out both learned arrays: the network is then the same at every pixel.
      zero_output: False for small random outputs at initialisation.
    """

    outputs: tuple
    width: int = 32
    num_blocks: int = 2
    activation: str = "elu"
    places: bool = True
    zero_output: bool = True

    def __post_init__(self):
        integers(width=self.width)
        integers(num_blocks=self.num_blocks, at_least=0, at_most=MANY)
        flags(places=self.places, zero_output=self.zero_output)
        activation_function(self.activation)
        image_channels(self.outputs)
        super().__post_init__()

    @nn.compact
    def __call__(self, x, context=None):
        act, zeros = activation_function(self.activation), nn.initializers.zeros
        h = Conv(self.width)(with_context(x, context))
        if self.places:
            h = h + self.param("places", zeros, h.shape)
        for _ in range(self.num_blocks):
            a = act(Conv(self.width)(act(nn.LayerNorm()(h))))
            value, gate = jnp.split(nn.Dense(2 * self.width)(a), 2, axis=-1)
            h = h + value * jax.nn.sigmoid(gate)
        size = sum(image_channels(self.outputs))
        init = zeros if self.zero_output else nn.initializers.lecun_normal()
        y = nn.Dense(size, kernel_init=init)(act(nn.LayerNorm()(h)))
        if self.places:
            y = y + self.param("output_places", zeros, y.shape)
        return image_head(y, self.outputs)
