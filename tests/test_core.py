"""From a batch to its examples, and from a config's keys to arguments."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.core import per_example
from vae_jax.spec import build, call, check_options, public_functions


def test_per_example_gives_every_example_its_own_key_and_context():
    function = per_example(lambda params, key, x, context: params * x + context + jax.random.uniform(key))
    batch = {"x": jnp.arange(4.0), "context": 10.0 * jnp.arange(4)}
    noise = function(2.0, jax.random.key(0), batch) - 12.0 * jnp.arange(4)
    keys = jax.random.split(jax.random.key(0), 4)
    np.testing.assert_allclose(noise, jax.vmap(jax.random.uniform)(keys), atol=1e-5)


def test_per_example_without_context():
    given = per_example(lambda params, key, x, context: x if context is None else jnp.nan)
    np.testing.assert_array_equal(given(None, jax.random.key(0), {"x": jnp.arange(3.0)}), jnp.arange(3.0))


def layer(x, *, width, depth=1, parent=None):
    return x, width, depth


def test_call_passes_positions_options_and_what_is_given():
    assert call(layer, {"depth": 3}, "x", where="config", width=2) == ("x", 2, 3)


@pytest.mark.parametrize(
    "options, given, words",
    [
        ({"widht": 2}, {}, r"config.layer: unknown key 'widht'; did you mean 'width'\? \(allowed: depth, width\)"),
        ({"width": 2, "zzz": 1}, {}, r"unknown key 'zzz' \(allowed: depth, width\)"),
        ({"depth": 2}, {}, r"config.layer: missing key 'width'"),
        ({"width": 2}, {"width": 3}, r"unknown key 'width'.*\(allowed: depth\)"),
        ({"width": 2, "parent": 1}, {}, r"unknown key 'parent'"),
        ({"width": 2, "x": 1}, {}, r"unknown key 'x'"),
    ],
)
def test_call_names_the_key(options, given, words):
    with pytest.raises(ValueError, match=words):
        call(layer, options, "x", where="config.layer", **given)


def test_functions_of_any_key_take_any_key():
    check_options(lambda x, **anything: x, {"whatever": 1}, num_args=1)


SHAPES = types.SimpleNamespace(layer=layer, other=len, _hidden=len)


def test_build_calls_what_the_name_names_and_leaves_the_spec_alone():
    spec = {"name": "layer", "width": 2}
    assert build(SHAPES, spec, "x", where="config.shape", depth=4) == ("x", 2, 4)
    assert spec == {"name": "layer", "width": 2}


@pytest.mark.parametrize("spec", [{"name": "leyer"}, {"name": "_hidden"}, {"width": 2}, {"name": "numpy"}])
def test_build_refuses_unknown_names(spec):
    with pytest.raises(ValueError, match=r"config.shape.name: unknown value .*\(allowed: layer, other\)"):
        build(SHAPES, spec, where="config.shape")
    with pytest.raises(ValueError, match=r"did you mean 'layer'"):
        build(SHAPES, {"name": "leyer"}, where="config.shape")


def test_public_functions_are_those_of_all():
    assert public_functions(types.SimpleNamespace(__all__=["b", "a"], c=len)) == ["a", "b"]
    assert public_functions(types.SimpleNamespace(b=len, a=str, _c=len, d=3)) == ["a", "b"]
