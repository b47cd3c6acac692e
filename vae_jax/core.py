"""The contracts that every family, objective, learner and evaluation share.

Everything is written for ONE example; `jax.vmap` adds the batch, the importance samples and the seeds of a sweep.
A batch is a dict `{"x": [B, *event]}`, with `"context": [B, ...]` where the model is conditional. All numbers are nats.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import Array

from vae_jax.spec import INT_MAX
from vae_jax.support import Support


class Event(NamedTuple):
    """The modelled quantity: the shape of one example, and the values it can take."""

    shape: tuple
    support: Support
    missing: bool = False  # True if values may be NaN, which means: not observed


class Context(NamedTuple):
    """The quantity on which a model is conditional: a label, a vector, an image or a prefix; None for nothing."""

    shape: tuple  # of one context; () for a label
    support: Support  # of its values; `Levels(C)` for a label of C classes
    embed: Callable  # context -> what networks see, a vector or an image


class Conditional(NamedTuple):
    """A conditional distribution p(y | x, context): a network and the distribution that its outputs parametrise."""

    init: Callable  # (key, x, context) -> params
    distribution: Callable  # (params, x, context, dropout_key=None) -> a distribution over y
    abstract: Any  # the same distribution with shapes in place of arrays


class Evidence(NamedTuple):
    """The terms of log p(x) from one draw z ~ q(z|x)."""

    z: Any
    log_lik: Array  # log p(x|z)
    log_prior: Array  # log p(z)
    log_q: Array  # log q(z|x)
    kl: Array | None  # KL(q(z|x) || p(z)) in closed form, [] or, for a hierarchy, [L]; None if there is none


class Latent(NamedTuple):
    """A latent-variable model: three conditional distributions."""

    prior: Callable | None  # (params, context) -> p(z); None for an auto-encoder, which has none
    posterior: Callable  # (params, x, context) -> q(z|x)
    likelihood: Callable  # (params, z, context) -> p(x|z)
    evidence: Callable | None = None  # (params, key, x, context) -> Evidence, where one pass is cheaper than three

    def exchange(self, **conditionals):
        """Return the model with other `prior`, `posterior` or `likelihood`, without the `evidence` of the old ones."""
        return self._replace(evidence=None, **conditionals)


class Denoiser(NamedTuple):
    """A diffusion process z_t = α_t y + σ_t ε of y = scale(x), t in [0, 1], and the network that predicts ε.

    α_t² = sigmoid(-γ(t)) and σ_t² = sigmoid(γ(t)). `params` are those of the whole model.
    """

    shape: tuple  # of y and z_t
    gamma: Callable  # (params, t) -> γ(t), which rises from t = 0 to t = 1
    rate: Callable  # (params, t) -> γ(t), dγ/dt, and the mark of `numerics.scaled_later`
    noise: Callable  # (params, z_t, γ(t), context, keep=None, dropout_key=None) -> ε̂; keep = 0 hides the context
    scale: Callable  # x -> y
    decode: Callable  # (z_0 / α_0, γ(0)) -> p(x|z_0)
    limits: tuple | None = None  # the smallest and the largest y; None if y has no limits


class Sums(NamedTuple):
    """The two steps of a family that is fitted by sums over the data: EM, counting."""

    expect: Callable  # (params, batch) -> sums over the batch, log p(x) [B]
    maximize: Callable  # (params, sums) -> params, the maximum given the sums over all data
    one_pass: bool = False  # True if `expect` depends on params only through a centre: counting is enough


class Aux(NamedTuple):
    """The second result of a loss, beside its value."""

    terms: dict  # {name: nats [B]}
    state: Any = None  # the next params["state"]: running means, a codebook; None if there is none


class Model(NamedTuple):
    """A family's functions. A field that the mathematics does not give is None; evaluation asks for the field."""

    init: Callable  # (key, batch) -> params
    loss: Callable  # (params, key, batch, step) -> nats [B], Aux; training minimises the mean
    judge: Callable  # (params, key, x, context) -> {name: nats} of one example, for validation
    sample: Callable | None = None  # (params, key, context) -> x
    density: Callable | None = None  # (params, context) -> p(x), exact
    latent: Latent | None = None
    bound: Callable | None = None  # (params, key, x, context) -> an unbiased estimate of a lower bound of log p(x)
    sums: Sums | None = None
    fit: Callable | None = None  # (x [N, ...]) -> params, one function of all data, on the host
    log_prob: Callable | None = None  # (params, x, context) -> log p(x), exact: that of `density`, in less memory
    denoiser: Denoiser | None = None  # that of a diffusion model
    bounds: tuple = ()  # pairs (name, function like `bound`): further bounds of log p(x), the rungs of a ladder


class Learner(NamedTuple):
    """How a model is fitted: gradient descent, EM, counting ... The same loop drives them all."""

    init: Callable  # (key, batch) -> state
    step: Callable  # (state, batch) -> state, metrics {name: []}
    params: Callable  # (state) -> the parameters to evaluate with, such as a running average


def tractable(init, density, *, drops=False, **fields) -> Model:
    """Return a model whose p(x) is the distribution `density(params, context)`. Training maximises its likelihood.

    If training `drops` units, `density` takes a key as its third argument, another one for every example and step. The
    terms of the loss then have no bound, since they are not of the log p(x) that is measured, without dropout.
    """

    def log_prob(params, x, context=None):
        return density(params, context).log_prob(x)

    @per_example
    def log_prob_with_dropout(params, key, x, context):
        return density(params, context, key).log_prob(x)

    def loss(params, key, batch, step):
        if drops:
            return -log_prob_with_dropout(params, key, batch), Aux({})
        value = jax.vmap(log_prob, (None, 0, 0))(params, batch["x"], batch.get("context"))
        return -value, Aux({"bound": value})

    def judge(params, key, x, context=None):
        return {"bound": log_prob(params, x, context)}

    def sample(params, key, context=None):
        return density(params, context).sample(key)

    return Model(init, loss, judge, sample=sample, density=density, log_prob=log_prob, **fields)


def by_loss(loss) -> Callable:
    """Return the `judge` that reports the terms of `loss` for a batch of one example.

    A loss without a term `bound` is reported itself, as `loss`. Schedules are read at their end.
    """

    def judge(params, key, x, context=None):
        batch = {"x": x, **({} if context is None else {"context": context})}
        value, aux = loss(params, key, jax.tree.map(lambda a: a[None], batch), INT_MAX)
        terms = aux.terms if "bound" in aux.terms else {"loss": value, **aux.terms}
        return jax.tree.map(lambda a: a[0], terms)

    return judge


def per_example(function: Callable) -> Callable:
    """Lift `function(params, key, x, context, *more)`, written for one example, to `(params, key, batch, *more)`.

    Every example has a key of its own. `more` are arrays that lead with the example.
    """

    def batched(params, key, batch, *more):
        keys = jax.random.split(key, batch["x"].shape[0])
        axes = (None, 0, 0, 0, *(0 for _ in more))
        return jax.vmap(function, in_axes=axes)(params, keys, batch["x"], batch.get("context"), *more)

    return batched


def first_example(batch):
    """Return x and the context of the first example of a batch; the context is None if there is none."""
    return jax.tree.map(lambda a: a[0], (batch["x"], batch.get("context")))


def embedded(spec: Context | None, context):
    """Return what networks see of `context`, or None for a model without one.

    Raises `ValueError` if a conditional model is given no context, or an unconditional model is given one.
    """
    if spec is None:
        if context is not None:
            raise ValueError("this model takes no context, and one was given; leave it out")
        return None
    if context is None:
        kind = f"{spec.support.num_levels} classes" if spec.shape == () else f"a context of shape {spec.shape}"
        raise ValueError(f"this model is conditional on {kind}: a context is needed")
    return spec.embed(context)


def learned(**parts) -> dict[str, Any]:
    """Return the parts of the parameters that have any: those that are not None."""
    return {name: part for name, part in parts.items() if part is not None}
