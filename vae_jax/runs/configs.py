"""Configs: nested dicts, and the values at their dotted paths."""

from pathlib import Path

from vae_jax.spec import nearest


def value_at(config: dict, path: str):
    """The value of a dotted path. Raises `ValueError` that names the part which does not exist and the nearest."""
    for depth, name in enumerate(path.split(".")):
        if not isinstance(config, dict) or name not in config:
            where = ".".join(["config", *path.split(".")[:depth]])
            hint = nearest(name, config if isinstance(config, dict) else ())
            raise ValueError(f"{where}: unknown key {name!r}{hint}")
        config = config[name]
    return config


def as_in_config(config: dict, path: str, value):
    """Return `value` as a float where the config holds one at `path`. Raises `ValueError` for another kind of value."""
    there = value_at(config, path)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(there, float) and is_number and abs(value) < 1e300:
        return float(value)
    if isinstance(value, list):
        value = tuple(value)
    if type(there) is not type(value):
        raise ValueError(f"config.{path}: {there!r} is of type {type(there).__name__}, and {value!r} is not")
    return value


def with_values(config: dict, values: dict) -> dict:
    """`config` with `values` {dotted path: value} in their places; `config` itself stays as it is."""
    for path, value in values.items():
        name, _, rest = path.partition(".")
        config = {**config, name: with_values(config[name], {rest: value}) if rest else value}
    return config


def run_name(config_file) -> str:
    """configs/vae_digits.py:smoke -> vae_digits-smoke."""
    stem, _, argument = str(config_file).partition(":")
    return "-".join(filter(None, (Path(stem).stem, argument)))
