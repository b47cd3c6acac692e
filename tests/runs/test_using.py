"""Codes of files, draws into files, and measurements on data of one's own, by runs that have learned nothing yet."""

import csv
import errno
import json
import os
import shutil
import wave

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

from vae_jax.configs import (
    autoencoder_digits,
    chow_liu_digits,
    ngram_audio,
    sketch_vae_omniglot,
    strokes_omniglot,
    text_vae_text,
    vae_counts,
    vae_digits,
)
from vae_jax.data import idx, sources
from vae_jax.runs import (
    audit,
    build,
    codes,
    compare,
    compressed,
    evaluate,
    judged,
    outliers,
    own_data,
    restoring,
    using,
)
from vae_jax.training import loop
from vae_jax.training.checkpoint import Checkpoints


def begun(folder, module, model=(), **data):
    """A run without a step; its parameters are those at the start."""
    config = described(folder, module, dict(model), **data)
    experiment, checkpoints = build.build(config), Checkpoints(folder / "checkpoints")
    state, best, _ = loop.start(experiment.learner, experiment.stream, experiment.key)
    checkpoints.save(0, (state, best), {})
    checkpoints.close()
    return folder


def described(folder, module, model=(), **data):
    """Write the config of a run; its checkpoint is missing."""
    config = module.get_config("smoke").to_dict()
    config["model"] |= dict(model)
    config["data"] |= data
    config["eval"] |= {"num_samples": 2, "num_test": 8}
    config["mesh"]["data"] = 1
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return config


@pytest.fixture(scope="module")
def conditional(tmp_path_factory):
    """A VAE of digits given their class."""
    return begun(tmp_path_factory.mktemp("conditional"), vae_digits, context={"name": "label"})


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return begun(tmp_path_factory.mktemp("text"), text_vae_text)


@pytest.mark.parametrize("module", [strokes_omniglot, sketch_vae_omniglot])
def test_draws_of_drawings_have_a_temperature_and_are_svg_files(module, tmp_path):
    """Of a density and of p(x|z)."""
    begun(tmp_path / "run", module)
    drawn = []
    for temperature in (1.0, 0.02):
        line = using.sample_files(tmp_path / "run", tmp_path / "drawn", num=3, temperature=temperature)
        assert line.endswith("samples.npz, sample_0.svg ... sample_2.svg")
        assert all((tmp_path / "drawn" / f"sample_{n}.svg").read_text().startswith("<svg") for n in range(3))
        drawn.append(np.load(tmp_path / "drawn" / "samples.npz")["x"])
    assert not np.array_equal(*drawn)


@pytest.mark.parametrize(
    ("module", "context"),
    [
        (vae_counts, {"name": "library"}),
        (vae_digits, {"name": "degraded", "degradation": {"name": "half"}}),
        (vae_digits, {"name": "image", "size": (4, 4)}),
    ],
)
def test_contexts_that_are_made_of_x_are_made_again(module, context, tmp_path):
    begun(tmp_path / "run", module, context=context)
    using.encode_files(tmp_path / "run", tmp_path / "codes.npz")
    assert len(np.load(tmp_path / "codes.npz")["mean"]) > 100
    using.sample_files(tmp_path / "run", tmp_path / "drawn", num=3)
    drawn = np.load(tmp_path / "drawn" / "samples.npz")
    if context["name"] == "image":  # on the scale of x
        assert 1.0 < drawn["context"].max() <= 16.0


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The first 40 digits as 8-bit images in a folder: 30 to learn from and 10 to test on."""
    folder, digits = tmp_path_factory.mktemp("own"), load_digits()
    x = np.round(digits.images * 255 / 16).astype(np.uint8)
    for prefix, part in (("train", slice(0, 30)), ("t10k", slice(30, 40))):
        idx.write(folder / f"{prefix}-images-idx3-ubyte", x[part])
        idx.write(folder / f"{prefix}-labels-idx1-ubyte", digits.target[part].astype(np.uint8))
    return folder


def posteriors(folder):
    experiment = build.build_trained(folder)
    params, data = build.restore(folder, experiment).params, experiment.split("test", expected=True)
    return jax.vmap(experiment.model.latent.posterior, (None, 0, 0))(params, data["x"], data["context"]), data


def test_codes_are_those_of_the_posterior_in_both_kinds_of_file(conditional, tmp_path):
    line = using.encode_files(conditional, tmp_path / "codes.npz")
    assert line.startswith("300 codes of digits in ")
    (q, data), codes = posteriors(conditional), np.load(tmp_path / "codes.npz")
    np.testing.assert_allclose(codes["mean"], q.loc, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(codes["scale"], np.exp(q.log_scale), rtol=1e-5)
    np.testing.assert_array_equal(codes["label"], data["context"])
    using.encode_files(conditional, tmp_path / "codes.csv")
    with (tmp_path / "codes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["row"] for row in rows[:2]] == ["test/0", "test/1"] and len(rows) == 300
    assert float(rows[7]["mean_3"]) == pytest.approx(codes["mean"][7, 3]) and int(rows[7]["label"]) == codes["label"][7]


def test_files_of_ones_own_are_encoded_whole(conditional, own, tmp_path):
    using.encode_files(conditional, tmp_path / "codes.npz", name="idx", path=str(own), split="all")
    codes = np.load(tmp_path / "codes.npz")
    assert codes["mean"].shape == (40, 8) and sorted(codes["label"]) == sorted(load_digits().target[:40])
    rows = codes["row"].tolist()
    assert len(set(rows)) == 40 and rows[0] == "train/0" and rows[-1] == "test/9"
    assert codes["label"][-10:].tolist() == load_digits().target[30:40].tolist()


def test_draws_are_on_the_scale_of_the_data_and_follow_the_classes(conditional, tmp_path):
    line = using.sample_files(conditional, tmp_path / "a", num=6, context="3, 5")
    assert line == f"6 draws in {tmp_path / 'a'}: samples.npz, samples.png"
    drawn = np.load(tmp_path / "a" / "samples.npz")
    assert drawn["x"].shape == (6, 8, 8, 1) and set(np.unique(drawn["x"])) == {0, 16}
    assert drawn["context"].tolist() == [3, 5, 3, 5, 3, 5]
    assert (tmp_path / "a" / "samples.png").read_bytes().startswith(b"\x89PNG")
    experiment = build.build_trained(conditional)
    assert using.contexts_of(experiment, None, 12).tolist() == [*range(10), 0, 1]
    named = experiment._replace(dataset=experiment.dataset._replace(class_names=tuple("abcdefghij")))
    assert using.contexts_of(named, "b,9", 3).tolist() == [1, 9, 1]
    with pytest.raises(ValueError, match=r"there is no class '10'; the classes are 0 \.\. 9 or a, b"):
        using.contexts_of(named, "10", 3)


def test_another_seed_gives_other_draws(text, tmp_path):
    draws = []
    for seed in (0, 1):
        using.sample_files(text, tmp_path, num=20, seed=seed, temperature=0.7)
        draws.append((tmp_path / "samples.txt").read_text())
    assert draws[0] != draws[1] and len(draws[0].splitlines()) == 20


def test_classes_with_names_get_the_numbers_of_the_run(conditional):
    dataset = build.build_trained(conditional).dataset
    few = dataset._replace(
        **{split: getattr(dataset, split)._replace(label=np.array([0, 1, 1])) for split in ("train", "valid", "test")},
        class_names=("b", "j"),
        num_classes=2,
    )
    named = dataset._replace(class_names=tuple("abcdefghij"))
    assert own_data._with_classes_of(named, few).test.label.tolist() == [1, 9, 9]
    with pytest.raises(ValueError, match=r"has a class 'z'; this model knows a, b"):
        own_data._with_classes_of(named, few._replace(class_names=("a", "z")))
    sevens = few._replace(class_names=("3", "7"))  # a file that holds only these two of the run's classes 0..9
    assert own_data._with_classes_of(dataset, sevens).test.label.tolist() == [3, 7, 7]
    with pytest.raises(ValueError, match=r"has a class '12'; this model knows 0, 1"):
        own_data._with_classes_of(dataset, few._replace(class_names=("3", "12")))


def test_text_of_ones_own_has_the_words_of_the_run(text, tmp_path):
    (tmp_path / "lines.txt").write_text("the dog sees a cat .\n\nunheardof words\n")
    using.encode_files(text, tmp_path / "codes.npz", name="text", path=str(tmp_path / "lines.txt"), split="all")
    codes = np.load(tmp_path / "codes.npz")
    assert len(codes["mean"]) == 2 and codes["row"].tolist() == ["test/0", "test/1"]


def test_sounds_are_written_as_sounds(tmp_path):
    folder = begun(tmp_path, ngram_audio)
    using.sample_files(folder, num=2)
    with wave.open(str(folder / "samples" / "sample_1.wav")) as file:
        assert file.getframerate() == 8000 and file.getnframes() == 64


def test_a_run_is_measured_on_data_of_ones_own_and_its_results_stay(conditional, own):
    (conditional / "results.json").write_text("{}")
    source = {"name": "idx", "path": str(own), "files": None, "split": "test"}
    said = evaluate.again(conditional, source=source)
    file = conditional / f"evaluation-idx-{own.name}.json"
    results = json.loads(file.read_text())
    assert str(file) in said and results["test/num_examples"] == 10 and results["test/data"] == source
    assert (conditional / "results.json").read_text() == "{}" and not (conditional / "figures").exists()
    assert own_data.title(name="tfds:a/b", path="x/y z.csv", files=None, split="all") == "tfds_a_b-y_z-all"


def test_levels_that_do_not_tell_their_scale_have_that_of_the_run(tmp_path):
    """17 levels could be dark images of 256: a run of digits knows better, and the user has no flag to say it."""
    np.savez(tmp_path / "x.npz", x=load_digits().images.astype(np.uint8)[..., None])
    experiment = build.build(vae_digits.get_config("smoke").to_dict())
    assert own_data.read(experiment, "arrays", str(tmp_path / "x.npz")).max_value == 16
    full = experiment._replace(dataset=experiment.dataset._replace(max_value=255))  # a run whose scale is a full range
    with pytest.raises(ValueError, match=r"^the values of .*x\.npz do not tell .*0\.\.255: multiply all"):
        own_data.read(full, "arrays", str(tmp_path / "x.npz"))


WRITES = {
    "encode": lambda run: using.encode_files(run, run / "codes.npz"),
    "encode into a folder": lambda run: using.encode_files(run, run / "there.csv"),
    "sample": lambda run: using.sample_files(run, run),
    "sample into a file": lambda run: using.sample_files(run, run / "config.json"),
    "compress": lambda run: compressed.write(run, run / "config.json", source=compressed.OWN_TEST),
    "compress over an image": lambda run: compressed.write(run, run / "0.png", source=compressed.OWN_TEST),
    "decompress": lambda run: compressed.read(run, run / "0.png", run / "codes.npz"),
    "codes": lambda run: codes.table([run], run, num_train=9, num_test=9, num_components=1),
    "compare": lambda run: compare.compare({"run": run}, run),
    "judge": lambda run: judged.table([run], run, names=["yaw"], block=1, num_permutations=2),
    "restore": lambda run: restoring.measure(run, {"name": "half"}, out=run),
}


@pytest.mark.parametrize("command", WRITES)
def test_no_command_writes_over_a_run_or_other_files(command, conditional, tmp_path):
    run = tmp_path / "run"
    (run / "there.csv").mkdir(parents=True)
    for name in ("config.json", "dataset.json"):
        shutil.copy(conditional / name, run) if (conditional / name).exists() else None
    (run / "codes.npz").write_bytes(b"codes")
    (run / "0.png").write_bytes(b"image")
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    with pytest.raises(ValueError, match=r"--(out|workdir)=.*(give|keeps)") as error:
        WRITES[command](run)
    assert "\n" not in str(error.value)
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("end", [".npz", ".csv"])
def test_no_command_writes_over_the_data_that_it_reads(end, conditional, tmp_path):
    """A file of one's own, the data of the run, and a file in the folder of the data."""
    own = tmp_path / f"test{end}"
    own.write_bytes(b"mine")
    for name, path in (("arrays", own), ("arrays", tmp_path)):
        with pytest.raises(ValueError, match=r"--out=.*: this file is there and belongs to the data in .*another name"):
            using.encode_files(conditional, tmp_path / "." / own.name, name=name, path=str(path))
    run = tmp_path / "run"
    described(run, vae_digits, path=str(own))
    with pytest.raises(ValueError, match="belongs to the data in"):
        using.encode_files(run, own)
    assert own.read_bytes() == b"mine"


def test_the_same_command_may_come_twice(conditional, own):
    """Also if its output lies in the folder of the data."""
    for _ in range(2):
        using.encode_files(conditional, own / "codes.npz", name="idx", path=str(own))


UNWRITABLE = {
    "encode": lambda run: using.encode_files(run, run / "new.npz"),
    "sample": lambda run: using.sample_files(run),
    "compress": lambda run: compressed.write(run, run / "x.vjc", source=compressed.OWN_TEST),
    "evaluate": lambda run: evaluate.again(run),
    "audit": lambda run: audit.write(run),
    "outliers": lambda run: outliers.measure(
        run, "left_out", num_images=9, num_samples=1, num_steps=1, learning_rate=1e-3, coder="png"
    ),
    "codes": lambda run: codes.table([run], run / "out", num_train=9, num_test=9, num_components=1),
    "compare": lambda run: compare.compare({"run": run}, run / "out"),
    "judge": lambda run: judged.table([run], run / "out", names=["yaw"], block=1, num_permutations=2),
    "restore": lambda run: restoring.measure(run, {"name": "half"}),
}


@pytest.mark.parametrize("command", UNWRITABLE)
def test_a_place_that_cannot_be_written_is_told_before_the_work(command, conditional, tmp_path, monkeypatch):
    def read_only(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    run = tmp_path / "run"
    described(run, vae_digits)
    (run / "results.json").write_text("{}")
    monkeypatch.setattr("vae_jax.runs.workdir.tempfile.TemporaryFile", read_only)
    monkeypatch.setattr("vae_jax.runs.build.build_trained", lambda *_, **__: pytest.fail("the work has begun"))
    with pytest.raises(ValueError, match=r"--(out|workdir)=.* cannot be written: Read-only file system; give another"):
        UNWRITABLE[command](run)


def test_data_of_one_name_in_two_folders_have_two_files(conditional, own, tmp_path, monkeypatch):
    other = shutil.copytree(own, tmp_path / own.name)
    names = []
    for folder, path in ((own, own), (other, other), (own.parent, own.name), (tmp_path, own.name)):
        monkeypatch.chdir(folder)  # a path may be relative
        said = evaluate.again(conditional, source={"name": "idx", "path": str(path), "files": None, "split": "train"})
        names.append(said.rpartition("numbers in ")[2])
    assert names[0] == names[2] != names[1] == names[3] and names[1].endswith("-2.json")
    (conditional / names[0]).write_text("{")  # damaged: it stays
    said = evaluate.again(conditional, source={"name": "idx", "path": str(own), "files": None, "split": "train"})
    assert said.endswith("-3.json") and (conditional / names[0]).read_text() == "{"


class TestRefusals:
    def test_of_the_file(self, conditional, tmp_path):
        with pytest.raises(ValueError, match=r"--out=.*codes.txt: give a file that ends with .npz or .csv"):
            using.encode_files(conditional, tmp_path / "codes.txt")

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("four_by_four", r"--data=four_by_four: its images are \(4, 4, 1\), those of digits are \(8, 8, 1\)"),
            ("text", "--data=text: this is another kind of data than digits"),
        ],
    )
    def test_of_data_that_do_not_fit(self, name, message, conditional, tmp_path):
        with pytest.raises(ValueError, match=message):
            using.encode_files(conditional, tmp_path / "codes.npz", name=name)

    def test_of_a_model_without_codes_and_one_without_a_prior(self, tmp_path):
        tree, encoder = tmp_path / "tree", tmp_path / "encoder"
        described(tree, chow_liu_digits)
        described(encoder, autoencoder_digits)
        with pytest.raises(ValueError, match="'chow_liu' has no codes"):
            using.encode_files(tree, tmp_path / "codes.npz")
        with pytest.raises(ValueError, match=r"'autoencoder' has no p\(z\) to draw from"):
            using.sample_files(encoder)
        with pytest.raises(ValueError, match="--context: this model is conditional on nothing"):
            using.sample_files(tree, context="3")
        with pytest.raises(ValueError, match=r"--temperature=0\.5: only models of text and of drawings have one"):
            using.sample_files(tree, temperature=0.5)

    def test_of_data_without_the_class_that_the_model_needs(self, conditional, own, tmp_path):
        for file in own.glob("*images*"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
        with pytest.raises(ValueError, match="has no label, and this model is conditional on it"):
            using.encode_files(conditional, tmp_path / "codes.npz", name="idx", path=str(tmp_path))


def test_a_table_has_its_columns_its_scale_and_its_classes(tmp_path):
    """Another table of the same columns, of other mean and in another order, is read on the scale of the run."""
    rng = np.random.default_rng(0)

    def write(path, columns, number):
        values = {
            "height": [f"{170 + 10 * value:.2f}" for value in rng.normal(size=number)],
            "city": rng.choice(["Bern", "Oslo", "Rome"], number).tolist(),
        }
        values["city"][:3] = ["Bern", "Oslo", "Rome"]
        rows = zip(*(values[name] for name in columns), strict=True)
        path.write_text("\n".join([",".join(columns), *(",".join(row) for row in rows)]) + "\n")

    write(tmp_path / "all.csv", ("height", "city"), 60)
    write(tmp_path / "few.csv", ("city", "height"), 20)
    folder = tmp_path / "run"
    begun(
        folder,
        vae_digits,
        model={"likelihood": {"name": "columns"}},
        name="table",
        path=str(tmp_path / "all.csv"),
        transform="columns",
    )
    using.encode_files(folder, tmp_path / "codes.npz", name="table", path=str(tmp_path / "few.csv"), split="all")
    assert np.load(tmp_path / "codes.npz")["mean"].shape == (20, 8)
    experiment = build.build_trained(folder)
    few = own_data.read(experiment, "table", str(tmp_path / "few.csv"))
    heights = np.concatenate([getattr(few, split).x[:, 0] for split in ("train", "valid", "test")])
    mean, scale = experiment.dataset.columns.to_original(np.array([[0.0, 0], [1.0, 0]]))["height"]
    scale -= mean
    written = [float(line.split(",")[1]) for line in (tmp_path / "few.csv").read_text().splitlines()[1:]]
    np.testing.assert_allclose(np.sort(heights), np.sort((np.array(written) - mean) / scale), atol=1e-4)
    assert using.sample_files(folder, num=5).endswith("samples.npz, samples.csv")
    with (folder / "samples" / "samples.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 and {row["city"] for row in rows} <= {"Bern", "Oslo", "Rome"}


def test_rows_of_a_folder_of_images_have_the_names_of_their_files(tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_JAX_CACHE", str(tmp_path / ".cache"))
    images = pytest.importorskip("PIL.Image")
    for number in range(12):
        images.fromarray(np.full((4, 4), 20 * number, np.uint8)).save(tmp_path / f"{number}.png")
    dataset = sources.load("images", str(tmp_path), max_value=255)
    names = own_data.row_names(dataset, "all", "images", str(tmp_path))
    values = np.concatenate([np.asarray(getattr(dataset, split).x)[:, 0, 0, 0] for split in ("train", "valid", "test")])
    assert names == [f"{value // 20}.png" for value in values] and len(set(names)) == 12
    assert own_data.row_names(dataset, "test", "arrays", "x")[:2] == ["test/0", "test/1"]
