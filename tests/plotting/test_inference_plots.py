"""Figures of one latent: what they show is what was given."""

import matplotlib
import numpy as np
import pytest

from vae_jax.plotting import inference

Z = np.linspace(-6, 6, 601)


def log_normal(loc, scale):
    return -0.5 * ((Z - loc) / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)


def names(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def area(line):
    return np.trapezoid(line.get_ydata(), line.get_xdata())


def test_bayes_draws_joints_of_comparable_areas_and_posteriors_of_area_one():
    log_prob = np.array([3.0, 1.0])
    log_joint = np.stack([log_normal(0.5, 0.2), log_normal(-1, 0.5)]) + log_prob[:, None]
    figure = inference.bayes(np.full((2, 4, 4, 1), 0.5), Z, log_normal(0, 1), log_joint, log_prob)
    panels = np.array(figure.axes).reshape(4, 2)
    areas = [[area(panel.lines[0]) for panel in row] for row in panels[1:]]
    np.testing.assert_allclose(areas, [[1, 1], [1, np.exp(-2)], [1, 1]], rtol=1e-3)
    assert panels[2, 0].get_ylim() == panels[2, 1].get_ylim()
    assert {"area 1", "area 0.14", "$\\log\\, p(x)$ = 3.0"} <= set(names(figure))


def test_densities_are_named_and_filled_where_asked():
    figure = inference.densities(Z, {"p": log_normal(0, 1), "q": log_normal(1, 0.3)}, areas=("q",))
    (panel,) = figure.axes
    np.testing.assert_allclose([area(line) for line in panel.lines], 1.0, rtol=1e-3)
    assert len(panel.collections) == 1 and {"p", "q"} <= set(names(figure))


def test_rise_states_the_areas_in_units_of_the_last():
    log_joint = np.stack([log_normal(0, 1) - 3.0, log_normal(0.4, 0.3)])
    curve = np.linspace(-3, -1, 5)
    figure = inference.rise(Z, log_joint, [10, 90], np.arange(5), curve, curve - 0.5, truth=-0.9)
    assert {"step 10: area 0.05", "step 90: area 1", "the true process"} <= set(names(figure))


def test_jensen_puts_the_log_of_the_mean_at_zero_and_states_the_gap():
    rng = np.random.default_rng(0)
    spread = rng.normal(-0.5, 1.0, 1000) + 7.0
    figure = inference.jensen({"wide": spread, "exact": np.full(1000, 7.0)}, 7.0)
    assert f"wide\ngap {7 - spread.mean():.2f} nats" in names(figure) and "exact\ngap 0.00 nats" in names(figure)


@pytest.mark.parametrize("known", [True, False])
def test_sandwich_draws_differences_to_the_truth(known):
    exact = np.arange(6.0)
    lower, upper = exact - np.array([[1.0], [0.1]]), exact + np.array([[2.0], [0.1]])
    noise = 0.01 * np.random.default_rng(0).normal(size=6)
    figure = inference.sandwich(
        [10, 100], lower + noise, upper + noise, exact if known else None, others={"ELBO": exact - 3}
    )
    (panel,) = figure.axes
    drawn = {c.get_label(): c.lines[0].get_ydata() for c in panel.containers}
    np.testing.assert_allclose(drawn["upper: backwards"], [2, 0.1], atol=0.02)
    np.testing.assert_allclose(drawn["lower: AIS, forwards"], [-1, -0.1], atol=0.02)
    assert "ELBO" in names(figure)


def test_tightening_draws_what_is_lost():
    lost = np.array([[2.0, 4.0], [0.2, 0.4], [0.02, 0.04]])
    (panel,) = inference.tightening([1, 10, 100], -lost, np.zeros(2)).axes
    mean, slope = panel.lines
    np.testing.assert_allclose(mean.get_ydata(), [3.0, 0.3, 0.03])
    np.testing.assert_allclose(slope.get_ydata(), [3.0, 0.3, 0.03])  # these fall like 1 / K


def test_tightening_bears_a_bound_that_loses_nothing():
    (panel,) = inference.tightening([1, 10], np.full((2, 3), 0.1), np.zeros(3)).axes
    assert panel.get_ylim()[0] > 0


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"log_prior must have shape \[G=601\]"):
        inference.bayes(np.zeros((1, 4, 4, 1)), Z, np.zeros(5), np.zeros((1, 601)), np.zeros(1))
