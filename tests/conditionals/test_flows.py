"""Conditionals whose head has weights of its own, beside those of the network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.conditionals import conditional, flows, heads
from vae_jax.distributions import Normal
from vae_jax.networks import mlp
from vae_jax.spec import build


def test_a_head_without_weights_leaves_the_parameters_to_the_network():
    assert set(flows.__all__) < set(heads.__all__)
    head = build(heads, {"name": "normal"}, (3,), where="model.posterior")
    network = mlp(head.shapes)
    encoder, x = conditional(network, head), jnp.ones(5)
    variables, expected = encoder.init(jax.random.key(0), x), network.init(jax.random.key(0), x)
    jax.tree.map(np.testing.assert_array_equal, variables, expected)
    loc, raw = network.apply(variables, x)
    jax.tree.map(np.testing.assert_array_equal, encoder.distribution(variables, x), head.distribution(loc, raw))
    assert encoder.abstract == jax.eval_shape(encoder.distribution, variables, x)


def test_inverse_autoregressive_flow_begins_as_the_normal():
    head = heads.inverse_autoregressive_flow((3,), num_flows=2, hidden=(4,), context_dim=2)
    network = mlp(head.shapes, hidden=(4,))
    encoder = conditional(network, head)

    @jax.jit
    def values(x, z):
        params = encoder.init(jax.random.key(0), x)
        loc, raw, _ = network.apply(params["network"], x)
        return params, encoder.distribution(params, x).log_prob(z), Normal(loc, raw).log_prob(z)

    params, log_prob, expected = values(jnp.ones(5), jnp.array([0.3, -0.4, 1.1]))
    np.testing.assert_allclose(log_prob, expected, rtol=2e-2)  # except for the soft clip of the log-scale
    weights = jax.eval_shape(head.init, jax.random.key(0))
    assert set(params) == {"network", "weights"}
    assert jax.tree.map(jnp.shape, params["weights"]) == jax.tree.map(jnp.shape, weights)


@pytest.mark.parametrize("option", ["num_flows", "context_dim"])
def test_none_of_something_is_refused(option):
    with pytest.raises(ValueError, match=f"^{option} must be at least 1, got 0"):
        heads.inverse_autoregressive_flow((2,), **{option: 0})
