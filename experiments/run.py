"""One run, from its config to a complete workdir: config.json, metrics.jsonl, checkpoints/, figures/, results.json."""

import json
from pathlib import Path

import jax
from absl import logging

from experiments import pictures, processes, report, setup
from vae_jax.evaluation import likelihood
from vae_jax.training import loop, sharding, writers
from vae_jax.training.checkpoint import Checkpoints


def complete(config, workdir, *, profile=False, figures=True) -> dict:
    """Train, measure on the test set, draw; what an earlier start has done is not done again. Returns the results.

    Raises `ValueError` where `workdir` holds a run of another config.
    """
    results_file = Path(workdir) / "results.json"
    experiment = None if results_file.exists() else setup.build(config)  # what is refused leaves no folder to be undone
    workdir = writers.open_workdir(workdir, config)
    if experiment is None:
        logging.info("%s is complete; remove it to train anew, or draw it with experiments.evaluate", workdir)
        return json.loads(results_file.read_text())
    fitted = train(experiment, workdir, profile=profile)
    params = jax.device_put(fitted.params, sharding.replicated(experiment.mesh))
    results = report.evaluate(experiment, params, **experiment.config["eval"], progress=processes.is_first())
    results |= report.training(experiment, fitted.record)
    if processes.is_first():
        writers.write_json(results_file, results)
        if figures:
            pictures.figures(experiment, sharding.on_host(params), workdir)
    return results


def train(experiment, workdir, *, profile=False) -> loop.Fit:
    """Drive the learner to its last step, from the newest checkpoint where there is one."""
    options = dict(experiment.config["train"])
    tensorboard, keep = options.pop("tensorboard"), options.pop("keep")
    writer = writers.Writer(workdir, tensorboard=tensorboard) if processes.is_first() else None
    checkpoints = Checkpoints(workdir / "checkpoints", keep=keep)
    logging.info("training %s on %s, %s", experiment.config["family"], experiment.dataset.name, jax.devices())
    try:
        return setup.call(
            loop.fit,
            options,
            experiment.learner,
            experiment.stream,
            where="config.train",
            key=jax.random.fold_in(experiment.key, 0),
            mesh=experiment.mesh,
            validate=likelihood.validation(
                experiment.model, jax.random.fold_in(experiment.key, 2), experiment.split("valid")
            ),
            checkpoints=checkpoints,
            writer=writer,
            progress=processes.is_first(),
            profile=workdir / "profile" if profile else None,
        )
    except jax.errors.JaxRuntimeError as error:
        processes.leave_if_lost(error)  # before `close` waits for one that has gone
        raise
    finally:
        checkpoints.close()
        if writer:
            writer.close()
