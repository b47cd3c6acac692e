"""Images in, batches out: `sources` reads sets, `prepare` makes TFDS's once, `pipeline` feeds them to a model."""
