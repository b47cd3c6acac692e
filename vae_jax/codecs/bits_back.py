"""Bits-back coding of latent-variable models, arXiv:1901.04866, and of hierarchies level by level, arXiv:1905.06845.

The encoder pops z ~ q(z|x) from the message, pushes x with p(x|z), and pushes z with p(z). The message grows by

    -log p(x|z) - log p(z) + log q(z|x),

whose mean is -ELBO. The decoder does the inverse in reverse order. The first q(z|x) has no message to pop from and
takes random words: the initial bits.

For a hierarchy a variable is pushed as soon as no later step needs it. If q(z_2|z_1) does not see x, x is pushed before
z_2 is popped, so that the initial bits are those of one level. The order follows from what each conditional reads.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.codecs import batch as batches
from vae_jax.codecs import bins, values
from vae_jax.codecs.batch import lift, reads, rows
from vae_jax.codecs.values import Popper, Recorder
from vae_jax.core import Latent
from vae_jax.distributions import (
    Codes,
    Dequantised,
    Hierarchy,
    LowRankNormal,
    Mixture,
    MultivariateNormal,
    Normal,
    PointMass,
    Sequential,
)
from vae_jax.distributions.hierarchy import joined, levels

DATA = "x"
DRAWS = 4096  # draws of p(z), for bins that must not depend on other levels
GAUSSIANS = (Normal, LowRankNormal, MultivariateNormal)


class Coding(NamedTuple):
    """A model as a code: its conditionals, and the order in which its variables are pushed and popped.

    Variables are the places 0, ..., L - 1 of the tuple z, or 0 if z is no tuple, and `DATA`.
    """

    steps: tuple  # ("pop", level) with q, and ("push", level or `DATA`) with p, in the order of the encoder
    q: dict  # {level: (params, x, context, *earlier) -> q(z_level|...)}
    earlier_q: dict  # {level: the levels that q of this level is given}
    p: dict  # {level or `DATA`: (params, context, *earlier) -> p(...)}
    earlier_p: dict
    empty: dict  # {level: the shape and type of its value}
    references: dict  # {level: (μ, s) of its bins, `None` for bins of equal mass under p}; real levels only
    most: int | None = None  # the largest count, if x are counts
    pops: bool = False  # True if q takes bits from the message; a point mass takes none


def of_density(density, *, most=None) -> Coding:
    """Return the code of an exact p(x) = `density(params, context)`."""
    return Coding((("push", DATA),), {}, {}, {DATA: density}, {DATA: ()}, {}, {}, most)


def of_latent(latent: Latent, params, x, context=None, *, most=None) -> Coding:
    """Return the code of a latent-variable model, for data like `x` and `context`: shapes of one example, or arrays.

    Raises `ValueError` for a model without a prior, and for distributions that have no exact code.
    """
    if latent.prior is None:
        raise ValueError("this model has no prior p(z), hence no code lengths; take a model with a prior")
    prior = jax.eval_shape(latent.prior, params, context)
    posterior = jax.eval_shape(latent.posterior, params, x, context)
    if isinstance(posterior, Dequantised):
        raise ValueError(
            "a flow of dequantised levels has no exact code here: local bits-back (arXiv:1905.08500) requires an "
            "inverse without rounding; compress with a VAE, a PixelCNN or a VQ-VAE"
        )
    z = jax.eval_shape(lambda p, c: latent.prior(p, c).sample(jax.random.key(0)), params, context)
    if isinstance(prior, Hierarchy):  # its levels share arrays, and are variables of their own
        z = tuple(jax.ShapeDtypeStruct(z[place].shape[1:], z[place].dtype) for place, _ in levels(prior.shapes))
    empty = dict(enumerate(z)) if isinstance(z, tuple) else {0: z}
    order_q, order_p = _order(posterior, len(empty)), _order(prior, len(empty))
    earlier_q = {level: tuple(order_q[:place]) for place, level in enumerate(order_q)}
    earlier_p = {level: tuple(order_p[:place]) for place, level in enumerate(order_p)} | {DATA: tuple(empty)}
    q = {level: _factor(latent.posterior, place, 2) for place, level in enumerate(order_q)}
    p = {level: _factor(latent.prior, place, 1) for place, level in enumerate(order_p)}
    shapes = prior.shapes if isinstance(prior, Hierarchy) else None
    p[DATA] = _likelihood(latent.likelihood, isinstance(z, tuple), shapes)

    def reading(function, given, earlier, names):
        arguments = (params, *given, *[empty[level] for level in earlier])
        places = ("params", *names, *earlier)
        return {places[place] for place in reads(function, *arguments)} - {"params", "context"}

    reads_q = {level: reading(q[level], (x, context), earlier_q[level], (DATA, "context")) for level in order_q}
    reads_p = {name: reading(p[name], (context,), earlier_p[name], ("context",)) for name in p}
    steps = _steps(order_q, reads_q, reads_p)
    references = _references(steps, q, p, (params, x, context), empty, earlier_q, earlier_p, reads_p)
    if any(isinstance(reference, str) for reference in references.values()):
        moments = _moments(latent.prior, params, context)
        references = {n: moments[n] if isinstance(r, str) else r for n, r in references.items()}
    pops = not isinstance(posterior, PointMass)
    return Coding(steps, q, earlier_q, p, earlier_p, empty, references, most, pops)


@functools.lru_cache(maxsize=64)
def latent_of_mixture(density) -> Latent:
    """Return p(x) = Σ_k π_k p_k(x) as a model of the component k, with q(k|x) = p(k|x): its bound is exact."""

    def prior(params, context=None):
        return Codes(density(params, context).log_weights())

    def posterior(params, x, context=None):
        return Codes(density(params, context).log_joint(x))

    def likelihood(params, k, context=None):
        return jax.tree.map(lambda a: jnp.take(jnp.asarray(a), k, axis=0), density(params, context).components)

    return Latent(prior, posterior, likelihood)


def encode(stack, coding, params, x, context, count):
    """Push the first `count` examples of x [B, ...] on the message, given their contexts [B, ...] or None."""
    state = _State(stack, coding, params, np.asarray(x), context, count)
    state.symbols[DATA] = state.x[:count]
    for kind, name in coding.steps:
        state.pop_q(name) if kind == "pop" else state.push_p(name)


def decode(stack, coding, params, like, context, count):
    """Pop `count` examples, [count, ...]. `like` are zeros [B, ...] of the shape and type of the data."""
    state = _State(stack, coding, params, np.array(like), context, count)
    for kind, name in reversed(coding.steps):
        state.push_q(name) if kind == "pop" else state.pop_p(name)
    return state.symbols[DATA]


class _State:
    """The variables of a batch in a coder: symbols, and values for networks, which are zero until they are known."""

    def __init__(self, stack, coding, params, x, context, count):
        self.stack, self.coding, self.params, self.x, self.count = stack, coding, params, x, count
        self.size = len(x)
        self.context = None if context is None else batches.of(context, self.size)
        self.symbols, self.references = {}, {}
        self.values = {n: np.zeros((self.size, *like.shape), like.dtype) for n, like in coding.empty.items()}

    def q(self, level):
        x, earlier = batches.of(self.x, self.size), self._given(self.coding.earlier_q[level])
        return lift(self.coding.q[level], self.params, x, self.context, *earlier, size=self.size)

    def p(self, name):
        earlier = self._given(self.coding.earlier_p[name])
        return lift(self.coding.p[name], self.params, self.context, *earlier, size=self.size)

    def pop_q(self, level):
        q = self.q(level)
        if isinstance(q.tree, PointMass):
            self._know(level, np.asarray(rows(_loc, q, size=self.size))[: self.count])
        elif level in self.coding.references:
            self._know(level, self._gaussian(q, level, Popper(self.count, self.stack)))
        else:
            self._know(level, values.pop(self.stack, q, self.count))

    def push_q(self, level):
        q = self.q(level)
        if isinstance(q.tree, PointMass):
            return
        if level not in self.coding.references:
            return values.push(self.stack, q, self.symbols[level], self.count)
        recorder = Recorder(self.count)
        self._gaussian(q, level, recorder, self.symbols[level])
        recorder.push(self.stack)

    def push_p(self, name):
        p, symbols = self.p(name), self.symbols[name]
        if name not in self.coding.references:
            return values.push(self.stack, p, symbols, self.count, most=self.coding.most)
        if self.coding.references[name] is None:
            return self.stack.push_uniform(symbols.reshape(-1), bins.NUMBER)
        if isinstance(p.tree, Mixture):
            log_joint, components, weights = self._mixture(p)
            component = self.stack.pop(log_joint(self.values[name][: self.count]))
            self._push_bins(name, *(a[np.arange(self.count), component] for a in components))
            return self.stack.push(component, weights)
        self._push_bins(name, *self._normal(p))

    def pop_p(self, name):
        p = self.p(name)
        if name not in self.coding.references:
            return self._know(name, values.pop(self.stack, p, self.count, most=self.coding.most))
        popper, reference = Popper(self.count, self.stack), self.coding.references[name]
        if reference is None:
            shape = (self.count, *self.coding.empty[name].shape)
            symbols = self.stack.pop_uniform(int(np.prod(shape)), bins.NUMBER).reshape(shape)
            return self._know(name, symbols)
        if isinstance(p.tree, Mixture):
            log_joint, components, weights = self._mixture(p)
            component = self.stack.pop(weights)
            parts = (a[np.arange(self.count), component] for a in components)
            self._know(name, bins.visit(*parts, reference, popper))
            return self.stack.push(component, log_joint(self.values[name][: self.count]))
        self._know(name, bins.visit(*self._normal(p), reference, popper))

    def _know(self, name, symbols):
        self.symbols[name] = symbols
        if name == DATA:
            self.x[: self.count] = symbols
        elif name in self.coding.references:
            self.values[name][: self.count] = bins.centres(symbols, *self._reference(name))
        else:
            self.values[name][: self.count] = symbols

    def _given(self, levels):
        return [batches.of(self.values[level], self.size) for level in levels]

    def _reference(self, level):
        fixed = self.coding.references[level]
        if fixed is None and level not in self.references:
            self.references[level] = self._normal(self.p(level))  # the levels above do not change any more
        return self.references[level] if fixed is None else fixed

    def _normal(self, batch):
        """Return the mean and the standard deviation, float64 [count, ...]."""
        loc, log_scale = rows(_loc_and_log_scale, batch, size=self.size)
        return np.asarray(loc, np.float64)[: self.count], np.exp(np.asarray(log_scale, np.float64)[: self.count])

    def _push_bins(self, name, loc, scale):
        recorder = Recorder(self.count)
        bins.visit(loc, scale, self.coding.references[name], recorder, self.symbols[name])
        recorder.push(self.stack)

    def _gaussian(self, q, level, choose, known=None):
        """Return the bins [count, ...] of a Gaussian. A full covariance is coded dimension by dimension."""
        reference = self._reference(level)
        if isinstance(q.tree, Normal):
            return bins.visit(*self._normal(q), reference, choose, known)
        loc, tril = (np.asarray(a, np.float64)[: self.count] for a in rows(_loc_and_tril, q, size=self.size))
        reference = [np.broadcast_to(a, loc.shape) for a in reference]
        noise, out = np.zeros_like(loc), np.zeros(loc.shape, np.int64)
        for d in range(loc.shape[1]):
            mean, scale = loc[:, d] + np.sum(tril[:, d, :d] * noise[:, :d], axis=1), tril[:, d, d]
            at = [a[:, d] for a in reference]
            out[:, d] = bins.visit(mean, scale, at, choose, None if known is None else known[:, d])
            noise[:, d] = (bins.centres(out[:, d], *at) - mean) / scale
        return out

    def _mixture(self, p):
        """Return z -> the masses p(k|z) [count, K], (means, deviations) [count, K, D], and the masses π [count, K]."""
        log_weights, loc, log_scale = (
            np.asarray(a, np.float64)[: self.count] for a in rows(_parts_of_mixture, p, size=self.size)
        )

        def posterior(z):
            square = np.square((z[:, None] - loc) * np.exp(-log_scale))
            log_joint = log_weights - np.sum(0.5 * square + log_scale, axis=2)
            return np.exp(log_joint - log_joint.max(axis=1, keepdims=True))

        return posterior, (loc, np.exp(log_scale)), np.exp(log_weights)


def _loc(distribution):
    return distribution.loc


def _loc_and_log_scale(distribution):
    return distribution.loc, distribution.log_scale


def _loc_and_tril(distribution):
    if isinstance(distribution, MultivariateNormal):
        return distribution.loc, distribution.scale_tril
    factor, variance = distribution.factor, jnp.exp(2.0 * distribution.log_scale)
    return distribution.loc, jnp.linalg.cholesky(jnp.diag(variance) + factor @ factor.T)


def _parts_of_mixture(distribution):
    return distribution.log_weights(), distribution.components.loc, distribution.components.log_scale


def _order(distribution, number):
    """Return the levels in the order in which a chain draws them."""
    reverse = isinstance(distribution, Hierarchy) or (isinstance(distribution, Sequential) and distribution.reverse)
    return list(range(number))[:: -1 if reverse else 1]


@functools.cache
def _factor(function, place, num_given) -> Callable:
    """Return (params, *given, *earlier) -> the conditional of the variable that a chain draws at `place`."""

    def factor(params, *arguments):
        given, earlier = arguments[:num_given], arguments[num_given:]
        chain = function(params, *given)
        if isinstance(chain, PointMass) and isinstance(chain.loc, tuple):
            return PointMass(chain.loc[place], chain.num_codes[place])
        if isinstance(chain, Hierarchy):
            return chain.conditional(len(levels(chain.shapes)) - 1 - place, earlier)
        if not isinstance(chain, Sequential):
            return chain
        return chain.conditionals[place - 1](chain.params, chain.given, tuple(earlier)) if place else chain.first

    return factor


@functools.cache
def _likelihood(function, several, shapes) -> Callable:
    """Return (params, context, *levels) -> p(x|z). `shapes` are those of z if levels share arrays, otherwise None."""

    def likelihood(params, context, *z):
        z = joined(shapes, z) if shapes else z if several else z[0]
        return function(params, z, context)

    return likelihood


def _steps(order, reads_q, reads_p) -> tuple:
    """Return the steps of the encoder: a variable is pushed as soon as nothing that follows needs it.

    That is: its parents are popped, its children pushed, and no later q reads it.
    """
    steps, popped, left = [], set(), [DATA, *sorted(reads_q)]
    for place, level in enumerate(order):
        steps.append(("pop", level))
        popped.add(level)
        later = set().union(*(reads_q[n] for n in order[place + 1 :]))
        while ready := [name for name in left if _is_ready(name, popped, later, left, reads_p)]:
            steps.append(("push", ready[0]))
            left.remove(ready[0])
    return tuple(steps)


def _is_ready(name, popped, later, left, reads_p) -> bool:
    """Return True if a variable of `left` can be pushed: it is known, and nothing that follows needs it."""
    known = name == DATA or name in popped
    return known and name not in later and reads_p[name] <= popped and not any(name in reads_p[n] for n in left)


def _references(steps, q, p, arguments, empty, earlier_q, earlier_p, reads_p) -> dict:
    """Return for every real level None for bins of equal mass under p, or "fixed" if p is not Gaussian or not known.

    Raises `ValueError` for conditionals that have no exact code.
    """
    params, x, context = arguments
    references, popped = {}, set()
    for kind, level in steps:
        if kind == "push":
            continue
        posterior = jax.eval_shape(q[level], params, x, context, *[empty[n] for n in earlier_q[level]])
        prior = jax.eval_shape(p[level], params, context, *[empty[n] for n in earlier_p[level]])
        if isinstance(posterior, GAUSSIANS):
            gaussian = prior.components if isinstance(prior, Mixture) else prior
            if not isinstance(gaussian, Normal):
                raise ValueError(
                    f"p(z) is a {type(prior).__name__}, whose bins have no masses in closed form; bits-back takes "
                    "priors that are Gaussians, mixtures of Gaussians, or discrete"
                )
            references[level] = None if isinstance(prior, Normal) and reads_p[level] <= popped else "fixed"
        elif not isinstance(posterior, PointMass):
            if getattr(posterior.support, "num_levels", None) is None:
                raise ValueError(
                    f"q(z|x) is a {type(posterior).__name__}, whose bins have no masses in closed form; bits-back "
                    "takes posteriors that are Gaussians or discrete"
                )
        popped.add(level)
    return references


def _moments(prior, params, context):
    """Return (mean, standard deviation) of draws of p(z) for every level."""
    draws = _draws(prior, params, context)
    draws = draws if isinstance(draws, tuple) else (draws,)
    draws = [np.asarray(level, np.float64) for level in draws]
    return [(level.mean(axis=0), level.std(axis=0) + 1e-6) for level in draws]


@functools.partial(jax.jit, static_argnums=0)
def _draws(prior, params, context) -> Any:
    keys = jax.random.split(jax.random.key(0), DRAWS)
    return jax.vmap(lambda key: prior(params, context).sample(key))(keys)
