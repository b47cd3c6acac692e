"""Values that move with the step: any numeric option of an objective may be one."""

import jax.numpy as jnp

__all__ = ["constant", "linear"]


def constant(*, value=1.0):
    """The same value at every step."""
    return lambda step: jnp.asarray(value, jnp.float32)


def linear(*, steps, start=0.0, end=1.0):
    """From `start` to `end` over the first `steps` steps, then `end`: KL warm-up.  arXiv:1602.02282 sec. 2.3."""
    if steps < 1:
        raise ValueError(f"linear schedule: steps must be at least 1, got {steps}")
    return lambda step: start + (end - start) * jnp.minimum(step / steps, 1.0)


def resolve(options, step):
    """The options with every schedule among them read at `step`."""
    return {name: value(step) if callable(value) else value for name, value in options.items()}
