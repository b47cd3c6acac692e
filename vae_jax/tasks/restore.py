"""Restoration: draws of p(x|y) for a degraded image y, and the posterior mean.

    p(x|y) ∝ p(y|x) p(x),        y = A(x) + noise  (`vae_jax.degradations`)

A method is a function of one y, `(model, params, key, degradation, y, context=None, *, num_draws, truth=None, ...) ->
Restored`. `context` is that of the model, `truth` an image whose log p(x|y) is asked for. It requires a field of the
model:

    exact         `density`: Gaussians, their mixtures, trees, mixtures of independent entries    closed form
    enumerated    `log_prob`: at most 16 bits                                                     sums
    ordered       `density` that draws pixel by pixel     exact if the hidden pixels come last, weighted draws otherwise
    importance    `latent`: weighted draws of z            unbiased weights
    annealed      `latent`: annealed importance sampling in z by HMC, arXiv:physics/9803008
    conditional   `sample` of a model whose context is y                                          amortised
    replaced, guided, twisted   `denoiser` (`tasks.denoise`)

Self-normalised weights are exact only for infinitely many draws: the effective sample size tells how far they are.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import degradations
from vae_jax.distributions import Mixture, Reshaped, Squares, Tree, given_linear
from vae_jax.inference import annealed as annealing
from vae_jax.inference import laplace
from vae_jax.numerics import effective_sample_size
from vae_jax.objectives.bounds import draws as draws_of
from vae_jax.spec import integers, numbers, one_of
from vae_jax.tasks import particles
from vae_jax.tasks.observation import observed, through

PROPOSALS = ("prior", "encoder", "laplace")
MOST_BITS = 16


class Restored(NamedTuple):
    """The result of a method: draws of x given y, and more."""

    draws: jax.Array  # [S, *event], each with the same weight
    mean: jax.Array  # E[x|y]
    log_weights: jax.Array | None = None  # [K] of the weighted draws behind them, unnormalised; None if there are none
    log_prob: jax.Array | None = None  # log p(truth|y), nats; None if the method has none, or without a truth

    def ess(self):
        """Return the effective sample size (Σ w)² / Σ w², between 1 and K; S for a method without weights."""
        if self.log_weights is None:
            return jnp.asarray(float(len(self.draws)))
        log_sums = jax.nn.logsumexp(self.log_weights), jax.nn.logsumexp(2.0 * self.log_weights)
        return effective_sample_size(*log_sums, len(self.log_weights))


def exact(model, params, key, degradation, y, context=None, *, num_draws, truth=None) -> Restored:
    """Return draws of p(x|y) in closed form.

    Gaussians and their mixtures take any linear degradation (`distributions.given_linear`); without noise it must not
    be singular. Trees and mixtures of independent entries take masks and noise (`distributions.Tree.posterior`,
    `tasks.observation`). log p(x|y) of a mask without noise is the log-probability of the hidden entries.

    Raises `ValueError` for other densities and degradations.
    """
    p = _density(model, params, context, "exact", "multivariate_normal, mixture, factor_analysis or chow_liu")
    degradations.check_observation(degradation, y)
    base = p.base if isinstance(p, Reshaped) else p
    shape, linear = degradation.event.shape, degradation.linear
    if isinstance(base, Tree):
        return _drawn(_tree_given(base, degradation, y), key, num_draws, truth)
    parts = base.components if isinstance(base, Mixture) else base
    if degradation.mask is not None and hasattr(parts, "log_probs") and hasattr(parts, "logits"):
        return _drawn(_factorised_given(base, degradation, y), key, num_draws, truth)
    matrix = jnp.asarray(degradations.matrix(degradation))
    posterior, _ = given_linear(base, matrix, linear.observe(y), jnp.asarray(linear.scale))
    return _drawn(Reshaped(posterior, shape) if isinstance(p, Reshaped) else posterior, key, num_draws, truth)


def enumerated(model, params, key, degradation, y, context=None, *, num_draws, truth=None) -> Restored:
    """Return draws of p(x|y) ∝ p(y|x) p(x) by the sum over all images of at most 16 bits, for any degradation.

    Raises `ValueError` for a model without an exact `log_prob`, for other data and for more bits.
    """
    if model.log_prob is None:
        raise ValueError("`enumerated` requires a model with an exact log p(x) (`log_prob`), and this one has none")
    degradations.check_observation(degradation, y)
    x = all_images(degradation.event)
    log_p = jax.vmap(lambda x: model.log_prob(params, x, context) + degradation.log_prob(y, x))(x)
    index = jax.random.categorical(key, log_p, shape=(num_draws,))
    log_prob = None
    if truth is not None:
        log_prob = model.log_prob(params, truth, context) + degradation.log_prob(y, truth) - jax.nn.logsumexp(log_p)
    mean = jnp.tensordot(jax.nn.softmax(log_p), x, axes=1)
    return Restored(x[index], mean, log_prob=log_prob)


def ordered(
    model, params, key, degradation, y, context=None, *, num_draws, truth=None, num_samples=None, resample_below=0.5
) -> Restored:
    """Return draws from a model that draws pixel by pixel, each pixel given the earlier ones and its y.

    With a mask, a shown pixel is taken from y, and its probability given the earlier pixels is a factor of the weight.
    If the hidden pixels come last, all weights are the same and the draws are exact. Otherwise particles are resampled
    when their effective number is small (`tasks.particles`).

    Args:
      model: a `core.Model` whose density draws one pixel after the other.
      params: its parameters.
      key: a JAX key.
      degradation: how y was made.
      y: the degraded image.
      context: that of the model.
      num_draws: S.
      truth: an image whose log p(x|y) is asked for.
      num_samples: the number of particles K; by default S.
      resample_below: particles are resampled when the effective sample size is below this share of K; 0 for never.

    Raises `ValueError` for a model without such an order, and for degradations that are not linear.
    """
    p = _density(model, params, context, "ordered", "pixel_cnn or belief_network")
    degradations.check_observation(degradation, y)
    count = num_draws if num_samples is None else num_samples
    integers(num_draws=num_draws, num_samples=count)
    numbers(resample_below=resample_below, at_least=0, at_most=1)
    key_particles, key_choice = jax.random.split(key)
    options = {"num_particles": count, "resample_below": resample_below}
    x, log_w, log_evidence = particles.filtered(p, key_particles, degradation, y, **options)
    log_prob = None
    if truth is not None:
        log_lik = degradation.log_prob(y, truth)
        log_prob = p.log_prob(truth) + (0.0 if _shown(degradation) else log_lik) - log_evidence
    mean = jnp.tensordot(jax.nn.softmax(log_w), x, axes=1)
    chosen = x if count == num_draws and _last_are_hidden(p, degradation) else x[_chosen(key_choice, log_w, num_draws)]
    return Restored(chosen, mean, log_w, log_prob)


def importance(
    model, params, key, degradation, y, context=None, *, num_draws, truth=None, num_samples=100, proposal=None
) -> Restored:
    """Return draws by self-normalised importance sampling of z, and then x ~ p(x|z, y).

        p(x|y) ≈ Σ_k w̃_k p(x|z_k, y),  z_k ~ q(z),  w̃_k ∝ p(y|z_k) p(z_k) / q(z_k)

    p(y|z) and p(x|z, y) are those of `tasks.observation`.

    Args:
      model: a `core.Model` with a `latent` and a prior.
      params: its parameters.
      key: a JAX key.
      degradation: how y was made.
      y: the degraded image.
      context: that of the model.
      num_draws: S.
      truth: an image whose log p(x|y) is asked for.
      num_samples: K.
      proposal: q: the "prior", the "encoder" of the baseline of y, which is often narrower than p(z|y), or "laplace": a
        Gaussian at the mode of p(z|y), for real vectors z. None for "laplace" where possible, otherwise "encoder".

    Raises `ValueError` for a model without p(z), for p(x|z) of dependent pixels, and for "laplace" with other z.
    """
    integers(num_draws=num_draws, num_samples=num_samples)
    one_of(PROPOSALS, proposal=proposal or PROPOSALS[0])
    latent = observed(_latent(model, "importance"), degradation)
    degradations.check_observation(degradation, y)
    key_z, key_choice, key_x = jax.random.split(key, 3)
    prior = latent.prior(params, context)
    if proposal == "prior":
        q = prior
    elif proposal == "encoder" or (proposal is None and not laplace.suits(prior)):
        q = latent.posterior(params, y, context)
    else:
        q = laplace.posterior(latent)(params, y, context)
    z, log_q = draws_of(q, key_z, num_samples)
    log_lik = jax.vmap(lambda z: latent.likelihood(params, z, context).log_prob(y))(z)
    log_w = log_lik + jax.vmap(prior.log_prob)(z) - log_q
    index = _chosen(key_choice, log_w, num_draws)
    return _from_codes(model.latent, params, key_x, degradation, y, context, z, log_w, index, truth)


def annealed(
    model,
    params,
    key,
    degradation,
    y,
    context=None,
    *,
    num_draws,
    truth=None,
    num_samples=None,
    num_temperatures=60,
    num_leapfrog=5,
    step_size=0.1,
    initial="prior",
) -> Restored:
    """Return draws by annealed importance sampling in z (`inference.annealed`), and then x ~ p(x|z, y).

    The step size of HMC is adapted in a run of its own. Options are those of `inference.annealed.anneal`; K =
    `num_samples` chains, by default S. Raises `ValueError` as `importance`, and if z is not real; `ImportError` without
    the extra `inference`.
    """
    latent = observed(_latent(model, "annealed"), degradation)
    degradations.check_observation(degradation, y)
    count = num_draws if num_samples is None else num_samples
    integers(num_draws=num_draws, num_samples=count)
    key_tune, key_chains, key_choice, key_x = jax.random.split(key, 4)
    path = {
        "betas": annealing.temperatures(num_temperatures, steepness=4.0),
        "num_chains": count,
        "num_leapfrog": num_leapfrog,
        "initial": initial,
    }
    size = annealing.tuned_step_size(latent, params, key_tune, y, context, step_size=step_size, **path)
    chains = annealing.anneal(latent, params, key_chains, y, context, step_size=size, **path)
    index = _chosen(key_choice, chains.log_weights, num_draws)
    return _from_codes(model.latent, params, key_x, degradation, y, context, chains.z, chains.log_weights, index, truth)


def conditional(model, params, key, degradation, y, context=None, *, num_draws, truth=None) -> Restored:
    """Return draws of a model that was trained to be conditional on y: amortised restoration.

    The model's context is y, such as the image of low resolution (`data.contexts`); `context` must be None. Pixels that
    y shows without noise are those of y in every draw. The mean of a latent-variable model is that of the means of
    p(x|z, y). log p(x|y) is given if it is exact. It is that of all pixels, which bounds that of the hidden ones.

    Raises `ValueError` for a model that cannot draw, and from the model if it takes no such context.
    """
    if model.sample is None:
        raise ValueError("`conditional` requires a model that draws (`sample`), and this one has none")
    if context is not None:
        raise ValueError("`conditional` gives y to the model as its context: leave out `context`")
    keys = jax.random.split(key, num_draws)
    log_prob = None if truth is None or model.log_prob is None else model.log_prob(params, truth, y)
    filled = (lambda x: jnp.where(degradation.mask, y, x)) if _shown(degradation) else lambda x: x
    latent = model.latent
    if latent is None or latent.prior is None:
        x = jax.vmap(lambda key: filled(model.sample(params, key, y)))(keys).astype(jnp.float32)
        return Restored(x, jnp.mean(x, axis=0), log_prob=log_prob)

    def draw(key):
        key_z, key_x = jax.random.split(key)
        p = latent.likelihood(params, latent.prior(params, y).sample(key_z), y)
        return filled(p.sample(key_x).astype(jnp.float32)), filled(p.mean())

    x, means = jax.vmap(draw)(keys)
    return Restored(x, jnp.mean(means, axis=0), log_prob=log_prob)


def hidden_only(latent, degradation):
    """Return a `core.Latent` whose context is y, with p(x|z, y) of the pixels that the mask hides.

    Pixels must be independent given z. log p(x|y) then does not count what y gives exactly.
    """

    def likelihood(params, z, context):
        return through(latent.likelihood(params, z, context), degradation).given(context)

    return latent.exchange(likelihood=likelihood)


def all_images(event):
    """Return all images [2^D, *event] of D bits. Raises `ValueError` for other data, and for more than 16 bits."""
    size = math.prod(event.shape)
    if event.support.num_levels != 2 or size > MOST_BITS:
        raise ValueError(
            f"`enumerated` is for images of at most {MOST_BITS} bits; these have {size} entries, {event.support}"
        )
    bits = (np.arange(2**size)[:, None] >> np.arange(size)[::-1]) & 1
    return jnp.asarray(bits.reshape(-1, *event.shape), jnp.float32)


def _from_codes(latent, params, key, degradation, y, context, z, log_w, index, truth) -> Restored:
    """Return x ~ p(x|z_k, y) of the codes at `index`, and the weighted mean over all codes."""

    def given(z):
        return through(latent.likelihood(params, z, context), degradation).given(y)

    mean = jnp.tensordot(jax.nn.softmax(log_w), jax.vmap(lambda z: given(z).mean())(z), axes=1)
    chosen = jax.tree.map(lambda a: a[index], z)
    x = jax.vmap(lambda key, z: given(z).sample(key))(jax.random.split(key, len(index)), chosen)
    log_prob = None
    if truth is not None:
        log_p = jax.vmap(lambda z: given(z).log_prob(truth))(z)
        log_prob = jax.nn.logsumexp(log_p + jax.nn.log_softmax(log_w))
    return Restored(x.astype(jnp.float32), mean, log_w, log_prob)


def _drawn(posterior, key, num_draws, truth) -> Restored:
    draws = jax.vmap(posterior.sample)(jax.random.split(key, num_draws))
    return Restored(draws, posterior.mean(), log_prob=None if truth is None else posterior.log_prob(truth))


def _tree_given(tree, degradation, y):
    if degradation.mask is None:
        raise ValueError(f"a tree takes masks and noise of single pixels, and {degradation.name!r} is neither")
    shape, mask = degradation.event.shape, degradation.mask
    values = jnp.zeros(shape)[..., None] + jnp.arange(2.0).reshape(*[1] * len(shape), 2)
    residual = jnp.where(mask, y, 0.0)[..., None] - values
    if degradation.noise:
        log_lik = -0.5 * jnp.square(residual / degradation.noise)
    else:
        log_lik = jnp.where(jnp.abs(residual) < 0.5, 0.0, -jnp.inf)
    log_lik = jnp.where(mask[..., None], log_lik, 0.0)
    return Reshaped(tree.posterior(log_lik.reshape(-1, 2))[0], shape)


class _MixtureGiven(NamedTuple):
    """The mixture of p_k(x|y), its parts made when they are needed."""

    log_weights: jax.Array
    parts: object
    degradation: object
    y: jax.Array

    def _given(self, part):
        return through(part, self.degradation).given(self.y)

    def sample(self, key):
        key_choice, key_x = jax.random.split(key)
        choice = jax.random.categorical(key_choice, self.log_weights)
        return self._given(jax.tree.map(lambda a: a[choice], self.parts)).sample(key_x)

    def mean(self):
        means = jax.vmap(lambda part: self._given(part).mean())(self.parts)
        return jnp.tensordot(jax.nn.softmax(self.log_weights), means, axes=1)

    def log_prob(self, x):
        log_p = jax.vmap(lambda part: self._given(part).log_prob(x))(self.parts)
        return jax.nn.logsumexp(log_p + jax.nn.log_softmax(self.log_weights))


def _factorised_given(base, degradation, y):
    """Return p(x|y) of a mixture of independent entries, or of one such part."""
    if not isinstance(base, Mixture):
        return through(base, degradation).given(y)
    log_lik = jax.vmap(lambda part: through(part, degradation).log_prob(y))(base.components)
    return _MixtureGiven(base.log_weights() + log_lik, base.components, degradation, y)


def _density(model, params, context, method, families):
    if model.density is None:
        raise ValueError(f"`{method}` requires a model with a density p(x) (`density`), such as {families}")
    return model.density(params, context)


def _latent(model, method):
    if model.latent is None or model.latent.prior is None:
        raise ValueError(f"`{method}` requires a latent-variable model with p(z) (`latent`), such as vae")
    return model.latent


def _chosen(key, log_w, num_draws):
    """Return indices [S] with probabilities ∝ w, by systematic resampling, shuffled."""
    key_places, key_order = jax.random.split(key)
    return jax.random.permutation(key_order, particles.systematic(key_places, log_w, num_draws))


def _shown(degradation):
    return degradation.mask is not None and not degradation.noise


def _last_are_hidden(p, degradation):
    if not _shown(degradation):
        return False
    return particles.hidden_come_last(p.to_base(degradation.mask) if isinstance(p, Squares) else degradation.mask)


__all__ = [
    "Restored",
    "all_images",
    "annealed",
    "conditional",
    "enumerated",
    "exact",
    "importance",
    "ordered",
]
