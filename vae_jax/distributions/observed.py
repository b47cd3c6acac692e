"""Distributions of independent entries: with missing values, and with columns of several kinds.

Such a distribution has `log_probs(x)`, the log-probability of every entry, whose sum is `log_prob(x)`. The density of
the observed entries is then the sum over them: the others are integrated out exactly.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from vae_jax.distributions.discrete import Categorical
from vae_jax.distributions.mixture import Mixture
from vae_jax.support import Columns, Unit


@struct.dataclass
class Observed:
    """The density of the observed entries of x, p(x_obs) = Π_d p(x_d) over the entries that are not NaN.

    `base` has independent entries, or is a `Mixture` of such. A missing entry changes neither the value nor any
    gradient. Without missing entries the value is that of `base`. Draws and the mean are of all entries.
    """

    base: Any

    @property
    def support(self):
        return self.base.support

    def sample(self, key):
        return self.base.sample(key)

    def log_prob(self, x):
        if isinstance(self.base, Mixture):
            return Mixture(self.base.logits, Observed(self.base.components)).log_prob(x)
        return jnp.sum(self.log_probs(x))

    def log_probs(self, x):
        """Return log p(x_d) of every entry, and 0 for a missing one."""
        missing = jnp.isnan(x)
        # A value in the support takes the place of NaN before the density, or its gradient would be NaN as well.
        inside = 0.5 if isinstance(self.support, Unit) else 0.0
        return jnp.where(missing, 0.0, self.base.log_probs(jnp.where(missing, inside, x)))

    def mean(self):
        return self.base.mean()


@struct.dataclass
class Rows:
    """A row of a table, x [D]: a product of distributions, one for the columns of each kind.

    `parts` are distributions of independent entries; `places[n]` are the columns of x that the n-th is about.
    """

    parts: tuple
    places: tuple = struct.field(pytree_node=False)
    support: Columns = struct.field(pytree_node=False)

    def sample(self, key):
        keys = jax.random.split(key, len(self.parts))
        return self._joined([part.sample(k) for part, k in zip(self.parts, keys, strict=True)])

    def log_prob(self, x):
        return jnp.sum(self.log_probs(x))

    def log_probs(self, x):
        """Return the log-probability of every column [D], in nats."""
        pieces = zip(self.parts, self.places, strict=True)
        return self._joined([part.log_probs(x[np.asarray(places)]) for part, places in pieces])

    def mean(self):
        """Return the mean of every column; of categories, which have none, the most probable code."""

        def centre(part):
            return jnp.argmax(part.logits, axis=-1) if isinstance(part, Categorical) else part.mean()

        return self._joined(list(map(centre, self.parts)))

    def with_modes(self, mean, weights):
        """Return the means [D] with the most probable codes of Σ_k w_k p_k in place of the means of categories.

        The arrays of this row lead with K, the number of `weights`.
        """
        for part, places in zip(self.parts, self.places, strict=True):
            if isinstance(part, Categorical):
                p = jnp.tensordot(weights, jax.nn.softmax(part.logits), axes=1)
                mean = mean.at[np.asarray(places)].set(jnp.argmax(p, axis=-1).astype(mean.dtype))
        return mean

    def _joined(self, pieces):
        """Return the entries of all parts in the order of the columns."""
        order = np.argsort(np.concatenate([np.asarray(places) for places in self.places]))
        return jnp.concatenate([piece.astype(jnp.float32) for piece in pieces])[order]


def is_factorised(distribution) -> bool:
    """Return True if entries can be left out of the density: they are independent, or so in each component."""
    base = distribution.components if isinstance(distribution, Mixture) else distribution
    return hasattr(base, "log_probs")
