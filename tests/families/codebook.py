"""A toy of the kind of a VQ-VAE: a codebook that follows the data by exponential averages, as state of the parameters.

loss = |x - e_k|², k the nearest entry;  n_k ← d n_k + (1-d) N_k,  m_k ← d m_k + (1-d) Σ x,  e_k = m_k / n_k
(arXiv:1711.00937 app. A.1), with a learned scale so that there is something for an optimiser as well.
"""

import jax
import jax.numpy as jnp

from vae_jax.core import Aux, Model


def from_config(*, event, num_codes, decay):
    """Return the toy with `num_codes` entries that are averaged at the rate `decay`."""

    def entries(state):
        return state["sums"] / jnp.maximum(state["counts"], 1e-5)[:, None]

    def distances(params, x):
        return jnp.sum(jnp.square(x[None] - entries(params["state"])), axis=1)

    def init(key, batch):
        rows = batch["x"].reshape(len(batch["x"]), -1)
        start = rows[jax.random.choice(key, len(rows), (num_codes,), replace=False)]
        return {"scale": jnp.ones(()), "state": {"counts": jnp.ones(num_codes), "sums": start}}

    def loss(params, key, batch, step):
        rows = batch["x"].reshape(len(batch["x"]), -1)
        squares = jax.vmap(distances, (None, 0))(params, rows)
        chosen = jax.nn.one_hot(jnp.argmin(squares, axis=1), num_codes)
        followed = {"counts": jnp.sum(chosen, axis=0), "sums": chosen.T @ rows}
        state = jax.tree.map(lambda old, new: decay * old + (1.0 - decay) * new, params["state"], followed)
        distortion = jnp.min(squares, axis=1) * jnp.square(params["scale"])
        return distortion, Aux({"distortion": distortion}, state)

    def judge(params, key, x, context=None):
        return {"distortion": jnp.min(distances(params, jnp.ravel(x)))}

    return Model(init, loss, judge)
