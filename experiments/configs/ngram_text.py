"""n-grams of words, interpolated Kneser-Ney: counted from all sentences at once, no gradient.

doi:10.1006/csla.1999.0128.  vae-jax train --config=ngram_text

Without a path the data are sentences of a grammar whose entropy is known; of a file with a sentence on each line,
--config.data.path=FILE --config.data.tokens.max_length=32 --config.data.tokens.min_count=5.

Result: -8.01 ± 0.09 nats of 1000 sentences of the grammar, perplexity 2.86 (the truth has -7.71, 2.75). On the King
James Bible, 1,010 verses, -82.64 nats, perplexity 38.9; of order 3, -85.46 and 44.0. Letter by letter (`level`
"character", `max_length` 160, `min_count` 5), 1,117 verses, 1.433 bits a character of order 9, 1.498 of 7, 1.704 of 5.
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits

DATA = {  # of every config of text
    "name": "text",
    "transform": "tokens",
    "batch_size": 32,
    # Words of the training split seen `min_count` times; longer sentences are left out. Or level "character".
    "tokens": {"level": "word", "min_count": 1, "max_length": 11},
}


def get_config(arg: str = "") -> ConfigDict:
    config = vae_digits.get_config()
    config.family = "ngram"
    config.model = ConfigDict({"order": 5, "discounts": "modified"})  # or "absolute"
    config.data.update(DATA)
    config.learner = ConfigDict({"name": "whole_data"})
    del config.optimizer, config.start_from  # it has neither
    config.train.update({"num_steps": 1, "log_every": 1, "eval_every": 1, "checkpoint_every": 1})
    if vae_digits.is_smoke(arg):
        config.model.order = 3
        config = vae_digits.smoke(config)
    return config
