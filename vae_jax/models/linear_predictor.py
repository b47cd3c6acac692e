"""Linear prediction of a series: the next sample from the last k, with an error that has one of several scales.

`p(x_t | x_<t)` = Σ_m π_m N(x_t; ½ + a_0 + Σ_{i=1}^k a_i (x_{t-i} - ½), σ_m²)

Samples before the beginning are ½, the middle of sound in [0, 1]. With one scale this is least squares; draws need not
stay bounded. With several, the errors have heavy tails, as those of sound have. EM for mixtures of scales: Lange,
Little and Taylor 1989, doi:10.1080/01621459.1989.10478852.
"""

import jax
import jax.numpy as jnp

from vae_jax import spec
from vae_jax.core import Model, Sums, tractable
from vae_jax.distributions import NormalMixtures, Series
from vae_jax.spec import BadOption
from vae_jax.support import Real

ROUNDING = 1e-6  # relative error of sums of products in float32
RESOLVED = 1e-6  # eigenvalues of a correlation matrix below this share of the largest are mostly rounding errors


def linear_predictor(event_shape, *, order, num_scales, floor=1e-6) -> Model:
    """Return a linear predictor, fitted by `em`; samples before the beginning are 0.5, the middle of [0, 1].

    E step: the probability of each scale, for every sample. M step, from the weighted moments S_m of
    (1, x_{t-k}, ..., x_{t-1}, x_t): first a by weighted least squares at the old scales, then σ and π. The likelihood
    never falls, except by rounding, as in any conditional maximisation. With M = 1 one pass is enough, unless samples
    are nearly collinear: each further pass then reduces the error that float32 leaves.
    Params: `weights` [k + 1], a_0 first, then the oldest sample's; `logits`, `log_scales` [M].

    Args:
      event_shape: [T].
      order: k.
      num_scales: M.
      floor: the lower limit of the variances.

    Raises `BadOption` for an order or a number of scales below 1, an order of T or more, a floor that is not positive,
    and data that are not series.
    """
    spec.integers(order=order, num_scales=num_scales)
    spec.numbers(floor=floor, above=0)
    if len(event_shape) != 1:
        raise BadOption(f": the family 'linear_predictor' models series [T]; the data have shape {tuple(event_shape)}")
    (length,) = event_shape
    if order >= length:
        raise BadOption(f"order must be below the length of a window, {length}, got {order}")

    def init(key, batch):
        """Return weights of zero. The first scale is the standard deviation of the data, each further one is halved."""
        log_scales = jnp.log(jnp.std(batch["x"]) + 1e-3) - jnp.log(2.0) * jnp.arange(num_scales)
        return {"weights": jnp.zeros(order + 1), "logits": jnp.zeros(num_scales), "log_scales": log_scales}

    def regressors(x):
        """Return (1, x_{t-k} - 0.5, ..., x_{t-1} - 0.5) for every t [T, k + 1]."""
        padded = jnp.concatenate([jnp.zeros(order), x - 0.5])
        before = padded[jnp.arange(length)[:, None] + jnp.arange(order)[None]]
        return jnp.concatenate([jnp.ones((length, 1)), before], axis=1)

    def errors(params, loc):
        """Return `p(x_t | x_<t)` for the predictions `loc` [...]."""
        scales = (params["logits"], params["log_scales"])
        logits, log_scales = (jnp.broadcast_to(a, (*loc.shape, num_scales)) for a in scales)
        return NormalMixtures(logits, jnp.broadcast_to(loc[..., None], logits.shape), log_scales)

    def conditionals(params, x):
        return errors(params, 0.5 + regressors(x) @ params["weights"])

    def start(params):
        return jnp.zeros(order)

    def step(params, last, previous, t):
        last = jnp.where(t > 0, jnp.append(last[1:], previous - 0.5), last)
        return last, errors(params, 0.5 + params["weights"][0] + last @ params["weights"][1:])

    def density(params, context=None):
        return Series(params, conditionals, start, step, (length,), Real())

    def expect(params, batch):
        """Return {"square": [M, k + 2, k + 2], "count": [M]}, and log p(x) [B].

        The squares are of rows (1, x_{t-k}, ..., x_{t-1}, e_t), where e_t is the error of the present prediction: its
        square loses nothing to rounding, as a difference of large numbers would.
        """
        before = jax.vmap(regressors)(batch["x"]).reshape(-1, order + 1)
        error = (batch["x"].reshape(-1) - 0.5) - jnp.matmul(before, params["weights"], precision="highest")
        log_joint = errors(params, jnp.zeros_like(error)).log_joint(error)
        value = jax.nn.logsumexp(log_joint, axis=1)
        r = jnp.exp(log_joint - value[:, None])
        rows = jnp.concatenate([before, error[:, None]], axis=1)

        def square(weight):
            return jnp.matmul((weight[:, None] * rows).T, rows, precision="highest")

        return {"square": jax.lax.map(square, r.T), "count": r.sum(0)}, value.reshape(-1, length).sum(axis=1)

    def maximize(params, sums):
        """Move the weights by δ, the weighted least squares of the errors on the regressors.

        Directions in which float32 cannot tell the regressors apart do not move. An upper limit of the rounding error
        is added to the variance.
        """
        precisions = jnp.exp(-2.0 * params["log_scales"])
        whole = jnp.tensordot(precisions / jnp.sum(precisions), sums["square"], axes=1)
        unit = jnp.sqrt(jnp.maximum(jnp.diagonal(whole)[:-1], jnp.finfo(whole.dtype).tiny))
        values, vectors = jnp.linalg.eigh(whole[:-1, :-1] / unit[:, None] / unit[None])
        along = vectors.T @ (whole[:-1, -1] / unit)
        resolved = values > RESOLVED * values[-1]
        change = (vectors @ jnp.where(resolved, along / jnp.where(resolved, values, 1.0), 0.0)) / unit
        count = jnp.maximum(sums["count"], 1e-6)
        error = jnp.append(-change, 1.0)
        magnitude = jnp.einsum("i,mij,j->m", jnp.abs(error), jnp.abs(sums["square"]), jnp.abs(error))
        moved = jnp.maximum(jnp.einsum("i,mij,j->m", error, sums["square"], error), 0.0)
        moved = moved + ROUNDING * (magnitude - sums["square"][:, -1, -1])
        stays = jnp.sum(precisions * moved) > jnp.sum(precisions * sums["square"][:, -1, -1])
        variances = jnp.where(stays, sums["square"][:, -1, -1], moved) / count
        new = {
            "weights": jnp.where(stays, params["weights"], params["weights"] + change),
            "logits": jnp.log(count / jnp.sum(count)),
            "log_scales": 0.5 * jnp.log(jnp.maximum(variances, floor)),
        }
        seen = jnp.sum(sums["count"]) > 0  # False if every batch of the pass was skipped
        return jax.tree.map(lambda new, old: jnp.where(seen, new, old), new, params)

    return tractable(init, density, sums=Sums(expect, maximize))


def from_config(*, event, order, num_scales, floor) -> Model:
    """Return the model from the keys of a config; the learner is `em`, the data are dequantised sound."""
    return linear_predictor(event.shape, order=order, num_scales=num_scales, floor=floor)
