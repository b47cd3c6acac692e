"""Networks for one example, as `Network(init, apply, ...)`: `(x, context) -> tuple of arrays` of the shapes `outputs`.

Flax linen stays inside this package. `context` is a vector (an embedded label), an image, or None.
"""

from vae_jax.networks.adversarial import Critic, Generator
from vae_jax.networks.conv import ConvDecoder, ConvEncoder
from vae_jax.networks.mlp import MLP
from vae_jax.networks.network import Network, network
from vae_jax.networks.pixel_cnn import GatedPixelCNN
from vae_jax.networks.resnet import ResNetDecoder, ResNetEncoder
from vae_jax.networks.wavenet import WaveNet

conv_decoder = network(ConvDecoder)
conv_encoder = network(ConvEncoder)
critic = network(Critic)
gated_pixel_cnn = network(GatedPixelCNN)
generator = network(Generator)
mlp = network(MLP)
resnet_decoder = network(ResNetDecoder)
resnet_encoder = network(ResNetEncoder)
wavenet = network(WaveNet)

__all__ = ["Network", "conv_decoder", "conv_encoder", "critic", "generator", "mlp", "resnet_decoder", "resnet_encoder"]
