"""Compare models of the same data: a table and a sheet of samples, a row for each model.

    vae-jax compare [--tables=mnist,mnist_8bit,digits,fashion_mnist] [--path=DIR] [--workdir=runs/compare]
    vae-jax compare --runs=runs/vae_mnist --runs='runs/iwae_*' --workdir=DIR

The first command trains what `experiments/comparisons.py` lists, each model in a workdir of its own. The second one
compares runs that exist. Both write table.md, table.csv and samples.png for every table; `vae_jax/runs/compare.py` says
how to read them. The same command again continues where the last one stopped.
"""

from pathlib import Path

from absl import app, flags, logging

from vae_jax.commands import comparisons
from vae_jax.runs import launching

TABLES = flags.DEFINE_list("tables", None, "Tables of experiments/comparisons.py; default: all.")
RUNS = flags.DEFINE_multi_string(  # the name of a member may contain a comma
    "runs", [], "Instead: a workdir of a trained model, or a pattern; may be repeated."
)
PATH = flags.DEFINE_string("path", "", "A folder with a folder of files for each set; default: $VAE_JAX_DATA.")
WORKDIR = flags.DEFINE_string("workdir", "runs/compare", "Where everything is written.")
EITHER = "--runs compares runs that exist, and --tables trains some; give one"
flags.register_multi_flags_validator(["runs", "tables"], lambda given: not all(given.values()), EITHER)


@launching.launched
def main(argv):
    del argv
    from vae_jax.runs import compare

    workdir = Path(WORKDIR.value).expanduser()
    if RUNS.value:
        print(f"\n{compare.compare(compare.named(RUNS.value), workdir)}")
        return
    tables = TABLES.value or list(comparisons.TABLES)
    if wrong := [name for name in tables if name not in comparisons.TABLES]:
        raise ValueError(f"--tables: unknown value {wrong[0]!r} (allowed: {', '.join(comparisons.TABLES)})")
    for name in tables:
        print(f"\n{compare.compare(trained(name, workdir / name), workdir / name)}")


def trained(table, workdir) -> dict:
    """Train the models of a table, and return {name: workdir}."""
    from vae_jax.runs import train

    folders = {}
    for model, config in comparisons.TABLES[table]().items():
        folders[model] = workdir / model.replace(" ", "_").replace(",", "")
        logging.info("table %s: %s", table, model)
        found = PATH.value and config.data.name != "digits"  # two tables may be of one set
        config.data.path = str(Path(PATH.value).expanduser() / config.data.name) if found else ""
        train.complete(config.to_dict(), folders[model], figures=False)
    return folders


if __name__ == "__main__":
    app.run(main, flags_parser=launching.parse_flags)
