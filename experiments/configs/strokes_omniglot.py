"""Characters of many alphabets as pen drawings: an LSTM and a mixture of 20 normals on the lattice of offsets.

arXiv:1308.0850, arXiv:1704.03477.
vae-jax train --config=strokes_omniglot --config.data.path=omniglot_strokes.npz

The file holds `train_points`, `train_lengths` and the same of valid and test (`vae_jax/data/drawings.py`); a folder of
SVG files is read as well. Without a path the data are drawings of polygons. With labels in the file,
--config.data.context.name=label makes the drawings conditional on their class.

Result (seed 0, exact, 1,000 test drawings): -166.3 ± 2.4 nats a drawing, 7.70 bits a point, with 2,500 steps instead of
6,000, in 23 minutes of one slow core. Counts of three moves have -192.4. Without atoms it is -228.5 after 5,000 steps.
General coders of the test points as int16, of 1,000 drawings: gzip 16.21 bits a point, xz 13.25, bz2 12.44 (269 nats a
drawing).
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits

DATA = {  # of every config of drawings
    "name": "strokes",
    "transform": "strokes",
    "batch_size": 64,
    "max_value": 0,  # the largest offset of the lattice; 0: that of the data
    "buckets": 4,  # batches of like length; each length is compiled
}


def get_config(arg: str = "") -> ConfigDict:
    smoke = vae_digits.is_smoke(arg)
    config = vae_digits.get_config()
    config.family = "strokes"
    config.model = ConfigDict(
        {
            "network": {"width": 256, "num_layers": 1, "dropout": 0.1},
            "num_components": 20,
            "scale": 12.0,  # lattice units: about the median offset
            "atoms": 64,  # offsets up to here have masses of their own, since those of the file have a comb
        }
    )
    config.data.update(DATA)
    config.optimizer.update({"learning_rate": 2e-3, "clip_norm": 1.0, "average_decay": 0.99})
    config.optimizer.schedule.decay_steps = 6_000
    config.train.update({"num_steps": 6_000, "log_every": 100, "eval_every": 500, "checkpoint_every": 1_000})
    if smoke:
        config.model.network.width = 16
        config.model.num_components = 3
        config.model.atoms = 1
        config.data.buckets = 2
        config = vae_digits.smoke(config)
    return config
