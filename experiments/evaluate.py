"""Measure and draw a trained model again, with other numbers of samples if wished.

    python -m experiments.evaluate --workdir=DIR [--checkpoint=best] [--num_samples=5000] [--num_test=0]

Writes evaluation.json (the flat keys of results.json) and the figures into the workdir.
"""

from pathlib import Path

from absl import app, flags

from vae_jax.runs import build, checking, launching, pictures, report, workdir
from vae_jax.training import sharding

WORKDIR = flags.DEFINE_string("workdir", None, "A folder that experiments.train has written.", required=True)
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "A step, or best: of the validation bound; default: the last.")
NUM_SAMPLES = flags.DEFINE_integer("num_samples", None, "K of the importance-weighted bound; default: the config's.")
NUM_TEST = flags.DEFINE_integer("num_test", None, "Test examples, 0 for all; default: the config's.")
FIGURES = flags.DEFINE_bool("figures", True, "Whether to draw the figures.")


@launching.launched
def main(argv):
    del argv
    folder = Path(WORKDIR.value).expanduser()
    if CHECKPOINT.value not in (None, "best") and not CHECKPOINT.value.isdecimal():
        raise ValueError(f"--checkpoint={CHECKPOINT.value}: give a step, or best")
    experiment = build.build_trained(folder)
    options = dict(experiment.config["eval"])
    for name, flag in (("num_samples", NUM_SAMPLES), ("num_test", NUM_TEST)):
        options[name] = options[name] if flag.value is None else flag.value
    checking.check_config(experiment.config | {"eval": options})
    fitted = build.restore(folder, experiment, step=CHECKPOINT.value, mesh=experiment.mesh)
    results = report.evaluate(experiment, fitted.params, **options)
    workdir.write_json(folder / "evaluation.json", results)
    print(f"\nstep {int(fitted.state.step)} of {folder}\n{report.table(results)}")
    if FIGURES.value:
        print(f"figures in {pictures.figures(experiment, sharding.on_host(fitted.params), folder)}")


if __name__ == "__main__":
    app.run(main, flags_parser=launching.parse_flags)
