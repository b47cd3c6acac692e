"""Statistics that follow the data and no loss: they lie in params under the key `core.RUNNING`."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class RunningMean(NamedTuple):
    """m ← d m + (1-d) mean_B v, from m = 0: an exponential average, 0 <= d < 1."""

    value: jax.Array  # m, of the steps before this one
    decay: jax.Array  # d

    def follow(self, v):
        """-(1-d)/2 |m - v|²: an equation adds it to what it maximises, of one example. Its ascent at rate 1, which is
        what `training.gradient` gives to m, is the exponential average over the batch; v gets no gradient.
        """
        return -0.5 * (1.0 - self.decay) * jnp.sum(jnp.square(self.value - jax.lax.stop_gradient(v)))
