"""Export of a trained model to one folder, which is used without this package: weights, programs, and what they are.

    weights.safetensors    the arrays of the parameters by name
    programs/NAME.bin      `runs.programs` as `jax.export` writes them, for all platforms and every size of a batch
    config.json            the config of the run
    dataset.json           everything of the data set except its examples (`data.description`)
    manifest.json          names, shapes and types of weights, inputs and outputs; versions; checksums of the files
    README.md              the same for readers, and how to load it

A program takes the weights as a dict of arrays, so that no weight is stored twice. `runs.exported` loads the folder.
"""

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from vae_jax.data.description import describe
from vae_jax.files import read_json, strict_json, write_bytes, write_text
from vae_jax.runs import card, programs, workdir
from vae_jax.runs.exported import FORMAT, MANIFEST, WEIGHTS, check, digest_of, load_exported, read_weights, required
from vae_jax.spec import BadOption, integers, nearest, shown

__all__ = ["PLATFORMS", "export", "load_exported", "load_params"]

PLATFORMS = ("cpu", "cuda", "tpu")
KNOWN = (*PLATFORMS, "rocm")


def export(experiment, params, folder, *, platforms=PLATFORMS, num_samples=64) -> Path:
    """Write the model of `experiment` with the parameters `params` to `folder`, and return the folder.

    An earlier export in the folder is replaced.

    Args:
      experiment: a `build.Experiment`.
      params: the trained parameters, arrays on any device.
      folder: a new or an empty folder, or one with an earlier export.
      platforms: where the programs run: "cpu", "cuda", "tpu", "rocm".
      num_samples: K of the program `log_prob`, if it is a bound.

    Raises `ValueError` for a folder with other files, for a family without anything to export, and if a package that
    writes the files is not installed.
    """
    _check_platforms(platforms)
    integers(num_samples=num_samples)
    safetensors = required("safetensors.numpy")
    required("flatbuffers")
    made = programs.programs(experiment, params, num_samples=num_samples)
    if not made:
        raise ValueError(
            f"the family {experiment.config['family']!r} has no codes, no samples and no log p(x): nothing can be "
            "exported"
        )
    folder = Path(folder).expanduser()
    earlier = _earlier(folder)
    weights, treedef = flat(params)
    shapes = {name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in weights.items()}
    contents, about = {WEIGHTS: safetensors.save(weights)}, {}
    for name, program in made.items():
        exported = _lowered(program, shapes, treedef, tuple(platforms))
        about[name] = _about(name, program, exported)
        contents[about[name]["file"]] = bytes(exported.serialize())
    config = experiment.config
    config = {**config, "data": {**config["data"], "path": ""}, "start_from": ""}  # nothing of this machine
    contents["config.json"] = strict_json(config).encode()
    contents["dataset.json"] = strict_json(describe(experiment.dataset)).encode()
    manifest = {
        "format": FORMAT,
        "vae_jax": workdir.environment()["vae_jax"],
        "jax": jax.__version__,
        "calling_convention_version": exported.calling_convention_version,
        "platforms": list(platforms),
        "weights": {name: {"shape": list(a.shape), "dtype": str(a.dtype)} for name, a in weights.items()},
        "programs": about,
        "files": {name: digest_of(content) for name, content in contents.items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / MANIFEST, strict_json(manifest).encode())  # the first: it says which files are not there yet
    (folder / "programs").mkdir(exist_ok=True)
    for name, content in contents.items():
        write_bytes(folder / name, content)
    for name in set(earlier) - set(contents):
        (folder / name).unlink(missing_ok=True)  # programs that the model no longer has
    write_text(folder / "README.md", card.readme(config, manifest))
    return folder


def flat(params):
    """Return {name: array} of a tree of parameters, and the structure of the tree. Names are paths, such as "a/b".

    Raises `ValueError` if two arrays have the same name.
    """
    leaves, treedef = jax.tree_util.tree_flatten_with_path(params)
    named = {_name(path): np.array(jax.device_get(jnp.asarray(leaf))) for path, leaf in leaves}
    if len(named) < len(leaves):
        raise ValueError("two arrays of the parameters have the same name, since a key contains '/'; rename it")
    return named, treedef


def load_params(experiment, folder):
    """Return the parameters of an exported model as the tree of its family, for an `experiment` of the same config.

    Raises `ValueError` that names the file if it is damaged, or if its arrays are not those of the model.
    """
    check(folder)
    weights = read_weights(folder)
    shapes = jax.eval_shape(experiment.model.init, jax.random.key(0), experiment.batch_shapes())
    leaves, treedef = jax.tree_util.tree_flatten_with_path(shapes)
    expected = {_name(path): leaf.shape for path, leaf in leaves}
    if expected != {name: a.shape for name, a in weights.items()}:
        raise ValueError(f"{Path(folder) / WEIGHTS} has other arrays than this model; build it from its config.json")
    return treedef.unflatten([weights[name] for name in expected])


def _name(path):
    return jax.tree_util.keystr(path, simple=True, separator="/") or "params"  # one array without a name


def _check_platforms(platforms):
    if isinstance(platforms, str) or not isinstance(platforms, Sequence) or not platforms:
        raise BadOption(f"platforms must be a tuple of names, such as ('cpu',), got {shown(platforms)}")
    for name in platforms:
        if name not in KNOWN:
            raise BadOption(f"platforms: unknown value {shown(name)}{nearest(str(name), KNOWN)}")


def _earlier(folder) -> list:
    """Return the programs of an earlier export in `folder`, [] for a new or an empty one.

    Raises `ValueError` for a folder with other files, and for one that cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give a new or an empty folder")
    workdir.check_writable(folder, flag="the folder of the export")
    if not folder.exists() or not any(folder.iterdir()):
        return []
    try:
        manifest = read_json(folder / MANIFEST)
        if {"format", "weights", "programs"} <= manifest.keys():
            return [name for name in manifest["files"] if re.fullmatch(r"programs/\w+\.bin", name)]
    except (ValueError, TypeError, KeyError, AttributeError):  # of another program, or damaged
        pass
    raise ValueError(f"{folder} holds files that are no exported model; give a new or an empty folder")


def _lowered(program, shapes, treedef, platforms):
    """Return the `jax.export.Exported` of a program, (weights, *inputs) -> {name: array}, for any size of a batch."""
    (batch,) = jax.export.symbolic_shape("batch")
    inputs = [jax.ShapeDtypeStruct((batch, *value.shape), value.dtype) for value in program.inputs]

    def run(weights, *inputs):
        params = treedef.unflatten([weights[name] for name in shapes])
        return jax.vmap(program.call, in_axes=(None, *(0 for _ in inputs)))(params, *inputs)

    # The check of keys takes two keys of a batch of symbolic size for one.
    with jax.debug_key_reuse(False), _without_paths():
        return jax.export.export(jax.jit(run), platforms=platforms)(shapes, *inputs)


@contextlib.contextmanager
def _without_paths():
    """Leave the source lines of this machine out of the programs that are lowered in the block."""
    name = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, name)
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)


def _about(name, program, exported):
    """Return what manifest.json says of a program."""
    outputs = exported.out_tree.unflatten(exported.out_avals)
    of_batch = lambda shape, dtype: {"shape": ["batch", *shape], "dtype": str(np.dtype(dtype))}  # noqa: E731
    return {
        "file": f"programs/{name}.bin",
        "note": program.note,
        "inputs": [{"name": v.name, **of_batch(v.shape, v.dtype), "note": v.note} for v in program.inputs],
        "outputs": {key: of_batch(a.shape[1:], a.dtype) for key, a in outputs.items()},
    }
