"""A point mass: the q(z|x) of an auto-encoder, and the heads that make one of what an encoder puts out."""

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.distributions.heads import Head
from vae_jax.spec import integers

__all__ = ["k_sparse", "linear", "sigmoid"]


@struct.dataclass
class Deterministic:
    """δ(z - loc): every draw is `loc`, and so is the mean.

    What asks for draws or means of q(z|x) takes it as any other; what asks for its density is told that there is none.
    """

    loc: jax.Array

    support = "real"

    def sample(self, key):
        return self.loc

    def log_prob(self, x):
        """Raises `TypeError`: with respect to volume a point has no density, and a KL to it is infinite."""
        raise TypeError(
            "a point mass has no density: bounds, rates and information of a deterministic code do not exist"
        )

    def mean(self):
        return self.loc


def linear(event_shape) -> Head:
    """z = the encoder's output."""
    return Head((event_shape,), Deterministic)


def sigmoid(event_shape) -> Head:
    """z = σ(the encoder's output), in (0, 1): activations, which can be rare (`penalties.target_activation`)."""
    return Head((event_shape,), lambda a: Deterministic(jax.nn.sigmoid(a)))


def k_sparse(event_shape, *, num_active) -> Head:
    """z = a where a is among the `num_active` largest of the encoder's outputs, else 0.  arXiv:1312.5663.

    The paper keeps more of them when it encodes than when it trains; here they are the same.
    Raises `ValueError` unless 1 ≤ num_active ≤ D.
    """
    (dim,) = event_shape
    integers(num_active=num_active, at_most=dim)

    def distribution(a):
        largest, index = jax.lax.top_k(a, num_active)
        return Deterministic(jnp.zeros_like(a).at[index].set(largest))

    return Head((event_shape,), distribution)
