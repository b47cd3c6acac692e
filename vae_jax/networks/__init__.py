"""Networks for one example, as `Network(init, apply, ...)`: `(x, context) -> tuple of arrays` of the shapes `outputs`.

Flax linen stays inside this package. `context` is a vector (an embedded label), an image, or None.
"""

from vae_jax.networks.adversarial import Critic, Generator
from vae_jax.networks.codes import CodeFeatures, CodePixelCNN, MapDecoder, MapEncoder
from vae_jax.networks.conv import ConvDecoder, ConvEncoder
from vae_jax.networks.gated_resnet import GatedResNet
from vae_jax.networks.mlp import MLP
from vae_jax.networks.network import Network, network
from vae_jax.networks.pixel_cnn import GatedPixelCNN
from vae_jax.networks.resnet import ResNetDecoder, ResNetEncoder
from vae_jax.networks.strokes import PenLSTM, PenReader
from vae_jax.networks.top_down import BottomUp, TopDown
from vae_jax.networks.unet import TimeMLP, UNet
from vae_jax.networks.unet_decoder import UNetDecoder
from vae_jax.networks.wavenet import WaveNet

bottom_up = network(BottomUp)
code_features = network(CodeFeatures)
code_pixel_cnn = network(CodePixelCNN)
conv_decoder = network(ConvDecoder)
conv_encoder = network(ConvEncoder)
critic = network(Critic)
gated_pixel_cnn = network(GatedPixelCNN)
gated_resnet = network(GatedResNet)
generator = network(Generator)
map_decoder = network(MapDecoder)
map_encoder = network(MapEncoder)
mlp = network(MLP)
pen_lstm = network(PenLSTM)
pen_reader = network(PenReader)
resnet_decoder = network(ResNetDecoder)
resnet_encoder = network(ResNetEncoder)
time_mlp = network(TimeMLP)
top_down = network(TopDown)
unet = network(UNet)
unet_decoder = network(UNetDecoder)
wavenet = network(WaveNet)

__all__ = [
    "Network",
    "conv_decoder",
    "conv_encoder",
    "critic",
    "gated_resnet",
    "generator",
    "mlp",
    "resnet_decoder",
    "resnet_encoder",
    "unet_decoder",
]
