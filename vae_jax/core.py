"""The contracts that every family, objective, learner and evaluation share.

Everything is written for ONE example; `jax.vmap` adds the batch, the importance samples and the seeds of a sweep.
A batch is a dict `{"x": [B, *event]}` with `"context": [B, ...]` where the model is conditional.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from vae_jax.support import Support

RUNNING = "running"  # the key in params of statistics that follow the data: no optimiser moves what lies under it


class Latent(NamedTuple):
    """A latent-variable model: three conditional distributions, one example each."""

    prior: Callable  # (params, context=None)     -> p(z); None for an auto-encoder, which has none
    posterior: Callable  # (params, x, context=None)  -> q(z|x)
    likelihood: Callable  # (params, z, context=None)  -> p(x|z)


class Model(NamedTuple):
    """A family's functions. What the mathematics does not give stays None; evaluation asks for the field."""

    init: Callable  # (key, batch)               -> params
    loss: Callable  # (params, key, batch, step) -> nats [B], terms {name: [B]}; what training minimises
    sample: Callable  # (params, key, context=None) -> x; None where there is no p(x) to draw from
    log_prob: Callable | None = None  # (params, x, context=None)      -> log p(x), exact
    bound: Callable | None = None  # (params, key, x, context=None) -> an unbiased lower bound of log p(x)
    latent: Latent | None = None
    density: Callable | None = None  # (params, context=None) -> p(x), a distribution, whose density log_prob is
    statistics: Callable | None = None  # (params, batch) -> sums over the batch, log p(x) [B]: the E step of EM
    maximize: Callable | None = None  # (params, sums) -> params: the M step, the maximum given the sums over all data
    fit: Callable | None = None  # (x [N, *event]) -> params, one function of all data, on the host (`whole_data`)
    one_pass: bool = False  # whether the sums ask for no parameters (but as a centre), so that counting is enough
    coupled: bool = False  # whether the loss of an example depends on the others in its batch
    thinned: bool = False  # whether the loss is that of networks thinned by dropout, and no bound of this log p(x)


class Learner(NamedTuple):
    """How a model is fitted: gradient descent, EM, counting ... The same loop drives them all."""

    init: Callable  # (key, batch)   -> state
    step: Callable  # (state, batch) -> state, metrics {name: []}
    params: Callable  # (state)        -> params to evaluate with (the average, where one is kept)


class Event(NamedTuple):
    """What is modelled: the shape of one example, and the values it can take."""

    shape: tuple
    support: Support


class Context(NamedTuple):
    """What a model is conditional on: a label, a vector, an image or a prefix. `None` in its place: nothing."""

    shape: tuple  # of one context; () for a label
    support: Support  # of its values; `Levels(C)` for a label of C classes
    embed: Callable  # context -> what networks see, a vector or an image


def tractable(init, density, **fields) -> Model:
    """A model whose p(x) is a distribution, `density(params, context)`: its likelihood is what training maximises."""

    def log_prob(params, x, context=None):
        return density(params, context).log_prob(x)

    def loss(params, key, batch, step):
        value = jax.vmap(log_prob, (None, 0, 0))(params, batch["x"], batch.get("context"))
        return -value, {"bound": value}

    def sample(params, key, context=None):
        return density(params, context).sample(key)

    return Model(init, loss, sample, log_prob=log_prob, density=density, **fields)


def with_code_density(model, density) -> Model:
    """`model` with `density`, a distribution fitted to its codes, for p(z): p(x) = ∫ p(x|z) p(z) dz can be drawn from.

    Ex-post density estimation, arXiv:1903.12436 sec. 4: what makes a generative model of an auto-encoder, and may mend
    the samples of one that has a p(z). Raises `ValueError` where the model has no codes.
    """
    if model.latent is None:
        raise ValueError("a density of codes wants a latent-variable model; this one has no `latent`")
    latent = model.latent._replace(prior=lambda params, context=None: density)

    def sample(params, key, context=None):
        key_z, key_x = jax.random.split(key)
        return latent.likelihood(params, density.sample(key_z), context).sample(key_x)

    return model._replace(sample=sample, latent=latent, bound=None)


def per_example(function: Callable) -> Callable:
    """Lift `function(params, key, x, context)`, written for one example, to `(params, key, batch)`, one key each."""

    def batched(params, key, batch):
        keys = jax.random.split(key, batch["x"].shape[0])
        return jax.vmap(function, in_axes=(None, 0, 0, 0))(params, keys, batch["x"], batch.get("context"))

    return batched


def one_hot(context, num_classes):
    """A class label as the vector that networks see; None where the model is conditional on nothing.

    Raises `ValueError` where a conditional model meets no context.
    """
    if num_classes == 0:
        return None
    if context is None:
        raise ValueError(f"this model is conditional on {num_classes} classes: a context is needed")
    return jax.nn.one_hot(context, num_classes)


def unconditional(family, num_classes):
    """Raise `ValueError` where a family that knows no classes is given some."""
    if num_classes:
        raise ValueError(f"config.data.context: family {family!r} knows no classes, set it to False")


def learned(**parts) -> dict[str, Any]:
    """Parameters by part, of the parts that have any: not those that are None."""
    return {name: own for name, own in parts.items() if own is not None}
