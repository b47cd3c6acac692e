"""Train a model, measure it on the test set and draw it.

    vae-jax train --config=vae_digits [--workdir=DIR] [--config.KEY=VALUE ...]
    vae-jax train --config=vae_digits --config.train.num_steps=20000 --extend

The workdir gets config.json, metrics.jsonl, checkpoints/, figures/ and results.json. The same command again
continues where the last one stopped. --extend lengthens a run that has finished, from its last state: the schedule
stays as it is configured, and the results so far are kept as results-STEPS.json.
"""

from pathlib import Path

from absl import app, flags

from vae_jax.runs import launching

CONFIG = launching.define_config()
PROFILE = flags.DEFINE_bool("profile", False, "Write a trace of one chunk of steps to the workdir's profile/.")
FORMATS = flags.DEFINE_list("formats", ["png"], "What figures are written as: png, pdf, svg; several with commas.")
WORKDIR = flags.DEFINE_string("workdir", None, "Where everything is written; default: runs/<name of the config>.")
EXTEND = flags.DEFINE_bool("extend", False, "Lengthen a run to a larger --config.train.num_steps, from its last state.")


@launching.launched
def main(argv):
    del argv
    from vae_jax.runs import processes, report, train  # JAX: when the flags are right

    workdir = Path(WORKDIR.value or Path("runs") / launching.config_name())
    options = {"profile": PROFILE.value, "formats": FORMATS.value, "extend": EXTEND.value}
    results = train.complete(CONFIG.value.to_dict(), workdir, **options)
    if processes.is_first():
        print(f"\n{report.table(results)}\nfigures in {workdir / 'figures'}, numbers in {workdir / 'results.json'}")
        print(f"all of it on one page: {workdir / 'report.html'}")


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main, flags_parser=launching.parse_flags)
