"""Expectation maximisation with an exact E step on a grid, for one or two latent dimensions.

    E:  q_n(z) = p(z|x_n; θ)             by Bayes' rule, so the bound equals log p(x_n; θ)
    M:  θ ← argmax_θ' Σ_n E_{q_n}[log p(x_n, z; θ')]

The likelihood cannot decrease: log p(x; θ') ≥ E_q[log p(x, z; θ') - log q(z)] ≥ E_q[log p(x, z; θ) - log q(z)]
= log p(x; θ).
"""

import jax
import jax.numpy as jnp
import optax

from vae_jax.inference import grid as grids


def expected_log_joint(latent, params, exact, x, context=None, *, grid):
    """Return Q(θ') = E_{p(z|x; θ)}[log p(x, z; θ')] of one example, nats.

    At θ' = θ its gradient is that of log p(x; θ), because E_{p(z|x)}[∇ log p(z|x)] = 0 (Fisher's identity).

    Args:
      latent: a `core.Latent`.
      params: θ'.
      exact: the `grid.Posterior` of x under θ.
      x: the example.
      context: its context, if the model is conditional.
      grid: the `grid.Grid` of `exact`.
    """
    prior = latent.prior(params, context)
    mass = jax.lax.stop_gradient(jnp.exp(exact.log_density + grid.log_weight))
    return mass @ jax.vmap(lambda z: prior.log_prob(z) + latent.likelihood(params, z, context).log_prob(x))(grid.points)


def step(latent, params, data, *, grid, optimizer, num_steps):
    """Do one step of generalised EM (Neal and Hinton 1998), which never lowers mean_n log p(x_n).

    The M step runs an optimiser and returns the best parameters that it visits.

    Args:
      latent: a `core.Latent`.
      params: θ.
      data: a dict of all examples `x`, and `context` if the model is conditional.
      grid: the `grid.Grid` of the E step.
      optimizer: an optimiser of Optax.
      num_steps: the number of its steps.

    Returns the new parameters, and mean_n log p(x_n) before the step, nats.
    """
    exact = jax.vmap(lambda x, c: grids.posterior(latent, params, x, c, grid=grid))(data["x"], data.get("context"))

    def loss(params):
        expected = jax.vmap(lambda e, x, c: expected_log_joint(latent, params, e, x, c, grid=grid))
        return -jnp.mean(expected(exact, data["x"], data.get("context")))

    def ascend(carry, _):
        params, state, best, lowest = carry
        value, gradient = jax.value_and_grad(loss)(params)
        best = jax.tree.map(lambda b, p: jnp.where(value < lowest, p, b), best, params)
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state, best, jnp.minimum(value, lowest)), None

    start = (params, optimizer.init(params), params, jnp.inf)
    (last, _, best, lowest), _ = jax.lax.scan(ascend, start, length=num_steps)
    better = loss(last) < lowest
    return jax.tree.map(lambda b, p: jnp.where(better, p, b), best, last), jnp.mean(exact.log_prob)
