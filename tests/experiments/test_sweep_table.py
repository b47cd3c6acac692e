"""The table of a sweep: what is averaged, what is best, and what is not to be compared."""

import json

import pytest

from experiments import sweep_table
from experiments.configs import vae_digits


def member(folder, name, config, **results):
    folder = folder / name
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "results.json").write_text(json.dumps({key.replace("__", "/"): value for key, value in results.items()}))
    return folder


def test_means_over_seeds_the_best_and_the_diverged(tmp_path):
    folders = []
    for rate, bounds in ((1e-3, (-20.0, -22.0)), (1e-2, (-24.0, None))):
        for seed, bound in enumerate(bounds):
            config = vae_digits.get_config().to_dict() | {"seed": seed}
            config["optimizer"]["learning_rate"] = rate
            found = {"train__diverged": True} if bound is None else {"valid__best_bound": bound}
            folders.append(member(tmp_path, f"{rate}-{seed}", config, **found))
    axes = {"seed": [0, 1], "optimizer.learning_rate": [1e-3, 1e-2]}
    good, bad = sweep_table.by_setting(folders, axes)
    assert good["valid/best_bound"] == -21.0 and good["valid/best_bound_se"] == pytest.approx(1.0)
    assert bad["valid/best_bound"] == -24.0 and bad["valid/best_bound_se"] is None
    assert [row["diverged"] for row in (good, bad)] == [0, 1] and [row["best"] for row in (good, bad)] == [True, False]
    header, first, second = sweep_table.table([good, bad]).splitlines()
    assert header.split()[:3] == ["setting", "seeds", "diverged"] and "log p(x)" not in header
    assert first.startswith("*  learning_rate=0.001") and "-21.00 ± 1.00" in first and second.lstrip()[0] == "l"


def test_of_other_data_or_units_none_is_better(tmp_path):
    folders = []
    for transform, bound in (("binarize", -20.0), ("dequantize", 50.0)):
        config = vae_digits.get_config().to_dict()
        config["data"]["transform"] = transform
        folders.append(member(tmp_path, transform, config, valid__best_bound=bound))
    rows = sweep_table.by_setting(folders, {"data.transform": ["binarize", "dequantize"]})
    assert [row["best"] for row in rows] == [False, False]
