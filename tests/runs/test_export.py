"""An exported model: the same bits without the package, for every platform and batch; damage is one line."""

import functools
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.runs import build, export
from vae_jax.runs.exported import check, digest_of, load_exported
from vae_jax.tasks import decode

ALL = ("cpu", "cuda", "tpu")
DENSE = {"name": "mlp", "hidden": (8,), "activation": "relu"}
CONV = {"channels": (4,), "hidden": (), "activation": "relu"}
LOGISTICS = {"name": "discretized_logistic_mixture", "num_levels": 17, "num_components": 2}
HIERARCHY = {
    "levels": {
        "z1": {"latent_dim": 3, "encoder": DENSE, "decoder": DENSE},
        "z2": {"latent_dim": 2, "encoder": DENSE, "decoder": DENSE},
    },
    **{"inference": "top_down", "skip": False, "posterior": {"name": "normal"}, "conditional": {"name": "normal"}},
    **{"likelihood": {"name": "bernoulli"}, "objective": {"name": "elbo_sampled_kl"}},
}
KINDS = {  # of model: the config, and what is changed in it
    "dense": ("vae_digits", {}),
    "conv": (
        "vae_digits",
        {
            "model.encoder": {"name": "conv_encoder", **CONV},
            "model.decoder": {"name": "conv_decoder", **CONV},
            "model.likelihood": LOGISTICS,
            "data.transform": "levels",
        },
    ),
    "conditional": ("vae_digits", {"data.context": {"name": "label"}}),
    "hierarchy": ("vae_digits", {"family": "hierarchical_vae", "model": HIERARCHY}),
    "text": ("text_vae_text", {}),
    "autoencoder": ("autoencoder_digits", {}),
    "pixel_cnn": ("pixel_cnn_digits", {}),
    "mixture": ("bernoulli_mixture_digits", {}),
}
SAMPLES = 3  # K of a bound
ELSEWHERE = """
import os, re, sys
from pathlib import Path
sys.modules["vae_jax"] = None
import numpy as np
folders, inputs, out = sys.argv[1:]
values, results = dict(np.load(inputs)), {}
for folder in sorted(Path(folders).iterdir()):
    os.chdir(folder)
    names = {}
    exec(re.search("```python\\n(.*?)```", Path("README.md").read_text(), re.DOTALL)[1], names)
    for name, about in names["about"].items():
        arrays = [values.get(f"{folder.name}/{name}/{value['name']}") for value in about["inputs"]]
        if all(array is not None for array in arrays):
            for key, array in names["load"](name)(names["weights"], *arrays).items():
                results[f"{folder.name}/{name}/{key}"] = array
np.savez(out, **results)
assert not {"flax", "optax", "ml_collections"} & set(sys.modules)
"""


@functools.cache
def experiment_of(kind):
    """The experiment of a kind of model, and its parameters before training."""
    name, changes = KINDS[kind]
    config = importlib.import_module(f"vae_jax.configs.{name}").get_config("smoke").to_dict()
    for path, value in changes.items():
        *parents, key = path.split(".")
        functools.reduce(dict.__getitem__, parents, config)[key] = value
    experiment = build.build(config)
    batch = jax.tree.map(lambda a: jnp.asarray(a[: experiment.stream.batch_size]), experiment.split("train"))
    return experiment, experiment.model.init(jax.random.key(1), batch)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of the exports of all kinds."""
    root = tmp_path_factory.mktemp("models")
    for kind in KINDS:
        export.export(*experiment_of(kind), root / kind, num_samples=SAMPLES)
    return root


@pytest.fixture
def dense(folders, tmp_path):
    """A copy of one export, to be damaged."""
    return shutil.copytree(folders / "dense", tmp_path / "model")


def inputs_of(kind, program):
    """The inputs of a program by name: five of each."""
    experiment, _ = experiment_of(kind)
    rng = np.random.default_rng(0)
    values = {"x": experiment.dataset.test.x[:5], "seed": np.arange(7, 12, dtype=np.uint32)}
    if experiment.context:
        values["context"] = np.arange(5, dtype=np.int32)
    made = {}
    for value in program["inputs"]:
        shape = (5, *value["shape"][1:])
        made[value["name"]] = values.get(value["name"], rng.normal(size=shape).astype(np.float32))
    return made


@functools.cache
def original(kind):
    """The functions of the model itself, {program: {output: (params, *inputs of one example) -> array}}."""
    experiment, _ = experiment_of(kind)
    model, dtype = experiment.model, experiment.dataset.test.x.dtype
    latent, is_text = model.latent, kind == "text"
    scale = 1 if experiment.config["data"]["transform"] in ("levels", "tokens") else experiment.dataset.max_value

    def posterior(params, x, *context):
        return latent.posterior(params, x if is_text else x.astype(jnp.float32) / scale, *context)

    def likelihood(params, *values):
        context = values[1:] if kind == "conditional" else ()
        return latent.likelihood(params, values if kind == "hierarchy" else values[0], *context)

    def sample(params, seed, *context):
        return (model.sample(params, jax.random.key(seed), *context) * scale).astype(dtype)

    def prior(params, seed, *context):
        return latent.prior(params, *context).sample(jax.random.key(seed))

    def deviation(q, level):
        return jnp.exp((q.parts(q.mean())[level] if kind == "hierarchy" else q).log_scale)

    made = {"sampler": {"x": sample}} if kind in ("dense", "pixel_cnn", "mixture") else {}
    if not latent:
        return made
    levels = {"_z1": 0, "_z2": 1} if kind == "hierarchy" else {"": None}
    made["encoder"] = {
        f"mean{name}": lambda *inputs, level=level: jax.tree.leaves(posterior(*inputs).mean())[level or 0]
        for name, level in levels.items()
    }
    if is_text:
        return made | {"decoder": {"x": lambda *inputs: decode.greedy(likelihood(*inputs))}}
    made["decoder"] = {"mean": lambda *inputs: likelihood(*inputs).mean() * scale}
    if latent.prior:
        made["encoder"] |= {
            f"scale{name}": lambda *inputs, level=level: deviation(posterior(*inputs), level)
            for name, level in levels.items()
        }
    return made | ({"prior": {"z": prior}} if kind == "dense" else {})


@pytest.fixture(scope="module")
def elsewhere(folders, tmp_path_factory):
    """What the loading code of README.md computes in a process that cannot import the package."""
    work = tmp_path_factory.mktemp("elsewhere")
    arrays = {
        f"{kind}/{name}/{key}": array
        for kind in KINDS
        for name in original(kind)
        for key, array in inputs_of(kind, check(folders / kind)["programs"][name]).items()
    }
    np.savez(work / "inputs.npz", **arrays)
    (work / "load.py").write_text(ELSEWHERE)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["XLA_FLAGS"] = os.environ["VAE_JAX_TESTS_XLA_FLAGS"]
    command = [sys.executable, work / "load.py", folders, work / "inputs.npz", work / "out.npz"]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(np.load(work / "out.npz"))


@pytest.mark.parametrize("kind", KINDS)
def test_without_the_package_the_bits_are_the_same(kind, folders, elsewhere):
    _, params = experiment_of(kind)
    programs = check(folders / kind)["programs"]
    for name, functions in original(kind).items():
        arrays = inputs_of(kind, programs[name]).values()
        together = lambda *inputs, functions=functions: {key: f(*inputs) for key, f in functions.items()}  # noqa: E731
        expected = jax.jit(jax.vmap(together, in_axes=(None, *(0 for _ in arrays))))(params, *arrays)
        for key, array in expected.items():
            result = elsewhere[f"{kind}/{name}/{key}"]
            assert result.dtype == array.dtype and np.isfinite(result).all()
            np.testing.assert_array_equal(result, array, err_msg=f"{name}: {key}")
