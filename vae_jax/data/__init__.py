"""From files and arrays to batches: `sources` reads data sets, `prepare` prepares those of TFDS, `pipeline` feeds them.

`from_arrays` and `from_source` make a data set of your own arrays. README.md in this folder is the guide for users.
"""

from vae_jax.data.assemble import from_arrays, from_source

__all__ = ["from_arrays", "from_source"]
