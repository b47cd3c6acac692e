"""A config of an earlier version is brought up to date wherever it enters."""

import json
import subprocess
import sys

import pytest

from vae_jax.configs import vae_digits
from vae_jax.runs import build, workdir
from vae_jax.runs.migrate import ADDED, migrate, migrate_flag

CONFIG = vae_digits.get_config("smoke").to_dict()


def old(context=False):
    """Return a config as version 0.1.0 wrote it."""
    config = {name: value for name, value in CONFIG.items() if name not in ("start_from", "learner", "mesh")}
    for section in ("data", "train"):
        config[section] = {name: value for name, value in config[section].items() if name not in ADDED[section]}
    config["data"]["context"], config["train"]["tensorboard"] = context, False
    return config


def test_an_old_config_builds_what_the_new_one_does():
    experiment = build.build(old())
    there = json.loads(json.dumps(build.build(CONFIG).config))
    assert not list(workdir.config_differences(json.loads(json.dumps(experiment.config)), there))


@pytest.mark.parametrize(("context", "name"), [(True, "label"), (False, "none")])
def test_a_context_was_a_bool(context, name):
    config = old(context)
    assert migrate(config)["data"]["context"] == {"name": name}
    assert migrate(migrate(config)) == migrate(config) and config["data"]["context"] is context
    assert (build.build(config).context is not None) is context


@pytest.mark.parametrize(("switch", "names"), [(True, ("tensorboard",)), (False, ())])
def test_tensorboard_was_a_switch(switch, names):
    config = old()
    config["train"]["tensorboard"] = switch
    assert migrate(config)["train"]["writers"] == names and "tensorboard" not in migrate(config)["train"]
    assert config["train"]["tensorboard"] is switch  # the argument is left as it is
    (flag,) = {migrate_flag(f"--config.train.tensorboard={value}") for value in (switch, str(switch).lower())}
    assert flag == f"--config.train.writers={names[0] if names else '()'}"


def test_several_writers_are_one_flag():
    config = CONFIG | {"train": CONFIG["train"] | {"writers": ("tensorboard,wandb", "mlflow")}}
    assert migrate(config)["train"]["writers"] == ("tensorboard", "wandb", "mlflow")
    assert migrate(config | {"train": config["train"] | {"writers": [3]}})["train"]["writers"] == [3]  # refused later


def test_an_old_workdir_is_the_folder_of_the_same_run(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(old()))
    assert workdir.read_config(tmp_path)["data"]["context"] == {"name": "none"}
    workdir.open_workdir(tmp_path, CONFIG)
    assert workdir.origin_difference({"config": old(), "data": "a"}, {"config": CONFIG, "data": "a"}) == ""
    changed = CONFIG | {"data": CONFIG["data"] | {"context": {"name": "label"}}}
    with pytest.raises(ValueError, match=r"data.context.name: there 'none', now 'label'"):
        workdir.open_workdir(tmp_path, changed)


@pytest.mark.parametrize("value", [None, 3, "a", [], {}, {"data": 3, "train": None, "mesh": []}])
def test_what_is_no_config_is_left_to_the_check(value):
    with pytest.raises(ValueError, match="config"):
        build.build(value)


def test_an_old_flag_is_read(tmp_path):
    assert migrate_flag("--config.data.context=False") == "--config.data.context.name=none"
    assert migrate_flag("--config.data.path=True") == "--config.data.path=True"
    assert migrate_flag("--config.train.tensorboard") == "--config.train.writers=tensorboard"
    code = """
from absl import app, flags
from ml_collections import config_flags
from vae_jax.runs import launching
config = config_flags.DEFINE_config_file("config")
show = lambda argv: print(config.value.data.context.name, config.value.train.writers)
app.run(show, flags_parser=launching.parse_flags)
"""
    file = "--config=experiments/configs/vae_digits.py"
    command = [sys.executable, "-c", code, file, "--config.data.context=True", "--config.train.tensorboard=True"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "label ('tensorboard',)\n"
