"""Objectives of a whole batch: they depend on q(z) = E_{p(x)}[q(z|x)], which no single example determines.

Each is `(latent, params, key, batch) -> value [B], terms {name: [B]}` with one z ~ q(z|x) an example. `bound`, `rate`
and `distortion` are those of `elbo` for the same key (`elbo_sampled_kl` if the KL has no closed form); only the value
is re-weighted. A term of the whole batch is repeated for every example. In a conditional model q(z) is the mean over x
and its context. In a batch of one, information, correlation and discrepancy are 0.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vae_jax.core import per_example
from vae_jax.distributions import has_closed_form, kl_divergence
from vae_jax.numerics import straight_through
from vae_jax.objectives.bounds import BETA, draws, pair
from vae_jax.objectives.equation import (
    OwnNetwork,
    check_by_dimension,
    check_independent,
    check_pathwise,
    check_single,
    choice,
    count,
    equation,
    number,
)
from vae_jax.objectives.equation import (
    scales as check_scales,
)
from vae_jax.spec import BadOption, one_of

stop_gradient = jax.lax.stop_gradient

KINDS = ("I", "II")
SAMPLINGS = ("stratified", "weighted")
KERNELS = {  # functions of |z - z'|² and a scale
    "inverse_multiquadric": lambda square, scale: scale / (scale + square),
    "rbf": lambda square, scale: jnp.exp(-square / scale),
}
WAE_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@equation(of_batch=True, beta=BETA, alpha=number(), gamma=BETA, num_data=count(), sampling=choice(SAMPLINGS))
def beta_tcvae(latent, params, key, batch, *, beta, num_data, alpha=1.0, gamma=1.0, sampling="stratified"):
    """The β-TCVAE: E_q[log p(x|z)] - α I_q(x; z) - β KL(q(z) || Π_d q(z_d)) - γ Σ_d KL(q(z_d) || p(z_d)).

    arXiv:1802.04942 eq. (4). The three parts add up to the rate. They are reported in nats, from the same z, as
    `mutual_information`, `total_correlation` and `dimension_kl`. At α = β = γ = 1 the value is that of
    `elbo_sampled_kl`.

    q(z_i) is estimated from the B examples of a batch by `sampling`:

        "stratified"  q(z_i|x_i) / N + (N-1)/N Σ_{j≠i} q(z_i|x_j) / (B-1), unbiased for q(z_i), exact at B = N:
                      the mean of the paper's appendix over the other example that it singles out.
        "weighted"    Σ_j q(z_i|x_j) / (N B), which the paper trains with. The 1/N changes no gradient, but the
                      terms: at B = N they are too large by log N, (D-1) log N and -D log N.

    The logarithm of an unbiased q(z) is too small in the mean, and the joint's most of all. From a small batch
    `mutual_information` is therefore too large and `total_correlation` too small, often below 0. They serve training;
    `evaluation.latents` measures both on all data.

    Args:
      beta: β.
      num_data: N, the number of training examples, at least B.
      alpha: α.
      gamma: γ.
      sampling: "stratified" or "weighted", above.

    Raises `BadOption` for another `sampling`, for N < B, and unless q(z|x) is a diagonal Gaussian and p(z) factorises.
    """
    codes = _encode("beta_tcvae", latent, params, key, batch, by_dimension=True, independent=True)
    log_weights = _log_weights(len(codes.z), num_data, sampling)
    joint, marginals = jax.vmap(log_aggregate, (0, None, 0))(log_weights, codes.q, codes.z)
    product = jnp.sum(marginals, axis=-1)
    information, correlation, by_dim = codes.log_q - joint, joint - product, product - codes.log_prior
    value = codes.log_lik - alpha * information - beta * correlation - gamma * by_dim
    parts = {"mutual_information": information, "total_correlation": correlation, "dimension_kl": by_dim}
    return value, {**codes.terms, **parts}


@equation(of_batch=True, networks={"discriminator": OwnNetwork("z", ((2,),))}, gamma=BETA)
def factor_vae(latent, params, key, batch, *, gamma, discriminator):
    """The FactorVAE: ELBO - γ E_{q(z)}[log D(z) / (1 - D(z))].  arXiv:1802.05983 eq. (2) and (3).

    D(z) is the probability that z is a code, and not one whose dimensions were drawn apart. The expectation is the
    total correlation of z if D is optimal; `total_correlation` is its estimate.

    `discriminator` is z -> (logits of code and of permuted code [2],), a `jax.tree_util.Partial` of its parameters. It
    learns in the same step and from the same z; the paper's algorithm 2 takes a second batch. The permuted codes have
    each dimension shuffled over the batch. The gradient of the value by its parameters is that of minus
    `discriminator_loss`, its cross-entropy in nats, which is log 2 if it cannot tell them apart. Neither side gets the
    other's gradient.

    Args:
      gamma: γ.
      discriminator: the function above.

    Raises `BadOption` unless p(z) factorises.
    """
    codes = _encode("factor_vae", latent, params, key, batch, independent=True)
    size, dim = codes.z.shape
    keys = jax.random.split(jax.random.fold_in(key, size), dim)
    shuffled = jax.vmap(jax.random.permutation, (0, 1), 1)(keys, codes.z)

    def log_probs(discriminator, z):
        return jax.nn.log_softmax(jax.vmap(discriminator)(z)[0])  # [B, 2]

    seen = log_probs(stop_gradient(discriminator), codes.z)
    correlation = seen[:, 0] - seen[:, 1]
    of_codes, of_shuffled = (log_probs(discriminator, stop_gradient(z)) for z in (codes.z, shuffled))
    loss = -0.5 * (of_codes[:, 0] + of_shuffled[:, 1])
    value = codes.terms["bound"] - gamma * correlation + straight_through(0.0, -loss)
    return value, {**codes.terms, "total_correlation": correlation, "discriminator_loss": loss}


@equation(of_batch=True, kind=choice(KINDS), lambda_od=BETA, lambda_d=BETA)
def dip_vae(latent, params, key, batch, *, kind, lambda_od, lambda_d):
    """DIP-VAE-I and -II: ELBO - λ_od Σ_{d≠e} C_de² - λ_d Σ_d (C_dd - 1)².  arXiv:1711.00848.

    The two sums are reported as `off_diagonal` and `diagonal`. C is a covariance over the batch, divided by B: that of
    E_q[z|x] for `kind` "I", and that of z for "II", which adds the mean of Var_q[z|x].

    Args:
      kind: "I" or "II".
      lambda_od: λ_od.
      lambda_d: λ_d.

    Raises `BadOption` for another kind, and unless q(z|x) is a diagonal Gaussian and p(z) factorises.
    """
    codes = _encode("dip_vae", latent, params, key, batch, by_dimension=True, independent=True)
    centred = codes.q.loc - jnp.mean(codes.q.loc, axis=0, keepdims=True)
    covariance = centred.T @ centred / len(centred)
    if kind == "II":
        covariance += jnp.diag(jnp.mean(jnp.exp(2.0 * codes.q.log_scale), axis=0))
    variance = jnp.diagonal(covariance)
    off_diagonal = jnp.sum(jnp.square(covariance - jnp.diag(variance)))
    diagonal = jnp.sum(jnp.square(variance - 1.0))
    value = codes.terms["bound"] - (lambda_od * off_diagonal + lambda_d * diagonal)
    return value, {**codes.terms, **_of_all(value, off_diagonal=off_diagonal, diagonal=diagonal)}


@equation(of_batch=True, alpha=number(), lambda_mmd=BETA, kernel=choice(KERNELS), scales=check_scales)
def info_vae(latent, params, key, batch, *, alpha, lambda_mmd, kernel="rbf", scales=(1.0,)):
    """The InfoVAE: E_q[log p(x|z)] - (1-α) KL(q(z|x) || p(z)) - (α+λ-1) MMD²(q(z), p(z)).  arXiv:1706.02262.

    α = 1 is its MMD-VAE; α = 0 with λ = 1 is the ELBO. `mmd` is `squared_mmd` of the batch's z and as many draws of
    p(z); the authors' code has the biased V-statistic. The parameters of p(z) get a gradient through these draws too,
    except the weights of a mixture, for which there is none.

    Args:
      alpha: α.
      lambda_mmd: λ.
      kernel: "rbf" or "inverse_multiquadric" (`squared_mmd`).
      scales: of the kernels that are summed.
    """
    return _info_vae("info_vae", latent, params, key, batch, alpha, lambda_mmd, kernel, scales)


def _info_vae(name, latent, params, key, batch, alpha, lambda_mmd, kernel, scales):
    codes = _encode(name, latent, params, key, batch)
    of_prior = per_example(lambda params, key, x, context: latent.prior(params, context).sample(key))
    drawn = of_prior(params, jax.random.fold_in(key, len(codes.z)), batch)
    mmd = squared_mmd(codes.z, drawn, kernel=kernel, scales=scales)
    value = codes.log_lik - (1.0 - alpha) * codes.terms["rate"] - (alpha + lambda_mmd - 1.0) * mmd
    return value, {**codes.terms, **_of_all(value, mmd=mmd)}


@equation(of_batch=True, lambda_mmd=BETA, kernel=choice(KERNELS), scales=check_scales)
def wae(latent, params, key, batch, *, lambda_mmd, kernel="inverse_multiquadric", scales=WAE_SCALES):
    """The WAE-MMD: -E_q[c(x, z)] - λ MMD²(q(z), p(z)), the cost c = -log p(x|z).  arXiv:1711.01558.

    Under `normal_fixed_scale` c is the squared error over 2 scale², plus a constant. It is `info_vae` at α = 1; the
    kernels are summed over the scales of the authors' code. The rate costs nothing, so `bound`, the ELBO, may be poor.

    Args:
      lambda_mmd: λ.
      kernel: "rbf" or "inverse_multiquadric" (`squared_mmd`).
      scales: of the kernels that are summed.
    """
    return _info_vae("wae", latent, params, key, batch, 1.0, lambda_mmd, kernel, scales)


def log_aggregate(log_weights, q, z):
    """Return log q(z) and every log q(z_d) [D] of q(z) = Σ_m w_m q(z|x_m) at one z [D].

    `log_weights` is [M]; q holds M diagonal Gaussians, arrays [M, D].
    """
    by_dim = jax.vmap(lambda q_d, z_d: q_d.log_prob(z_d))  # a diagonal Gaussian is, by vmap, one a dimension
    log_q = jax.vmap(by_dim, (0, None))(q, z)  # [M, D]
    joint = jax.nn.logsumexp(log_weights + jnp.sum(log_q, axis=-1))
    return joint, jax.nn.logsumexp(log_weights[:, None] + log_q, axis=0)


def squared_mmd(a, b, *, kernel, scales):
    """Return MMD²(p, q) = E[k(a, a')] + E[k(b, b')] - 2 E[k(a, b)], estimated from B draws of each, a and b [B, D].

    The U-statistic leaves out the pairs of a draw with itself. It is unbiased and hence sometimes negative (Gretton et
    al. 2012, lemma 6). k is the sum over `scales` s of C/(C + |a - b|²), "inverse_multiquadric", or exp(-|a - b|²/C),
    "rbf", with C = 2 D s. At s = 1 that is the mean of |a - b|² under N(0, I), as in arXiv:1711.01558 sec. 4. For B = 1
    it is 0. Raises `BadOption` for another kernel.
    """
    one_of(KERNELS, kernel=kernel)
    size, dim = a.shape
    if size == 1:
        return jnp.zeros(())

    def values(a, b):
        square = jnp.sum(jnp.square(a[:, None] - b[None]), axis=-1)
        return sum(KERNELS[kernel](square, 2.0 * dim * scale) for scale in scales)

    others = 1.0 - jnp.eye(size)
    within = jnp.sum(others * (values(a, a) + values(b, b))) / (size * (size - 1))
    return within - 2.0 * jnp.mean(values(a, b))


class _Codes(NamedTuple):
    """The codes of all examples of a batch."""

    q: Any  # q(z|x), arrays [B, ...]
    z: jax.Array  # [B, D], z ~ q(z|x)
    log_q: jax.Array  # [B], at this z, like the two below
    log_prior: jax.Array
    log_lik: jax.Array
    terms: dict  # those of the ELBO


def _encode(name, latent, params, key, batch, *, by_dimension=False, independent=False) -> _Codes:
    """Return the codes of a batch for the equation `name`. Raises `BadOption` if q(z|x) or p(z) do not fit it."""

    def one(params, key, x, context):
        q, prior = pair(latent, params, x, context)
        check_pathwise(name, q)
        check_single(name, q)
        if by_dimension:
            check_by_dimension(name, q)
        if independent:
            check_independent(name, q, prior)
        z, log_q = (a[0] for a in draws(q, key, 1))
        log_prior, log_lik = prior.log_prob(z), latent.likelihood(params, z, context).log_prob(x)
        rate = kl_divergence(q, prior) if has_closed_form(q, prior) else log_q - log_prior
        terms = {"bound": log_lik - rate, "distortion": -log_lik, "rate": rate}
        return _Codes(q, z, log_q, log_prior, log_lik, terms)

    return per_example(one)(params, key, batch)


def _log_weights(size, num_data, sampling):
    """Return [B, B]: row i holds the log-weight of each q(z|x_j) in q(z_i)."""
    if isinstance(num_data, int | float) and num_data < size:  # not where a sweep traces it
        raise BadOption(f"num_data must be at least the {size} examples of a batch, got {num_data}")
    if size == 1:
        return jnp.zeros((1, 1))
    if sampling == "weighted":
        return jnp.full((size, size), -jnp.log(num_data * float(size)))
    itself, other = 1.0 / num_data, (1.0 - 1.0 / num_data) / (size - 1)
    return jnp.log(jnp.where(jnp.eye(size, dtype=bool), itself, other))


def _of_all(value, **terms):
    """Repeat numbers of the whole batch for each example."""
    return {name: jnp.broadcast_to(term, value.shape) for name, term in terms.items()}
