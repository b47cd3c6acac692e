"""The progress of a run: a bar on a terminal, otherwise lines in the log, such as that of a batch queue."""

import contextlib
import sys
import time

import numpy as np
import tqdm
from absl import logging

LINES = 40  # at most so many for the steps of a run, unless it is long: then one every
SECONDS = 60.0
_done_once = []  # seconds that no estimate of the time that is left should count


@contextlib.contextmanager
def said(doing):
    """Log what is done once, such as "compiling the training step", and then how long it took."""
    began = time.perf_counter()
    logging.info("%s ...", doing)
    yield
    seconds = time.perf_counter() - began
    _done_once.append(seconds)
    logging.info("%s took %.1f s", doing, seconds)


def is_watched() -> bool:
    """Return True if a bar can move: standard error is a terminal or the output of a notebook."""
    return "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty())


class Progress:
    """The steps of a run, up to `num_steps`: a bar if someone watches, otherwise lines in the log.

    A line has the step, steps/s, the time that is left, and the bound or the loss in nats. There is one for each log,
    but at most `LINES` for a run and one every `SECONDS`. `enabled=False` shows nothing.
    """

    def __init__(self, num_steps, *, enabled=True):
        self.num_steps, self.enabled = num_steps, enabled
        self._bar = self._since = None

    def show(self, step, length, logged):
        """Show the metrics `logged` of the chunk of `length` steps that ended at `step`."""
        if not self.enabled:
            return
        if is_watched():
            if self._bar is None:  # not before the first chunk, so that the rate leaves out the compilation
                self._bar = tqdm.tqdm(total=self.num_steps, initial=step, unit="step", dynamic_ncols=True)
            else:
                self._bar.update(length)
            self._bar.set_postfix_str(_worth(logged, "train"))
            return
        now, per_line = time.perf_counter() - sum(_done_once), -(-self.num_steps // LINES)
        rate = _mean(logged["train/steps_per_s"])
        if self._since:
            last_step, last_time = self._since
            if step // per_line == last_step // per_line and now - last_time < SECONDS and step < self.num_steps:
                return
            rate = (step - last_step) / max(now - last_time, 1e-9)
        self._since = step, now
        left = f"{duration((self.num_steps - step) / rate)} left, " if step < self.num_steps else ""
        valid = _worth(logged, "valid")
        logging.info(
            "step %s of %s (%.0f %%): %s steps/s, %s%s%s",
            *(
                f"{step:,}",
                f"{self.num_steps:,}",
                100 * step / self.num_steps,
                f"{rate:,.3g}" if rate < 100 else f"{rate:,.0f}",
            ),
            *(left, _worth(logged, "train"), f", validation {valid}" if valid else ""),
        )

    def close(self):
        if self._bar is not None:
            self._bar.close()


def duration(seconds) -> str:
    """Return a time such as "42 s", "12 min" or "3 h 20 min"."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def logged(metrics, steps_per_s) -> dict:
    """Return the means of a chunk's metrics {name: [length, ...]}, which are logged."""
    means = {f"train/{name}": mean_of_finite(values) for name, values in counted(metrics).items()}
    return means | {"train/steps_per_s": steps_per_s}


def counted(metrics):
    """Return the metrics with NaN at the steps that were skipped, which no mean should count."""
    skipped = metrics["skipped"].astype(bool)
    values = {name: np.where(skipped, np.nan, values) for name, values in metrics.items()}
    return values | {"skipped": metrics["skipped"]}


def mean_of_finite(values):
    """Return the mean over the first axis, without the values that are not finite."""
    finite = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(finite, values, 0.0).sum(0) / finite.sum(0)


def _worth(logged, split):
    """Return "bound -23.1 nats", or the loss if there is no bound; "" if there is neither. Members are averaged."""
    name = next((name for name in ("bound", "loss", "distortion") if f"{split}/{name}" in logged), None)
    return f"{name} {_mean(logged[f'{split}/{name}']):.2f} nats" if name else ""


def _mean(value):
    return float(mean_of_finite(np.ravel(value)))
