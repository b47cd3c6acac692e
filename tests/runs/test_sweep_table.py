"""The table of a sweep: what is averaged, what is best, and what is not to be compared."""

import json

import pytest

from vae_jax.configs import vae_digits
from vae_jax.runs import sweep_table


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
    header, first, second, note = sweep_table.table([good, bad]).splitlines()
    assert header.split()[:3] == ["setting", "seeds", "diverged"] and "log p(x)" not in header
    assert not good["supported"] and note == "~ best by validation, but not by two standard errors over seeds"
    assert first.startswith("~  learning_rate=0.001") and "-21.00 ± 1.00" in first and second.lstrip()[0] == "l"


def test_of_other_data_or_units_none_is_better(tmp_path):
    folders = []
    for transform, bound in (("binarize", -20.0), ("dequantize", 50.0)):
        config = vae_digits.get_config().to_dict()
        config["data"]["transform"] = transform
        folders.append(member(tmp_path, transform, config, valid__best_bound=bound))
    rows = sweep_table.by_setting(folders, {"data.transform": ["binarize", "dequantize"]})
    assert [row["best"] for row in rows] == [False, False]


@pytest.mark.parametrize(
    ("other", "supported"),
    [((-24.0, -24.2), True), ((-22.0, -23.0), False), ((-24.0,), False)],
    ids=["far", "within two standard errors", "one seed"],
)
def test_the_mark_of_the_best_says_whether_seeds_support_it(other, supported, tmp_path):
    """The best has -21 and -22: a mean of -21.5 and a standard error of 0.5."""
    folders = []
    for rate, bounds in ((1e-3, (-21.0, -22.0)), (1e-2, other)):
        for seed, bound in enumerate(bounds):
            config = vae_digits.get_config().to_dict() | {"seed": seed}
            config["optimizer"]["learning_rate"] = rate
            folders.append(member(tmp_path, f"{rate}-{seed}", config, valid__best_bound=bound))
    rows = sweep_table.by_setting(folders, {"seed": [0, 1], "optimizer.learning_rate": [1e-3, 1e-2]})
    assert [(row["best"], row["supported"]) for row in rows] == [(True, supported), (False, False)]
    assert json.loads(json.dumps(rows)) == rows
    lines = sweep_table.table(rows).splitlines()
    assert lines[1][0] == ("*" if supported else "~") and len(lines) == (3 if supported else 4)


def test_a_sweep_whose_figure_fails_goes_on(tmp_path):
    folder = member(tmp_path, "one", vae_digits.get_config().to_dict(), valid__best_bound=-3.0)
    rows = sweep_table.by_setting([folder], {"seed": [0]})
    assert sweep_table.figure(rows, tmp_path) == "not drawn"  # no member has metrics


def test_null_is_no_number(tmp_path):
    folders = [
        member(tmp_path, str(n), vae_digits.get_config().to_dict() | {"seed": n}, valid__best_bound=bound)
        for n, bound in enumerate((-3.0, None))
    ]
    (row,) = sweep_table.by_setting(folders, {"seed": [0, 1]})
    assert row["valid/best_bound"] == -3.0 and row["valid/best_bound_se"] is None
