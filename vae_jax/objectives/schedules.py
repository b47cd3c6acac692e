"""Functions of the step: any numeric option of an objective may be one."""

import jax
import jax.numpy as jnp

from vae_jax.spec import integers, numbers

__all__ = ["constant", "cyclical", "linear", "logistic"]


def constant(*, value=1.0):
    """The same value at every step."""
    numbers(value=value)
    return lambda step: jnp.asarray(value, jnp.float32)


def linear(*, steps, start=0.0, end=1.0):
    """A line from `start` to `end` over the first `steps` steps, then `end`: KL warm-up.  arXiv:1602.02282 sec. 2.3."""
    integers(steps=steps)
    numbers(start=start, end=end)
    return lambda step: start + (end - start) * jnp.minimum(step / steps, 1.0)


def cyclical(*, steps, num_cycles=4, ratio=0.5, start=0.0, end=1.0):
    """`num_cycles` cycles over `steps` steps; after `steps`, `end`.  arXiv:1903.10145 sec. 4.

    Each cycle rises from `start` to `end` in the first `ratio` of it, and stays at `end` for the rest.
    """
    integers(steps=steps, num_cycles=num_cycles)
    numbers(ratio=ratio, above=0, at_most=1)
    numbers(start=start, end=end)

    def value(step):
        done = jnp.asarray(step, jnp.float32) * num_cycles / steps  # as an integer, the product could overflow
        rise = jnp.minimum((done - jnp.floor(done)) / ratio, 1.0)
        return start + (end - start) * jnp.where(step < steps, rise, 1.0)

    return value


def logistic(*, midpoint, width, start=0.0, end=1.0):
    """A curve from `start` to `end` along σ((step - midpoint) / width), both in steps.  arXiv:1511.06349 sec. 3.1."""
    numbers(width=width, above=0)
    numbers(midpoint=midpoint, start=start, end=end)
    return lambda step: start + (end - start) * jax.nn.sigmoid((step - midpoint) / width)


def resolve(options, step):
    """Return the options with every schedule evaluated at `step`."""
    return {name: value(step) if callable(value) else value for name, value in options.items()}
