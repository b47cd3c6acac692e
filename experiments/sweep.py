"""Train seeds and hyper-parameters together, as few compiled programs.

    python -m experiments.sweep --config=experiments/configs/vae_digits.py \\
        --sweep="seed=0:8,optimizer.learning_rate=1e-3|3e-4" [--workdir=DIR] [--members_per_program=N]

Any key of the config can be swept. Seeds and numbers that the mathematics takes as they are (learning rate, β ...) run
side by side in one program; what changes a shape or a branch (a width, a name) gets a program for each value.
The workdir gets members/NAME/, each a workdir as experiments.train leaves it (experiments.evaluate takes it),
results.json and figures/. The same command again goes on where the last one stopped.
"""

import hashlib
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
from absl import app, flags, logging
from ml_collections import config_flags

from experiments import processes, report, setup, sweep_table
from vae_jax.evaluation import likelihood
from vae_jax.training import loop, sweep, writers
from vae_jax.training.checkpoint import Checkpoints

CONFIG = config_flags.DEFINE_config_file("config", help_string="A file of experiments/configs; ':smoke' shrinks it.")
SWEEP = flags.DEFINE_string("sweep", None, "What varies: KEY=VALUE|VALUE or KEY=FROM:TO, separated by commas.")
WORKDIR = flags.DEFINE_string("workdir", None, "Where everything goes; default: runs/<name of the config>-sweep.")
MEMBERS = flags.DEFINE_integer("members_per_program", 0, "Members of one program; 0: as many as pay on this machine.")


@setup.launched
def main(argv):
    del argv
    if processes.several():
        raise ValueError("a sweep is one process: start several with a part of the --sweep and a --workdir each")
    config, axes = CONFIG.value.to_dict(), sweep.parse(SWEEP.value)
    axes = {path: [setup.as_in_config(config, path, v) for v in values] for path, values in axes.items()}
    name = setup.run_name(config_flags.get_config_filename(flags.FLAGS["config"]))
    experiment = setup.build(config)  # what is refused leaves no folder to be undone
    workdir = writers.open_workdir(WORKDIR.value or Path("runs") / f"{name}-sweep", config | {"sweep": axes})
    traced = {path for path, values in axes.items() if path == "seed" or _is_traceable(experiment, path, values)}
    most = MEMBERS.value or sweep.members_that_pay(loop.state_shapes(experiment.learner, experiment.stream))
    programs = sweep.programs(axes, traced, most)
    logging.info("%d members in %d programs of at most %d", sum(map(len, programs)), len(programs), most)
    for number, members in enumerate(programs):
        run_program(config, members, traced, workdir, f"{number + 1} of {len(programs)}")
    rows = sweep_table.by_setting([_folder(workdir, member) for member in sweep.product(axes)], axes)
    writers.write_json(workdir / "results.json", rows)
    drawn = sweep_table.figure(rows, workdir)
    print(f"\n{sweep_table.table(rows)}\nmembers in {workdir / 'members'}, figure {drawn}, numbers in results.json")


def run_program(config, members, traced, workdir, which):
    """Train `members` side by side, then leave each as if it had been trained alone."""
    folders = [_folder(workdir, member) for member in members]
    if all((folder / "results.json").exists() for folder in folders):
        return
    configs = [setup.with_values(config, member) for member in members]
    for own, folder in zip(configs, folders, strict=True):
        writers.open_workdir(folder, own)
    logging.info("program %s: %s", which, ", ".join(folder.name for folder in folders))
    experiment = setup.build(configs[0])
    temporary = workdir / "programs" / hashlib.sha1(str(members).encode()).hexdigest()[:12]
    try:
        fitted = train(experiment, configs, [p for p in members[0] if p in traced and p != "seed"], folders, temporary)
    except loop.Diverged:  # every one of them
        fitted = None
    known = {}  # one compiled evaluation for all members of one model
    for i, (own, folder) in enumerate(zip(configs, folders, strict=True)):
        if (folder / "results.json").exists():
            continue
        if fitted is None or fitted.record["diverged"][i]:
            writers.write_json(folder / "results.json", {"train/diverged": True})
            continue
        model = known.setdefault(str(own["model"]), setup.build_learner(own, experiment.dataset)[0])
        alone = experiment._replace(config=own, key=jax.random.key(own["seed"]), model=model)
        member = sweep.take(fitted, i)
        _save(member, own, folder)
        results = report.evaluate(alone, member.params, **own["eval"], progress=False)
        results |= report.training(alone, member.record, len(members)) | {"train/members": len(members)}
        writers.write_json(folder / "results.json", results)
    shutil.rmtree(temporary, ignore_errors=True)


def train(experiment, configs, paths, folders, temporary) -> loop.Fit:
    """`loop.fit` of all members at once, which differ in their seeds and in the numbers at `paths`."""
    options = dict(experiment.config["train"])
    tensorboard, keep = options.pop("tensorboard"), options.pop("keep")
    mesh, missing = sweep.mesh_for(len(configs))
    configs = configs + configs[-1:] * missing
    values = {path: jnp.asarray([setup.value_at(own, path) for own in configs], jnp.float32) for path in paths}
    build = lambda v: setup.build_learner(setup.with_values(experiment.config, v), experiment.dataset)  # noqa: E731
    keys = jnp.stack([jax.random.key(own["seed"]) for own in configs])
    branch = lambda i: jax.vmap(lambda key: jax.random.fold_in(key, i))(keys)  # noqa: E731
    valid = experiment.split("valid")
    terms = lambda v, params, key, step: likelihood.mean_terms(build(v)[0], params, key, valid, step=step)  # noqa: E731
    means = sweep.over_members(terms, mesh)
    checkpoints = Checkpoints(temporary / "checkpoints", keep=keep)
    writer = writers.MemberWriters(folders, tensorboard=tensorboard)
    try:
        return setup.call(
            loop.fit,
            options,
            sweep.together(lambda v: build(v)[1], values),
            sweep.streams_together([setup.build_stream(own, experiment.dataset) for own in configs]),
            where="config.train",
            key=branch(0),
            mesh=mesh,
            validate=lambda params, step: jax.device_get(means(values, params, branch(2), jnp.full(len(keys), step))),
            checkpoints=checkpoints,
            writer=writer,
        )
    finally:
        checkpoints.close()
        writer.close()


def _save(member, config, folder):
    """The member's last state, as the checkpoint of a lone run."""
    checkpoints = Checkpoints(folder / "checkpoints")
    best = member.params if config["train"]["patience"] else None
    checkpoints.save(member.record["steps"], (member.state, best), member.record, bound=member.record["best_bound"])
    checkpoints.close()


def _folder(workdir, member):
    return workdir / "members" / sweep.name_of(member)


def _is_traceable(experiment, path, values):
    """Whether the members of one program may differ at `path`: where it is a number that only the mathematics reads."""
    if not all(isinstance(value, float) for value in values):
        return False
    build = lambda v: setup.build_learner(setup.with_values(experiment.config, v), experiment.dataset)[1]  # noqa: E731
    batch = jax.tree.map(lambda a: a[: experiment.stream.batch_size], experiment.split("valid"))
    return sweep.is_traceable(build, path, batch)


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "sweep"])
    # A core each, of those this process may use: XLA's own threads gain less than members do.
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count())
    jax.config.update("jax_num_cpu_devices", len(cores))
    app.run(main, flags_parser=setup.parse_flags)
