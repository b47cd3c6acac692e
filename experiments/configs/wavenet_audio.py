"""WaveNet on sound: `wavenet_audio:softmax` (the default) over 256 levels, `:logistics`, ten discretised ones.

arXiv:1609.03499, arXiv:1701.05517.
vae-jax train --config=wavenet_audio --config.data.path=FILE

Without a path the data are sung vowels; FILE is a sound file, a folder of them or an .npz of windows. With classes,
--config.data.context.name=label is a model of each.

Result of the softmax (seed 0): 4.056 bits a sample of the recording in RESULTS.md, 73 test windows, with
--config.data.audio.length=8000 --config.data.batch_size=2 --config.train.num_steps=3200
--config.optimizer.schedule.decay_steps=3200, in 34 minutes of CPU time (counted triples of levels have 4.912); of the
logistics 4.336, in 28 minutes. Of 32 test words of a second in two voices and three languages, 584 to learn from, 1,000
steps have 3.789 ± 0.144 bits, and with the voice as context (label `voice`) 3.809: so short a training does not use it.
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits, vae_mnist

LIKELIHOODS = {
    "softmax": {"name": "categorical", "num_levels": 256},
    "logistics": {"name": "discretized_logistic_mixture", "num_components": 10, "num_levels": 256},
}
DATA = {  # of every config of sound
    "name": "audio",
    "transform": "levels",
    # Samples a second and a window; 256 levels by the µ-law ("mu_law") or 65,536 as they are ("linear"); `label` names
    # the classes in an .npz.
    "audio": {"sample_rate": 8000, "length": 2000, "companding": "mu_law", "label": "label"},
}


def get_config(arg: str = "") -> ConfigDict:
    kind, smoke = vae_digits.chosen(arg, LIKELIHOODS, "softmax")
    config = vae_digits.get_config()
    config.family = "wavenet"
    network = {
        "width": 32,
        "skip": 128,
        "hidden": (128,),
        "dilations": tuple(2**n for n in range(9)) * 2,
        "first_kernel": 32,
    }
    config.model = ConfigDict({"network": network, "likelihood": LIKELIHOODS[kind]})
    config.data.update(DATA)
    config.data.batch_size = 8
    config.optimizer.update({"learning_rate": 2e-3, "clip_norm": 1.0, "average_decay": 0.995})
    vae_mnist.train_for(config, num_steps=4_000)
    config.train.update({"log_every": 100, "eval_every": 500, "checkpoint_every": 500})
    if not smoke:
        return config
    config = vae_digits.smoke(config)
    config.data.audio.length = 64
    config.model.network.update({"skip": 8, "width": 4, "dilations": (1, 2, 4)})
    return config
