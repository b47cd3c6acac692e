"""The chain rule: a joint distribution of several variables, each drawn given those before it."""

from collections.abc import Callable
from typing import Any

import jax
from flax import struct


@struct.dataclass
class Sequential:
    """p(z) = p(z_1) Π_l p(z_l | z_<l) over the tuple z of the variables, whatever their shapes.

    `first` is the first distribution, `conditionals[l](params, given, before)` each later one, `before` the tuple of
    the draws so far. `params` are what the conditionals learn (networks), `given` what they see of the example besides
    (x, a context): distributions of many examples share the first and have an axis in the second. With `reverse` the
    last drawn variable leads the tuple, so that the levels of a hierarchy can be numbered from the bottom and drawn
    from the top.
    """

    first: Any
    params: Any = None
    given: Any = None
    conditionals: tuple[Callable, ...] = struct.field(pytree_node=False, default=())
    reverse: bool = struct.field(pytree_node=False, default=False)

    @property
    def support(self):
        """That of every variable, a tuple."""
        return tuple(part.support for part in parts_at_mean(self))

    def sample(self, key):
        return self.sample_and_log_prob(key)[0]

    def sample_and_log_prob(self, key):
        """A draw, variable by variable, and its log-density, each part from its own noise where it knows how."""
        keys = jax.random.split(key, 1 + len(self.conditionals))
        z, log_probs = self._unfold(lambda part, place: draw(part, keys[place]))
        return z, sum(log_probs)

    def log_prob(self, z):
        """Σ_l log p(z_l | z_<l), in nats."""
        return sum(part.log_prob(value) for part, value in zip(self.parts(z), z, strict=True))

    def mean(self):
        """The ancestral mean, every variable's mean given the means of those before: not E[z_l], unless the conditional
        means are affine.
        """
        return self._unfold(lambda part, place: (part.mean(), None))[0]

    def parts(self, z):
        """p(z_l | z_<l) of every variable, in the order of the tuple `z`. Raises `ValueError` for a wrong length."""
        if len(z) != 1 + len(self.conditionals):
            raise ValueError(f"a chain of {1 + len(self.conditionals)} variables was given {len(z)}")
        drawn = self._ordered(tuple(z))
        return self._ordered(tuple(self._unfold(lambda part, place: (drawn[place], part))[1]))

    def _unfold(self, choose):
        """`choose(part, place)` -> (value, result) of every variable as it is drawn: the event, and the results."""
        before, results = (), []
        for place in range(1 + len(self.conditionals)):
            part = self.conditionals[place - 1](self.params, self.given, before) if place else self.first
            value, result = choose(part, place)
            before += (value,)
            results.append(result)
        return self._ordered(before), results

    def _ordered(self, values):
        """From the order of drawing to that of the tuple, or back."""
        return values[::-1] if self.reverse else values


def draw(distribution, key):
    """z ~ distribution and log p(z): from the noise itself where it knows how, which rounding cannot spoil."""
    if hasattr(distribution, "sample_and_log_prob"):
        return distribution.sample_and_log_prob(key)
    z = distribution.sample(key)
    return z, distribution.log_prob(z)


def parts_at_mean(distribution):
    """The parts of a chain, a tuple, with shapes in place of arrays; of any other distribution itself alone."""
    if not isinstance(distribution, Sequential):
        return (distribution,)
    return jax.eval_shape(lambda chain: chain.parts(chain.mean()), distribution)
