"""Auto-encoders on dynamically binarised MNIST, and the VAE of the same networks: what are their codes good for?

python -m experiments.train --config=experiments/configs/autoencoder_mnist.py[:KIND] --config.data.path=DIR

KIND is one of those of `autoencoder_digits` (`bottleneck`, the default, `denoising`, `sparse`, ...; papers there), or
`vae` (arXiv:1312.6114); `KIND,smoke` shrinks it.
"""

from ml_collections import ConfigDict

from experiments.configs import autoencoder_digits, vae_digits, vae_mnist


def get_config(arg: str = "") -> ConfigDict:
    config = vae_mnist.get_config()
    config.model.latent_dim = 16
    config.model.encoder.hidden = config.model.decoder.hidden = (256, 256)
    config.model.objective.beta.steps = 1_000
    vae_mnist.train_for(config, num_steps=6_000)
    config.eval.num_samples = 100
    kind, *rest = arg.split(",")
    if kind != "vae":
        return autoencoder_digits.of_kind(config, arg)
    return vae_digits.smoke(config) if rest == ["smoke"] else config
