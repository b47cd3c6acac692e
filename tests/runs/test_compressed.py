"""Files of the command `compress`, written and read by runs that have learned nothing yet."""

import json
import shutil

import numpy as np
import pytest

from vae_jax.configs import ngram_text, vae_digits
from vae_jax.runs import build, compressed
from vae_jax.training import loop
from vae_jax.training.checkpoint import Checkpoints

SOURCE = {"name": None, "path": None, "files": None, "split": "test"}


def begun(folder, module, **data):
    """A run without a step; its parameters are those at the start."""
    config = module.get_config("smoke").to_dict()
    config["data"] |= data
    config["mesh"]["data"] = 1
    (folder / "config.json").write_text(json.dumps(config))
    experiment, checkpoints = build.build(config), Checkpoints(folder / "checkpoints")
    state, best, _ = loop.start(experiment.learner, experiment.stream, experiment.key)
    checkpoints.save(0, (state, best), {})
    checkpoints.close()
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return begun(tmp_path_factory.mktemp("digits"), vae_digits)


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    tokens = {"level": "character", "min_count": 1, "max_length": 60}
    return begun(tmp_path_factory.mktemp("letters"), ngram_text, tokens=tokens)


def test_images_come_back_from_a_file_on_the_scale_of_the_data(digits, tmp_path):
    said = compressed.write(digits, tmp_path / "x.vjc", source=SOURCE, num=20)
    size = (tmp_path / "x.vjc").stat().st_size
    assert f"20 examples, {size:,} bytes" in said and "xz" in said and "initial bits" in said
    assert compressed.read(digits, tmp_path / "x.vjc", tmp_path / "back.npz").startswith("20 examples in ")
    experiment = build.build_trained(digits)
    expected = experiment.to_stored(experiment.split("test")["x"][:20], drawn=True)
    np.testing.assert_array_equal(np.load(tmp_path / "back.npz")["x"], expected)


def test_the_measurement_has_the_bound_and_other_coders(digits):
    m = compressed.measure(digits, num=40)
    assert m.number == 40 and m.dims == 40 * 64 and m.others["plain"] == 40 * 64 // 8 and m.others["xz"] > 0
    assert m.total > m.net > 0 and m.overhead == pytest.approx(8 * m.net / m.bound - 1)
    assert -0.1 < m.overhead < 1.0  # a header beside 40 tiny images
    assert m.bits_per_dim(m.total) == pytest.approx(8 * m.total / (40 * 64))


def test_lines_of_a_text_come_back_as_they_were(letters, tmp_path):
    lines = ["the dog sees a cat .", "a cat sleeps near the dogs ."]
    file = tmp_path / "lines.txt"
    file.write_text("".join(f"{line}\n" for line in lines))
    source = SOURCE | {"name": "text", "path": str(file)}
    compressed.write(letters, tmp_path / "x.vjc", source=source)
    compressed.read(letters, tmp_path / "x.vjc", tmp_path / "back.txt")
    assert (tmp_path / "back.txt").read_text() == file.read_text()
    file.write_text("the dog sees a cat .\nTHE DOG SEES A CAT #\n")
    with pytest.raises(ValueError, match="line 2: the tokens of this model do not restore it"):
        compressed.write(letters, tmp_path / "y.vjc", source=source)
    assert not (tmp_path / "y.vjc").exists()


def test_mistakes_are_refused_before_anything_is_written(digits, letters, tmp_path):
    compressed.write(digits, tmp_path / "x.vjc", source=SOURCE, num=3)
    for folder, file, out, words in (
        (digits, "x.vjc", "back.txt", "give a file that ends with .npz"),
        (digits, "missing.vjc", "back.npz", "there is no such file"),
        (letters, "x.vjc", "back.txt", "another model"),
    ):
        with pytest.raises(ValueError, match=words):
            compressed.read(folder, tmp_path / file, tmp_path / out)
        assert not (tmp_path / out).exists()
    np.savez(tmp_path / "x.npz", x=np.zeros((3, 8, 8), np.uint8))
    (tmp_path / "packed.npz").write_bytes((tmp_path / "x.vjc").read_bytes())
    with pytest.raises(ValueError, match=r"--out=.*packed.npz: this file is there and belongs to the data"):
        compressed.read(digits, tmp_path / "packed.npz", tmp_path / "packed.npz")


def test_a_run_that_is_not_finished_says_so(digits, tmp_path, caplog, monkeypatch):
    compressed.write(digits, tmp_path / "x.vjc", source=SOURCE, num=3)
    assert "is not finished. If training goes on, it removes the checkpoint that compresses" in caplog.text
    caplog.clear()
    run = shutil.copytree(digits, tmp_path / "run")
    (run / "results.json").write_text("{}")
    monkeypatch.setenv("HOME", str(tmp_path))
    compressed.write("~/run", tmp_path / "y.vjc", source=SOURCE, num=3)
    assert "not finished" not in caplog.text
