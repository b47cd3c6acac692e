"""Normalising flows of colour images of 32x32 pixels, 256 levels.  arXiv:1902.00275, arXiv:1807.03039.

vae-jax train --config=flow_colour:KIND --config.data.path=FILE

KIND, a data set as in `vae_colour`, or a data set and `glow`:

* `emoji`, the default, and `patches`: nested lattices of pixels and mixtures; the colours of a pixel come in turn;
* `emoji_glow`, `patches_glow`: affine couplings of channels.

Result: not yet measured.
"""

from ml_collections import ConfigDict

from vae_jax.configs import flow_digits, flow_mnist, vae_colour, vae_digits

KINDS = ("emoji", "patches", "emoji_glow", "patches_glow")


def get_config(arg: str = "") -> ConfigDict:
    kind, smoke = vae_digits.chosen(arg, KINDS, "emoji")
    data, _, layout = kind.partition("_")
    config = flow_mnist.get_config("glow" if layout else "levels")
    vae_colour.use_data(config, data)
    config.model = ConfigDict(flow_digits.kinds(width=64, num_blocks=2)[layout or "nested"])
    config.data.batch_size = 32
    return flow_digits.smaller(config) if smoke else config
