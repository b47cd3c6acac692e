"""A point mass: the q(z|x) of an auto-encoder."""

import jax
from flax import struct

from vae_jax.support import Real


@struct.dataclass
class Deterministic:
    """δ(z - loc): every draw is `loc`, and so is the mean.

    What asks for draws or means of q(z|x) takes it as any other; what asks for its density is told that there is none.
    """

    loc: jax.Array

    support = Real()

    def sample(self, key):
        return self.loc

    def log_prob(self, x):
        """Raises `TypeError`: with respect to volume a point has no density, and a KL to it is infinite."""
        raise TypeError(
            "a point mass has no density: bounds, rates and information of a deterministic code do not exist"
        )

    def mean(self):
        return self.loc
