"""The chain rule: a joint distribution of several variables, each drawn given the earlier ones."""

from collections.abc import Callable
from typing import Any

import jax
from flax import struct


@struct.dataclass
class Sequential:
    """The distribution p(z) = p(z_1) Π_l `p(z_l | z_<l)` over the tuple z of the variables, of any shapes.

    `first` is the first distribution. `conditionals[l](params, given, before)` is each later one; `before` is the tuple
    of the draws so far. `params` are learned (networks), and all examples share them. `given` is what the conditionals
    see of the example (x, a context), with an axis over examples. With `reverse` the last drawn variable leads the
    tuple, so that the levels of a hierarchy can be numbered from the bottom and drawn from the top.
    """

    first: Any
    params: Any = None
    given: Any = None
    conditionals: tuple[Callable, ...] = struct.field(pytree_node=False, default=())
    reverse: bool = struct.field(pytree_node=False, default=False)

    @property
    def support(self):
        """Return the support of every variable, a tuple."""
        return tuple(part.support for part in parts_at_mean(self))

    def sample(self, key):
        return self.sample_and_log_prob(key)[0]

    def sample_and_log_prob(self, key):
        """Return a draw, variable by variable, and its log-density, each part from its own noise if it can."""
        keys = jax.random.split(key, 1 + len(self.conditionals))
        z, log_probs = self._unfold(lambda part, place: draw(part, keys[place]))
        return z, sum(log_probs)

    def log_prob(self, z):
        """Return Σ_l `log p(z_l | z_<l)`, in nats."""
        return sum(part.log_prob(value) for part, value in zip(self.parts(z), z, strict=True))

    def mean(self):
        """Return the ancestral mean: every variable's mean given the means of the earlier ones.

        It is E[z_l] only if the conditional means are affine.
        """
        return self._unfold(lambda part, place: (part.mean(), None))[0]

    def parts(self, z):
        """Return `p(z_l | z_<l)` of every variable, in the order of `z`. Raises `ValueError` for a wrong length."""
        if len(z) != 1 + len(self.conditionals):
            raise ValueError(f"a chain of {1 + len(self.conditionals)} variables was given {len(z)}")
        drawn = self._ordered(tuple(z))
        return self._ordered(tuple(self._unfold(lambda part, place: (drawn[place], part))[1]))

    def _unfold(self, choose):
        """Return the event, and the results, of `choose(part, place)` -> (value, result) of every variable in turn."""
        before, results = (), []
        for place in range(1 + len(self.conditionals)):
            part = self.conditionals[place - 1](self.params, self.given, before) if place else self.first
            value, result = choose(part, place)
            before += (value,)
            results.append(result)
        return self._ordered(before), results

    def _ordered(self, values):
        """Turn the order of drawing into that of the tuple, or back."""
        return values[::-1] if self.reverse else values


def draw(distribution, key):
    """Return z ~ distribution and log p(z), from the noise itself if it can, so that nothing is rounded."""
    if hasattr(distribution, "sample_and_log_prob"):
        return distribution.sample_and_log_prob(key)
    z = distribution.sample(key)
    return z, distribution.log_prob(z)


def parts_at_mean(distribution):
    """Return the parts of a chain, a tuple, with shapes in place of arrays; for any other distribution, (itself,)."""
    if not isinstance(distribution, Sequential):
        return (distribution,)
    return jax.eval_shape(lambda chain: chain.parts(chain.mean()), distribution)
