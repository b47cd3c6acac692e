"""One run, from its config to a complete workdir: config.json, metrics.jsonl, checkpoints/, figures/, results.json."""

import contextlib
from pathlib import Path

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from vae_jax import files, spec
from vae_jax.data.fingerprint import fingerprint
from vae_jax.evaluation import likelihood
from vae_jax.runs import build, checking, page, pictures, processes, report, workdir, writers
from vae_jax.runs.migrate import migrate
from vae_jax.training import loop, sharding


def complete(config, folder, *, profile=False, figures=True) -> dict:
    """Train a model, measure it on the test set and draw it. Return the results.

    The same call again continues a run that was stopped, and does not repeat what is done.

    Args:
      config: a plain dict.
      folder: the workdir.
      profile: True to write a trace of one chunk of steps.
      figures: True to draw the figures.

    Raises `ValueError` if `folder` holds a run of another config, or if another process is training in it.
    """
    folder = Path(folder).expanduser()
    results_file = folder / "results.json"
    config = migrate(config)
    checking.check_config(config)
    if _agreed(results_file.exists()):
        return _completed(config, workdir.open_workdir(folder, config))
    if config["start_from"] and Path(config["start_from"]).expanduser().resolve() == folder.resolve():
        raise ValueError(f"config.start_from: {config['start_from']} is the workdir of this run; give another")
    experiment = build.build(config)  # before a folder is made
    folder = workdir.open_workdir(folder, config)
    with contextlib.ExitStack() as locks:
        if processes.is_first():
            locks.enter_context(workdir.locked(folder))
            if (folder.parent.parent / ".lock").exists() and folder.parent.name == "members":
                locks.enter_context(workdir.locked(folder.parent.parent))  # the sweep to which it belongs
        if _agreed(results_file.exists()):  # another process has just finished it
            return _completed(config, folder)
        if processes.is_first():
            workdir.update_config(folder, config)
            workdir.record_environment(folder)
        fitted = train(experiment, folder, profile=profile)
        params = jax.device_put(fitted.params, sharding.replicated(experiment.mesh))
        results = report.evaluate(experiment, params, **experiment.config["eval"], progress=processes.is_first())
        results |= report.training(experiment, fitted.record)
        if processes.is_first():
            files.write_json(results_file, results)
            if figures:
                pictures.figures(experiment, sharding.on_host(params), folder)
                page.report(folder, experiment, sharding.on_host(params))
    return results


def _agreed(value: bool) -> bool:
    """Return the `value` of the first process in all processes. If they differed, one would wait forever."""
    return bool(multihost_utils.broadcast_one_to_all(np.array(value))) if jax.process_count() > 1 else value


def _completed(config, folder):
    """Return the results of a complete run. If the options of `eval` have changed, the log says what to do."""
    logging.info("%s is complete; remove it to train again, or draw it with experiments.evaluate", folder)
    measured = workdir.read_config(folder).get("eval")
    measured = measured if isinstance(measured, dict) else {}
    if changed := [f"--{name}={value}" for name, value in config["eval"].items() if measured.get(name) != value]:
        logging.warning(
            "these results were measured with other options of config.eval; for new results run "
            "python -m experiments.evaluate --workdir=%s %s",
            *(folder, " ".join(changed)),
        )
    return workdir.read_results(folder, workdir.RESULTS)


def train(experiment, folder, *, profile=False) -> loop.Fit:
    """Run the learner up to its last step, from the newest checkpoint if there is one."""
    options = dict(experiment.config["train"])
    tensorboard, keep = options.pop("tensorboard"), options.pop("keep")
    with spec.under("config.train"):
        writer = writers.Writer(folder, tensorboard=tensorboard) if processes.is_first() else None
    data = fingerprint(experiment.dataset)
    checkpoints = build.checkpoints(folder, workdir.read_config(folder), data, keep=keep)
    logging.info("training %s on %s, %s", experiment.config["family"], experiment.dataset.name, jax.devices())
    try:
        return spec.call(
            loop.fit,
            options,
            experiment.learner,
            experiment.stream,
            where="config.train",
            key=jax.random.fold_in(experiment.key, 0),
            mesh=experiment.mesh,
            validate=likelihood.validation(
                experiment.model,
                jax.random.fold_in(experiment.key, 2),
                experiment.split("valid"),
                offset=build.levels_offset(experiment.config, experiment.dataset),
            ),
            checkpoints=checkpoints,
            writer=writer,
            progress=processes.is_first(),
            profile=folder / "profile" if profile else None,
        )
    except jax.errors.JaxRuntimeError as error:
        processes.leave_if_lost(error)  # before `close` waits for a process that has ended
        raise
    finally:
        checkpoints.close()
        if writer:
            writer.close()
