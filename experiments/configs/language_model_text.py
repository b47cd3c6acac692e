"""Neural language models over words: `language_model_text:lstm` (the default) or `:transformer`.

arXiv:1409.2329, arXiv:1706.03762.  vae-jax train --config=language_model_text:lstm

Without a path the data are sentences of a grammar whose entropy is known; of a file with a sentence on each line,
--config.data.path=FILE --config.data.tokens.max_length=32 --config.data.tokens.min_count=5.

Result of the LSTM (seed 0): the King James Bible, 1,010 verses, -76.36 ± 0.87 nats, perplexity 29.43, with
--config.model.network.width=192 --config.model.network.dropout=0.4 --config.data.batch_size=16
--config.train.num_steps=24000 --config.optimizer.schedule.decay_steps=24000 --config.train.patience=12
--config.train.eval_every=2000, in 23 minutes of CPU time. Letter by letter, 1,117 verses, -101.48 ± 1.07 nats, 1.402
bits a character, with --config.data.tokens.level=character --config.data.tokens.max_length=160
--config.data.tokens.min_count=5 --config.data.buckets=6
--config.model.network.width=320 --config.model.network.dropout=0.0 --config.data.batch_size=16
--config.train.num_steps=14000 --config.optimizer.schedule.decay_steps=14000, in 38 minutes of CPU time.
"""

from ml_collections import ConfigDict

from vae_jax.configs import ngram_text, vae_digits

NETWORKS = {
    "lstm": {"name": "lstm", "width": 128, "num_layers": 1, "tied": True, "dropout": 0.1},
    "transformer": {"name": "transformer", "width": 64, "num_layers": 2, "num_heads": 4, "tied": True, "dropout": 0.1},
}


def get_config(arg: str = "") -> ConfigDict:
    name, smoke = vae_digits.chosen(arg, NETWORKS, "lstm")
    config = vae_digits.get_config()
    config.family = "language_model"
    config.model = ConfigDict({"network": NETWORKS[name]})
    config.data.update(ngram_text.DATA)
    config.data.buckets = 1  # batches of like length: with 4 a step of verses of up to 32 words is 1.25 times as fast
    config.optimizer.clip_norm = 1.0
    config.optimizer.learning_rate = 3e-3
    config.optimizer.schedule.decay_steps = 2_000
    config.optimizer.average_decay = 0.99
    config.train.update({"num_steps": 2_000, "log_every": 100, "eval_every": 500, "checkpoint_every": 1_000})
    if smoke:
        config.model.network.width = 16
        config = vae_digits.smoke(config)
    return config
