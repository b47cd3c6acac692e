"""The border around Flax: a network is a named tuple of pure functions, whichever library it is written in."""

import functools
import inspect
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vae_jax.spec import one_of

COMPUTE_DTYPES = ("float32", "bfloat16")


class Network(NamedTuple):
    """A network for one example. Its outputs are a tuple of arrays, or the logits of a language model."""

    init: Callable  # (key, x, context) -> variables
    apply: Callable  # (variables, x, context, dropout_key=None) -> outputs; no dropout without a key
    start: Callable | None = None  # (variables, ...) -> the state before the first place of an autoregressive network
    step: Callable | None = None  # (variables, ...) -> state, outputs of one place
    row: Callable | None = None  # (variables, ...) -> state, features of the next row; for images only
    drops: bool = False  # True if a `dropout_key` makes a difference


@functools.cache
def network_of(module) -> Network:
    """Return the `Network` of a linen module: equal modules give the same functions, which are compiled once."""

    def init(key, *inputs):
        return module.init(key, *inputs)

    def apply(variables, *inputs, dropout_key=None):
        return module.apply(variables, *inputs, rngs={} if dropout_key is None else {"dropout": dropout_key})

    def method(name):
        if not hasattr(module, name):
            return None
        return lambda variables, *inputs: module.apply(variables, *inputs, method=name)

    drops = bool(getattr(module, "drops", False))
    return Network(init, apply, method("start"), method("step"), method("row"), drops)


def network(module_class) -> Callable:
    """Return the function that builds a `Network` from the fields of a linen module class."""

    @functools.wraps(module_class, updated=())
    def build(*args, **options) -> Network:
        return network_of(module_class(*args, **options))

    fields = inspect.signature(module_class).parameters.values()
    build.__signature__ = inspect.Signature([field for field in fields if field.name not in ("parent", "name")])
    return build


def compute_in(dtype, network: Network, keep=()) -> Network:
    """Return `network` with its products and activations in `dtype`.

    Parameters and inputs are rounded on the way in, outputs are widened to float32 on the way out, and gradients of the
    parameters arrive in float32. bfloat16 has float32's range and 8 bits of precision: no loss scaling is needed. An
    input that is one number, such as a time, keeps its precision, and so do the inputs at the places `keep`.
    Raises `BadOption` for a type other than "float32" and "bfloat16".
    """
    one_of(COMPUTE_DTYPES, compute_dtype=dtype)
    return network if dtype == "float32" else _computed_in(dtype, network, keep)


@functools.cache
def _computed_in(dtype, network, keep):
    def rounded(function):
        if function is None:
            return None

        def apply(variables, *inputs, **options):
            kept = [n in keep or (isinstance(a, jax.Array) and a.ndim == 0) for n, a in enumerate(inputs)]
            rounded_inputs = (a if keeps else _cast(a, dtype) for a, keeps in zip(inputs, kept, strict=True))
            return _cast(function(_cast(variables, dtype), *rounded_inputs, **options), jnp.float32)

        return apply

    functions = (network.apply, network.start, network.step, network.row)
    return Network(network.init, *map(rounded, functions), network.drops)


def _cast(tree, dtype):
    """Return `tree` with its floats in `dtype`; integers stay as they are."""
    is_float = lambda a: jnp.issubdtype(jnp.result_type(a), jnp.floating)  # noqa: E731
    return jax.tree.map(lambda a: jnp.asarray(a, dtype) if is_float(a) else a, tree)
