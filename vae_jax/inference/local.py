"""Variational inference without an encoder: each example has separate variational parameters.

Started from the prior, this is mean-field variational inference without amortisation. Started from the encoder's
q(z|x), it is the refinement of semi-amortised inference, arXiv:1802.02550.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from vae_jax.distributions import Normal
from vae_jax.objectives.bounds import elbo, plain_elbo


class Fit(NamedTuple):
    """The fitted distribution, and the estimates of the bound before every step [T], nats."""

    q: Normal
    bound: jax.Array


def fit(latent, params, key, x, context=None, *, initial, optimizer, num_steps, num_samples, objective=elbo) -> Fit:
    """Maximise the ELBO of one example over a diagonal Gaussian q_λ, λ = (loc, log_scale), arXiv:1601.00670.

        argmax_λ E_{q_λ(z)}[log p(x, z) - log q_λ(z)]

    The step size of the optimiser should decrease to 0 by a schedule, because the noise of the gradient does not.

    Args:
      latent: a `core.Latent`.
      params: its parameters, which stay fixed.
      key: a JAX key.
      x: one example.
      context: its context, if the model is conditional.
      initial: "prior", "posterior" (the encoder's q(z|x)) or a diagonal `Normal`.
      optimizer: an optimiser of Optax.
      num_steps: T, the number of its steps, in one scan.
      num_samples: the number of reparameterised draws in each step.
      objective: the equation of `objectives` to maximise.

    Raises `ValueError` for a model without p(z), and if q does not start as a `Normal`. Other parameters may be
    constrained.
    """
    if latent.prior is None:
        raise ValueError("a fit of q(z|x) requires p(z), and this model has none")
    start = _start(latent, params, x, context, initial)

    def loss(q, k):
        free = latent.exchange(posterior=lambda params, x, context=None: q)
        return -objective(free, params, k, x, context, num_samples=num_samples)[0]

    def step(carry, index):
        q, state = carry
        value, gradient = jax.value_and_grad(loss)(q, jax.random.fold_in(key, index))
        updates, state = optimizer.update(gradient, state, q)
        return (optax.apply_updates(q, updates), state), -value

    (q, _), bound = jax.lax.scan(step, (start, optimizer.init(start)), jnp.arange(num_steps))
    return Fit(q, bound)


def improvement(latent, params, key, x, context=None, *, optimizer, num_steps, num_samples, bound_samples):
    """Return ELBO(q_φ) and ELBO(q*) of one example, nats: of the encoder's q(z|x) and of the best Gaussian.

    `fit` finds q* from q(z|x). Both bounds use the same noise, so their difference is less noisy than either.

    Args:
      latent: a `core.Latent`.
      params: its parameters.
      key: a JAX key.
      x: one example.
      context: its context, if the model is conditional.
      optimizer: an optimiser of Optax.
      num_steps: the number of its steps.
      num_samples: the number of draws in each step.
      bound_samples: the number of draws that estimate each of the two bounds.

    Raises `ValueError` for a model without p(z), and if q(z|x) is not a `Normal`.
    """
    key_fit, key_bound = jax.random.split(key)
    q = latent.posterior(params, x, context)
    options = {"optimizer": optimizer, "num_steps": num_steps, "num_samples": num_samples, "objective": plain_elbo}
    fitted = fit(latent, params, key_fit, x, context, initial=q, **options)

    def bound(q):
        chosen = latent.exchange(posterior=lambda params, x, context=None: q)
        return plain_elbo(chosen, params, key_bound, x, context, num_samples=bound_samples)[0]

    encoder, best = jax.vmap(bound)(jax.tree.map(lambda a, b: jnp.stack([a, b]), q, fitted.q))
    return encoder, best


def _start(latent, params, x, context, initial):
    match initial:
        case "prior":
            initial = latent.prior(params, context)
        case "posterior":
            initial = latent.posterior(params, x, context)
    if not isinstance(initial, Normal):
        kind = repr(initial) if isinstance(initial, str) else type(initial).__name__
        raise ValueError(f"initial must be 'prior', 'posterior' or a distribution that is a Normal, got {kind}")
    return initial
