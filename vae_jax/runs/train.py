"""One run, from its config to a complete workdir: config.json, metrics.jsonl, checkpoints/, figures/, results.json."""

import contextlib
import functools
import importlib
import io
import shlex
import threading
from pathlib import Path

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from vae_jax import files, spec
from vae_jax.data import description, sources
from vae_jax.data.fingerprint import fingerprint
from vae_jax.evaluation import code_use, latents, likelihood
from vae_jax.runs import (
    build,
    checking,
    extension,
    page,
    pictures,
    previews,
    processes,
    report,
    trackers,
    workdir,
    writers,
)
from vae_jax.runs.migrate import migrate
from vae_jax.training import loop, sharding


def complete(
    config,
    folder,
    *,
    dataset=None,
    profile=False,
    figures=True,
    formats=("png",),
    extend=False,
    progress=True,
) -> dict:
    """Train a model, measure it on the test set and draw it. Return the results.

    The same call again continues a run that was stopped, and does not repeat what is done.

    Args:
      config: a plain dict.
      folder: the workdir.
      dataset: the data set if it is in memory; None for that of `config.data`.
      profile: True to write a trace of one chunk of steps.
      figures: True to draw the figures.
      formats: what each figure is written as (`pictures.FORMATS`).
      extend: True to lengthen the run in `folder` to a larger `num_steps`, from its last state (`extension`).
      progress: True to show how far training and measuring are.

    Raises `ValueError` if `folder` holds a run of another config, or if another process is training in it.
    """
    folder = Path(folder).expanduser()
    results_file = folder / "results.json"
    config = migrate(config)
    checking.check_config(config)
    pictures.check_formats(formats)
    longer = extend and _agreed(extension.is_due(folder, config))
    if dataset is not None and config["data"]["leave_out"]:
        dataset = sources.without_classes(dataset, config["data"]["leave_out"])
    if not longer and _agreed(results_file.exists()):
        agree_on_data(workdir.open_workdir(folder, config), config, dataset)
        return _completed(config, folder, dataset, formats if figures else ())
    if config["start_from"] and Path(config["start_from"]).expanduser().resolve() == folder.resolve():
        raise ValueError(f"config.start_from: {config['start_from']} is the workdir of this run; give another")
    begun = _agreed(any((folder / "checkpoints").glob("[0-9]*")))  # and needs no run from which it started
    experiment = build.build(config | {"start_from": ""} if begun else config, dataset)  # before a folder is made
    trackers.check_installed(config["train"]["writers"])
    folder = workdir.open_workdir(folder, config, longer=longer)
    with contextlib.ExitStack() as locks:
        if processes.is_first():
            locks.enter_context(workdir.locked(folder))
            if (folder.parent.parent / ".lock").exists() and folder.parent.name == "members":
                locks.enter_context(workdir.locked(folder.parent.parent))  # the sweep to which it belongs
        if longer and processes.is_first():
            extension.begin(folder, config)
        if _agreed(results_file.exists()):  # another process has just finished it
            return _completed(config, folder, dataset, ())
        if processes.is_first():
            workdir.update_config(folder, config)
            workdir.record_environment(folder)
            files.write_json(folder / workdir.DESCRIPTION, description.describe(experiment.dataset))
        if figures and processes.is_first():  # matplotlib takes a second, which is free while a program is compiled
            threading.Thread(target=importlib.import_module, args=("vae_jax.runs.image_figures",), daemon=True).start()
        fitted = train(experiment, folder, profile=profile, progress=progress)
        params = jax.device_put(fitted.params, sharding.replicated(experiment.mesh))
        write = functools.partial(report.write_log_prob, folder)
        options = {"progress": progress and processes.is_first(), "keep": write if processes.is_first() else None}
        results = report.evaluate(experiment, params, **experiment.config["eval"], **options)
        results |= report.training(experiment, fitted.record)
        if processes.is_first():
            store_codes(experiment, params, folder)
            files.write_json(results_file, results)
            if figures:
                _draw(experiment, params, folder, formats)
    return results


def _draw(experiment, params, folder, formats):
    pictures.figures(experiment, params, folder, formats=formats)
    page.report(folder, experiment, params)


def store_codes(experiment, params, folder, limit=10_000):
    """Write the codes of at most `limit` training examples, evenly spaced, into codes.npz, for `Run.neighbours`.

    `train` [N, D] are means of q(z|x), all levels side by side; `index` [N] are the places in the training split.
    Integer codes have no distances, and are not written.
    """
    if experiment.model.latent is None:
        return
    train = experiment.dataset.train
    index = np.unique(np.linspace(0, len(train.x) - 1, limit).astype(np.int64))
    chosen = experiment.dataset._replace(train=jax.tree.map(lambda a: np.asarray(a[index]), train))
    if code_use.sizes_of_codebooks(experiment.model, params, experiment.split("test")):
        return
    means = latents.posterior_means(
        experiment.model, params, experiment._replace(dataset=chosen).split("train", expected=True)
    )
    with io.BytesIO() as content:
        np.savez(content, train=latents.side_by_side(means), index=index)
        files.write_bytes(folder / "codes.npz", content.getvalue())


def _agreed(value: bool) -> bool:
    """Return the `value` of the first process in all processes. If they differed, one would wait forever."""
    return bool(multihost_utils.broadcast_one_to_all(np.array(value))) if jax.process_count() > 1 else value


def agree_on_data(folder, config, dataset=None):
    """Tell the complete run in `folder` where its data are now, so that it can be evaluated.

    Files are only read if they are not where those of the run were, or have been written since it ended. Raises
    `ValueError` if `dataset`, or that of `config`, is not the one of the run.
    """
    described, stored, path = workdir.read_description(folder), workdir.read_config(folder), config["data"]["path"]
    moved = stored["data"]["path"] != path
    if described is None or (dataset is None and not moved and not _written_since(path, folder / "results.json")):
        return
    data = build.build(config | {"start_from": ""}).dataset if dataset is None else dataset
    if (now := fingerprint(data)) != described["fingerprint"]:
        raise ValueError(
            f"--workdir={folder} holds a complete run on other data (fingerprint {described['fingerprint']}, now "
            f"{now}): give another --workdir, or the data of that run"
        )
    if moved and dataset is None and processes.is_first():
        with workdir.locked(folder):
            workdir.update_config(folder, stored | {"data": stored["data"] | {"path": path}})


def _written_since(path, file) -> bool:
    """Return True if the file at `path`, or one in the folder `path`, is newer than `file`."""
    if not path:
        return False
    path = Path(path).expanduser()
    inside = path.rglob("*") if path.is_dir() else [path]
    return any(one.stat().st_mtime > file.stat().st_mtime for one in inside if one.is_file())


def _completed(config, folder, dataset, formats):
    """Return the results of a complete run, whose figures are drawn in `formats` if it was stopped before them.

    If the options of `eval` have changed, the log says what to do.
    """
    logging.info(
        "%s is complete; remove it to train again, lengthen it with --extend, or draw it with vae-jax evaluate", folder
    )
    measured = workdir.read_config(folder).get("eval")
    measured = measured if isinstance(measured, dict) else {}
    if changed := [f"--{name}={value}" for name, value in config["eval"].items() if measured.get(name) != value]:
        logging.warning(
            "these results were measured with other options of config.eval; for new results run "
            "vae-jax evaluate --workdir=%s %s",
            *(shlex.quote(str(folder)), " ".join(changed)),
        )
    results = workdir.read_results(folder, workdir.RESULTS)
    undrawn = formats and jax.process_count() == 1 and not (folder / page.NAME).exists()
    if undrawn and not results.get("train/diverged"):
        try:
            experiment = build.build(config | {"start_from": ""}, dataset)
            _draw(experiment, build.restore(folder, experiment, mesh=experiment.mesh).params, folder, formats)
        except (ValueError, OSError) as error:
            logging.warning("%s has no figures, and they cannot be drawn: %s", folder, error)
    return results


def train(experiment, folder, *, profile=False, progress=True) -> loop.Fit:
    """Run the learner up to its last step, from the newest checkpoint if there is one."""
    options = dict(experiment.config["train"])
    names, keep, preview_every = (options.pop(name) for name in ("writers", "keep", "preview_every"))
    with spec.under("config.train"):
        writer = writers.Writer(folder, names) if processes.is_first() else None
    data = fingerprint(experiment.dataset)
    checkpoints = build.checkpoints(folder, workdir.read_config(folder), data, keep=keep)
    logging.info("training %s on %s, %s", experiment.config["family"], experiment.dataset.name, jax.devices())
    try:
        return spec.call(
            loop.fit,
            options,
            experiment.learner,
            experiment.stream,
            where="config.train",
            key=jax.random.fold_in(experiment.key, 0),
            mesh=experiment.mesh,
            validate=likelihood.validation(
                experiment.model,
                jax.random.fold_in(experiment.key, 2),
                experiment.split("valid"),
                offset=build.levels_offset(experiment.config, experiment.dataset),
            ),
            checkpoints=checkpoints,
            writer=writer,
            hooks=previews.hooks(experiment, folder, writer, preview_every),
            progress=progress and processes.is_first(),
            profile=folder / "profile" if profile else None,
            patience_from=extension.patience_from(folder),
        )
    except jax.errors.JaxRuntimeError as error:
        processes.leave_if_lost(error)  # before `close` waits for a process that has ended
        raise
    finally:
        checkpoints.close()
        if writer:
            writer.close()
