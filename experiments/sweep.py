"""Train seeds and hyper-parameters together, as few compiled programs.

    vae-jax sweep --config=vae_digits \\
        --sweep="seed=0:8,optimizer.learning_rate=1e-3|3e-4" [--workdir=DIR] [--members_per_program=N]

Every key of the config can be swept. Seeds and numbers that only the mathematics reads (learning rate, β ...) run side
by side in one program. A value that changes a shape or a branch (a width, a name) gets a program of its own.
The workdir gets results.json, figures/ and members/NAME/. Each member is a workdir as `train` leaves it, and
`evaluate` accepts it. The same command again continues where the last one stopped.
"""

import os
from pathlib import Path

from absl import app, flags

from vae_jax.runs import launching

CONFIG = launching.define_config()
SWEEP = flags.DEFINE_string("sweep", None, "The values that vary: KEY=VALUE|VALUE or KEY=FROM:TO, comma-separated.")
WORKDIR = flags.DEFINE_string("workdir", None, "Where everything is written; default: runs/<name of the config>-sweep.")
MEMBERS = flags.DEFINE_integer("members_per_program", 0, "Members of one program; 0: as many as pay on this machine.")


@launching.launched
def main(argv):
    del argv
    from vae_jax.runs import sweep, sweep_table

    folder = Path(WORKDIR.value or Path("runs") / f"{launching.config_name()}-sweep").expanduser()
    config = CONFIG.value.to_dict()
    rows = sweep.complete(config, SWEEP.value, folder, members_per_program=MEMBERS.value)
    print(f"\n{sweep_table.table(rows)}\nmembers in {folder / 'members'}, numbers in results.json")
    print(f"figure {sweep_table.figure(rows, folder)}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "sweep"])
    # One device for each core that this process may use: members gain more from cores than XLA's own threads do.
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count())
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(len(cores)))  # JAX is not imported yet
    app.run(main, flags_parser=launching.parse_flags)
