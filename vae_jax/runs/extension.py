"""A finished run made longer (`--extend`): more steps from its last state, everything else as it was.

The workdir records each extension in `extensions.json`, [{"from", "before", "num_steps", "time"}]: the step at which
the run had ended (null if it had not), its `train.num_steps` and the new one. The results of the shorter run are kept
as `results-STEPS.json`. A run that is extended equals, step for step, one that was that long from the start. Only a
validation at its first end, off the rhythm of `eval_every`, comes on top.
"""

import os
import time
from pathlib import Path

import numpy as np
from absl import logging

from vae_jax import files, spec
from vae_jax.runs import workdir
from vae_jax.training import gradient

FILE = "extensions.json"


def is_due(folder, config) -> bool:
    """Return True if `config` makes the run in `folder` longer, or if patience has ended it before its last step.

    Raises `ValueError` if there is no run, if `config` makes it shorter, and if more steps would change nothing.
    """
    if not (Path(folder) / "config.json").exists():
        raise ValueError(f"--extend: {folder} holds no run yet; leave --extend out")
    before, now = (int(c["train"]["num_steps"]) for c in (workdir.read_config(folder), config))
    if now < before:
        raise ValueError(
            f"--extend: config.train.num_steps is {now}, and the run in {folder} has {before}: it cannot be made "
            "shorter; give more steps"
        )
    ended_at = _ended_at(folder)
    if now == before and (ended_at is None or ended_at >= before):
        return False
    if config["learner"]["name"] == "whole_data":
        raise ValueError("--extend: the learner 'whole_data' has used all data at once, and more steps change nothing")
    return True


def begin(folder, config):
    """Make the run in `folder` as long as `config` says. Only the process that holds the lock may call this.

    A process that is killed here leaves a folder for which the same command does the rest.
    """
    folder, before, now = Path(folder), workdir.read_config(folder)["train"]["num_steps"], config["train"]["num_steps"]
    if (ended_at := _ended_at(folder)) is None and now == before:
        return  # another process has just begun it
    entries = _read(folder)
    last = entries[-1] if entries else {}
    begun = (last.get("before"), last.get("num_steps")) == (before, now) and ended_at in (None, last["from"])
    if not begun:  # by an earlier start, which was killed here
        last = {"from": ended_at, "before": before, "num_steps": now, "time": time.strftime("%Y-%m-%d %H:%M:%S")}
        files.write_json(folder / FILE, [*entries, last])
    for name in ("results", "evaluation"):  # before the config: longer, with results, it would count as complete
        if ended_at is not None and (folder / f"{name}.json").exists():
            os.replace(folder / f"{name}.json", folder / f"{name}-{ended_at}.json")
    (folder / "codes.npz").unlink(missing_ok=True)  # those of the shorter run
    workdir.update_config(folder, config)
    _log(folder, config, before if last["from"] is None else last["from"], now)


def patience_from(folder) -> int:
    """Return the step from which validations count for patience: that at which the last extension began, or 0."""
    return max((entry["from"] or 0 for entry in _read(folder)), default=0)


def _ended_at(folder):
    """Return the last step of a finished run, None for one that has not finished. Raises `ValueError` if diverged."""
    if not (Path(folder) / "results.json").exists():
        return None
    results = workdir.read_results(folder, ("train/steps",))
    if results.get("train/diverged"):
        raise ValueError(f"--extend: the run in {folder} has diverged, and has no last state to continue from")
    return int(results["train/steps"])


def _read(folder) -> list:
    file = Path(folder) / FILE
    entries = files.read_json(file) if file.exists() else []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) and "from" in entry for entry in entries):
        raise ValueError(f"{file} is not a list of extensions; restore it, or remove it")
    return entries


def _log(folder, config, start, end):
    """Log what is done, and how each learning rate goes on."""
    logging.info("%s is extended from step %d to step %d", folder, start, end)
    options = config.get("optimizer") or {}
    parts = options if "default" in options else {"": options}
    for part, chosen in parts.items():
        if not isinstance(chosen, dict) or not (schedule := chosen.get("schedule")):
            continue
        rates = chosen["learning_rate"] * _factors(schedule, np.linspace(start, end, 99))
        ended = "has ended, and it stays" if np.ptp(rates) == 0 else "goes on as configured: it is"
        where = f" of {part}" if part else ""
        logging.info(
            "the schedule (%s) of the learning rate%s %s %.3g at step %d, %.3g at step %d",
            *(schedule["name"], where, ended, rates[0], start, rates[-1], end),
        )


def _factors(schedule, steps):
    """Return the factors of a schedule of the config at these steps. Keys of JSON that are steps are strings."""
    with_steps = lambda value: {int(step): factor for step, factor in value.items()}  # noqa: E731
    options = {key: with_steps(value) if isinstance(value, dict) else value for key, value in schedule.items()}
    return np.asarray(spec.build(gradient.SCHEDULES, options, where="config.optimizer.schedule")(steps))
