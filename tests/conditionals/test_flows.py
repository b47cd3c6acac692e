"""Posteriors with networks of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from vae_jax.networks.weights import with_weights

from vae_jax import posteriors
from vae_jax.conditionals import heads
from vae_jax.distributions import Normal
from vae_jax.networks import mlp
from vae_jax.spec import build


def test_every_head_is_a_posterior():
    assert set(posteriors.__all__) == {*heads.__all__, "inverse_autoregressive_flow"}
    head = build(posteriors, {"name": "normal"}, (3,), where="model.posterior")
    assert head.shapes == heads.normal((3,)).shapes
    network = mlp(head.shapes)
    assert with_weights(network, head) is network


def test_inverse_autoregressive_flow_begins_as_the_normal():
    head = posteriors.inverse_autoregressive_flow((3,), num_flows=2, hidden=(4,), context_dim=2)
    encoder = with_weights(mlp(head.shapes, hidden=(4,)), head)

    @jax.jit
    def values(x, z):
        variables = encoder.init(jax.random.key(0), x)
        loc, raw, context, weights = encoder.apply(variables, x)
        q = head.distribution(loc, raw, context, weights)
        return q.log_prob(z), Normal(loc, raw).log_prob(z), jax.tree.map(jnp.subtract, weights, variables["weights"])

    given, expected, same = values(jnp.ones(5), jnp.array([0.3, -0.4, 1.1]))
    np.testing.assert_allclose(given, expected, rtol=2e-2)  # but for the soft clip of the log-scale
    assert all(np.all(leaf == 0.0) for leaf in jax.tree.leaves(same))


@pytest.mark.parametrize("option", ["num_flows", "context_dim"])
def test_none_of_something_is_refused(option):
    with pytest.raises(ValueError, match=f"^{option} must be at least 1, got 0"):
        posteriors.inverse_autoregressive_flow((2,), **{option: 0})
