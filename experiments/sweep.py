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

from vae_jax import spec
from vae_jax.data.fingerprint import fingerprint
from vae_jax.evaluation import likelihood
from vae_jax.runs import build, checking, launching, processes, report, sweep_table, workdir, writers
from vae_jax.training import loop, sweep
from vae_jax.training.checkpoint import Checkpoints

CONFIG = config_flags.DEFINE_config_file("config", help_string="A file of experiments/configs; ':smoke' shrinks it.")
SWEEP = flags.DEFINE_string("sweep", None, "What varies: KEY=VALUE|VALUE or KEY=FROM:TO, separated by commas.")
WORKDIR = flags.DEFINE_string("workdir", None, "Where everything goes; default: runs/<name of the config>-sweep.")
MEMBERS = flags.DEFINE_integer("members_per_program", 0, "Members of one program; 0: as many as pay on this machine.")


@launching.launched
def main(argv):
    del argv
    if processes.several():
        raise ValueError("a sweep is one process: start several with a part of the --sweep and a --workdir each")
    config, axes = launching.config_of(CONFIG), sweep.parse(SWEEP.value)
    if MEMBERS.value < 0:
        raise ValueError(f"--members_per_program must be at least 1, or 0 for as many as pay; got {MEMBERS.value}")
    axes = {path: [build.as_in_config(config, path, v) for v in values] for path, values in axes.items()}
    sweep.check_distinct(axes)
    if same := [path for path in axes if path in workdir.SAME_RUN or path.split(".")[0] in workdir.SAME_RUN]:
        raise ValueError(
            f"--sweep: {same[0]} changes no number of the training, so its members would be one run; to "
            "measure a run with other options use experiments.evaluate"
        )
    name = build.run_name(config_flags.get_config_filename(flags.FLAGS["config"]))
    experiment = build.build(config)
    _check_members(experiment, config, axes)  # what is refused leaves no folder to be undone
    folder = workdir.open_workdir(WORKDIR.value or Path("runs") / f"{name}-sweep", config | {"sweep": axes})
    with workdir.locked(folder):
        if not (folder / "results.json").exists():
            workdir.update_config(folder, config | {"sweep": axes})
        workdir.record_environment(folder)
        _complete(experiment, config, axes, folder)


def _check_members(experiment, config, axes):
    """Raise `ValueError` that names the first member which is refused.

    Every value is checked, and every setting is built; of settings that differ in floats alone, one is traced too.
    """
    same_data = not any(path.startswith("data.") and path != "data.batch_size" for path in axes)
    traced = set()
    for member in sweep.product({path: values for path, values in axes.items() if path != "seed"}):
        own, kind = build.with_values(config, member), repr([v for v in member.values() if not isinstance(v, float)])
        try:
            if same_data and kind in traced:
                checking.check_config(own)
                build.build_learner(own, experiment.dataset)
            else:
                build.build(own, experiment.dataset if same_data else None)
        except (ValueError, OSError) as error:
            raise ValueError(f"--sweep, member {sweep.name_of(member)}: {error}") from error
        traced.add(kind)
    for seed in axes.get("seed", ()):
        checking.check_config(config | {"seed": seed})


def _complete(experiment, config, axes, folder):
    """Train, measure and table all members; what an earlier start has done is not done again."""
    traced = {path for path, values in axes.items() if path == "seed" or _is_traceable(experiment, path, values)}
    most = MEMBERS.value or sweep.members_that_pay(loop.state_shapes(experiment.learner, experiment.stream))
    programs = sweep.programs(axes, traced, most)
    logging.info("%d members in %d programs of at most %d", sum(map(len, programs)), len(programs), most)
    for number, members in enumerate(programs):
        run_program(config, members, traced, folder, f"{number + 1} of {len(programs)}")
    rows = sweep_table.by_setting([_folder(folder, member) for member in sweep.product(axes)], axes)
    workdir.write_json(folder / "results.json", rows)
    print(f"\n{sweep_table.table(rows)}\nmembers in {folder / 'members'}, numbers in results.json")
    print(f"figure {sweep_table.figure(rows, folder)}")


def run_program(config, members, traced, folder, which):
    """Train `members` side by side, then leave each as if it had been trained alone."""
    folders = [_folder(folder, member) for member in members]
    if all((folder / "results.json").exists() for folder in folders):
        return
    configs = [build.with_values(config, member) for member in members]
    for own, member_folder in zip(configs, folders, strict=True):
        workdir.open_workdir(member_folder, own)
        workdir.update_config(member_folder, own)
    logging.info("program %s: %s", which, ", ".join(folder.name for folder in folders))
    experiment = build.build(configs[0])
    temporary = folder / "programs" / hashlib.sha1(str(members).encode()).hexdigest()[:12]
    try:
        fitted = train(experiment, configs, [p for p in members[0] if p in traced and p != "seed"], folders, temporary)
    except loop.Diverged:  # every one of them
        fitted = None
    _leave_members(experiment, configs, folders, fitted)
    shutil.rmtree(temporary, ignore_errors=True)


def _leave_members(experiment, configs, folders, fitted):
    """Write what each member's own run would have left: its last state and its results."""
    known, data = {}, fingerprint(experiment.dataset)  # one compiled evaluation for all members of one model
    for i, (own, folder) in enumerate(zip(configs, folders, strict=True)):
        if (folder / "results.json").exists():
            continue
        workdir.record_environment(folder)
        if fitted is None or fitted.record["diverged"][i]:
            workdir.write_json(folder / "results.json", {"train/diverged": True})
            continue
        model = known.setdefault(str(own["model"]), build.build_learner(own, experiment.dataset)[0])
        alone = experiment._replace(config=own, key=jax.random.key(own["seed"]), model=model)
        member = sweep.take(fitted, i)
        _save(member, folder, build.made_by(own, data), best=bool(own["train"]["patience"]))
        results = report.evaluate(alone, member.params, **own["eval"], progress=False)
        results |= report.training(alone, member.record, len(configs)) | {"train/members": len(configs)}
        workdir.write_json(folder / "results.json", results)


def train(experiment, configs, paths, folders, temporary) -> loop.Fit:
    """`loop.fit` of all members at once, which differ in their seeds and in the numbers at `paths`."""
    options = dict(experiment.config["train"])
    tensorboard, keep = options.pop("tensorboard"), options.pop("keep", 2)
    mesh, missing = sweep.mesh_for(len(configs))
    configs = configs + configs[-1:] * missing
    values = {path: jnp.asarray([build.value_at(own, path) for own in configs], jnp.float32) for path in paths}
    learn = lambda v: build.build_learner(build.with_values(experiment.config, v), experiment.dataset)  # noqa: E731
    keys = jnp.stack([jax.random.key(own["seed"]) for own in configs])
    branch = lambda i: jax.vmap(lambda key: jax.random.fold_in(key, i))(keys)  # noqa: E731
    valid = experiment.split("valid")
    offset = build.levels_offset(experiment.config, experiment.dataset)
    terms = lambda v, params, key, step: likelihood.mean_terms(learn(v)[0], params, key, valid, step=step)  # noqa: E731
    means = sweep.over_members(terms, mesh)
    origin = build.made_by(experiment.config, fingerprint(experiment.dataset))
    checkpoints = Checkpoints(temporary / "checkpoints", keep=keep, made_by=origin)
    writer = writers.MemberWriters(folders, tensorboard=tensorboard)
    try:
        return spec.call(
            loop.fit,
            options,
            sweep.together(lambda v: learn(v)[1], values),
            sweep.streams_together([build.build_stream(own, experiment.dataset) for own in configs]),
            where="config.train",
            key=branch(0),
            mesh=mesh,
            validate=lambda params, step: likelihood.of_levels(
                jax.device_get(means(values, params, branch(2), jnp.full(len(keys), step))), offset
            ),
            checkpoints=checkpoints,
            writer=writer,
        )
    finally:
        checkpoints.close()
        writer.close()


def _save(member, folder, origin, *, best):
    """Write the member's last state as the checkpoint of a lone run."""
    checkpoints = Checkpoints(folder / "checkpoints", made_by=origin)
    tree = (member.state, member.params if best else None)
    checkpoints.save(member.record["steps"], tree, member.record, bound=member.record["best_bound"])
    checkpoints.close()


def _folder(folder, member):
    return folder / "members" / sweep.name_of(member)


def _is_traceable(experiment, path, values):
    """Whether the members of one program may differ at `path`: where it is a number that only the mathematics reads."""
    if not all(isinstance(value, float) for value in values):
        return False
    learn = lambda v: build.build_learner(build.with_values(experiment.config, v), experiment.dataset)[1]  # noqa: E731
    batch = jax.tree.map(lambda a: a[: experiment.stream.batch_size], experiment.split("valid"))
    return sweep.is_traceable(learn, path, batch)


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "sweep"])
    # A core each, of those this process may use: XLA's own threads gain less than members do.
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count())
    jax.config.update("jax_num_cpu_devices", len(cores))
    app.run(main, flags_parser=launching.parse_flags)
