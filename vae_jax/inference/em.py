"""Expectation maximisation with an exact E step: on a grid, for one or two latent dimensions.

    E:  q_n(z) = p(z|x_n; θ)             by Bayes' rule, so that the bound touches log p(x_n; θ)
    M:  θ ← argmax_θ' Σ_n E_{q_n}[log p(x_n, z; θ')]

The likelihood cannot fall: log p(x; θ') ≥ E_q[log p(x, z; θ') - log q(z)] ≥ the same at θ = log p(x; θ).
"""

import jax
import jax.numpy as jnp
import optax

from vae_jax.inference import grid as grids


def expected_log_joint(latent, params, exact, x, context=None, *, grid):
    """Q(θ') = E_{p(z|x; θ)}[log p(x, z; θ')], nats, of one example; `exact` is its `grid.Posterior` under θ.

    At θ' = θ its gradient is that of log p(x; θ) (Fisher's identity): E_{p(z|x)}[∇ log p(z|x)] = 0.
    """
    prior = latent.prior(params, context)
    mass = jax.lax.stop_gradient(jnp.exp(exact.log_density + grid.log_weight))
    return mass @ jax.vmap(lambda z: prior.log_prob(z) + latent.likelihood(params, z, context).log_prob(x))(grid.points)


def step(latent, params, data, *, grid, optimizer, num_steps):
    """One E step on all of `data`, then an M step of `num_steps` of `optimizer` (Optax), of which the best parameters
    are kept: a generalised EM step (Neal and Hinton 1998), which never lowers mean_n log p(x_n).

    Returns the parameters and mean_n log p(x_n) before the step, nats.
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
