"""Configs by name, and the values at their dotted paths."""

import importlib
import pkgutil
from pathlib import Path

from ml_collections import ConfigDict

from vae_jax import configs
from vae_jax.spec import BadOption, nearest


def find(name: str) -> ConfigDict:
    """Return a config that comes with the library, such as "vae_digits" or, for a moment's run, "vae_digits:smoke".

    The text after ":" is the argument of the config's `get_config`. Raises `BadOption` with the nearest name.
    """
    module, _, argument = name.partition(":")
    if module not in names():
        raise BadOption(f"name: there is no config {module!r}{nearest(module, names())}")
    return importlib.import_module(f"vae_jax.configs.{module}").get_config(argument)


def names() -> list[str]:
    """Return the names of the configs that come with the library."""
    return [info.name for info in pkgutil.iter_modules(configs.__path__) if not info.name.startswith("_")]


def value_at(config: dict, path: str):
    """Return the value of a dotted path. Raises `ValueError` with the part that does not exist and the nearest name."""
    for depth, name in enumerate(path.split(".")):
        if not isinstance(config, dict) or name not in config:
            where = ".".join(["config", *path.split(".")[:depth]])
            hint = nearest(name, config if isinstance(config, dict) else ())
            raise ValueError(f"{where}: unknown key {name!r}{hint}")
        config = config[name]
    return config


def as_in_config(config: dict, path: str, value):
    """Return `value` in the type that the config has at `path`. Raises `ValueError` if it has another type."""
    present = value_at(config, path)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(present, float) and is_number and abs(value) < 1e300:
        return float(value)
    if isinstance(value, list):
        value = tuple(value)
    if type(present) is not type(value):
        raise ValueError(f"config.{path} must be of type {type(present).__name__}, as {present!r} is, got {value!r}")
    return value


def with_values(config: dict, values: dict) -> dict:
    """Return a copy of `config` with `values` {dotted path: value}."""
    for path, value in values.items():
        name, _, rest = path.partition(".")
        config = {**config, name: with_values(config[name], {rest: value}) if rest else value}
    return config


def with_changes(config: dict, changes: dict) -> dict:
    """Return a copy of `config` with `changes` {name: value}.

    A name is a dotted path, or the last part of one if no other path ends in it: "num_steps" is "train.num_steps".
    Raises `BadOption` for a name that no path or several paths have.
    """
    paths = list(_paths(config))
    for name, value in changes.items():
        found = [path for path in paths if path == name or path.endswith(f".{name}")]
        exact = [path for path in found if path == name]
        if len(exact or found) != 1:
            last = sorted({path.rpartition(".")[2] for path in paths})
            several = f": the config has several, {', '.join(found)}; give one of them"
            raise BadOption(f"{name}{several if found else ': the config has no such value' + nearest(name, last)}")
        config = with_values(config, {(exact or found)[0]: value})
    return config


def _paths(config, prefix=""):
    """Yield the dotted path of every value and every section."""
    for name, value in config.items():
        yield f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _paths(value, f"{prefix}{name}.")


def run_name(config_file) -> str:
    """Return the name of a run of a config file: configs/vae_digits.py:smoke gives vae_digits-smoke."""
    stem, _, argument = str(config_file).partition(":")
    return "-".join(filter(None, (Path(stem).stem, argument)))
