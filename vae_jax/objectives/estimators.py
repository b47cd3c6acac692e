"""Gradient estimators: the value is a bound of log p(x), its gradient the estimator that the function is named after.

Signature and terms are those of `bounds`, so each is a choice of objective. For the same key and samples the value is
that of `elbo_sampled_kl` (`gumbel_softmax`: `elbo`; `vimco`, `dreg`: `iwae`). The gradient of those is
reparameterisation, arXiv:1312.6114 sec. 2.4. θ stands for p(z) and p(x|z), φ for q(z|x), as if they shared no
parameters; if they do, the two gradients add up. w_k = p(x, z_k) / q(z_k|x), w̃_k = w_k / Σ_j w_j.

`score_function`, `nvil`, `rloo` and `vimco` never differentiate z: q may be discrete. `sticking_the_landing` and `dreg`
require a reparameterised q. All six need log q at a fixed z, so a full covariance must be invertible in float32.
"""

import jax
import jax.numpy as jnp

from vae_jax.distributions import has_closed_form, has_discrete_part, kl_divergence, relax
from vae_jax.numerics import scale_gradient, straight_through
from vae_jax.objectives.bounds import BETA, SAMPLES, check_closed, draws, log_joint, pair, sampled_elbo, sampled_iwae
from vae_jax.objectives.equation import OwnNetwork, check_pathwise, count, equation, flag, number, refuse

DECAY = number(at_least=0, below=1)  # of a running mean

stop_gradient = jax.lax.stop_gradient


@equation(means=("running_mean",), running_mean=DECAY, beta=BETA, num_samples=SAMPLES)
def score_function(latent, params, key, x, context=None, *, beta=1.0, num_samples=1, running_mean=None):
    """The score function, also REINFORCE: ∇φ = E_q[∇ log q(z|x) (f - c)]; unbiased.  arXiv:1401.0118 eq. (2).

    The signal is f = log p(x|z) + β (log p(z) - log q(z|x)), where β weighs the rate as in `elbo`. Its baseline c is 0,
    or with `running_mean` the average of f over earlier batches, which does not depend on this step's draws.
    """

    def centre(f):
        if running_mean is None:
            return f, 0.0, {}
        return f - running_mean, 0.0, {"running_mean": jnp.mean(f)}

    return _score(latent, params, key, x, context, beta, num_samples, centre)


@equation(
    networks={"baseline": OwnNetwork("x", ((),))},
    means=("running_mean", "running_variance"),
    running_mean=DECAY,
    running_variance=DECAY,
    beta=BETA,
    num_samples=SAMPLES,
)
def nvil(
    latent, params, key, x, context=None, *, baseline, running_mean, running_variance=None, beta=1.0, num_samples=1
):
    """NVIL: `score_function` with a baseline for every x, f - c - C(x); unbiased.  arXiv:1402.0030 sec. 2.3.

    c is a running mean of f. C is a network that learns the rest of it by maximising -½ (f - c - C(x))². The paper
    averages f - C(x) in c; here c is of f only, so that C has to return only the differences between examples.

    With `running_variance`, v of the centred signal, that signal is divided by max(1, √v). The gradient of φ then keeps
    its direction in the mean, but NOT its length relative to that of θ, which is not divided.

    Args:
      baseline: x -> (C(x),).
      running_mean: c.
      running_variance: v, or None for no normalisation.
      beta: β, the weight of the rate.
      num_samples: K.
    """

    def centre(f):
        (offset,) = baseline(x)
        error = stop_gradient(f - running_mean) - offset
        square, followed = jnp.mean(jnp.square(error)), {"running_mean": jnp.mean(f)}
        if running_variance is None:
            return error, -0.5 * square, followed
        followed["running_variance"] = stop_gradient(square)
        return error / jnp.maximum(1.0, jnp.sqrt(running_variance)), -0.5 * square, followed

    return _score(latent, params, key, x, context, beta, num_samples, centre)


@equation(beta=BETA, num_samples=count(at_least=2))
def rloo(latent, params, key, x, context=None, *, beta=1.0, num_samples=4):
    """The leave-one-out estimator: `score_function` whose baseline for z_k is the mean of f over the other K-1 samples.

    ∇φ = 1/(K-1) Σ_k (f_k - f̄) ∇ log q(z_k|x); unbiased (Kool et al. 2019). It is the gradient of the variance of f:
    VarGrad, arXiv:2010.10436 sec. 3. K = `num_samples`; raises `BadOption` below 2.
    """
    return _score(latent, params, key, x, context, beta, num_samples, lambda f: (f - _mean_of_others(f), 0.0, {}))


@equation(num_samples=count(at_least=2))
def vimco(latent, params, key, x, context=None, *, num_samples=5):
    """VIMCO: IWAE_K by scores, ∇ = Σ_k (L - L₋ₖ) ∇ log q(z_k|x) + Σ_k w̃_k ∇ log w_k; unbiased.

    arXiv:1602.06725 sec. 2.4. L₋ₖ is the bound with log w_k replaced by the mean of the others'. K = `num_samples`;
    raises `BadOption` below 2.
    """
    q = latent.posterior(params, x, context)
    z, log_q = stop_gradient(draws(q, key, num_samples))
    log_lik, log_prior = jax.vmap(log_joint(latent, params, x, context))(z)
    bound, terms = sampled_iwae(log_lik, log_prior - log_q)
    log_w = stop_gradient(log_lik + log_prior - log_q)
    # [K, K]: row k holds the log-weights with the k-th replaced.
    replaced = jnp.where(jnp.eye(num_samples, dtype=bool), _mean_of_others(log_w)[:, None], log_w[None, :])
    signal = jax.nn.logsumexp(log_w) - jax.nn.logsumexp(replaced, axis=1)
    weight = jax.nn.softmax(log_w)
    score = jax.vmap(q.log_prob)(z)
    surrogate = jnp.sum(weight * (log_lik + log_prior) + (signal - weight) * score)
    return straight_through(bound, surrogate), terms


@equation(beta=BETA, num_samples=SAMPLES)
def sticking_the_landing(latent, params, key, x, context=None, *, beta=1.0, num_samples=1):
    """Reparameterisation without the score: ∇φ = E[∂(log p(x, z) - log q(z|x))/∂z ∂z/∂φ].  arXiv:1703.09194 sec. 3.

    Unbiased, and without variance if q(z|x) = p(z|x). Raises `BadOption` for a discrete q.
    """
    q = latent.posterior(params, x, context)
    check_pathwise("sticking_the_landing", q)
    z, log_q = draws(q, key, num_samples)
    log_lik, log_prior = jax.vmap(log_joint(latent, params, x, context))(z)
    value, terms = sampled_elbo(log_lik, log_prior - log_q, beta)
    path = jax.vmap(latent.posterior(stop_gradient(params), x, context).log_prob)(z)  # φ reaches it only through z
    return straight_through(value, jnp.mean(log_lik + beta * (log_prior - path))), terms


@equation(num_samples=SAMPLES)
def dreg(latent, params, key, x, context=None, *, num_samples=50):
    """IWAE_K, doubly reparameterised: ∇φ = Σ_k w̃_k² ∂log w_k/∂z_k ∂z_k/∂φ, ∇θ = Σ_k w̃_k ∇ log p(x, z_k); unbiased.

    arXiv:1810.04152 sec. 4. Its signal-to-noise ratio does not fall with K, as that of `iwae` does. Raises `BadOption`
    for a discrete q.
    """
    q = latent.posterior(params, x, context)
    check_pathwise("dreg", q)
    z, log_q = draws(q, key, num_samples)
    joint = jax.vmap(log_joint(latent, params, x, context))
    log_lik, log_prior = joint(z)
    bound, terms = sampled_iwae(log_lik, log_prior - log_q)
    weight = stop_gradient(jax.nn.softmax(log_lik + log_prior - log_q))
    once = jax.tree.map(lambda a: jax.vmap(scale_gradient)(a, weight), z)  # w̃ here, and w̃ in the sum below
    path = jax.vmap(latent.posterior(stop_gradient(params), x, context).log_prob)(once)
    return straight_through(bound, jnp.sum(weight * (sum(joint(once)) - path))), terms


@equation(temperature=number(above=0), hard=flag, beta=BETA, num_samples=SAMPLES)
def gumbel_softmax(latent, params, key, x, context=None, *, temperature, hard=False, beta=1.0, num_samples=1):
    """Reparameterisation of a relaxed discrete z: the gradient of E[log p(x|soft z)] - β KL(q || p).

    arXiv:1611.01144 sec. 2, arXiv:1611.00712. The KL is that of the discrete distributions. The gradient is BIASED:
    less at a lower `temperature` > 0, where the variance is larger. Value and terms are always those of the bits.

    Args:
      temperature: of the relaxation.
      hard: True to put the bits themselves into p(x|z) and to differentiate as if they were soft (straight-through).
        That is biased for φ at any temperature, but not for θ.
      beta: β, the weight of the KL.
      num_samples: the number of draws.

    Raises `BadOption` for a q that is neither Bernoulli nor one-hot, and if the KL has no closed form.
    """
    q, prior = pair(latent, params, x, context)
    if not has_discrete_part(q):
        closed = "'elbo'" if has_closed_form(q, prior) else "'elbo_sampled_kl'"
        refuse("gumbel_softmax", q, "its draws need no relaxation", closed)
    check_closed("gumbel_softmax", q, prior)
    relaxed = relax(q, temperature)
    kl = kl_divergence(q, prior)
    log_liks = jax.vmap(lambda z: latent.likelihood(params, z, context).log_prob(x))
    y, _ = draws(relaxed, key, num_samples)
    bits, soft = relaxed.hard(y), relaxed.soft(y)
    log_lik = jnp.mean(log_liks(bits))
    through = jnp.mean(log_liks(straight_through(bits, soft) if hard else soft))
    value = straight_through(log_lik, through) - beta * kl
    return value, {"bound": log_lik - kl, "distortion": -log_lik, "rate": kl}


def _score(latent, params, key, x, context, beta, num_samples, centre):
    """Return the value and terms of the score-function estimator.

    `centre(f)` returns the signals [K] minus a baseline, the function that the baseline maximises, and the values that
    running means follow.
    """
    q = latent.posterior(params, x, context)
    z, log_q = stop_gradient(draws(q, key, num_samples))
    log_lik, log_prior = jax.vmap(log_joint(latent, params, x, context))(z)
    value, terms = sampled_elbo(log_lik, log_prior - log_q, beta)
    signal, learned, followed = centre(stop_gradient(log_lik + beta * (log_prior - log_q)))
    surrogate = jnp.mean(log_lik + beta * log_prior + stop_gradient(signal) * jax.vmap(q.log_prob)(z))
    return straight_through(value, surrogate + learned), {**terms, **followed}


def _mean_of_others(values):
    return (jnp.sum(values) - values) / (len(values) - 1)
