"""A decoder of a vector z that sees an image at every size."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jax.networks.conv import (
    Conv,
    ConvTranspose,
    coarse_shape,
    image_channels,
    image_head,
    with_context,
)
from vae_jax.networks.mlp import activation_function, join
from vae_jax.spec import BadOption, integers, sizes


class UNetDecoder(nn.Module):
    """A U-Net of the context, an image, with z at its coarsest level; after arXiv:1806.05034.

    z [D] and a context [h, w, F] -> a tuple of arrays `outputs` [H, W, ...]. Bicubic interpolation first enlarges the
    context to H x W pixels. Each entry of `channels` is a level, the coarsest first, as in `ConvDecoder`. A level on
    the way up adds the output of the same level on the way down. The last convolution sees the context itself, so that
    outputs can copy it.

    `residual` is the place of an output to which the image is added, such as 1 for the means of a logistic mixture. The
    other outputs then begin near 0, and the means near the enlarged context.

    Convolutions are local. Dense layers of the widths `hidden` carry the context to every place, across hidden areas.

    Raises `BadOption` for sides that do not halve so often, and without a context that is an image.
    """

    outputs: tuple
    channels: tuple = (64, 32, 16)
    hidden: tuple = ()
    residual: int | None = None
    activation: str = "relu"

    def __post_init__(self):
        sizes(channels=self.channels, at_least_one=True)
        sizes(hidden=self.hidden)
        activation_function(self.activation)
        image_channels(self.outputs)
        coarse_shape(self.outputs[0][:3], self.channels[1:])
        if self.residual is not None:
            integers(residual=self.residual, at_least=0, at_most=len(self.outputs) - 1)
        super().__post_init__()

    @nn.compact
    def __call__(self, z, context=None):
        if context is None or context.ndim != 3:
            raise BadOption("name: 'unet_decoder' requires a context that is an image; use 'conv_decoder'")
        act = activation_function(self.activation)
        height, width = coarse_shape(self.outputs[0][:3], self.channels[1:])
        shape = (*self.outputs[0][:2], context.shape[-1])
        image = context if context.shape == shape else jax.image.resize(context, shape, "cubic")
        h = act(Conv(self.channels[-1])(image))
        skips = []
        for features in self.channels[-2::-1]:
            skips.append(h)
            h = act(Conv(features, kernel=4, stride=2)(h))
        code = z.ravel()
        if self.hidden:
            summary = h.ravel()
            for features in self.hidden:
                summary = act(nn.Dense(features)(summary))
            code = join(z, summary)
        coarse = nn.Dense(height * width * self.channels[0])(code).reshape(height, width, self.channels[0])
        h = act(h + Conv(self.channels[0])(act(h + coarse)))
        for features, skip in zip(self.channels[1:], skips[::-1], strict=True):
            h = act(ConvTranspose(features)(h) + skip)
        h = h + act(Conv(self.channels[-1])(h))
        near_zero = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")
        options = {} if self.residual is None else {"kernel_init": near_zero}
        outputs = image_head(Conv(sum(image_channels(self.outputs)), **options)(with_context(h, image)), self.outputs)
        if self.residual is None:
            return outputs
        means = outputs[self.residual]
        if 1 < image.shape[-1] < means.shape[2]:
            raise BadOption(
                f"residual: the context has {image.shape[-1]} channels and the image {means.shape[2]}; give a context "
                "of one channel or of as many, or set residual to None"
            )
        base = jnp.broadcast_to(image[..., : means.shape[2]], means.shape[:3])  # one channel is all of them
        base = base.reshape(*means.shape[:3], *[1] * (means.ndim - 3))
        return (*outputs[: self.residual], means + base, *outputs[self.residual + 1 :])
