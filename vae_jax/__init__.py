"""Latent-variable models as pure JAX functions: distributions are values, models are named tuples of functions.

`fit(data, config)` trains a model and returns a `Run`; `load(workdir)` returns that of a trained workdir.
"""

import importlib

__docformat__ = "google"  # how pdoc reads the docstrings
__all__ = ["fit", "load"]


def __getattr__(name):
    """Import `fit` and `load` when they are used, so that the mathematics can be imported without the machinery."""
    if name in __all__:
        return getattr(importlib.import_module("vae_jax.runs.run"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
