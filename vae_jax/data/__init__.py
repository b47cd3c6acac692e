"""From files to batches: `sources` reads data sets, `prepare` prepares those of TFDS, `pipeline` feeds them to a model.

README.md in this folder is the guide for users.
"""
