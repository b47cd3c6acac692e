"""A config by its name, and the values at dotted paths."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

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


OWN = """
from ml_collections import ConfigDict
def get_config(arg="plain"):
    if arg == "broken":
        return {}["key"]
    return {"a": 1} if arg == "dict" else ConfigDict({"arg": arg, "a": {"b": 1.5}})
"""


def test_a_config_by_its_file_is_read_as_well(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    assert configs.get(f"{tmp_path}/own.py").arg == "plain" and configs.get(f"{tmp_path}/own.py:x").arg == "x"
    smoke = configs.find("vae_digits:smoke").to_dict()
    for name in ("vae_digits:smoke", "experiments/configs/vae_digits.py:smoke"):
        assert configs.get(name).to_dict() == smoke
    with pytest.raises(AttributeError, match="nope"):
        configs.get("vae_digits").nope = 1  # locked


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vae_digit", "--config: there is no config 'vae_digit'; did you mean 'vae_digits'? --list shows the names"),
        ("configs/vae_digit.py", "--config: there is no file configs/vae_digit.py; did you mean 'vae_digits'?"),
        ("", "--config: there is no config ''; --list shows the names"),
        ("vae_digits:smok", "'smok'; did you mean 'smoke'?"),
        ("own.py:dict", "--config: get_config() must return a ConfigDict, and returned a dict"),
        ("own.py:broken", "--config=own.py:broken: KeyError: 'key' (own.py, line 5)"),
    ],
)
def test_a_wrong_config_is_one_line(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    with pytest.raises(flags.Error) as refused:
        configs.Parser().parse(name)
    assert message in str(refused.value) and "\n" not in str(refused.value)


FLAGS = """
import sys
from absl import app
from vae_jax.runs import launching
config = launching.define_config()
app.run(lambda argv: print(config.value.model.latent_dim, launching.config_name(), "jax" in sys.modules),
        flags_parser=launching.parse_flags)
"""


def test_a_name_is_found_from_any_folder_and_its_keys_can_be_overridden(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", FLAGS, "--config", "vae_mnist:smoke", "--config.model.latent_dim=3"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout == "3 vae_mnist-smoke False\n", done.stderr


def test_values_at_paths():
    config = {"a": {"b": 1.0, "c": (1,)}, "d": True}
    assert configs.value_at(config, "a.b") == 1.0
    assert configs.with_values(config, {"a.b": 2.0, "d": False}) == {"a": {"b": 2.0, "c": (1,)}, "d": False}
    assert configs.as_in_config(config, "a.b", 3) == 3.0 and configs.as_in_config(config, "a.c", [2]) == (2,)
    with pytest.raises(ValueError, match=r"config.a: unknown key 'bb'; did you mean 'b'"):
        configs.value_at(config, "a.bb")
    with pytest.raises(ValueError, match=r"config.d must be of type bool, as True is, got 1"):
        configs.as_in_config(config, "d", 1)
