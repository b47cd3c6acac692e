"""Train a model, measure it on the test set and draw it.

    python -m experiments.train --config=experiments/configs/vae_digits.py [--workdir=DIR] [--config.KEY=VALUE ...]

The workdir gets config.json, metrics.jsonl, checkpoints/, figures/ and results.json. The same command again
continues where the last one stopped.
"""

from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from vae_jax.runs import configs, launching, processes, report, train

CONFIG = config_flags.DEFINE_config_file("config", help_string="A file of experiments/configs; ':smoke' shrinks it.")
PROFILE = flags.DEFINE_bool("profile", False, "Write a trace of one chunk of steps to the workdir's profile/.")
FORMATS = flags.DEFINE_list("formats", ["png"], "What figures are written as: png, pdf, svg; several with commas.")
WORKDIR = flags.DEFINE_string("workdir", None, "Where everything is written; default: runs/<name of the config>.")


@launching.launched
def main(argv):
    del argv
    name = config_flags.get_config_filename(flags.FLAGS["config"])
    workdir = Path(WORKDIR.value or Path("runs") / configs.run_name(name))
    options = {"profile": PROFILE.value, "formats": FORMATS.value}
    results = train.complete(launching.config_of(CONFIG), workdir, **options)
    if processes.is_first():
        print(f"\n{report.table(results)}\nfigures in {workdir / 'figures'}, numbers in {workdir / 'results.json'}")


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main, flags_parser=launching.parse_flags)
