"""Variational inference without an encoder: each example has variational parameters of its own.

From the prior this is mean-field VI as before amortisation; from the encoder's q(z|x) it is the refinement of
semi-amortised inference, arXiv:1802.02550.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from vae_jax.distributions import Normal
from vae_jax.objectives.bounds import elbo, plain_elbo


class Fit(NamedTuple):
    """The distribution found, and the estimate of the bound before every step [T], nats."""

    q: Normal
    bound: jax.Array


def fit(latent, params, key, x, context=None, *, initial, optimizer, num_steps, num_samples, objective=elbo) -> Fit:
    """argmax over λ = (loc, log_scale) of E_{q_λ(z)}[log p(x, z) - log q_λ(z)], arXiv:1601.00670, for one
    example: `num_steps` of `optimizer` (Optax), each from `num_samples` reparameterised draws, in one scan.

    `initial` is "prior", "posterior" (the encoder's q(z|x)) or a diagonal `Normal`. The step size should fall to 0,
    since the noise of the gradient does not: an `optimizer` with a schedule.
    Raises `ValueError` where the start is not a `Normal`, whose parameters alone are free of constraints.
    """
    start = _start(latent, params, x, context, initial)

    def loss(q, k):
        free = latent._replace(posterior=lambda params, x, context=None: q)
        return -objective(free, params, k, x, context, num_samples=num_samples)[0]

    def step(carry, index):
        q, state = carry
        value, gradient = jax.value_and_grad(loss)(q, jax.random.fold_in(key, index))
        updates, state = optimizer.update(gradient, state, q)
        return (optax.apply_updates(q, updates), state), -value

    (q, _), bound = jax.lax.scan(step, (start, optimizer.init(start)), jnp.arange(num_steps))
    return Fit(q, bound)


def improvement(latent, params, key, x, context=None, *, optimizer, num_steps, num_samples, bound_samples):
    """ELBO(q_φ), ELBO(q*) of one example, nats: the encoder's q(z|x), and the best of its family, fitted from there on
    (`fit`). Both from `bound_samples` draws of the same noise, so that their difference is less noisy than either.
    """
    key_fit, key_bound = jax.random.split(key)
    q = latent.posterior(params, x, context)
    options = {"optimizer": optimizer, "num_steps": num_steps, "num_samples": num_samples, "objective": plain_elbo}
    fitted = fit(latent, params, key_fit, x, context, initial=q, **options)

    def bound(q):
        chosen = latent._replace(posterior=lambda params, x, context=None: q)
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
