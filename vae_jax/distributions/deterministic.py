"""A point mass: the q(z|x) of an auto-encoder."""

import jax
from flax import struct

from vae_jax.support import Real


@struct.dataclass
class Deterministic:
    """The point mass δ(z - loc): every draw is `loc`, and so is the mean.

    It serves where draws or means of q(z|x) are needed. It has no density.
    """

    loc: jax.Array

    support = Real()

    def sample(self, key):
        return self.loc

    def log_prob(self, x):
        """Raise `TypeError`: a point has no density with respect to volume, and a KL to it is infinite."""
        raise TypeError(
            "a point mass has no density: bounds, rates and information of a deterministic code do not exist"
        )

    def mean(self):
        return self.loc
