"""Configs by name, and the values at their dotted paths."""

import difflib
import importlib.machinery
import pkgutil
import traceback
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from vae_jax import configs
from vae_jax.errors import BadOption, first_line, nearest


def names() -> list[str]:
    """Return the names of the configs that come with the library."""
    return sorted(info.name for info in pkgutil.iter_modules(configs.__path__) if not info.name.startswith("_"))


def find(name: str) -> ConfigDict:
    """Return a config that comes with the library, such as "vae_digits" or, for a moment's run, "vae_digits:smoke".

    The text after ":" is the argument of the config's `get_config`. Raises `BadOption` with the nearest name.
    """
    module, _, argument = name.partition(":")
    if module not in names():
        raise BadOption(f"name: there is no config {module!r}{nearest(module, names())}")
    return importlib.import_module(f"vae_jax.configs.{module}").get_config(argument)


def file_of(name: str) -> Path:
    """Return the source of a config, given by its name or its file and perhaps an argument after ":".

    Raises `ValueError` with the nearest name if there is none.
    """
    stem = name.partition(":")[0]
    if "/" in stem or stem.endswith(".py"):
        path, missing = Path(stem).expanduser(), f"there is no file {stem}"
    else:
        path = Path(configs.__path__[0]) / f"{stem}.py" if stem in names() else Path()
        missing = f"there is no config {stem!r}"
    if not path.is_file():
        close = difflib.get_close_matches(Path(stem).stem, names(), n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]!r}?" if close else ";"
        raise ValueError(f"--config: {missing}{hint} --list shows the names, and a file is given by its path")
    return path


def get(name: str) -> ConfigDict:
    """Return a config by its name or its file, either with ":ARGUMENT". Its keys are locked.

    Raises `ValueError` for one that does not exist or is no `ConfigDict`, and the errors of its `get_config`.
    """
    file, (stem, colon, argument) = file_of(name), name.partition(":")
    if stem in names():
        config = find(name)
    else:
        module = importlib.machinery.SourceFileLoader(file.stem, str(file)).load_module()
        config = module.get_config(*[argument] * bool(colon))
    if not isinstance(config, ConfigDict):
        raise ValueError(f"--config: get_config() must return a ConfigDict, and returned a {type(config).__name__}")
    return config.lock()


class Parser(flags.ArgumentParser):
    """The parser of the flag --config, for which `get` finds the config."""

    def parse(self, name):
        """Return the config. Raises `flags.Error`, one line, for one that does not exist or fails."""
        try:
            return get(name)
        except ValueError as error:
            raise flags.Error(str(error)) from error
        except Exception as error:  # of the source of a config
            place = traceback.extract_tb(error.__traceback__)[-1]
            raise flags.Error(
                f"--config={name}: {first_line(error)} ({place.filename}, line {place.lineno})"
            ) from error


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
