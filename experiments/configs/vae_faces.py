"""VAEs of faces, 256 grey levels, one discretised logistic for each pixel: can a latent mean "smile", or "turned"?

arXiv:1312.6114 app. A, arXiv:1802.04942.  vae-jax train --config=vae_faces:KIND --config.data.path=FILE

KIND:

* `frey`, the default, has two latent dimensions; FILE is an .npz with `x` uint8 [1965, 28, 20, 1], a film of one face;
* `frey_wide` has 32, and stops when the bound of valid falls: for bits/dim;
* `frey_beta` has ten, and weights the rate by β = 4;
* `frey_tc` has ten, and weights the total correlation of the codes by β = 6;
* `cartoon` has two, and no FILE: its data are `faces_by_rule`, whose smile and turn are known;
* `olivetti` has ten; FILE has `x` uint8 [400, 64, 64, 1] and `label`, 40 persons.

Of Frey, 200 random frames are valid and 200 are test; of `olivetti`, a random sixth each. Frames of a film are like
their neighbours, which are in train: the bound says little about other faces. `evaluation.judges` has judges of Frey's
frames, and of `cartoon`; `vae-jax judge` turns a plane of codes to follow them.

Result of `frey_wide` (seed 0): at most 4.71 ± 0.04 bits/dim (IW-500, 200 test frames), after 8,000 steps and 4 minutes
of one core; published 4.40 (arXiv:1803.05649). `frey` has 5.85 (three seeds, ± 0.02), `frey_beta` 4.75, `frey_tc` 4.80.
What their latents mean stands in experiments/RESULTS.md. `olivetti` with data.context.name=label, the person, has 7.42
after 3,000 steps: 279 training faces are too few for it.

Result of `cartoon` (seed 0): at least -1326.6 ± 6.1 nats, 3.42 bits/dim (IW-500, 500 test faces), with 3,000 steps in
18 seconds. Its two latents follow the turn a little (ρ 0.25) and the smile not at all (0.01).
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits, vae_mnist

ELBO = {"name": "elbo", "num_samples": 1, "beta": 1.0}
FREY_HELD_OUT = 200  # for valid, and for test: the split 1565/200/200 of arXiv:1803.05649
FREY_TRAIN = 1_965 - 2 * FREY_HELD_OUT
KINDS = {  # latent dimensions, objective
    "frey": (2, ELBO),
    "frey_wide": (32, ELBO),
    "frey_beta": (10, {**ELBO, "beta": 4.0}),
    "frey_tc": (10, {"name": "beta_tcvae", "alpha": 1.0, "beta": 6.0, "gamma": 1.0, "num_data": FREY_TRAIN}),
    "cartoon": (2, ELBO),
    "olivetti": (10, ELBO),
}


def get_config(arg: str = "") -> ConfigDict:
    kind, smoke = vae_digits.chosen(arg, KINDS, "frey")
    config = vae_digits.get_config()
    config.data.update({"name": "arrays", "transform": "levels", "max_value": 255})
    if kind == "cartoon":
        config.data.update({"name": "faces_by_rule", "max_value": 0})
    if kind.startswith("frey"):
        config.data.files.held_out = FREY_HELD_OUT
    config.model.latent_dim, objective = KINDS[kind]
    config.model.objective = ConfigDict(objective)
    config.model.encoder.hidden = config.model.decoder.hidden = (200,)
    config.model.likelihood = ConfigDict({"name": "discretized_logistic"})
    vae_mnist.train_for(config, num_steps=8_000)
    if kind == "frey_wide":
        networks = {"channels": (32, 64), "hidden": (256,), "activation": "relu"}
        config.model.encoder = ConfigDict({"name": "conv_encoder", **networks})
        config.model.decoder = ConfigDict({"name": "conv_decoder", **networks, "channels": (64, 32)})
        config.train.update({"eval_every": 500, "patience": 4})
    config.eval.num_samples = 500
    return vae_digits.smoke(config) if smoke else config
