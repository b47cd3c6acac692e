"""The README.md of an exported model, and the model card of a hub."""

import json

LOADING = '''import json
import jax
import jax.export
import numpy as np
from safetensors.flax import load_file

weights = load_file("weights.safetensors")
about = json.load(open("manifest.json"))["programs"]
load = lambda name: jax.jit(jax.export.deserialize(bytearray(open(about[name]["file"], "rb").read())).call)
'''


def readme(config, manifest) -> str:
    """Return the README.md of an exported model: its programs, their inputs and outputs, and how they are called."""
    model, data = config["family"], config["data"]
    size = sum(_size(about) for about in manifest["weights"].values())
    platforms = ", ".join(manifest["platforms"])
    parts = [
        f"# {model} of {data['name']}",
        f"A model of the family `{model}`, trained by vae_jax {manifest['vae_jax']} on the data set "
        f"`{data['name']}`, with {size:,} weights in {len(manifest['weights'])} arrays. The programs were made by jax "
        f"{manifest['jax']} (calling convention {manifest['calling_convention_version']}) for {platforms}, and take a "
        "batch of any size. They need jax, numpy and safetensors, and the package flatbuffers to be read.",
        "## Load it",
        f"```python\n{LOADING}{_example(manifest['programs'])}```",
        "The other programs are called in the same way. The result is a dict of arrays whose first axis is the batch.",
        "## Programs",
        *(_program(name, about) for name, about in manifest["programs"].items()),
        "## Files",
        "`manifest.json` has the names, shapes and types of all weights, inputs and outputs, and the SHA-256 of each "
        "file. `config.json` is the config of the run. `dataset.json` describes the data set: the shapes of its splits, "
        "its largest value, and the names of classes, words or columns. With vae_jax, `load_exported(folder)` of "
        "`vae_jax.runs.exported` loads everything.",
    ]
    return "\n\n".join(parts) + "\n"


def _program(name, about):
    rows = [(value["name"], value["shape"], value["dtype"], value["note"]) for value in about["inputs"]]
    rows += [(f"→ {key}", value["shape"], value["dtype"], "") for key, value in about["outputs"].items()]
    lines = [f"### {name}", "", f"{about['note']}.", "", "| | shape | type | |", "|---|---|---|---|"]
    lines += [f"| {name} | [{', '.join(map(str, shape))}] | {dtype} | {note} |" for name, shape, dtype, note in rows]
    return "\n".join(lines)


def _example(programs):
    """Return the lines that call the first program."""
    name = next(iter(programs))
    inputs = programs[name]["inputs"]
    lines = [
        f"{value['name']} = np.zeros(({', '.join(map(str, [4, *value['shape'][1:]]))},), np.{value['dtype']})"
        for value in inputs
    ]
    output = next(iter(programs[name]["outputs"]))
    call = ", ".join(["weights", *(value["name"] for value in inputs)])
    return "\n".join([*lines, f'print(load("{name}")({call})["{output}"])']) + "\n"


def _size(about):
    size = 1
    for length in about["shape"]:
        size *= length
    return size
