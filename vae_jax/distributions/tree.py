"""Bits, each of which depends on one other bit."""

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.distributions.discrete import Bernoulli
from vae_jax.numerics import as_jax
from vae_jax.support import Binary


@struct.dataclass
class Tree:
    """The distribution p(x) = p(x_r) Π_{d ≠ r} p(x_d | x_{parent(d)}) over x in {0, 1}^D.

    It is a Bayes net whose graph is a tree with root r. Given evidence on single entries it stays one (Pearl 1982).

    `order` [D] lists every dimension after its parent, the root first. `parent` [D] of the root is the root itself.
    `logits` [D, 2] are the log-odds of x_d = 1 if the parent is 0, and if it is 1; for the root both are equal.
    """

    order: jax.Array
    parent: jax.Array
    logits: jax.Array

    support = Binary()

    def sample(self, key):
        """Draw by ancestral sampling along `order`: x_d = [ε_d < logit], ε_d logistic noise."""
        order, parent, logits = as_jax((self.order, self.parent, self.logits))
        epsilon = jax.random.logistic(key, parent.shape, logits.dtype)

        def draw(x, d):
            logit = logits[d, x[parent[d]].astype(jnp.int32)]
            return x.at[d].set((epsilon[d] < logit).astype(x.dtype)), None

        return jax.lax.scan(draw, jnp.zeros_like(epsilon), order)[0]

    def log_prob(self, x):
        """Return Σ_d log p(x_d | x_{parent(d)}), in nats."""
        logits = jnp.where(jnp.asarray(x)[self.parent] > 0.5, self.logits[:, 1], self.logits[:, 0])
        return Bernoulli(logits).log_prob(x)

    def posterior(self, log_likelihood):
        """Return p(x|y), which is a tree of the same graph, and log p(y) in nats, if each y_d depends on one x_d only.

            m_d(v) = Π_{c: parent(c) = d} Σ_w p(x_c = w | x_d = v) p(y_c | x_c = w) m_c(w)

        The messages m pass from the leaves to the root (Pearl 1982); then p(x_d = w | parent, y) ∝ p(x_d = w | parent)
        p(y_d | x_d = w) m_d(w).

        Args:
          log_likelihood: log p(y_d | x_d = v) [D, 2], for v = 0 and 1; 0 for an entry that is not observed.
        """
        order, parent, logits = as_jax((self.order, self.parent, self.logits))
        log_p = jnp.stack([jax.nn.log_sigmoid(-logits), jax.nn.log_sigmoid(logits)], axis=-1)  # [D, parent, x_d]

        def up(carry, d):
            message, new = carry  # log p(y_d, all below | x_d) [D, 2], and the log-odds given y [D, 2]
            joint = log_p[d] + jnp.broadcast_to(message[d][None], (2, 2))
            new = new.at[d].set(joint[:, 1] - joint[:, 0])
            passed = jax.nn.logsumexp(joint, axis=1)
            is_root = parent[d] == d
            message = message.at[parent[d]].add(jnp.where(is_root, 0.0, passed))
            return (message, new), jnp.where(is_root, passed[0], 0.0)

        # A value that y excludes: differences of -inf would be NaN, and large log-odds would cost digits in `log_prob`.
        start = (jnp.maximum(log_likelihood, -100.0), jnp.zeros_like(logits))
        (_, new), evidence = jax.lax.scan(up, start, order, reverse=True)
        return Tree(self.order, self.parent, new), jnp.sum(evidence)

    def mean(self):
        """Return p(x_d = 1), exact: p_d = (1 - p_parent) σ(l_d0) + p_parent σ(l_d1) along `order`."""
        order, parent = as_jax((self.order, self.parent))
        bright = jax.nn.sigmoid(self.logits)

        def marginal(p, d):
            above = p[parent[d]]
            return p.at[d].set((1.0 - above) * bright[d, 0] + above * bright[d, 1]), None

        return jax.lax.scan(marginal, jnp.zeros_like(bright[:, 0]), order)[0]
