"""Runs on tables: results in the units of the file, and what is refused before anything is trained."""

import jax
import numpy as np
import pytest
import scipy.stats

from vae_jax.configs import multivariate_normal_digits, vae_counts, vae_table
from vae_jax.data import table
from vae_jax.runs import build, report

RNG = np.random.default_rng(0)
FACTOR = RNG.normal(size=(300, 1))
REAL = {f"c{n}": 10.0**n * (FACTOR[:, 0] + RNG.normal(size=300)) + n for n in range(3)}


def config(module, **data):
    chosen = module.get_config("smoke").to_dict()
    chosen["data"] |= data
    return chosen


def test_log_p_is_that_of_the_original_units():
    """A Gaussian fitted to standardised columns, against the same one fitted to the columns as they are."""
    data = table.of_columns("t", REAL)
    chosen = config(multivariate_normal_digits, name="table", transform="columns", batch_size=len(data.train.x))
    chosen["model"]["shrinkage"] = 0.0
    experiment = build.build(chosen, data)
    params = experiment.model.fit(data.train.x) if experiment.model.fit else None
    if params is None:
        batch = {"x": jax.numpy.asarray(data.train.x)}
        start = experiment.model.init(jax.random.key(0), batch)
        params = experiment.model.sums.maximize(start, experiment.model.sums.expect(start, batch)[0])
    results = report.evaluate(experiment, params, num_samples=1, num_test=0, progress=False)
    train, test = (np.stack(list(data.columns.to_original(s.x).values()), 1) for s in (data.train, data.test))
    exact = scipy.stats.multivariate_normal(train.mean(0), np.cov(train.T, bias=True)).logpdf(test).mean()
    assert abs(results["test/log_prob_original"] - exact) < 2e-3
    assert abs(results["test/log_prob"] - results["test/log_prob_original"] - np.log(data.columns.scale).sum()) < 1e-4
    assert "nats in the original units of the columns" in report.table(results) and "50 test rows" in report.table(
        results
    )


@pytest.mark.parametrize(
    ("module", "change", "words"),
    [
        (
            vae_table,
            {"transform": "real"},
            "config.data.transform: a table needs 'columns', and other data cannot have it",
        ),
        (vae_table, {"files": {"hide": 2}}, "config.data.files.hide must be at least 0 and below 1, got 2"),
        (vae_table, {"files": {"hid": 0.3}}, "config.data.files: unknown key 'hid'; did you mean 'hide'"),
        (
            vae_table,
            {"context": {"name": "library"}},
            "config.data.context.name 'library': the values of breast_cancer are",
        ),
        (
            vae_counts,
            {"context": {"name": "none"}},
            r"config.model.likelihood.library: True needs the total count of each",
        ),
        (vae_counts, {"transform": "binarize"}, r"config.data.transform|likelihood|library"),
    ],
)
def test_what_does_not_fit_is_refused(module, change, words):
    with pytest.raises(ValueError, match=words) as error:
        build.build(config(module, **change))
    assert "\n" not in str(error.value)
