"""Normalising flows of MNIST, by layout, as it is stored (256 levels) or binarised.

vae-jax train --config=flow_mnist:KIND --config.data.path=DIR, KIND one of

* `levels`, the default: 256 levels, by nested lattices of pixels and mixtures, arXiv:1902.00275;
* `glow`: 256 levels, by affine couplings of channels, arXiv:1807.03039;
* `variational`: the same with learned noise u ~ q(u|x);
* `binary`: dynamically binarised, by the nested layout. Protocol as `vae_mnist`.

Result (seed 0, --config.eval.num_samples=4, 10,000 test images): `levels` -599.79 ± 1.45 nats, 1.104 bits/dim, after
25,000 of the 40,000 steps; two quiet cores take 62 minutes for them, at 6.7 steps/s. The first 22,900 steps ran on an
H200. It overfits: training has -590 and validation -605.6, which has improved by 0.3 nats in the last 2,000 steps.
3,000 more steps whose rate falls to 0 lower training to -583 and leave validation at -605.7.
"""

from ml_collections import ConfigDict

from vae_jax.configs import flow_digits, vae_digits, vae_mnist

KINDS = {"levels": "nested", "glow": "glow", "variational": "variational", "binary": "nested"}


def get_config(arg: str = "") -> ConfigDict:
    kind, smoke = vae_digits.chosen(arg, KINDS, "levels")
    config = vae_mnist.get_config()
    config.family = "flow"
    width = {"levels": 96, "binary": 64}.get(kind, 48)
    config.model = ConfigDict(flow_digits.kinds(width=width, num_blocks=2)[KINDS[kind]])
    config.data.transform = "binarize" if kind == "binary" else "levels"
    config.data.batch_size = 64
    config.model.coupling.update({"num_components": 1} if kind == "binary" else {})
    config.optimizer.update({"learning_rate": 2e-3, "clip_norm": 1_000.0, "average_decay": 0.999})
    vae_mnist.train_for(config, num_steps=40_000)
    config.train.update({"log_every": 100, "eval_every": 2_000, "checkpoint_every": 1_000, "preview_every": 0})
    config.eval.num_samples = 8
    return flow_digits.smaller(config) if smoke else config
