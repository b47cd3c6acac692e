"""Latent-variable models as pure JAX functions: distributions are values, models are named tuples of functions.

`fit(data, config)` trains a model and returns a `Run`; `load(workdir)` returns that of a trained workdir.
`load_exported(folder)` loads the programs of an exported model.
"""

import importlib

__docformat__ = "google"  # how pdoc reads the docstrings
_HOMES = {"fit": "run", "load": "run", "load_exported": "exported"}  # modules of vae_jax.runs, where they are explained


def __getattr__(name):
    """Import a function when it is used, so that the mathematics can be imported without the machinery."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"vae_jax.runs.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
