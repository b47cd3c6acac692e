"""VAEs with ten latent dimensions on sprites of five known factors, 32x32 bits.  arXiv:1802.04942.

vae-jax train --config=beta_tcvae_dsprites:KIND

KIND: `tc`, the default, weights the total correlation of the codes by β = 6; `beta` weights the whole rate by β = 4
(β-VAE); `vae` weights nothing. Give every KIND several seeds, by which scores differ more than by method. These
commands, the first for every KIND, compare the codes with the factors, means ± standard errors over seeds:

vae-jax sweep --config=beta_tcvae_dsprites:KIND --sweep="seed=0:5" --workdir=runs/sprites_KIND
vae-jax codes --workdirs='runs/sprites_*/members/*' --draw=0 --trees=0 --out=DIR

Published (the original images of 64x64, all 737,280): MIG about 0.5 for `tc`, 0.06 for `beta`, from four factors
without shape. The published networks are wider, and see many more images.

Result of `tc` (five seeds): ELBO -49.6 ± 0.2 nats, of `beta` -50.7 ± 0.4, of `vae` -40.3 ± 0.7. MIG (8,000 test
images): 0.100 ± 0.029 for `tc`, 0.072 ± 0.024 for `beta`, 0.050 ± 0.010 for `vae`. Five seeds take 7 to 18 minutes of
one core.
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits, vae_mnist

NUM_TRAIN, SIDE = 40_000, 32
KINDS = {
    "tc": {"name": "beta_tcvae", "alpha": 1.0, "beta": 6.0, "gamma": 1.0, "num_data": NUM_TRAIN},
    "beta": {"name": "elbo", "num_samples": 1, "beta": 4.0},
    "vae": {"name": "elbo", "num_samples": 1, "beta": 1.0},
}


def get_config(arg: str = "") -> ConfigDict:
    kind, smoke = vae_digits.chosen(arg, KINDS, "tc")
    config = vae_digits.get_config()
    config.data.update({"name": "dsprites_by_rule", "batch_size": 128})
    config.data.files.side = SIDE
    config.model.latent_dim = 10
    config.model.encoder.hidden = config.model.decoder.hidden = (256, 256)
    config.model.objective = ConfigDict(KINDS[kind])
    vae_mnist.train_for(config, num_steps=5_000)
    config.eval.num_samples = 100
    return vae_digits.smoke(config) if smoke else config
