"""Conditional distributions p(y | x, context): a network, and a head that turns its outputs into a distribution."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vae_jax.core import Conditional
from vae_jax.spec import BadOption

LOG_SCALE_LIMIT = 8.0
NO_LIBRARY = (
    "library: True needs the total count of each example as the model's context; set data.context.name to 'library', "
    "or library to False"
)


class Head(NamedTuple):
    """A family of distributions, and the arrays that parametrise one of them.

    Raw log-scales pass through a soft clip to (-8, 8), so scales lie between e⁻⁸ = 0.0003 and e⁸ = 3000. Every
    log-density and its gradient is finite in float32 for raw outputs between -1e4 and 1e4.
    """

    shapes: tuple  # of the arrays that a network must return
    distribution: Callable  # (*arrays) -> distribution; with `init`, the weights are the last argument
    init: Callable | None = None  # key -> weights of the distribution, shared by all inputs
    context: tuple | None = None  # the shape of the embedded context that `distribution` needs; None if it needs none


def abstract(head: Head):
    """Return the head's distribution with shapes in place of arrays: its type and its support are known already."""
    context = {} if head.context is None else {"context": jnp.zeros(head.context)}
    return jax.eval_shape(lambda: head.distribution(*zeros(head), **context))


def zeros(head: Head):
    """Return zeros for all arguments of `head.distribution`."""
    weights = () if head.init is None else (head.init(jax.random.key(0)),)
    return (*map(jnp.zeros, head.shapes), *jax.tree.map(jnp.zeros_like, weights))


def conditional(network, head: Head) -> Conditional:
    """Return p(y | x, context) whose parameters are the outputs of `network(x, context)`.

    If the head has weights, params are {"network": ..., "weights": ...}; otherwise they are the network's variables.
    A head that needs the context gets it as well; without one it raises `BadOption`.
    """

    def init(key, x, context=None):
        variables = network.init(key, x, context)
        if head.init is None:
            return variables
        return {"network": variables, "weights": head.init(jax.random.fold_in(key, 1))}

    def distribution(params, x, context=None, dropout_key=None):
        more = {} if head.context is None else {"context": _checked(head, context)}
        if head.init is None:
            return head.distribution(*network.apply(params, x, context, dropout_key=dropout_key), **more)
        outputs = network.apply(params["network"], x, context, dropout_key=dropout_key)
        return head.distribution(*outputs, params["weights"], **more)

    return Conditional(init, distribution, abstract(head))


def _checked(head, context):
    """Return the context that a head needs."""
    if context is None or jnp.shape(context) != head.context:
        raise BadOption(NO_LIBRARY)
    return context


def vector_length(name, event_shape, at_least=1):
    """Return D for an event of shape [D]. Raises `BadOption` for another shape, and for D below `at_least`."""
    if len(event_shape) != 1:
        raise BadOption(f"name: {name!r} is a distribution over vectors, got an event of shape {tuple(event_shape)}")
    if event_shape[0] < at_least:
        raise BadOption(f"name: {name!r} needs at least {at_least} dimensions, got {event_shape[0]}")
    return event_shape[0]
