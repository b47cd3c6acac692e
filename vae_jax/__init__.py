"""Latent-variable models as pure JAX functions: distributions are values, models are named tuples of functions."""

__docformat__ = "google"  # how pdoc reads the docstrings
