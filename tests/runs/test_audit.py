"""The audit of a run: what it measures, its page, and what it refuses."""

import json
import sys
import types

import jax
import numpy as np
import pytest

from vae_jax.configs import deep_vae_digits, discrete_mnist, flow_digits, pixel_cnn_digits, vae_digits
from vae_jax.runs import audit, train

QUICK = {"num_images": 6, "counts": (1, 5, 100), "num_temperatures": 4, "num_chains": 2, "num_compressed": 6}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")

    def of(module, arg="smoke"):
        folder = root / module.__name__
        train.complete(module.get_config(arg).to_dict(), folder, figures=False)
        return folder

    return of


def verdicts(record):
    return {row["name"]: row["verdict"] for row in record["checks"]}


def test_a_vae_is_audited_from_both_sides(trained):
    folder = trained(vae_digits)
    record = audit.write(folder, **QUICK)
    assert [row["name"] for row in record["bounds"]] == ["ELBO", "IW-1", "IW-5", "IW-100"]
    assert [row["name"] for row in record["sandwich"]["drawn"]] == ["ELBO", "IW-100", "AIS", "BDMC"]
    assert "k_median" in record["bounds"][-1] and "k_median" not in record["bounds"][1]
    found = verdicts(record)
    for name in ("the bound rises with K", "the ELBO by samples less that by its own KL", "real bytes of 6 images"):
        assert found[name] == audit.HOLDS, record["checks"]
    assert found["Σ p(x) = 1 on a small twin"] == found["an image against its batch-mates"] == audit.HOLDS
    assert json.loads((folder / "audit.json").read_text()) == record
    text, page = (folder / "audit.md").read_text(), (folder / "audit.html").read_text()
    for row in record["checks"]:
        assert f"| {row['name']} | {row['figure']} | {row['verdict']} |" in text
    assert "| IW-100 | " in text and page.count("<table>") == 4 and "IW-100" in page
    assert "\n\n\n" not in text


@pytest.mark.slow
def test_an_exact_model_has_no_bounds(trained):
    record = audit.write(trained(pixel_cnn_digits), **QUICK)
    assert record["kind"] == "=" and "sandwich" not in record
    assert list(verdicts(record).values()) == [audit.HOLDS] * 3, record["checks"]


@pytest.mark.slow
def test_bits_have_no_path_of_hamiltonian_dynamics(trained):
    def on_digits(arg):
        config = discrete_mnist.get_config(arg)
        config.data.update({"name": "digits", "path": ""})
        return config

    digits = types.SimpleNamespace(__name__="discrete_digits", get_config=on_digits)
    folder = trained(digits)
    record = audit.write(folder, **QUICK | {"counts": (1, 5)})
    assert "require real z" in record["without_sandwich"] and "require real z" in (folder / "audit.md").read_text()
    assert audit.FAILS not in verdicts(record).values(), record["checks"]


@pytest.mark.every
def test_a_flow_has_no_path_either(trained):
    record = audit.write(trained(flow_digits), **QUICK | {"counts": (1, 5)})
    assert record["without_sandwich"].startswith("the code determines x")
    assert audit.FAILS not in verdicts(record).values(), record["checks"]


@pytest.mark.every
def test_a_deep_hierarchy_has_the_rates_of_its_levels(trained):
    folder = trained(deep_vae_digits)
    record = audit.write(folder, **QUICK | {"counts": (1, 5), "num_temperatures": 0})
    assert len(record["levels"]) == 2 and "## KL by level" in (folder / "audit.md").read_text()
    results = json.loads((folder / "results.json").read_text())
    np.testing.assert_allclose([results[f"test/rate_{n}"] for n in (1, 2)], record["levels"], rtol=0.5)
    assert audit.FAILS not in verdicts(record).values(), record["checks"]


def test_a_wrong_number_fails(monkeypatch):
    """A KL that is half as large as it is makes the ELBO too good, and looser bounds for more samples are none."""
    exact = np.linspace(-5.0, -3.0, 40)
    for share, verdict in ((1.0, audit.HOLDS), (0.5, audit.FAILS)):
        monkeypatch.setattr(audit.likelihood, "elbo_terms", lambda *a, share=share: {"bound": exact - 4.0 * share})
        monkeypatch.setattr(audit.likelihood, "log_likelihood", lambda *a, **k: {"elbo": exact - 4.0 + 1e-4 * exact})
        assert audit._of_rate(types.SimpleNamespace(model=None), None, jax.random.key(0), None)["verdict"] == verdict
    rows = audit._steps({"ELBO": exact - 1.0, "IW-5": exact, "IW-50": exact - 0.5})
    assert audit._of_order(rows)["verdict"] == audit.FAILS and audit._of_order(rows[:2])["verdict"] == audit.HOLDS
    tails = [{"name": "IW-500", "k_above": 0.5, "k_median": 0.8, "ess_least": 1.0}]
    assert audit._of_tails(tails)["verdict"] == audit.FAILS


@pytest.mark.slow
def test_without_the_extras_the_page_says_what_is_missing(trained, monkeypatch):
    hidden = ("blackjax", "constriction")
    for module in {*hidden, *(name for name in sys.modules if name.split(".")[0] in hidden)}:
        monkeypatch.setitem(sys.modules, module, None)  # with what other tests have imported from it
    checks = audit.write(trained(vae_digits), **QUICK | {"counts": (1, 5)})["checks"]
    missing = {row["name"]: row["figure"] for row in checks if row["verdict"] == audit.LEFT_OUT}
    assert "vae_jax[inference]" in missing[audit.BOTH_SIDES]
    assert "vae_jax[compression]" in missing["real bytes of 6 images"]


def test_wrong_counts_are_refused_before_anything_is_measured(tmp_path):
    assert audit.counts_of(["5", " 1"]) == (1, 5)
    for words in (["5", "many"], ["0"], [""]):
        with pytest.raises(ValueError, match=f"--counts: {words[-1]!r} is not a positive integer"):
            audit.counts_of(words)
    with pytest.raises(ValueError, match="--counts: give at least one number"):
        audit.counts_of([])
    with pytest.raises(ValueError, match="counts must be at least 1, got 0"):
        audit.write(tmp_path, counts=(0, 5))
