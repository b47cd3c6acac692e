"""Distributions of many examples at once: what examples share is not copied, and what a function reads is known."""

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.codecs import batch as batches
from vae_jax.codecs.batch import SHARED, lift, reads, rows
from vae_jax.distributions import Bernoulli, Normal

WEIGHTS = {"w": np.arange(12.0, dtype=np.float32).reshape(3, 4), "unused": np.ones(5, np.float32)}


def decode(params, z):
    return Bernoulli(z @ params["w"]), params


def test_shared_arrays_are_shared():
    z = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    both = lift(decode, WEIGHTS, batches.of(z, 7), size=7)
    distribution, params = both[0], both[1]
    assert params.tree["w"].shape == (3, 4) and set(jax.tree.leaves(params.axes)) == {SHARED}
    assert distribution.tree.logits.shape == (7, 4) and distribution.axes.logits == 0
    np.testing.assert_allclose(distribution.tree.logits, z @ WEIGHTS["w"], rtol=1e-5, atol=1e-5)
    assert distribution.part("logits").tree is distribution.tree.logits


def test_a_result_that_all_examples_share_is_computed_once_and_can_be_spread():
    prior = lambda params: Normal(params["w"][0], params["w"][1])  # noqa: E731
    assert lift(prior, WEIGHTS, size=6).tree.loc.shape == (4,)
    loc = rows(lambda normal: normal.loc, lift(prior, WEIGHTS, size=6), size=6)
    assert loc.shape == (6, 4) and np.array_equal(loc[5], WEIGHTS["w"][0])


def test_what_a_function_reads_is_found_also_through_compiled_parts():
    x, y, z = (jnp.zeros(3) for _ in range(3))
    assert reads(lambda x, y, z: (jnp.sum(x) + 1.0, jax.jit(lambda a: a * 2)(z)), x, y, z) == {0, 2}
    assert reads(lambda x, y, z: jax.lax.scan(lambda c, a: (c + a, a), y, x[None])[0], x, y, z) == {0, 1}
    assert reads(lambda x, y, z: jnp.ones(3), x, y, z) == set()
