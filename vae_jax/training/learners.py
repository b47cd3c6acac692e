"""How a model may be fitted by gradients: what a config's `learner.name` chooses among."""

from vae_jax.training.alternating import aggressive, alternating
from vae_jax.training.gradient import gradient

__all__ = ["aggressive", "alternating", "gradient"]
