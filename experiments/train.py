"""Train a model, measure it on the test set, draw it.

    python -m experiments.train --config=experiments/configs/vae_digits.py [--workdir=DIR] [--config.KEY=VALUE ...]

The workdir gets config.json, metrics.jsonl, checkpoints/, figures/ and results.json. The same command again goes on
where the last one stopped.
"""

import json
import time
from pathlib import Path

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from experiments import report, setup
from vae_jax.evaluation import likelihood
from vae_jax.training import loop, writers
from vae_jax.training.checkpoint import Checkpoints

CONFIG = config_flags.DEFINE_config_file("config", help_string="A file of experiments/configs; ':smoke' shrinks it.")
WORKDIR = flags.DEFINE_string("workdir", None, "Where everything goes; default: runs/<name of the config>.")


@setup.one_line_errors
def main(argv):
    del argv
    started = setup.process_start()
    config = CONFIG.value.to_dict()
    name = config_flags.get_config_filename(flags.FLAGS["config"])
    workdir = writers.open_workdir(WORKDIR.value or Path("runs") / _run_name(name), config)
    results_file = workdir / "results.json"
    if results_file.exists():
        print(f"{workdir} is complete; remove it to train anew.\n{report.table(json.loads(results_file.read_text()))}")
        return
    experiment = setup.build(config)
    fitted = train(experiment, workdir)
    seconds = fitted.record["seconds"]
    training = {
        "train/steps": fitted.record["steps"],
        "train/seconds": seconds,
        "train/images_per_s": fitted.record["steps"] * experiment.stream.batch_size / seconds,
        "train/first_step_s": (fitted.record["first_step_at"] or time.time()) - started,
        "train/skipped": fitted.record["skipped"],
        "valid/best_bound": fitted.record["best_bound"],
        "valid/best_step": fitted.record["best_step"],
    }
    figures = report.figures(experiment, fitted.params, workdir)
    results = report.evaluate(experiment, fitted.params, **experiment.config["eval"]) | training
    writers.write_json(results_file, results)
    print(f"\n{report.table(results)}\nfigures in {figures}, numbers in {results_file}")


def train(experiment, workdir) -> loop.Fit:
    """Drive the learner to its last step, from the newest checkpoint where there is one."""
    options = dict(experiment.config["train"])
    writer = writers.Writer(workdir, tensorboard=options.pop("tensorboard"))
    checkpoints = Checkpoints(workdir / "checkpoints")
    valid = experiment.split("valid")

    def validate(params, step):
        key = jax.random.fold_in(experiment.key, 2)  # the same noise at every validation: differences are the model's
        terms = likelihood.bound_terms(experiment.model, params, key, valid, step=step)
        return {name: float(values.mean()) for name, values in terms.items()}

    logging.info("training %s on %s, %s", experiment.config["family"], experiment.dataset.name, jax.devices()[0])
    try:
        return setup.call(
            loop.fit,
            options,
            experiment.learner,
            experiment.stream,
            where="config.train",
            key=jax.random.fold_in(experiment.key, 0),
            validate=validate,
            checkpoints=checkpoints,
            writer=writer,
        )
    finally:
        checkpoints.close()
        writer.close()


def _run_name(config_file):
    """configs/vae_digits.py:smoke -> vae_digits-smoke."""
    stem, _, argument = str(config_file).partition(":")
    return "-".join(filter(None, (Path(stem).stem, argument)))


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main, flags_parser=setup.parse_flags)
