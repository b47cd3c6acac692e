"""The sentence VAE on words, its decoder the LSTM of `language_model_text`.  arXiv:1511.06349.

vae-jax train --config=text_vae_text:REMEDY, against a decoder that ignores z:

* `free_bits`, the default: the KL of a dimension is free up to `free_nats`, arXiv:1606.04934;
* `linear`, `logistic`, `cyclical`: the weight of the KL by a schedule, arXiv:1602.02282, arXiv:1511.06349,
  arXiv:1903.10145;
* `aggressive`: the encoder goes first, arXiv:1901.05534;

and --config.model.decoder.word_dropout=0.4 with any of them. Without a path the data are sentences of a grammar; of a
file with a sentence on each line, --config.data.path=FILE --config.data.tokens.max_length=32
--config.data.tokens.min_count=5.

Result (seed 0): the King James Bible, 1,010 verses, IW-500 log p(x) -76.68 ± 0.88 nats, perplexity at most 29.84, ELBO
-77.76 with a rate of 2.83 nats, of which 2.10 are mutual information, 8 active units; with `latent_dim` 8, `free_nats`
0.35, both widths 192, the decoder's dropout 0.4 and the rest as `language_model_text`'s, whose LSTM has 29.43. 45
minutes of CPU time with IW-500.
"""

from ml_collections import ConfigDict

from vae_jax.configs import lagging_encoder_digits, language_model_text, vae_digits

NUM_STEPS = 2_000
OBJECTIVES = {
    "free_bits": {"name": "free_bits", "free_nats": 0.1, "num_samples": 1},
    "linear": {"name": "elbo", "num_samples": 1, "beta": {"name": "linear", "steps": NUM_STEPS // 2}},
    "logistic": {
        "name": "elbo",
        "num_samples": 1,
        "beta": {"name": "logistic", "midpoint": NUM_STEPS // 2, "width": NUM_STEPS // 20},
    },
    "cyclical": {
        "name": "elbo",
        "num_samples": 1,
        "beta": {"name": "cyclical", "steps": NUM_STEPS, "num_cycles": 4, "ratio": 0.5},
    },
    "aggressive": {"name": "elbo", "num_samples": 1, "beta": 1.0},
}


def get_config(arg: str = "") -> ConfigDict:
    remedy, smoke = vae_digits.chosen(arg, OBJECTIVES, "free_bits")
    config = language_model_text.get_config("lstm")
    config.family = "text_vae"
    config.model = ConfigDict(
        {
            "latent_dim": 32,
            "encoder": {"name": "lstm", "width": 128, "num_layers": 1, "dropout": 0.0, "word_dropout": 0.0},
            "decoder": {**language_model_text.NETWORKS["lstm"], "word_dropout": 0.0},
            "prior": {"name": "standard"},
            "posterior": {"name": "normal"},
            "objective": OBJECTIVES[remedy],
        }
    )
    if remedy == "aggressive":
        config.learner = lagging_encoder_digits.get_config().learner
    config.eval.num_samples = 100
    if smoke:
        config.model.encoder.width = config.model.decoder.width = 16
        config = vae_digits.smoke(config)
    return config
