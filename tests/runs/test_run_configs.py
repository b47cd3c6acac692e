"""A config by its name, and the values at dotted paths."""

import pytest

from vae_jax.configs import autoencoder_digits
from vae_jax.runs import configs
from vae_jax.spec import BadOption


def test_a_config_is_found_by_name_and_argument():
    assert configs.find("vae_digits").train.num_steps == 10_000
    assert configs.find("autoencoder_digits:sparse,smoke") == autoencoder_digits.get_config("sparse,smoke")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vae_digit", "name: there is no config 'vae_digit'; did you mean 'vae_digits'"),
        ("../vae_digits", "name: there is no config '../vae_digits'; did you mean 'vae_digits'"),
        ("", "name: there is no config ''"),
        ("vae_digits:smok", "'smok'; did you mean 'smoke'"),
    ],
)
def test_another_name_is_refused_with_the_nearest(name, message):
    with pytest.raises(ValueError, match=message) as refused:
        configs.find(name)
    assert isinstance(refused.value, BadOption) or "smok" in name


def test_values_at_paths():
    config = {"a": {"b": 1.0, "c": (1,)}, "d": True}
    assert configs.value_at(config, "a.b") == 1.0
    assert configs.with_values(config, {"a.b": 2.0, "d": False}) == {"a": {"b": 2.0, "c": (1,)}, "d": False}
    assert configs.as_in_config(config, "a.b", 3) == 3.0 and configs.as_in_config(config, "a.c", [2]) == (2,)
    with pytest.raises(ValueError, match=r"config.a: unknown key 'bb'; did you mean 'b'"):
        configs.value_at(config, "a.bb")
    with pytest.raises(ValueError, match=r"config.d must be of type bool, as True is, got 1"):
        configs.as_in_config(config, "d", 1)
