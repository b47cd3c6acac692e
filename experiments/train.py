"""Train a model, measure it on the test set, draw it.

    python -m experiments.train --config=experiments/configs/vae_digits.py [--workdir=DIR] [--config.KEY=VALUE ...]

The workdir gets config.json, metrics.jsonl, checkpoints/, figures/ and results.json. The same command again goes on
where the last one stopped.
"""

import json
from pathlib import Path

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from experiments import processes, report, setup
from vae_jax.evaluation import likelihood
from vae_jax.training import loop, sharding, writers
from vae_jax.training.checkpoint import Checkpoints

CONFIG = config_flags.DEFINE_config_file("config", help_string="A file of experiments/configs; ':smoke' shrinks it.")
PROFILE = flags.DEFINE_bool("profile", False, "Write a trace of one chunk of steps to the workdir's profile/.")
WORKDIR = flags.DEFINE_string("workdir", None, "Where everything goes; default: runs/<name of the config>.")


@setup.launched
def main(argv):
    del argv
    config = CONFIG.value.to_dict()
    name = config_flags.get_config_filename(flags.FLAGS["config"])
    workdir = writers.open_workdir(WORKDIR.value or Path("runs") / setup.run_name(name), config)
    results_file = workdir / "results.json"
    if results_file.exists():
        print(f"{workdir} is complete; remove it to train anew.\n{report.table(json.loads(results_file.read_text()))}")
        return
    experiment = setup.build(config)
    fitted = train(experiment, workdir)
    params = jax.device_put(fitted.params, sharding.replicated(experiment.mesh))
    results = report.evaluate(experiment, params, **experiment.config["eval"], progress=processes.is_first())
    results |= report.training(experiment, fitted.record)
    if processes.is_first():
        figures = report.figures(experiment, sharding.on_host(params), workdir)
        writers.write_json(results_file, results)
        print(f"\n{report.table(results)}\nfigures in {figures}, numbers in {results_file}")


def train(experiment, workdir) -> loop.Fit:
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
            profile=workdir / "profile" if PROFILE.value else None,
        )
    except jax.errors.JaxRuntimeError as error:
        processes.leave_if_lost(error)  # before `close` waits for one that has gone
        raise
    finally:
        checkpoints.close()
        if writer:
            writer.close()


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main, flags_parser=setup.parse_flags)
