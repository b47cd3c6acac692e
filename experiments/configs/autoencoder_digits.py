"""Deterministic auto-encoders on scikit-learn's digits, 8x8, dynamically binarised: same networks as `vae_digits`.

vae-jax train --config=autoencoder_digits[:KIND]

KIND is `bottleneck` (the default), `denoising` (masking; Vincent et al. 2008), `sparse` (L1), `target_activation` (Ng
2011), `k_sparse` (arXiv:1312.5663), `contractive` (Rifai et al. 2011) or `regularised` (RAE-GP, arXiv:1903.12436);
`KIND,smoke` shrinks it.

Result (seed 0, 10,000 steps in 5 to 56 s on one busy CPU core): distortion 13.11 nats (`bottleneck`), others below: 8
codes, means of q(z|x); distortion, mean squared error and linear probe of the 300 test images, ± 0.02 by their number;
normality of the 1197 training codes, 1 if they were normal, and KL of the best Gaussian from N(0, I),
`evaluation.probes`:

                      distortion    MSE     linear probe   Henze-Zirkler   KL
    bottleneck         13.11 nats   0.064       0.83            1.96       22.38 nats
    denoising          14.56 nats   0.071       0.82            2.28       13.89 nats
    contractive        13.76 nats   0.067       0.78            1.93        5.49 nats
    regularised        13.16 nats   0.064       0.81            1.77        0.59 nats
    `vae_digits`       15.80 nats   0.077       0.81            2.27        0.40 nats

None is normal (p < 1e-4 for all), the VAE's means no more than the others; VAE and RAE only have the right scale. The
probes do not differ by more than their noise, except perhaps the contractive one.
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits

KINDS = {
    "bottleneck": {},
    "denoising": {"corruption": {"name": "masking", "rate": 0.25}},
    "sparse": {"latent_dim": 64, "penalties": {"l1": {"weight": 0.1}}},
    "target_activation": {
        "latent_dim": 64,
        "code": {"name": "sigmoid"},
        "penalties": {"target_activation": {"weight": 1.0, "activation": 0.1}},
    },
    "k_sparse": {"latent_dim": 64, "code": {"name": "k_sparse", "num_active": 8}},
    "contractive": {"penalties": {"contractive": {"weight": 0.1}}},
    "regularised": {"penalties": {"l2": {"weight": 0.1}, "gradient_penalty": {"weight": 0.1}}},
}


def get_config(arg: str = "") -> ConfigDict:
    return of_kind(vae_digits.get_config(), arg)


def of_kind(config: ConfigDict, arg: str) -> ConfigDict:
    """Turn `config`, that of a VAE, into that of an auto-encoder of the kind `arg` (KIND, or KIND,smoke).

    Raises `ValueError` for an unknown kind.
    """
    kind, small = vae_digits.chosen(arg, KINDS, "bottleneck")
    config.family = "autoencoder"
    shared = ("latent_dim", "encoder", "decoder", "likelihood", "compute_dtype")
    config.model = ConfigDict(
        {
            **{part: config.model[part] for part in shared},
            "code": {"name": "linear"},  # a function of vae_jax.distributions.deterministic
            "corruption": {"name": "none"},  # a function of vae_jax.objectives.corruptions
            "penalties": {},  # functions of vae_jax.objectives.penalties, each with its weight
            "tied": False,  # True: the decoder's kernels are those of the encoder, transposed
            **KINDS[kind],
        }
    )
    return smoke(config) if small else config


def smoke(config: ConfigDict) -> ConfigDict:
    config.model.encoder.hidden = config.model.decoder.hidden = (16,)
    config.model.latent_dim = min(config.model.latent_dim, 16)
    config.data.batch_size = 8
    config.train.update({"num_steps": 20, "log_every": 5, "eval_every": 10, "checkpoint_every": 10})
    config.eval.update({"num_samples": 10, "num_test": 32})
    return config
