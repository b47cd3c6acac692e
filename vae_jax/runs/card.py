"""The README.md of an exported model, and the model card of a hub."""

import json
import math
from pathlib import Path

from vae_jax.files import read_json

LOADING = """import json
import jax
import jax.export
import numpy as np
from safetensors.numpy import load_file

weights = jax.device_put(load_file("weights.safetensors"))
about = json.load(open("manifest.json"))["programs"]
load = lambda name: jax.jit(jax.export.deserialize(bytearray(open(about[name]["file"], "rb").read())).call)
"""


def readme(config, manifest) -> str:
    """Return the README.md of an exported model: its programs, their inputs and outputs, and how they are called."""
    size = sum(math.prod(about["shape"]) for about in manifest["weights"].values())
    version = f" {manifest['vae_jax']}" if manifest["vae_jax"] else ""  # None: it runs from a checkout
    parts = [
        _title(config),
        f"A model of the family `{config['family']}`, trained by vae_jax{version} on the data set "
        f"`{_data(config)}`. It has {size:,} weights in {len(manifest['weights'])} arrays.",
        f"The programs run on {', '.join(manifest['platforms'])} and take a batch of any size. They need the packages "
        f"jax, numpy, safetensors and flatbuffers. They were made by jax {manifest['jax']} (calling convention "
        f"{manifest['calling_convention_version']}).",
        "## Load it",
        f"```python\n{LOADING}{_example(manifest['programs'])}```",
        "The other programs are called in the same way: the weights, then the inputs in the order of their table. A "
        "result is a dict of arrays. The first axis of every array is the batch.",
        "## Programs",
        *(_program(name, about) for name, about in manifest["programs"].items()),
        "## Files",
        "`manifest.json` has the names, shapes and types of all weights, inputs and outputs, and the SHA-256 of each "
        "file. `config.json` is the config of the run. `dataset.json` describes the data set: the shapes of its "
        "splits, its largest value, and the names of its classes, words or columns. Where vae_jax is installed, "
        "`vae_jax.load_exported(folder)` checks and loads everything.",
    ]
    return "\n\n".join(parts) + "\n"


def model_card(folder) -> str:
    """Return the README.md of a repository: that of the folder, or one of config and results, behind front matter."""
    folder = Path(folder)
    config, own = read_json(folder / "config.json"), folder / "README.md"
    text = own.read_text(encoding="utf-8") if own.is_file() else _of_run(folder, config)
    if text.startswith("---\n"):  # it has front matter
        return text
    tags = [json.dumps(str(tag)) for tag in ("jax", "vae_jax", config["family"])]  # JSON strings are YAML
    return "\n".join(["---", "library_name: vae_jax", "tags:", *(f"- {tag}" for tag in tags), "---", "", text])


def _of_run(folder, config):
    parts = [_title(config), f"A run of vae_jax: the family `{config['family']}` on the data set `{_data(config)}`."]
    if (folder / "results.json").is_file():
        results = read_json(folder / "results.json")
        rows = [f"| {name} | {_shown(value)} |" for name, value in results.items() if name.startswith("test/")]
        parts += ["## Results", "\n".join(["| | |", "|---|---|", *rows])]
    return "\n\n".join(parts) + "\n"


def _title(config):
    return f"# {config['family']} of {_data(config)}"


def _data(config):
    return config["data"]["name"]


def _shown(value):
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _program(name, about):
    rows = [(value["name"], value["shape"], value["dtype"], value["note"]) for value in about["inputs"]]
    rows += [(f"→ {key}", value["shape"], value["dtype"], "") for key, value in about["outputs"].items()]
    lines = [
        f"### {name}",
        "",
        f"{about['note'][0].upper()}{about['note'][1:]}.",
        "",
        "| | shape | type | |",
        "|---|---|---|---|",
    ]
    lines += [f"| {name} | [{', '.join(map(str, shape))}] | {dtype} | {note} |" for name, shape, dtype, note in rows]
    return "\n".join(lines)


def _example(programs):
    """Return the lines that call the first program with four examples."""
    name, about = next(iter(programs.items()))
    lines = [f"{v['name']} = np.zeros({(4, *v['shape'][1:])}, np.{v['dtype']})" for v in about["inputs"]]
    call = ", ".join(["weights", *(value["name"] for value in about["inputs"])])
    return "\n".join([*lines, f'print(load("{name}")({call})["{next(iter(about["outputs"]))}"])']) + "\n"
