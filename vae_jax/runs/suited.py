"""A data set from what a user has in hand, and a config that suits it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from vae_jax import data as data_sets
from vae_jax import models
from vae_jax.data import sources, table
from vae_jax.data.values import NAMES, Dataset
from vae_jax.runs import configs
from vae_jax.runs.migrate import migrate
from vae_jax.spec import BadOption, call, nearest, shown

TABLES = (".csv", ".tsv", ".parquet", ".arrow", ".feather")
ARRAYS = (".npy", ".npz", ".h5", ".hdf5", ".zarr")
LARGEST_BATCH = 128


def dataset(data) -> Dataset:
    """Return the data set that `data` means.

    `data` is a `Dataset`, an array [N, ...] or a dict of arrays (the arguments of `data.from_arrays`), a data frame,
    the name of a data set, or the path of a folder of images, of a file of arrays, or of a table.
    """
    if isinstance(data, Dataset):
        return data
    if isinstance(data, Mapping):
        return call(data_sets.from_arrays, dict(data), where="data")
    if hasattr(data, "columns") and hasattr(data, "keys"):  # a data frame
        names = [str(name) for name in data.columns]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"data: the table has two columns named {twice[0]!r}; give every column a name of its own")
        return table.of_columns("table", {str(name): data[name].tolist() for name in data.columns})
    if not isinstance(data, str | Path):
        return data_sets.from_arrays(data)
    if isinstance(data, str) and data in NAMES:
        return sources.load(data)
    path = Path(data).expanduser()
    if not path.exists():
        hint = nearest(str(data), NAMES)
        raise FileNotFoundError(f"{data!r} is neither a file nor a folder, nor the name of a data set{hint}")
    suffix = path.suffix.lower()
    kind = "table" if suffix in TABLES else "arrays" if suffix in ARRAYS else "images" if path.is_dir() else None
    if kind is None:
        kinds = ", ".join(TABLES + ARRAYS)
        raise ValueError(f"{path}: files of the kind {suffix!r} are not read; give {kinds}, or a folder of images")
    return sources.load(kind, str(path))


def config(chosen, of: Dataset) -> dict:
    """Return a config for the data set `of`, a plain dict.

    Args:
      chosen: a config, which stays as it is; the name of one, which stays as it is except for the data set; or the name
        of a family, whose transform and likelihood are chosen for the data (`likelihood`).
      of: the data set.
    """
    if isinstance(chosen, ConfigDict | Mapping):
        result = migrate(chosen.to_dict() if isinstance(chosen, ConfigDict) else dict(chosen))
        return configs.with_values(result, {"data.name": of.name})
    names = configs.names()
    if isinstance(chosen, str) and chosen.partition(":")[0] in names:
        result = migrate(configs.find(chosen).to_dict())
    elif isinstance(chosen, str) and chosen in models.families():
        result = _of_family(chosen, of, names)
    else:
        allowed = [*names, *models.families()]
        raise BadOption(f"config: {shown(chosen)} is neither a config nor a family{nearest(str(chosen), allowed)}")
    return configs.with_values(result, {"data.name": of.name, "data.path": ""})


def _of_family(family, of, names):
    """Return the config of `family` for digits, or the first one of it, with the likelihood that suits the data."""
    first = f"{family}_digits"
    candidates = [first] if first in names else names
    found = next((c for c in (configs.find(name).to_dict() for name in candidates) if c["family"] == family), None)
    if found is None:
        raise BadOption(f"config: no config of the family {family!r} comes with the library; give a config")
    result = migrate(found)
    transform, head = likelihood(of)
    values = {"data.transform": transform, "data.batch_size": _batch_size(result, len(of.train.x))}
    if "likelihood" in result["model"]:
        values["model.likelihood"] = head
    return configs.with_values(result, values)


def likelihood(of: Dataset) -> tuple[str, dict]:
    """Return the transform and the likelihood that suit the values of a data set.

    a table                      columns, a product of heads
    text                         tokens, categorical
    pen drawings                 strokes, none: the family `strokes` has its own
    bits                         binarize, bernoulli
    integers                     levels, discretized_logistic
    real numbers                 real, normal
    """
    if of.columns is not None:
        return "columns", {"name": "columns"}
    if of.vocabulary is not None:
        return "tokens", {"name": "categorical", "num_levels": of.max_value + 1}
    if of.strokes:
        return "strokes", {}
    if np.issubdtype(of.train.x.dtype, np.floating):
        return "real", {"name": "normal"}
    if of.max_value == 1:
        return "binarize", {"name": "bernoulli"}
    return "levels", {"name": "discretized_logistic", "num_levels": of.max_value + 1}


def _batch_size(config, size):
    """Return the batch size of the config, smaller for a small data set; one that divides it for EM and counting."""
    size_wanted = min(config["data"]["batch_size"], LARGEST_BATCH, max(1, size // 4))
    if config["learner"]["name"] in ("em", "counting"):
        return next(b for b in range(size_wanted, 0, -1) if size % b == 0)
    return size_wanted
