"""Distributions over maps of codes: integers 0, ..., K - 1 without an order, one at each place."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.support import Levels


@struct.dataclass
class PointMass:
    """The mass 1 at the codes `loc`, int [...]: log p is 0 there and -∞ elsewhere. Every draw is `loc`.

    `loc` may be a tuple of maps, one for each level of a hierarchy; `num_codes` is then a tuple, too.
    """

    loc: Any
    num_codes: Any = struct.field(pytree_node=False)

    @property
    def support(self):
        return jax.tree.map(Levels, self.num_codes)

    def sample(self, key):
        return jax.tree.map(jnp.asarray, self.loc)

    def log_prob(self, x):
        equal = [jnp.all(a == b) for a, b in zip(jax.tree.leaves(self.loc), jax.tree.leaves(x), strict=True)]
        return jnp.where(jnp.all(jnp.stack(equal)), 0.0, -jnp.inf)

    def mean(self):
        return jax.tree.map(jnp.asarray, self.loc)


@struct.dataclass
class Codes:
    """Independent codes from `logits` [..., K]; a draw is int32 [...].

    Codes have no order: `mean` is the most probable code of each place.
    """

    logits: jax.Array

    @property
    def support(self):
        return Levels(self.logits.shape[-1])

    def sample(self, key):
        return jax.random.categorical(key, self.logits).astype(jnp.int32)

    def log_prob(self, x):
        return jnp.sum(self.log_probs(x))

    def log_probs(self, x):
        """Return log p(k) of every code, in nats."""
        log_p = jax.nn.log_softmax(self.logits)
        return jnp.take_along_axis(log_p, jnp.asarray(x, jnp.int32)[..., None], axis=-1)[..., 0]

    def mean(self):
        return jnp.argmax(self.logits, axis=-1).astype(jnp.int32)


@struct.dataclass
class CodeMap:
    """The distribution of a map of codes k [h, w], int32, from `base`, a `RasterScan` over [h, w, 1].

    Codes have no order: `mean` is the draw of a fixed key.
    """

    base: Any

    @property
    def support(self):
        return self.base.support

    def sample(self, key):
        return self.complete(key, jnp.zeros(self.base.event_shape[:2], jnp.int32), 0)

    def complete(self, key, x, num_given):
        """Draw from p(k | its first `num_given` codes, in raster order), taken from x."""
        return self.base.complete(key, jnp.asarray(x, jnp.int32)[..., None], num_given)[..., 0]

    def log_prob(self, x):
        return self.base.log_prob(jnp.asarray(x, jnp.int32)[..., None])

    def mean(self):
        return self.sample(jax.random.key(0))
