"""Latent-variable models as pure JAX functions: distributions are values, models are named tuples of functions."""
