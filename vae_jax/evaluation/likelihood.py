"""Log-likelihood of a data set: exact, or by bounds; and the terms of the bounds.

Arguments of all functions: `model`, a `core.Model`; `params`, its parameters; `key`, the randomness; `data`, a batch
{"x": [N, ...]} of any size, and "context" for a conditional model.
"""

import functools
import math
import time

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from absl import logging

from vae_jax.evaluation.devices import mesh_of, over_devices
from vae_jax.numerics import bits_per_dim, effective_sample_size
from vae_jax.objectives.bounds import log_weight, plain_elbo, reconstruction
from vae_jax.spec import integers
from vae_jax.support import Real, Unit

PIECE = 500  # images in a compiled call; fewer if an example has more than 800 numbers
SAMPLES_AT_ONCE = 2000  # decoder passes held in memory at once
ELBO_SAMPLES = 20
CHECKED = 48  # examples, and as many with the lowest log p(x), that are computed in float64 too
LINE_EVERY = 60.0  # seconds between two lines in a log, where there is no terminal for a bar
FLOAT32_ERROR = 2e-4  # nats; if one of these differs by more, float64 is used for all


def examples_a_call(data):
    """Return how many examples one compiled call takes: layers of all of them lie in memory together."""
    return max(1, min(PIECE, 800 * PIECE // math.prod(data["x"].shape[1:])))


def mean_terms(model, params, key, data) -> dict:
    """Return the means of `judged` over `data`, for use inside jit and vmap: {"bound": [], ...}, nats."""
    return jax.tree.map(jnp.mean, _each(_judge, model, None, params, key, data, examples_a_call(data)))


def judged(model, params, key, data) -> dict:
    """Return the terms of `model.judge` for every example of `data`: {"bound": [N], ...}, nats.

    `data` is a batch of any size; example i uses the key fold_in(key, i), so the result does not depend on batching.
    """
    terms = _each_compiled(_judge, model, mesh_of(params), params, key, data, examples_a_call(data))
    return jax.tree.map(np.asarray, terms)


def judges_levels(model, params, data) -> bool:
    """Return True if `model.judge` gives the rate of every level of a hierarchy, "rate_1", "rate_2", ..."""
    first = {name: jax.tree.map(lambda a: a[0], values) for name, values in data.items()}
    return "rate_1" in jax.eval_shape(model.judge, params, jax.random.key(0), first["x"], first.get("context"))


def rate_by_level(model, params, key, data):
    """Return the mean rate of each level [L], E[KL(q(z_l | z_>l, x) || p(z_l | z_>l))], nats, z_1 first."""
    terms = judged(model, params, key, data)
    names = [f"rate_{n}" for n in range(1, len(terms) + 1) if f"rate_{n}" in terms]
    return np.array([np.mean(terms[name], dtype=np.float64) for name in names])


def validation(model, key, data, *, offset=0.0):
    """Return (params, step) -> the means of `judged` over `data`, as the training loop asks for them.

    The noise is the same every time, so that differences are the model's. `offset`: see `of_levels`.
    """

    def validate(params, step):
        terms = judged(model, params, key, data)
        return of_levels({name: float(values.mean()) for name, values in terms.items()}, offset)

    return validate


def of_levels(terms, offset):
    """Turn terms of a density of dequantised values, in nats, into those of the bound on the mass of the levels.

    log P(x) >= E_u[log p((x + u) / V)] - D log V, arXiv:1511.01844 sec. 3.1. `offset` is D log V, or 0 where there is
    nothing to turn; `terms` {name: nats} may hold other names, which stay as they are. The loss of players,
    and that of flow matching, are no densities and stay as they are, too.
    """
    signs = {"bound": -1, "elbo": -1, "log_prob": -1, "distortion": 1, "loss": 1}
    signs |= {"renyi": -1, "miwae": -1, "reconstruction": 1}  # which stand beside `bound`
    if not {"generator", "flow_matching"}.isdisjoint(terms):
        del signs["loss"]
    return {name: value + signs[name] * offset if name in signs else value for name, value in terms.items()}


def elbo_terms(model, params, key, data) -> dict:
    """Return the terms of the plain ELBO of every example, for any training objective.

    They are {"bound": [N], "rate": [N],
    "distortion": [N]}, from ELBO_SAMPLES draws, the rate in closed form if there is one.
    """
    at_once = SAMPLES_AT_ONCE // ELBO_SAMPLES
    return jax.tree.map(np.asarray, _each_compiled(_elbo, model, mesh_of(params), params, key, data, at_once))


def mean_bound(model, params, key, data, *, num_samples) -> dict:
    """Return for every example the mean of `num_samples` estimates of `model.bound` and its standard error:
    {"log_prob": [N], "se": [N]}, nats. The mean is an unbiased estimate of the bound.
    """
    return _mean_of(model, "", params, key, data, num_samples)


def ladder(model, params, key, data, *, num_samples, names=None) -> dict:
    """Return `mean_bound` of `model.bound`, called "bound", and of each of `model.bounds`: {name: {"log_prob", "se"}}.

    All rungs see the same keys. Raises `ValueError` for a model without `bound`, and for an unknown name.

    Args:
      model: a `core.Model` with a `bound`.
      params: its parameters.
      key: the randomness.
      data: {"x": [N, ...]}, and "context".
      num_samples: how many estimates of each example.
      names: the rungs that are measured; None for all. The likelihood by an equation is the most expensive one.
    """
    if model.bound is None:
        raise ValueError("a ladder of bounds requires a model with a `bound`; this one has none")
    rungs = {"bound": "", **{name: name for name, _ in model.bounds}}
    chosen = list(rungs) if names is None else names
    if unknown := [name for name in chosen if name not in rungs]:
        raise ValueError(f"names: unknown value {unknown[0]!r} (allowed: {', '.join(rungs)})")
    return {name: _mean_of(model, rungs[name], params, key, data, num_samples) for name in chosen}


def _mean_of(model, rung, params, key, data, num_samples):
    at_once = max(1, min(SAMPLES_AT_ONCE, examples_a_call(data)) // num_samples)
    terms = _each_compiled(_bounds(num_samples, rung), model, mesh_of(params), params, key, data, at_once)
    return jax.tree.map(np.asarray, terms)


def reconstructions(model, params, data) -> dict:
    """Return `objectives.bounds.reconstruction` of every example: {"distortion": [N], "mse": [N]}."""
    key = jax.random.key(0)  # nothing is drawn
    terms = _each_compiled(_reconstruct, model, mesh_of(params), params, key, data, examples_a_call(data))
    return jax.tree.map(np.asarray, terms)


def _judge(model, params, key, x, context):
    return model.judge(params, key, x, context)


def _elbo(model, params, key, x, context):
    return plain_elbo(model.latent, params, key, x, context, num_samples=ELBO_SAMPLES)[1]


def _reconstruct(model, params, key, x, context):
    return reconstruction(model.latent, params, x, context)


@functools.cache
def _bounds(num_samples, rung=""):
    """Return the function of one example for `mean_bound`; equal arguments give the same, which is compiled once."""

    def estimate(model, params, key, x, context):
        bound = dict(model.bounds)[rung] if rung else model.bound
        values = jax.vmap(lambda k: bound(params, k, x, context))(jax.random.split(key, num_samples))
        return {"log_prob": jnp.mean(values), "se": jnp.std(values, ddof=1) / jnp.sqrt(num_samples)}

    return estimate


def _each(terms, model, mesh, params, key, data, at_once):
    """Return `terms` of every example, computed for `at_once` of them at a time on every device."""

    def some(params, examples):
        def one(item):
            index, example = item
            return terms(model, params, jax.random.fold_in(key, index), example["x"], example.get("context"))

        return jax.lax.map(one, examples, batch_size=at_once)

    return over_devices(some, mesh, params, (jnp.arange(len(data["x"])), data))


_each_compiled = jax.jit(_each, static_argnums=(0, 1, 2, 6))


def importance_weighted(latent, params, key, x, context=None, *, num_samples) -> dict:
    """Return the importance-weighted bound of one image: log p(x) ≥ log (1/K) Σ_k w_k, K = `num_samples`.

    arXiv:1509.00519 eq. (8). Weights are summed in chunks by a running log-sum-exp, so memory does not grow with K.
    Returns nats: `log_prob`, `elbo` (the mean log-weight); and `ess`, the effective sample size (Σ w)² / Σ w² in 1..K.

    Args:
      latent: a `core.Latent` with a prior.
      params: its parameters.
      key: the randomness.
      x: the image.
      context: its context, or None.
      num_samples: K.
    """
    chunk = _largest_divisor(num_samples, SAMPLES_AT_ONCE)

    def add(carry, index):
        log_sum, log_sum_squares, total = carry
        keys = jax.random.split(jax.random.fold_in(key, index), chunk)
        log_w = jax.vmap(lambda k: log_weight(latent, params, k, x, context))(keys)
        log_sum = jnp.logaddexp(log_sum, jax.nn.logsumexp(log_w))
        log_sum_squares = jnp.logaddexp(log_sum_squares, jax.nn.logsumexp(2.0 * log_w))
        return (log_sum, log_sum_squares, total + jnp.sum(log_w)), None

    start = (-jnp.inf, -jnp.inf, 0.0)
    (log_sum, log_sum_squares, total), _ = jax.lax.scan(add, start, jnp.arange(num_samples // chunk))
    return {
        "log_prob": log_sum - jnp.log(num_samples),
        "elbo": total / num_samples,
        "ess": effective_sample_size(log_sum, log_sum_squares, num_samples),
    }


def log_likelihood(model, params, key, data, *, num_samples, progress=False) -> dict:
    """Return `importance_weighted` of every example of `data`: {"log_prob": [N], "elbo": [N], "ess": [N]}.

    Args:
      model: a `core.Model` with a `latent`; else raises `ValueError`.
      params: its parameters.
      key: the randomness.
      data: {"x": [N, ...]}, and "context".
      num_samples: K.
      progress: True for a progress bar on a terminal, or a line a minute in the log.
    """
    if model.latent is None:
        raise ValueError("an importance-weighted bound requires a latent-variable model; this one has no `latent`")
    integers(num_samples=num_samples)
    size, mesh = len(data["x"]), mesh_of(params)
    pieces, told = [], time.perf_counter()
    bar = tqdm.tqdm(total=size, desc=f"IW-{num_samples}", unit="example", disable=None if progress else True)
    for start in range(0, size, PIECE):
        piece = jax.tree.map(lambda a, start=start: a[start : start + PIECE], data)
        indices = jnp.arange(start, start + len(piece["x"]))
        pieces.append(jax.device_get(_log_likelihood(model.latent, mesh, params, key, indices, piece, num_samples)))
        bar.update(len(indices))
        if progress and bar.disable and time.perf_counter() - told > LINE_EVERY:
            told = time.perf_counter()
            logging.info("IW-%d: %d of %d examples", num_samples, start + len(indices), size)
    bar.close()
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *pieces)


@functools.partial(jax.jit, static_argnums=(0, 1, 6))
def _log_likelihood(latent, mesh, params, key, indices, data, num_samples):
    def some(params, examples):
        def one(item):
            index, x, context = item
            image_key = jax.random.fold_in(key, index)
            return importance_weighted(latent, params, image_key, x, context, num_samples=num_samples)

        # With few samples, many images run at once, so that matrix products stay large; with many, one at a time.
        # The number divides the piece, since `lax.map` would compile a remainder as a second program.
        at_once = SAMPLES_AT_ONCE // _largest_divisor(num_samples, SAMPLES_AT_ONCE)
        images = _largest_divisor(len(examples[0]), at_once)
        # batch_size=1 would add an axis of size one everywhere, and take 1.5 times as long.
        return jax.lax.map(one, examples, batch_size=images if images > 1 else None)

    return over_devices(some, mesh, params, (indices, data["x"], data.get("context")))


def exact(model, params, data):
    """Return log p(x) of every example [N], nats, correct to 1e-3 nats.

    A density over the reals with narrow covariances loses digits in float32. Some examples are therefore computed in
    float64 too; if these differ, all are. Raises `ValueError` for a model without `log_prob`. Raises it too if log p(x)
    is NaN: the fitted function is then not a density, as for a singular covariance.
    """
    if model.log_prob is None:
        raise ValueError("the exact log p(x) requires a tractable model; this one has no `log_prob`")
    log_prob = np.asarray(_exact(model.log_prob, mesh_of(params), params, data))
    if model.density and _is_over_reals(model, params, data):
        spread = np.linspace(0, len(log_prob) - 1, CHECKED).astype(int)
        some = np.union1d(spread, np.argsort(log_prob)[:CHECKED])  # the farthest out lose most digits
        apart = np.abs(log_prob[some] - _in_float64(model, params, jax.tree.map(lambda a: a[some], data)))
        if not np.max(apart) < FLOAT32_ERROR:  # so written, NaN counts as a difference
            log_prob = _in_float64(model, params, data)
    if broken := int(np.isnan(log_prob).sum()):
        raise ValueError(
            f"log p(x) is NaN for {broken} of {len(log_prob)} examples: the fitted function is not a density. "
            "If a covariance is singular (pixels that never change), raise the shrinkage or the floor of the variances"
        )
    return log_prob


def _is_over_reals(model, params, data):
    context = jax.tree.map(lambda a: a[0], data.get("context"))
    return jax.eval_shape(lambda params: model.density(params, context), params).support in (Real(), Unit())


def _in_float64(model, params, data):
    """Return `_exact` with parameters and data in float64, on the CPU if possible: an accelerator may lack it."""
    double = lambda a: np.asarray(a, np.float64 if np.issubdtype(np.asarray(a).dtype, np.floating) else None)  # noqa: E731
    try:
        device = jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS excludes it
        device = None
    with jax.default_device(device), jax.enable_x64(True):
        params, data = jax.tree.map(double, (jax.device_get(params), data))
        return np.asarray(_exact(model.log_prob, None, params, data))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _exact(log_prob, mesh, params, data):
    def some(params, examples):
        one = lambda example: log_prob(params, example["x"], example.get("context"))  # noqa: E731
        return jax.lax.map(one, examples, batch_size=examples_a_call(examples))

    return over_devices(some, mesh, params, data)


def summary_of(log_prob, *, event_size=None, num_tokens=None) -> dict:
    """Return the mean of log p(x) [N], nats an example, its standard error over examples, and bits/dim of `event_size`.

    Text has instead of bits/dim the perplexity exp(-Σ log p(x) / num_tokens), and the same as bits a token. Its N
    sentences have `num_tokens` predicted tokens, ends included.
    """
    log_prob = np.asarray(log_prob, np.float64)
    summary = {
        "log_prob": float(log_prob.mean()),
        "log_prob_se": float(log_prob.std(ddof=1) / np.sqrt(len(log_prob))) if len(log_prob) > 1 else float("nan"),
        "num_examples": len(log_prob),
    }
    if event_size is None and num_tokens is None:
        return summary
    if num_tokens is None:
        return summary | {"bits_per_dim": bits_per_dim(summary["log_prob"], event_size)}
    bits = bits_per_dim(float(log_prob.sum()), num_tokens)
    return summary | {"num_tokens": num_tokens, "perplexity": 2.0**bits, "bits_per_token": bits}


def _largest_divisor(number, limit):
    return max(d for d in range(1, min(number, limit) + 1) if number % d == 0)
