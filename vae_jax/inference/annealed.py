"""Annealed importance sampling, and bidirectional Monte Carlo, which bounds its error.

A path of unnormalised densities leads from an initial distribution q(z) to the joint, arXiv:1611.04273:

    f_β(z) = q(z)^(1-β) p(x, z)^β,     0 = β_0 < β_1 < ... < β_T = 1.

Chains start at z ~ q and follow it by one HMC transition a temperature. Their weights are unbiased, E[w] = p(x), so
log (1/C) Σ_c w_c is a lower bound of log p(x) in the mean, and a tight one where importance sampling is not. Backwards
from an exact posterior draw, which data simulated from the model have, E[1/w] = 1 / p(x), and the bound is an upper one
(arXiv:1511.02543). Memory does not grow with T.
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
    """C chains of one example. `log_weights` [C] are unbiased as weights; `acceptance` [T] of HMC, mean over chains;
    `z` [C, *z] where the chains ended: forwards, approximate draws of p(z|x).
    """

    log_weights: jax.Array
    acceptance: jax.Array
    z: jax.Array

    def ess(self):
        """(Σ w)² / Σ w², in 1..C; log_prob errs by about √(1/ESS - 1/C) nats. 0 where all weights are 0."""
        log_sums = jax.nn.logsumexp(self.log_weights), jax.nn.logsumexp(2.0 * self.log_weights)
        return effective_sample_size(*log_sums, len(self.log_weights))

    def log_prob(self):
        """log (1/C) Σ_c w_c: a stochastic lower bound of log p(x), nats."""
        return log_mean_exp(self.log_weights)


class Sandwich(NamedTuple):
    """One simulated x, and log p(x) between two bounds, nats: E[lower] ≤ log p(x) ≤ E[upper]."""

    x: jax.Array
    lower: jax.Array
    upper: jax.Array
    forward: Annealed
    backward: Annealed


def temperatures(num_temperatures, *, steepness):
    """β_0 = 0 .. β_T = 1, T = `num_temperatures`: a sigmoid from -`steepness` to `steepness`, brought to [0, 1], which
    is dense at both ends, where f_β changes most; 0 is evenly spaced.
    """
    if num_temperatures < 1:
        raise ValueError(f"num_temperatures must be at least 1, got {num_temperatures}")
    line = np.linspace(-1.0, 1.0, num_temperatures + 1)
    curve = np.tanh(0.5 * steepness * line) if steepness else line
    return jnp.asarray(0.5 * (curve / curve[-1] + 1.0), jnp.float32)


def anneal(latent, params, key, x, context=None, *, betas, step_size, num_chains, num_leapfrog, initial="prior"):
    """AIS of one example, arXiv:physics/9803008: `Annealed`, with
    log w = Σ_t (β_t - β_{t-1}) [log p(x, z_{t-1}) - log q(z_{t-1})].

    `betas` [T+1] from `temperatures`; `step_size` [] or [T], fixed beforehand (`tuned_step_size`): were it adapted to
    these very chains, the weights would be biased. `initial` is the q of the path, "prior" or "posterior" (the
    encoder's). Raises `ValueError` for another and where z is not real, `ImportError` without the extra `inference`.
    """
    options = (betas, step_size, num_chains, num_leapfrog, initial)
    return _forward(latent, params, key, x, context, *options, rate=0.0)[0]


def tuned_step_size(
    latent, params, key, x, context=None, *, betas, step_size, num_chains, num_leapfrog, initial="prior"
):
    """A step size for every temperature [T], from a run of its own that starts at `step_size` and follows the target
    acceptance of 0.65: log ε_{t+1} = log ε_t + 0.3 (acceptance_t - 0.65).
    """
    options = (betas, step_size, num_chains, num_leapfrog, initial)
    return _forward(latent, params, key, x, context, *options, rate=ADAPTATION_RATE)[1]


def sandwich(latent, params, key, context=None, *, betas, step_size, num_chains, num_leapfrog, initial="prior"):
    """Bidirectional Monte Carlo, arXiv:1511.02543: z ~ p(z), x ~ p(x|z), AIS of x forwards and, from that z, an
    exact draw of p(z|x), backwards: `Sandwich`.

    Its bounds hold for data of the model itself; that they hold for real data as closely is an assumption.
    """
    key_z, key_x, key_forward, key_backward = jax.random.split(key, 4)
    z = latent.prior(params, context).sample(key_z)
    x = latent.likelihood(params, z, context).sample(key_x)
    options = (betas, step_size, num_chains, num_leapfrog, initial)
    forward, _ = _forward(latent, params, key_forward, x, context, *options, rate=0.0)
    path = _path(latent, params, x, context, initial, num_leapfrog)

    def step(carry, item):
        """The forward chain's step in the opposite order: first the transition at β_t, then the weight."""
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
    """`Annealed` and the step sizes used [T]; with `rate` > 0 they follow the acceptance."""
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
        from blackjax.mcmc import hmc  # two seconds of imports: not before it is needed
    except ImportError as error:
        raise ImportError("annealed importance sampling needs BlackJAX: pip install 'vae_jax[inference]'") from error
    if initial not in ("prior", "posterior"):
        raise ValueError(f"initial must be 'prior' or 'posterior', got {initial!r}")
    prior = latent.prior(params, context)
    if set(supports(prior)) != {Real()}:
        raise ValueError(f"Hamiltonian dynamics move z through R^D, a {type(prior).__name__} is over {prior.support}")
    q = prior if initial == "prior" else latent.posterior(params, x, context)
    kernel = hmc.build_kernel()

    def log_joint(z):
        return prior.log_prob(z) + latent.likelihood(params, z, context).log_prob(x)

    def move(key, z, beta, step_size):
        """One HMC transition that leaves f_β as it is. Its step size is drawn anew, by a half around the given one: a
        trajectory of one fixed length may come back to where it began.
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
