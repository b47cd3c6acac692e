"""The ways to fit a model: a config's `learner.name` is one of these."""

from vae_jax.training.alternating import aggressive, alternating
from vae_jax.training.em import counting, em
from vae_jax.training.gradient import gradient
from vae_jax.training.whole_data import whole_data

__all__ = ["aggressive", "alternating", "counting", "em", "gradient", "whole_data"]
