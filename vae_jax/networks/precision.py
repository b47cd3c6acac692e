"""In which float a network computes. Parameters, and all that a network's outputs enter, are float32 whatever it is."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vae_jax.spec import BadOption

COMPUTE_DTYPES = ("float32", "bfloat16")


class Network(NamedTuple):
    """What a model sees of a network."""

    init: Callable  # (key, x, context)       -> variables
    apply: Callable  # (variables, x, context) -> tuple of arrays; with linen's options (`method`, `rngs`)


def compute_in(dtype, network):
    """`network` with its products and activations in `dtype`: parameters and inputs are rounded on the way in, outputs
    widened to float32 on the way out, and gradients of the parameters arrive in float32.

    bfloat16 has float32's range and 8 bits of precision: no loss scaling is needed. Raises `ValueError` for another.
    """
    if dtype not in COMPUTE_DTYPES:
        raise BadOption(f"compute_dtype: unknown value {dtype!r} (allowed: {', '.join(COMPUTE_DTYPES)})")
    if dtype == "float32":
        return network

    def apply(variables, *inputs, **options):
        return _cast(network.apply(*_cast((variables, *inputs), dtype), **options), jnp.float32)

    return Network(network.init, apply)


def _cast(tree, dtype):
    """The floats among the leaves in `dtype`; integers stay what they are."""
    is_float = lambda a: jnp.issubdtype(jnp.result_type(a), jnp.floating)  # noqa: E731
    return jax.tree.map(lambda a: jnp.asarray(a, dtype) if is_float(a) else a, tree)
