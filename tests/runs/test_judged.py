"""Codes beside judges: the table, its axes, and judges that are refused."""

import json
import os
import shutil
import sys

import numpy as np
import pytest

from vae_jax.configs import vae_digits
from vae_jax.evaluation import judges
from vae_jax.runs import build, codes, judged, train


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "vae"
    train.complete(vae_digits.get_config("smoke").to_dict(), folder, figures=False)
    return folder


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of judges that a user has written."""
    text = (
        "import numpy as np\n"
        "def ink(images): return images.mean(axis=(1, 2, 3))\n"
        "def half(images): return images[::2].mean(axis=(1, 2, 3))\n"
        "def nothing(images): return np.full(len(images), np.nan)\n"
        "def two(images, more): return images\n"
    )
    (tmp_path / "my_judges.py").write_text(text)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", os.getcwd())])
    monkeypatch.chdir(tmp_path)  # a command finds it in the folder where it is called


OPTIONS = {"block": 10, "num_permutations": 99}


def test_axes_are_turned_to_follow_the_judges(trained, own, tmp_path):
    text = judged.table([str(trained)], tmp_path / "out", names=["my_judges:ink", "label"], **OPTIONS)
    assert (tmp_path / "out" / "judged.md").read_text() == text and "| vae | my_judges:ink | z_" in text
    found = json.loads((tmp_path / "out" / "judged.json").read_text())["vae"]
    assert (tmp_path / "out" / "vae.png").stat().st_size > 0
    experiment = build.build_trained(trained)
    params = build.restore(trained, experiment).params
    test = codes.of_data(experiment.model, params, experiment.split("test"))
    ink = np.asarray(experiment.dataset.test.x).mean(axis=(1, 2, 3))
    rho, _ = judges.rank_correlation(test @ np.array(found["axes"])[:, :1], ink[:, None], num_permutations=0)
    np.testing.assert_allclose(found["rho_of_axes"][0], rho[0, 0], atol=1e-6)
    assert np.shape(found["rho"]) == np.shape(found["p"]) == (test.shape[1], 2)


def test_one_judge_is_a_table_without_a_figure(trained, tmp_path):
    text = judged.table([str(trained)], tmp_path / "out", names=["label"], **OPTIONS)
    assert "| vae | label | z_" in text
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["judged.json", "judged.md"]


def test_the_turned_plane_has_the_codes_that_the_axes_ask_for():
    """E[z|t] inverts the turn where there are as many axes as dimensions, and has the right t in any case."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(500, 4)) @ rng.normal(size=(4, 4))
    axes = judges.directions(z, z @ rng.normal(size=(4, 2)))
    t = rng.normal(size=(7, 2))
    chosen = t @ axes.T @ np.cov(z, rowvar=False)
    np.testing.assert_allclose(chosen @ axes, t * 500 / 499, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("laugh", "there is no judge 'laugh' .allowed: smile, yaw, label, or MODULE:FUNCTION"),
        ("my_judges:grin", "'my_judges:grin' cannot be imported: .*no attribute 'grin'"),
        ("none_such:ink", "'none_such:ink' cannot be imported: ModuleNotFoundError: No module named 'none_such'"),
        ("my_judges:half", r"'my_judges:half' must give one finite number for each of \d+ images; it gave"),
        ("my_judges:nothing", "'my_judges:nothing' must give one finite number"),
        ("my_judges:two", "'my_judges:two' failed on the images of train: TypeError: two.. missing 1"),
        (":ink", "':ink' cannot be imported"),
        ("", "--judges=: give names of judges, each once"),
        ("smile", r"frames \[N, 28, 20\] of one channel are required, got the shape"),
    ],
)
def test_a_judge_that_cannot_judge_is_one_line(name, words, trained, own, tmp_path):
    with pytest.raises(ValueError, match=words):
        judged.table([str(trained)], tmp_path / "out", names=[name], **OPTIONS)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("names", [[], ["label", "label"]])
def test_judges_are_named_once(names, trained, tmp_path):
    with pytest.raises(ValueError, match=r"--judges=.*: give names of judges, each once"):
        judged.table([str(trained)], tmp_path / "out", names=names, **OPTIONS)


def test_runs_that_are_not_seeds_of_one_config_are_refused(trained, tmp_path):
    """A copy of a run, and a run that has not ended; a folder whose name is a pattern is found by its name."""
    copy = shutil.copytree(trained, tmp_path / "copy[1]")
    with pytest.raises(ValueError, match="are the same run, with one config and seed; leave one out"):
        codes.groups_of([str(trained), str(copy)])
    again = copy.parent / ".." / copy.parent.name / copy.name  # the same folder
    assert list(codes.groups_of([str(copy), str(again)])) == [copy.name]
    (copy / "results.json").unlink()
    with pytest.raises(ValueError, match="is not complete"):
        codes.groups_of([str(copy)])


def test_a_judge_of_labels_needs_labels(trained):
    dataset = build.build_trained(trained).dataset
    unlabelled = dataset._replace(test=dataset.test._replace(label=None))
    with pytest.raises(ValueError, match="'label' needs labels, and digits has none"):
        judged.marks_of({"label": None}, unlabelled, "test")
