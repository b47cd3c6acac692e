"""What a run says where no one watches, and where someone does."""

import logging as python_logging

import numpy as np
import pytest
from absl import logging

from vae_jax.training import progress


@pytest.fixture
def lines(caplog, monkeypatch):
    """The lines of the log, on a clock that only `lines.now` moves."""
    logger = python_logging.getLogger("absl")
    monkeypatch.setattr(logger, "propagate", True)
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.INFO)

    class Lines:
        now = 0.0

        def __call__(self):
            return [record.getMessage() for record in caplog.records]

    found = Lines()
    monkeypatch.setattr(progress.time, "perf_counter", lambda: found.now)
    monkeypatch.setattr(progress, "_done_once", [])
    monkeypatch.setattr(progress, "is_watched", lambda: False)
    yield found
    logging.set_verbosity(verbosity)


def run(lines, num_steps, log_every, seconds_a_step, **metrics):
    shown = progress.Progress(num_steps)
    for step in range(log_every, num_steps + 1, log_every):
        lines.now += log_every * seconds_a_step
        means = {"train/loss": 3.0, "train/steps_per_s": 1 / seconds_a_step, **metrics}
        shown.show(step, log_every, means)
    shown.close()


def test_a_line_has_the_step_the_rate_the_time_left_and_the_bound_in_nats(lines):
    run(lines, 10_000, 2_500, 0.002, **{"train/bound": -12.345, "valid/bound": -13.0})
    assert lines()[1] == (
        "step 5,000 of 10,000 (50 %): 500 steps/s, 10 s left, bound -12.35 nats, validation bound -13.00 nats"
    )
    assert lines()[-1] == "step 10,000 of 10,000 (100 %): 500 steps/s, bound -12.35 nats, validation bound -13.00 nats"


def test_a_long_log_is_thinned_and_a_slow_run_is_heard_every_minute(lines):
    run(lines, 100_000, 10, 1e-4)
    assert len(lines()) == progress.LINES + 1  # and the first
    before = len(lines())
    run(lines, 1_000, 1, 30.0)  # eight hours
    assert 500 <= len(lines()) - before <= 500 + progress.LINES and "steps/s, 8 h 20 min left" in lines()[before]


def test_the_time_left_leaves_out_what_is_done_once(lines):
    shown = progress.Progress(300)
    means = {"train/loss": 1.0, "train/steps_per_s": 10.0}
    for step in (100, 200):
        lines.now += 10.0
        with progress.said("compiling the validation"):
            lines.now += 500.0
        shown.show(step, 100, means)
    assert lines()[-1] == "step 200 of 300 (67 %): 10 steps/s, 10 s left, loss 1.00 nats"
    assert lines()[0:2] == ["compiling the validation ...", "compiling the validation took 500.0 s"]


def test_members_are_averaged_without_those_that_have_no_number(lines):
    run(lines, 10, 10, 1.0, **{"train/bound": np.array([-1.0, -3.0, np.nan])})
    assert lines()[-1].endswith("bound -2.00 nats")


def test_a_bar_on_a_terminal_and_no_line(lines, monkeypatch, capsys):
    monkeypatch.setattr(progress, "is_watched", lambda: True)
    run(lines, 10, 5, 1.0)
    assert not lines() and "10/10" in capsys.readouterr().err


def test_nothing_is_shown_if_it_is_not_asked_for(lines):
    shown = progress.Progress(10, enabled=False)
    shown.show(10, 10, {"train/loss": 1.0, "train/steps_per_s": 1.0})
    shown.close()
    assert not lines()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (5_900, "98 min"), (6_000, "1 h 40 min")]
)
def test_times_are_read_at_a_glance(seconds, text):
    assert progress.duration(seconds) == text
