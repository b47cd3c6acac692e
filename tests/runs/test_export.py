"""An exported model: the same bits without the package, for every platform and batch; damage is one line."""

import dataclasses
import functools
import json
import os
import pickle
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
import scipy.stats

from vae_jax.core import Model
from vae_jax.data.description import describe, stand_in
from vae_jax.runs import build, configs, export, programs
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
    """The experiment of a kind of model, and parameters of its shapes."""
    name, changes = KINDS[kind]
    config = configs.find(f"{name}:smoke").to_dict()
    for path, value in changes.items():
        *parents, key = path.split(".")
        functools.reduce(dict.__getitem__, parents, config)[key] = value
    experiment, rng = build.build(config), np.random.default_rng(1)
    shapes = jax.eval_shape(experiment.model.init, jax.random.key(0), experiment.batch_shapes())
    return experiment, jax.tree.map(lambda a: jnp.asarray(0.3 * rng.normal(size=a.shape), a.dtype), shapes)


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


# ----------------------------------------------------------------------------------------------------------- programs


@pytest.mark.parametrize("kind", KINDS)
def test_programs_are_for_every_platform_and_hold_no_weights(kind, folders):
    manifest = check(folders / kind)
    size = sum(np.prod(about["shape"]) for about in manifest["weights"].values())
    for name, about in manifest["programs"].items():
        program = jax.export.deserialize(bytearray((folders / kind / about["file"]).read_bytes()))
        assert program.platforms == ALL
        text = program.mlir_module()
        assert not re.search(r"[<x](f64|c128)>|callback", text), "accelerators have neither"
        assert '"_platform_index"' in text, "one program chooses among the platforms"
        assert ".py" not in text, "no path of this machine"
        assert not re.search(r"0x[0-9A-F]{400}", text), f"{name} holds constants, of {size} weights"
    if kind == "conv":  # products of patches on CPU, native convolutions elsewhere
        assert "stablehlo.convolution" in text and "stablehlo.dot_general" in text


def test_a_batch_may_have_any_size(folders):
    model = load_exported(folders / "dense")
    x = experiment_of("dense")[0].dataset.test.x[:6]
    whole = model.encoder(x)["mean"]
    for size in (1, 2, 5):
        np.testing.assert_allclose(model.encoder(x[:size])["mean"], whole[:size], atol=1e-6)


def test_the_weights_decide_the_result(folders):
    model = load_exported(folders / "dense")
    program = jax.export.deserialize(bytearray((folders / "dense" / "programs" / "decoder.bin").read_bytes()))
    zeros = jax.tree.map(jnp.zeros_like, model.weights)
    z = np.ones((2, 8), np.float32)
    assert np.all(np.asarray(program.call(zeros, z)["mean"]) == 8.0)  # a fair coin, of the grey levels 0 to 16
    assert np.std(model.decoder(z)["mean"]) > 0.1


def test_log_prob_is_the_density_of_the_stored_levels():
    """Of a linear-Gaussian model: p(x) is Gaussian, and with the exact posterior every importance weight is p(x)."""
    config = configs.find("factor_analysis_digits:smoke").to_dict()
    experiment, levels = build.build(config), 17
    params = experiment.model.init(jax.random.key(0), {"x": jnp.asarray(experiment.split("train")["x"][:50])})
    image, seeds = experiment.dataset.test.x[3], jnp.arange(64, dtype=jnp.uint32)
    bound = experiment._replace(model=experiment.model._replace(log_prob=None))
    values = []
    for each in (experiment, bound):
        call = programs.programs(each, params, num_samples=2)["log_prob"].call
        values.append(jax.jit(jax.vmap(lambda seed, call=call: call(params, image, seed)["log_prob"]))(seeds))
    np.testing.assert_allclose(*values, rtol=1e-3)
    noise = np.random.default_rng(0).random((2000, image.size))
    loc, factor, log_scale = (np.asarray(params[name], np.float64) for name in ("loc", "factor", "log_scale"))
    density = scipy.stats.multivariate_normal(loc, factor @ factor.T + np.diag(np.exp(2 * log_scale)))
    expected = density.logpdf((image.ravel() + noise) / levels) - image.size * np.log(levels)
    error = np.hypot(np.std(values[0]) / 8, np.std(expected) / np.sqrt(2000))
    assert abs(np.mean(values[0]) - expected.mean()) < 5 * error


def test_a_table_has_its_units():
    pytest.importorskip("vae_jax.data.columns", reason="tables are not there yet")
    experiment = build.build(configs.find("vae_table:smoke").to_dict())
    dataset = experiment.dataset
    plain = dataclasses.replace(dataset.columns, mean=(0.0,) * 30, scale=(1.0,) * 30)
    standardized = experiment._replace(dataset=dataset._replace(columns=plain))
    params = jax.jit(experiment.model.init)(jax.random.key(0), {"x": jnp.asarray(dataset.train.x[:8])})
    rows = np.where(np.arange(4)[:, None] == 0, np.nan, dataset.test.x[:4])  # and one without a value
    scale, mean = (np.asarray(numbers, np.float32) for numbers in (dataset.columns.scale, dataset.columns.mean))
    z, seeds = jnp.ones((4, 8)), jnp.arange(4, dtype=jnp.uint32)

    @jax.jit
    def results(rows, units):
        made = []
        for each, x in ((experiment, units), (standardized, rows)):
            of = programs.programs(each, params, num_samples=2)
            calls = (("encoder", (x,)), ("decoder", (z,)), ("sampler", (seeds,)), ("log_prob", (x, seeds)))
            made.append([jax.vmap(functools.partial(of[name].call, params))(*inputs) for name, inputs in calls])
        return made

    units, model = jax.tree.map(np.asarray, results(rows, rows * scale + mean))
    np.testing.assert_allclose(units[0]["mean"], model[0]["mean"], atol=1e-4)
    np.testing.assert_allclose(units[1]["mean"], model[1]["mean"] * scale + mean, rtol=1e-4)
    np.testing.assert_allclose(units[2]["x"], model[2]["x"] * scale + mean, rtol=1e-4)
    volume = dataset.columns.log_volume(rows)
    np.testing.assert_allclose(units[3]["log_prob"], model[3]["log_prob"] - volume, rtol=1e-4, atol=1e-3)
    assert volume[0] == units[3]["log_prob"][0] == 0.0


# ------------------------------------------------------------------------------------------------------------- weights


def toy(experiment, **fields):
    """The experiment with a model whose fields are only these."""
    return experiment._replace(model=Model(init=None, loss=None, judge=None, **fields))


def test_every_kind_of_array_travels(tmp_path):
    params = {
        "half": jnp.array([[1.5, -2.0]], jnp.bfloat16),
        "scalar": jnp.float32(3.0),
        "nothing": {},
        "list": [np.arange(3), {"flag": np.array(True)}],  # int64 as NumPy has it
        "empty": jnp.zeros((0, 2)),
    }

    def sample(params, key, context=None):
        first = params["half"].astype(jnp.float32).sum() + params["scalar"] + params["list"][0].sum()
        return jnp.full((8, 8, 1), first) * params["list"][1]["flag"] + params["empty"].sum()

    experiment = toy(experiment_of("conv")[0], sample=sample)
    folder = export.export(experiment, params, tmp_path / "model", platforms=("cpu",))
    model = load_exported(folder)
    assert {name: str(a.dtype) for name, a in model.weights.items()} == {
        **{"half": "bfloat16", "scalar": "float32", "list/0": "int32", "list/1/flag": "bool", "empty": "float32"},
    }
    assert np.all(np.asarray(model.sampler([0, 1])["x"]) == np.clip(-0.5 + 3.0 + 3.0, 0, 16).round())
    assert model.encoder is None and list(model.manifest["programs"]) == ["sampler"]


def test_the_parameters_come_back_as_a_tree(folders):
    experiment, params = experiment_of("hierarchy")
    restored = export.load_params(experiment, folders / "hierarchy")
    jax.tree.map(np.testing.assert_array_equal, restored, params)
    with pytest.raises(ValueError, match=r"weights.safetensors has other arrays than this model"):
        export.load_params(experiment, folders / "dense")


def test_the_folder_says_what_the_data_were_and_not_where(tmp_path):
    """Also where the data are absent; and from the folder the model is built again."""
    experiment, params = experiment_of("autoencoder")
    config = {**experiment.config, "data": {**experiment.config["data"], "path": "/home/somebody/data"}}
    described = describe(experiment.dataset)
    absent = build.build(experiment.config, stand_in(described))._replace(config=config)
    folder = export.export(absent, params, tmp_path / "a", platforms=("cpu",))
    assert load_exported(folder).dataset == described
    assert all(b"somebody" not in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    again = build.build(load_exported(folder).config, stand_in(described))
    jax.tree.map(np.testing.assert_array_equal, export.load_params(again, folder), params)


# -------------------------------------------------------------------------------------------------------------- inputs


def test_inputs_are_converted_only_without_loss(folders):
    model = load_exported(folders / "dense")
    x = experiment_of("dense")[0].dataset.test.x[:2]
    for same in (x.astype(np.int64), x.astype(float), jnp.asarray(x), x.tolist()):
        np.testing.assert_array_equal(model.encoder(same)["mean"], model.encoder(x)["mean"])
    for wrong in (x + 0.5, x.astype(int) - 1, x.astype(float) * np.nan):
        with pytest.raises(ValueError, match="encoder: x must be uint8, got other values"):
            model.encoder(wrong)
    with pytest.raises(ValueError, match=r"encoder: x must have the shape \['batch', 8, 8, 1\], got \[8, 8, 1\]"):
        model.encoder(x[0])
    with pytest.raises(ValueError, match="encoder: x has no rows"):
        model.encoder(x[:0])
    with pytest.raises(ValueError, match=r"encoder: x must be plain numbers; give jax.random.key_data"):
        model.encoder(jax.random.split(jax.random.key(0), 2))
    with pytest.raises(ValueError, match="encoder: takes x, got 2 arrays"):
        model.encoder(x, x)


# -------------------------------------------------------------------------------------------------------------- damage


def one_line(folder, file):
    """The folder is refused with one line that names the file."""
    with pytest.raises(ValueError, match=re.escape(str(folder / file))) as error:
        load_exported(folder)
    assert "\n" not in str(error.value)


FILES = ("manifest.json", "weights.safetensors", "config.json", "dataset.json", "programs/decoder.bin")


@pytest.mark.parametrize("file", FILES)
def test_damage_is_one_line_that_names_the_file(file, dense):
    path = dense / file
    content = path.read_bytes()
    for damaged in (content[:-7], content[: len(content) // 2], b"", b"\xff" + content[1:]):
        path.write_bytes(damaged)
        one_line(dense, file)
    path.unlink()
    one_line(dense, file)


@pytest.mark.parametrize("file", [name for name in FILES if name != "manifest.json"])
def test_what_the_manifest_vouches_for_may_still_be_wrong(file, dense):
    """Such as a pickle: it is not run."""
    ran = dense / "ran"
    garbage = pickle.dumps(Runs(ran)) + b"more" * 100
    manifest = json.loads((dense / "manifest.json").read_text())
    manifest["files"][file] = digest_of(garbage)
    (dense / "manifest.json").write_text(json.dumps(manifest))
    (dense / file).write_bytes(garbage)
    one_line(dense, file)
    assert not ran.exists()


class Runs:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({"format": 2, "files": {}}, "has the format 2, and this version of vae_jax reads 1"),
        ({"format": 1, "files": {}}, "is not the manifest of an exported model"),
        ([1], "is not the manifest of an exported model"),
        ({"format": 1, "files": {}, "weights": {}, "programs": {}, "platforms": ["tpu"]}, "exported for tpu, and this"),
        ({"format": 1, "files": {}, "weights": {}, "programs": {}, "platforms": None}, "is not the manifest of an exp"),
        ({"format": 1, "files": {}, "weights": {}, "programs": {"x": {}}, "platforms": ["cpu"]}, "is not the manifest"),
    ],
)
def test_another_manifest_is_refused(manifest, message, dense):
    (dense / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=message):
        load_exported(dense)


# -------------------------------------------------------------------------------------------------------------- errors


def test_a_family_without_anything_to_export_says_so(tmp_path):
    with pytest.raises(ValueError, match="the family 'autoencoder' has no codes, no samples and no log p"):
        export.export(toy(experiment_of("autoencoder")[0]), {}, tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("platforms", "message"),
    [("cpu", "must be a tuple of names"), ((), "must be a tuple"), (("cpu", "gpu"), "unknown value 'gpu'.*cuda")],
)
def test_platforms_are_checked(platforms, message, tmp_path):
    with pytest.raises(ValueError, match=f"platforms.*{message}"):
        export.export(*experiment_of("autoencoder"), tmp_path / "model", platforms=platforms)


def test_other_files_are_not_touched_and_an_export_is_replaced(dense):
    (dense / "notes.txt").write_text("mine")
    export.export(*experiment_of("autoencoder"), dense, platforms=("cpu",))
    assert (dense / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in (dense / "programs").iterdir()) == ["decoder.bin", "encoder.bin"]
    assert load_exported(dense).manifest["platforms"] == ["cpu"]
    (dense / "manifest.json").unlink()
    with pytest.raises(ValueError, match="holds files that are no exported model"):
        export.export(*experiment_of("autoencoder"), dense)
    for manifest in ('{"name": "an extension of a browser"}', "[]", "{"):
        (dense / "manifest.json").write_text(manifest)
        before = {path: path.read_bytes() for path in dense.rglob("*") if path.is_file()}
        with pytest.raises(ValueError, match="holds files that are no exported model"):
            export.export(*experiment_of("autoencoder"), dense)
        assert {path: path.read_bytes() for path in dense.rglob("*") if path.is_file()} == before


def test_a_manifest_deletes_nothing_elsewhere(dense, tmp_path):
    """What an earlier manifest lists is removed only if it is a program of the folder."""
    (tmp_path / "mine.txt").write_text("mine")
    manifest = json.loads((dense / "manifest.json").read_text())
    path = os.path.relpath(tmp_path / "mine.txt", dense)
    manifest["files"] |= {path: "", str(tmp_path / "mine.txt"): "", "notes.txt": ""}
    (dense / "manifest.json").write_text(json.dumps(manifest))
    (dense / "notes.txt").write_text("mine")
    export.export(*experiment_of("autoencoder"), dense, platforms=("cpu",))
    assert (tmp_path / "mine.txt").exists() and (dense / "notes.txt").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file is a file; give a new or an empty folder"):
        export.export(*experiment_of("autoencoder"), tmp_path / "file")


def test_an_export_that_fails_leaves_the_earlier_one(dense, monkeypatch):
    monkeypatch.setattr(export, "_lowered", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export.export(*experiment_of("autoencoder"), dense, platforms=("cpu",))
    assert load_exported(dense).decoder is not None


@pytest.mark.parametrize("package", ["safetensors", "flatbuffers"])
def test_a_missing_package_is_one_line(package, folders, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    message = re.escape(f"an exported model needs {package!r}: pip install 'vae_jax[export]'")
    with pytest.raises(ValueError, match=message):
        export.export(*experiment_of("autoencoder"), tmp_path / "model")
    with pytest.raises(ValueError, match=message):
        load_exported(folders / "autoencoder")
