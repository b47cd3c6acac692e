"""A model that was exported, loaded without its family, its data or its config: only jax, numpy and safetensors.

The folder is written by `runs.export`. Nothing in it is unpickled, and every file must have the checksum that
manifest.json says.
"""

import hashlib
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.export
import numpy as np

from vae_jax.spec import first_line

FORMAT = 1  # of the folder; a later one may have other files
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
EXTRA = "pip install 'vae_jax[export]'"


class Exported(NamedTuple):
    """The programs of an exported model: `(*inputs) -> {name: array}`, for batches of any size. None: it has none."""

    encoder: Callable | None
    decoder: Callable | None
    prior: Callable | None
    sampler: Callable | None
    log_prob: Callable | None
    weights: dict  # {name: array}
    config: dict
    dataset: dict  # `data.description`
    manifest: dict  # the names, shapes and types of weights, inputs and outputs


def load_exported(folder) -> Exported:
    """Load the model in `folder`, which `export` has written.

    The inputs of a program are arrays whose first axis is the batch. They are converted to the type that manifest.json
    names, unless this changes a value. Raises `ValueError` that names the file if one is missing or damaged, and if the
    programs are not for the devices of this process.
    """
    folder = Path(folder).expanduser()
    manifest = check(folder)
    platform = jax.export.default_export_platform()
    if platform not in manifest["platforms"]:
        names = ", ".join(manifest["platforms"])
        raise ValueError(f"{folder} was exported for {names}, and this process computes on {platform}; export it again")
    weights = read_weights(folder)
    programs = {name: _program(folder, about, weights) for name, about in manifest["programs"].items()}
    programs = {name: programs.get(name) for name in ("encoder", "decoder", "prior", "sampler", "log_prob")}
    config, dataset = (_json(folder / name) for name in ("config.json", "dataset.json"))
    return Exported(**programs, weights=weights, config=config, dataset=dataset, manifest=manifest)


def check(folder) -> dict:
    """Return the manifest of an exported model. Raises `ValueError` that names the first missing or damaged file."""
    folder = Path(folder).expanduser()
    manifest = _json(folder / MANIFEST)
    try:
        version, files = manifest["format"], dict(manifest["files"])
        complete = {"weights", "programs", "platforms"} <= manifest.keys() and list(manifest["platforms"])
        complete = complete and all(about["file"] in files for about in manifest["programs"].values())
    except (TypeError, KeyError, ValueError, AttributeError):
        version, files, complete = FORMAT, {}, False
    if version != FORMAT:
        raise ValueError(f"{folder / MANIFEST} has the format {version!r}, and this version of vae_jax reads {FORMAT}")
    if not complete:
        raise ValueError(
            f"{folder / MANIFEST} is not the manifest of an exported model; export it again, into a new folder"
        )
    for name, digest in files.items():
        if digest_of(_bytes(folder / name)) != digest:
            raise ValueError(f"{folder / name} is damaged: its checksum is not that of {MANIFEST}; export it again")
    return manifest


def read_weights(folder) -> dict:
    """Return {name: array} of an exported model."""
    file = Path(folder).expanduser() / WEIGHTS
    load = required("safetensors.numpy").load_file  # that of safetensors.flax imports Flax
    try:
        return jax.device_put(load(file))
    except Exception as error:  # SafetensorError is no public name
        raise ValueError(f"{file} cannot be read ({first_line(error)}); export it again") from error


def required(name):
    """Import a module that reads or writes exports. Raises `ValueError` that says how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"an exported model needs {name.partition('.')[0]!r}: {EXTRA}") from error


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _program(folder, about, weights):
    """Return the function `(*inputs) -> {name: array}` of a program that manifest.json describes."""
    required("flatbuffers")
    file = folder / about["file"]
    try:
        program = jax.export.deserialize(bytearray(_bytes(file)))
    except Exception as error:  # whatever a reader of another version meets
        oldest, newest = (
            jax.export.minimum_supported_calling_convention_version,
            jax.export.maximum_supported_calling_convention_version,
        )
        raise ValueError(
            f"{file} cannot be read by jax {jax.__version__} ({type(error).__name__}), which takes calling conventions "
            f"{oldest} to {newest}; use the jax of {MANIFEST}, or export it again"
        ) from error
    call, inputs = jax.jit(program.call), about["inputs"]

    def run(*values):
        if len(values) != len(inputs):
            names = ", ".join(value["name"] for value in inputs)
            raise ValueError(f"{file.stem}: takes {names}, got {len(values)} arrays")
        return call(weights, *(_converted(file.stem, *pair) for pair in zip(inputs, values, strict=True)))

    return run


def _converted(program, about, value):
    """Return an input in the type of the program. Raises `ValueError` if this changes it, and for a wrong shape."""
    value, (_, *shape) = value if isinstance(value, jax.Array) else np.asarray(value), about["shape"]
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        raise ValueError(f"{program}: {about['name']} must be plain numbers; give jax.random.key_data(key)")
    if value.ndim == 0 or list(value.shape[1:]) != shape:
        raise ValueError(f"{program}: {about['name']} must have the shape {['batch', *shape]}, got {list(value.shape)}")
    if not len(value):
        raise ValueError(f"{program}: {about['name']} has no rows; give a batch of at least one")
    with np.errstate(invalid="ignore"):
        converted = value.astype(about["dtype"])
    floats = all(np.issubdtype(a.dtype, np.floating) for a in (value, converted))
    if not floats and np.any(converted != value):
        raise ValueError(f"{program}: {about['name']} must be {about['dtype']}, got other values, of {value.dtype}")
    return converted


def _bytes(file):
    if not file.is_file():
        raise ValueError(f"{file} is missing: this is no whole exported model; export it again")
    return file.read_bytes()


def _json(file):
    try:
        return json.loads(_bytes(file))
    except (ValueError, RecursionError) as error:
        if not file.is_file():
            raise
        raise ValueError(f"{file} is damaged: it is no JSON ({error}); export it again") from error
