"""Annealed importance sampling, and bidirectional Monte Carlo, which bounds its error.

A path of unnormalised densities leads from an initial distribution q(z) to the joint, arXiv:1611.04273:

    f_β(z) = q(z)^(1-β) p(x, z)^β,     0 = β_0 < β_1 < ... < β_T = 1.

Chains start at z ~ q and follow the path with one HMC transition for each temperature. Their weights are unbiased,
E[w] = p(x), so log (1/C) Σ_c w_c is on average a lower bound of log p(x), often far tighter than that of importance
sampling. Data that are simulated from the model come with an exact draw from the posterior. A chain that runs backwards
from this draw has E[1/w] = 1 / p(x) and gives an upper bound (arXiv:1511.02543). Memory does not grow with T.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.distributions.support import supports
from vae_jax.numerics import effective_sample_size, log_mean_exp
from vae_jax.support import Real

TARGET_ACCEPTANCE = 0.65  # arXiv:1001.4460
ADAPTATION_RATE = 0.3


class Annealed(NamedTuple):
    """The result of C chains for one example.

    Attributes:
      log_weights: log w_c [C], nats.
      acceptance: the acceptance rate of HMC at each temperature [T], averaged over chains.
      z: the last states of the chains [C, *z]. Those of forward chains are approximate draws from p(z|x).
    """

    log_weights: jax.Array
    acceptance: jax.Array
    z: jax.Array

    def ess(self):
        """Return the effective sample size (Σ w)² / Σ w², between 1 and C; 0 if all weights are 0.

        The standard error of `log_prob` is about √(1/ESS - 1/C) nats.
        """
        log_sums = jax.nn.logsumexp(self.log_weights), jax.nn.logsumexp(2.0 * self.log_weights)
        return effective_sample_size(*log_sums, len(self.log_weights))

    def log_prob(self):
        """Return log (1/C) Σ_c w_c, nats: on average a lower bound of log p(x)."""
        return log_mean_exp(self.log_weights)


class Sandwich(NamedTuple):
    """One simulated x and two bounds of log p(x), nats: E[lower] ≤ log p(x) ≤ E[upper]."""

    x: jax.Array
    lower: jax.Array
    upper: jax.Array
    forward: Annealed
    backward: Annealed


def temperatures(num_temperatures, *, steepness):
    """Return the temperatures β_0 = 0, ..., β_T = 1 [T + 1], T = `num_temperatures`.

    They follow a sigmoid from -`steepness` to `steepness`, rescaled to [0, 1], and are dense at both ends, where f_β
    changes most. A steepness of 0 gives even spacing. Raises `ValueError` for less than one temperature.
    """
    if num_temperatures < 1:
        raise ValueError(f"num_temperatures must be at least 1, got {num_temperatures}")
    line = np.linspace(-1.0, 1.0, num_temperatures + 1)
    curve = np.tanh(0.5 * steepness * line) if steepness else line
    return jnp.asarray(0.5 * (curve / curve[-1] + 1.0), jnp.float32)


def anneal(latent, params, key, x, context=None, *, betas, step_size, num_chains, num_leapfrog, initial="prior"):
    """Run annealed importance sampling for one example and return `Annealed`, arXiv:physics/9803008.

        log w = Σ_t (β_t - β_{t-1}) [log p(x, z_{t-1}) - log q(z_{t-1})]

    Args:
      latent: a `core.Latent` with a prior over real vectors.
      params: its parameters.
      key: a JAX key.
      x: one example.
      context: its context, if the model is conditional.
      betas: the temperatures [T + 1] (`temperatures`).
      step_size: that of HMC, [] or [T]. It must be fixed beforehand (`tuned_step_size`): weights of chains that adapt
        their own step size are biased.
      num_chains: C.
      num_leapfrog: the number of leapfrog steps in a transition.
      initial: the initial distribution q, "prior" or "posterior" (the encoder's q(z|x)).

    Raises `ValueError` for another `initial` and if z is not real, `ImportError` without the extra `inference`.
    """
    options = (betas, step_size, num_chains, num_leapfrog, initial)
    return _forward(latent, params, key, x, context, *options, rate=0.0)[0]


def tuned_step_size(
    latent, params, key, x, context=None, *, betas, step_size, num_chains, num_leapfrog, initial="prior"
):
    """Return a step size for every temperature [T], adapted in a separate run that starts at `step_size`.

        log ε_{t+1} = log ε_t + 0.3 (acceptance_t - 0.65)

    Arguments and errors are those of `anneal`.
    """
    options = (betas, step_size, num_chains, num_leapfrog, initial)
    return _forward(latent, params, key, x, context, *options, rate=ADAPTATION_RATE)[1]


def sandwich(latent, params, key, context=None, *, betas, step_size, num_chains, num_leapfrog, initial="prior"):
    """Bound log p(x) of one simulated x from both sides by bidirectional Monte Carlo, arXiv:1511.02543.

    After z ~ p(z) and x ~ p(x|z), AIS runs forwards for x, and backwards from this z, which is an exact draw from
    p(z|x). The bounds hold for data from the model itself. Real data may have a larger gap.

    Arguments and errors are those of `anneal`; returns `Sandwich`.
    """
    key_z, key_x, key_forward, key_backward = jax.random.split(key, 4)
    z = latent.prior(params, context).sample(key_z)
    x = latent.likelihood(params, z, context).sample(key_x)
    options = (betas, step_size, num_chains, num_leapfrog, initial)
    forward, _ = _forward(latent, params, key_forward, x, context, *options, rate=0.0)
    path = _path(latent, params, x, context, initial, num_leapfrog)

    def step(carry, item):
        """Do the two parts of a forward step in the opposite order: the transition at β_t, then the weight."""
        z, log_w = carry
        index, high, low, size = item
        keys = jax.random.split(jax.random.fold_in(key_backward, index), num_chains)
        z, acceptance = path.move(keys, z, high, size)
        return (z, log_w + (high - low) * path.log_ratio(z)), jnp.mean(acceptance)

    z = jax.tree.map(lambda a: jnp.broadcast_to(a, (num_chains, *jnp.shape(a))), z)
    sizes = jnp.broadcast_to(jnp.asarray(step_size, jnp.float32), (len(betas) - 1,))
    items = (jnp.arange(len(sizes)), betas[:0:-1], betas[-2::-1], sizes[::-1])
    (z, log_w), acceptance = jax.lax.scan(step, (z, jnp.zeros(num_chains)), items)
    backward = Annealed(log_w, acceptance[::-1], z)
    return Sandwich(x, forward.log_prob(), -log_mean_exp(-log_w), forward, backward)


def _forward(latent, params, key, x, context, betas, step_size, num_chains, num_leapfrog, initial, *, rate):
    """Return `Annealed` and the step sizes used [T]. With `rate` > 0 these adapt to the acceptance rate."""
    path = _path(latent, params, x, context, initial, num_leapfrog)
    key_start, key_steps = jax.random.split(key)
    z = jax.vmap(path.start.sample)(jax.random.split(key_start, num_chains))

    def step(carry, item):
        z, log_w, log_factor = carry
        index, low, high, size = item
        log_w = log_w + (high - low) * path.log_ratio(z)
        size = size * jnp.exp(log_factor)
        keys = jax.random.split(jax.random.fold_in(key_steps, index), num_chains)
        z, acceptance = path.move(keys, z, high, size)
        acceptance = jnp.mean(acceptance)
        return (z, log_w, log_factor + rate * (acceptance - TARGET_ACCEPTANCE)), (acceptance, size)

    sizes = jnp.broadcast_to(jnp.asarray(step_size, jnp.float32), (len(betas) - 1,))
    items = (jnp.arange(len(sizes)), betas[:-1], betas[1:], sizes)
    (z, log_w, _), (acceptance, sizes) = jax.lax.scan(step, (z, jnp.zeros(num_chains), jnp.zeros(())), items)
    return Annealed(log_w, acceptance, z), sizes


class _Path(NamedTuple):
    start: Any  # the distribution q
    log_ratio: Callable  # z [C, *z] -> log p(x, z) - log q(z) [C]
    move: Callable  # keys [C], z, β [], step size [] -> z, acceptance probabilities [C]


def _path(latent, params, x, context, initial, num_leapfrog) -> _Path:
    try:
        from blackjax.mcmc import hmc  # imported here, since the import takes two seconds
    except ImportError as error:
        raise ImportError("annealed importance sampling needs BlackJAX: pip install 'vae_jax[inference]'") from error
    if initial not in ("prior", "posterior"):
        raise ValueError(f"initial must be 'prior' or 'posterior', got {initial!r}")
    prior = latent.prior(params, context)
    if set(supports(prior)) != {Real()}:
        name = type(prior).__name__
        raise ValueError(f"Hamiltonian dynamics require real z, but the prior, {name}, has the support {prior.support}")
    q = prior if initial == "prior" else latent.posterior(params, x, context)
    kernel = hmc.build_kernel()

    def log_joint(z):
        return prior.log_prob(z) + latent.likelihood(params, z, context).log_prob(x)

    def move(key, z, beta, step_size):
        """Do one HMC transition that leaves f_β invariant.

        The step size is drawn uniformly between 0.5 and 1.5 times the given one, because a trajectory of fixed length
        may be periodic and return to its beginning.
        """
        key, key_size = jax.random.split(key)
        step_size = step_size * jax.random.uniform(key_size, minval=0.5, maxval=1.5)

        def log_f(z):
            return (1.0 - beta) * q.log_prob(z) + beta * log_joint(z)

        mass = jnp.ones(sum(leaf.size for leaf in jax.tree.leaves(z)))
        state, info = kernel(key, hmc.init(z, log_f), log_f, step_size, mass, num_leapfrog)
        return state.position, info.acceptance_rate

    log_ratio = jax.vmap(lambda z: log_joint(z) - q.log_prob(z))
    return _Path(q, log_ratio, jax.vmap(move, (0, 0, None, None)))
