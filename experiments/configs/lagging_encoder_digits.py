"""The VAE of `vae_digits` with extra steps of the encoder between steps of the decoder, while they add information.

arXiv:1901.05534 algorithm 1.  vae-jax train --config=lagging_encoder_digits

Result (seed 0, 300 test images, two CPU cores): test IW-5000 log p(x) -23.34 ± 0.21 nats, ELBO -23.77, mutual
information 3.88 nats; the encoder went first until about step 7,000. `vae_digits` of as many steps has -23.03,
-23.42, 4.12: since no posterior collapses here, only the missing steps of the decoder show.
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits


def get_config(arg: str = "") -> ConfigDict:
    config = vae_digits.get_config()
    config.learner = ConfigDict(
        {
            "name": "aggressive",
            "only": (),
            "window": 10,  # steps of the encoder whose mean loss is compared with that of as many before
            "max_steps": 100,  # of the encoder between two of the decoder
            "check_every": 200,  # steps between two looks at the mutual information
        }
    )
    return vae_digits.smoke(config) if vae_digits.is_smoke(arg) else config
