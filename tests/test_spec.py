"""From a config's keys to arguments, and the path of a config in front of every error."""

import types

import jax
import numpy as np
import pytest

from vae_jax import spec
from vae_jax.spec import BadOption, build, call, check_options, public_functions, under


def layer(x, *, width, depth=1):
    return x, width, depth


def test_call_passes_positions_options_and_other_keywords():
    assert call(layer, {"depth": 3}, "x", where="config", width=2) == ("x", 2, 3)


@pytest.mark.parametrize(
    "options, keywords, words",
    [
        ({"widht": 2}, {}, r"config.layer: unknown key 'widht'; did you mean 'width'\? \(allowed: depth, width\)"),
        ({"width": 2, "zzz": 1}, {}, r"unknown key 'zzz' \(allowed: depth, width\)"),
        ({"depth": 2}, {}, r"config.layer: missing key 'width'"),
        ({"width": 2}, {"width": 3}, r"unknown key 'width'.*\(allowed: depth\)"),
        ({"width": 2, "parent": 1}, {}, r"unknown key 'parent'"),
        ({"width": 2, "x": 1}, {}, r"unknown key 'x'"),
        ((2,), {}, r"^config.layer must be a dict of options, got \(2,\)"),
    ],
)
def test_call_names_the_key(options, keywords, words):
    with pytest.raises(BadOption, match=words):
        call(layer, options, "x", where="config.layer", **keywords)


def test_functions_of_any_key_take_any_key():
    check_options(lambda x, **anything: x, {"whatever": 1}, num_args=1)


SHAPES = types.SimpleNamespace(layer=layer, other=len, _hidden=len)


def test_build_calls_what_the_name_names_and_leaves_the_spec_alone():
    options = {"name": "layer", "width": 2}
    assert build(SHAPES, options, "x", where="config.shape", depth=4) == ("x", 2, 4)
    assert options == {"name": "layer", "width": 2}


@pytest.mark.parametrize("options", [{"name": "leyer"}, {"name": "_hidden"}, {"width": 2}, {"name": "numpy"}])
def test_build_refuses_unknown_names(options):
    with pytest.raises(BadOption, match=r"config.shape.name: unknown value .*\(allowed: layer, other\)"):
        build(SHAPES, options, where="config.shape")
    with pytest.raises(BadOption, match=r"did you mean 'layer'"):
        build(SHAPES, {"name": "leyer"}, where="config.shape")
    with pytest.raises(BadOption, match=r"^config.shape must be a dict with a 'name' and its options, got 'layer'"):
        build(SHAPES, "layer", where="config.shape")


def test_public_functions_are_those_of_all():
    assert public_functions(types.SimpleNamespace(__all__=["b", "a"], c=len)) == ["a", "b"]
    assert public_functions(types.SimpleNamespace(b=len, a=str, _c=len, d=3)) == ["a", "b"]


def sized(*, width):
    spec.integers(width=width)


def test_the_path_of_a_config_is_put_in_front_of_what_a_function_says_of_its_argument():
    with pytest.raises(BadOption, match=r"^width must be at least 1, got 0$"):
        sized(width=0)
    with pytest.raises(BadOption, match=r"^config\.model\.encoder\.width must be at least 1, got 0$"), under("config"):
        call(lambda *, encoder: call(sized, encoder, where="encoder"), {"encoder": {"width": 0}}, where="model")
    with pytest.raises(BadOption, match=r"^config\.model: missing key 'width'$"), under("config.model"):
        raise BadOption(": missing key 'width'")
    with pytest.raises(BadOption, match=r"^config\.model must be a dict$"), under("config.model"):
        raise BadOption(" must be a dict")
    with pytest.raises(BadOption, match=r"^width is wrong$"), under(""):
        raise BadOption("width is wrong")


def test_other_errors_pass_as_they_are():
    with pytest.raises(ValueError, match=r"^no option$"), under("config"):
        raise ValueError("no option")


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: spec.numbers(a=float("nan"), above=0), "^a must be one finite number, above 0, got nan"),
        (lambda: spec.numbers(a=True), "^a must be a number, got True"),
        (lambda: spec.numbers(a=1.5, at_least=0, at_most=1), "^a must be between 0 and 1, got 1.5"),
        (lambda: spec.numbers(a=np.ones(2)), "^a must be one finite number, got array"),
        (lambda: spec.integers(a=3.0), "^a must be a whole number, at least 1, got 3.0"),
        (lambda: spec.integers(a=2**40), f"^a must be between 1 and {2**31 - 1}, got {2**40}"),
        (lambda: spec.sizes(a=3), r"^a must be a tuple of whole numbers, such as \(64, 32\), got 3"),
        (lambda: spec.sizes(a=(3, 0)), "^a: each entry must be at least 1, got 0"),
        (lambda: spec.sizes(a=(), at_least_one=True), r"^a must have at least one entry, got \(\)"),
        (lambda: spec.names(a=("b", 1)), "^a must be a tuple of names"),
        (lambda: spec.flags(a=1), "^a must be True or False, got 1"),
        (lambda: spec.one_of(("left", "right"), a="lft"), "^a: unknown value 'lft'; did you mean 'left'"),
        (lambda: spec.schedules(a=lambda step: 1.0 - step), "^a must be at least 0 at every step, got -"),
    ],
)
def test_what_an_option_must_be(check, message):
    with pytest.raises(BadOption, match=message):
        check()


def test_traced_numbers_pass():
    assert jax.eval_shape(lambda a: (spec.numbers(a=a, above=0), a)[1], 0.0).shape == ()
