"""Many runs as few compiled programs, each run left in a workdir of its own as if it had been trained alone."""

import hashlib
import re
import shutil

import jax
import jax.numpy as jnp
from absl import logging

from vae_jax import files, spec
from vae_jax.data import description
from vae_jax.data.fingerprint import fingerprint
from vae_jax.evaluation import likelihood
from vae_jax.runs import build, checking, configs, report, sweep_table, trackers, workdir, writers
from vae_jax.runs.migrate import migrate
from vae_jax.runs.train import agree_on_data, store_codes
from vae_jax.training import loop, sweep


def complete(config, text, folder, *, members_per_program=0) -> list[dict]:
    """Train and measure every member of a sweep, and return the rows of its table (`sweep_table.by_setting`).

    Seeds and numbers that only the mathematics reads (a learning rate, β) run side by side in one program. A value that
    changes a shape or a branch (a width, a name) gets a program of its own. The same call again continues a sweep that
    was stopped.

    Args:
      config: the config that the members share.
      text: the values that vary, such as "seed=0:8,optimizer.learning_rate=1e-3|3e-4".
      folder: the workdir of the sweep; member NAME is trained in folder/members/NAME.
      members_per_program: how many members one program holds at most; 0 for as many as pay on this machine.

    Raises `ValueError` for a member that cannot be built, and if `folder` holds another sweep.
    """
    if jax.process_count() > 1:
        raise ValueError("a sweep is one process: start several with a part of the --sweep and a --workdir each")
    if members_per_program < 0:
        raise ValueError(
            f"--members_per_program must be at least 1, or 0 for as many as pay; got {members_per_program}"
        )
    config = migrate(config)
    with spec.under("--sweep"):
        axes = _axes(config, text)
    experiment = build.build(config)
    config = experiment.config
    _check_members(experiment, config, axes)  # before a folder is made
    trackers.check_installed(config["train"]["writers"])
    folder = workdir.open_workdir(folder, config | {"sweep": axes})
    with workdir.locked(folder):
        if not (folder / "results.json").exists():
            workdir.update_config(folder, config | {"sweep": axes})
        workdir.record_environment(folder)
        _train_members(experiment, config, axes, folder, members_per_program)
        members = [member for member in sweep.product(axes) if not _changed_since(config, member, folder)]
        rows = sweep_table.by_setting([_folder(folder, member) for member in members], axes)
        files.write_json(folder / "results.json", rows)
    return rows


def _axes(config, text) -> dict:
    """Return {path: values} of a sweep, the values of the type that the config has."""
    axes = sweep.parse(re.sub(r"(^|,)\s*config\.", r"\1", text))
    axes = {path: [configs.as_in_config(config, path, value) for value in values] for path, values in axes.items()}
    sweep.check_distinct(axes)
    if same := [path for path in axes if path in workdir.SAME_RUN or path.split(".")[0] in workdir.SAME_RUN]:
        raise spec.BadOption(
            f": {same[0]} changes no number of the training, so all members would be the same run; to measure a run "
            "with other options use vae-jax evaluate"
        )
    return axes


def _check_members(experiment, config, axes):
    """Raise `ValueError` that names the first member which cannot be built.

    Every value is checked and every setting is built. Among settings that differ only in floats, one is traced as well.
    """
    same_data = not any(path.startswith("data.") and path != "data.batch_size" for path in axes)
    traced = set()
    for member in sweep.product({path: values for path, values in axes.items() if path != "seed"}):
        member_config = configs.with_values(config, member)
        kind = repr([value for value in member.values() if not isinstance(value, float)])
        try:
            if same_data and kind in traced:
                checking.check_config(member_config)
                build.build_learner(member_config, experiment.dataset)
            else:
                build.build(member_config, experiment.dataset if same_data else None)
        except (ValueError, OSError) as error:
            raise ValueError(f"--sweep, member {sweep.name_of(member)}: {error}") from error
        traced.add(kind)
    for seed in axes.get("seed", ()):
        checking.check_config(config | {"seed": seed})


def _train_members(experiment, config, axes, folder, members_per_program):
    """Train and measure all members, except those that an earlier start has finished."""
    traced = {path for path, values in axes.items() if path == "seed" or _is_traceable(experiment, path, values)}
    most = members_per_program or sweep.members_that_pay(loop.state_shapes(experiment.learner, experiment.stream))
    most, devices = _layout(folder, most, jax.device_count())
    programs = sweep.programs(axes, traced, most)
    logging.info("%d members in %d programs of at most %d", sum(map(len, programs)), len(programs), most)
    for number, members in enumerate(programs, 1):
        run_program(config, members, traced, folder, f"{number} of {len(programs)}", devices)
    shutil.rmtree(folder / "programs", ignore_errors=True)


def _layout(folder, most, devices) -> tuple[int, int]:
    """Return how many members a program holds, and over how many devices they are spread.

    A sweep that was stopped goes on as it began, wherever it is continued: its checkpoints have these shapes.
    """
    file, now = folder / "programs" / "layout.json", {"members_per_program": most, "devices": devices}
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        files.write_json(file, now)
    begun = files.read_json(file)
    if begun != now:
        logging.info("the sweep goes on as it began, with %s, not %s", begun, now)
    return begun["members_per_program"], begun["devices"]


def _changed_since(config, member, folder) -> bool:
    """Return True, and say so, if a member has been trained on since the sweep: it can no longer be compared."""
    of_member = workdir.read_config(_folder(folder, member))
    changed = list(workdir.config_differences(configs.with_values(config, member), of_member))
    if changed:
        logging.warning("%s is left out of the table: %s", sweep.name_of(member), changed[0].partition(" (")[0])
    return bool(changed)


def run_program(config, members, traced, folder, number, devices):
    """Train `members` side by side, and leave each as if it had been trained alone.

    Args:
      config: the config that the members share.
      members: dicts {path: value}, the values in which they differ.
      traced: the paths whose values may differ within one program.
      folder: the workdir of the sweep.
      number: which program this is, for the log.
      devices: over how many devices the members are spread, if the machine has as many.
    """
    unfinished = [member for member in members if not _is_finished(_folder(folder, member))]
    for member in members:
        if member not in unfinished:
            agree_on_data(_folder(folder, member), configs.with_values(config, member))
    if not unfinished:
        return
    if not _program_folder(folder, members).exists():  # all its members were measured, and some have been removed
        members = unfinished
    folders = [_folder(folder, member) for member in members]
    member_configs = [configs.with_values(config, member) for member in members]
    for member_config, member_folder in zip(member_configs, folders, strict=True):
        if not _is_finished(member_folder):
            workdir.open_workdir(member_folder, member_config)
            workdir.update_config(member_folder, member_config)
    logging.info("program %s: %s", number, ", ".join(folder.name for folder in folders))
    experiment = build.build(member_configs[0])
    paths = [path for path in members[0] if path in traced and path != "seed"]
    temporary = _program_folder(folder, members)
    try:
        fitted = train(experiment, member_configs, paths, folders, temporary, devices)
    except loop.Diverged:  # every one of them
        fitted = None
    _leave_members(experiment, member_configs, folders, fitted)
    shutil.rmtree(temporary, ignore_errors=True)


def _leave_members(experiment, member_configs, folders, fitted):
    """Write what each member's own run would have left: its last state and its results."""
    models, data = {}, fingerprint(experiment.dataset)  # one compiled evaluation for all members of one model
    for i, (config, folder) in enumerate(zip(member_configs, folders, strict=True)):
        if _is_finished(folder):
            continue
        workdir.record_environment(folder)
        files.write_json(folder / workdir.DESCRIPTION, description.describe(experiment.dataset))
        if fitted is None or fitted.record["diverged"][i]:
            files.write_json(folder / "results.json", {"train/diverged": True})
            continue
        model = models.setdefault(str(config["model"]), build.build_learner(config, experiment.dataset)[0])
        member_experiment = experiment._replace(config=config, key=jax.random.key(config["seed"]), model=model)
        member = sweep.take(fitted, i)
        _save(member, build.checkpoints(folder, config, data), best=bool(config["train"]["patience"]))
        results = report.evaluate(member_experiment, member.params, **config["eval"], progress=False)
        results |= report.training(member_experiment, member.record, len(folders)) | {"train/members": len(folders)}
        store_codes(member_experiment, member.params, folder)
        files.write_json(folder / "results.json", results)


def train(experiment, member_configs, paths, folders, temporary, devices) -> loop.Fit:
    """Return `loop.fit` of all members at once.

    Args:
      experiment: the experiment of the first member.
      member_configs: the config of every member; they differ in their seeds and in the numbers at `paths`.
      paths: dotted paths of the numbers that differ.
      folders: the workdir of every member, which gets its metrics.
      temporary: where the checkpoints of the program are kept.
      devices: over how many devices the members are spread, if the machine has as many.
    """
    options = dict(experiment.config["train"])
    names, keep = options.pop("writers"), options.pop("keep")
    del options["preview_every"]  # the members of a sweep have no previews
    dataset = experiment.dataset
    mesh, missing = sweep.mesh_for(len(member_configs), devices)
    member_configs = member_configs + member_configs[-1:] * missing
    values = {
        path: jnp.asarray([configs.value_at(config, path) for config in member_configs], jnp.float32) for path in paths
    }
    keys = jnp.stack([jax.random.key(config["seed"]) for config in member_configs])
    checkpoints = build.checkpoints(temporary, experiment.config, fingerprint(dataset), keep=keep)
    with spec.under("config.train"):
        writer = writers.MemberWriters([None if _is_finished(folder) else folder for folder in folders], names)
    try:
        return spec.call(
            loop.fit,
            options,
            sweep.together(lambda v: _with_values(experiment, v)[1], values),
            sweep.streams_together([build.build_stream(config, dataset) for config in member_configs]),
            where="config.train",
            key=_branch(keys, 0),
            mesh=mesh,
            validate=_validation(experiment, values, _branch(keys, 2), mesh),
            checkpoints=checkpoints,
            writer=writer,
        )
    finally:
        checkpoints.close()
        writer.close()


def _validation(experiment, values, keys, mesh):
    """Return (params, step) -> {term: nats [M]} of the validation split."""
    valid = experiment.split("valid")
    offset = build.levels_offset(experiment.config, experiment.dataset)

    def terms(v, params, key):
        return likelihood.mean_terms(_with_values(experiment, v)[0], params, key, valid)

    means = sweep.over_members(terms, mesh)

    def validate(params, step):
        return likelihood.of_levels(jax.device_get(means(values, params, keys)), offset)

    return validate


def _with_values(experiment, values):
    """Return the model and the learner of the experiment with `values` {path: number} in its config."""
    return build.build_learner(configs.with_values(experiment.config, values), experiment.dataset)


def _branch(keys, number):
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)


def _save(member, checkpoints, *, best):
    """Write the member's last state as the checkpoint of a run of its own."""
    tree = (member.state, member.params if best else None)
    is_best = best or member.record["best_step"] == member.record["steps"]  # or the bound is that of other params
    checkpoints.save(
        member.record["steps"], tree, member.record, bound=member.record["best_bound"] if is_best else None
    )
    checkpoints.close()


def _is_finished(folder):
    return (folder / "results.json").exists()


def _program_folder(folder, members):
    return folder / "programs" / hashlib.sha1(str(members).encode()).hexdigest()[:12]


def _folder(folder, member):
    return folder / "members" / sweep.name_of(member)


def _is_traceable(experiment, path, values):
    """Return True if the members of one program may differ at `path`: a number that only the mathematics reads.

    Members of one program share their data, whose options no learner reads.
    """
    if path.startswith("data.") or not all(isinstance(value, float) for value in values):
        return False
    batch = jax.tree.map(lambda a: a[: experiment.stream.batch_size], experiment.split("valid"))
    return sweep.is_traceable(lambda v: _with_values(experiment, v)[1], path, batch)
