"""A trained run, measured and drawn again."""

import contextlib
import itertools
import json
from pathlib import Path

from vae_jax import files
from vae_jax.errors import BadOption
from vae_jax.runs import build, checking, ladder, own_data, page, pictures, quality, report, workdir


def again(
    folder,
    *,
    checkpoint=None,
    num_samples=None,
    num_test=None,
    figures=True,
    formats=("png",),
    source=None,
    samples_quality=False,
    all_bounds=False,
) -> str:
    """Write evaluation.json (the flat keys of results.json and `test/step`), the figures and report.html of a run.

    On data of one's own it writes evaluation-NAME.json, or evaluation-NAME-2.json for other data of that name, and no
    figures.

    Args:
      folder: the workdir.
      checkpoint: a step as a string, "best" for the best validation bound, or None for the last step.
      num_samples: K of the importance-weighted bound; None for that of the config.
      num_test: how many test examples are measured, 0 for all; None for that of the config.
      figures: True to draw the figures as well.
      formats: what each figure is written as (`pictures.FORMATS`).
      source: the data to measure, {"name", "path", "files", "split"} (`own_data.on`); None for the run's test split.
      samples_quality: True to measure the samples of the model too (`quality.measure`), on the run's test split.
      all_bounds: True to measure all bounds of log p(x) that the model has (`ladder.measure`), on the run's test split.

    Returns the results as text. Raises `ValueError` for an option or a checkpoint that cannot be used.
    """
    folder = Path(folder).expanduser()
    build.check_step(checkpoint)
    pictures.check_formats(formats)
    workdir.check_run(folder)
    experiment = build.build_trained(folder, with_data=not (source and source["name"]))
    options = dict(experiment.config["eval"])
    options |= {k: v for k, v in {"num_samples": num_samples, "num_test": num_test}.items() if v is not None}
    checking.check_config(experiment.config | {"eval": options})
    if source and (source["name"] or source["split"] != "test"):
        for flag, chosen in (("quality", samples_quality), ("ladder", all_bounds)):
            if chosen:
                raise BadOption(f"--{flag} measures on the run's own test split; leave out --data and --split")
        return _on(source, folder, experiment, checkpoint, options | {"num_test": num_test or 0})
    fitted = build.restore(folder, experiment, step=checkpoint, mesh=experiment.mesh)
    log_prob = []  # of these parameters; log_prob.npy is that of results.json
    results = report.evaluate(experiment, fitted.params, **options, keep=log_prob.append)
    step, params = int(fitted.state.step), fitted.params
    text = f"step {step} of {folder}\n{report.table(results)}"
    if samples_quality:
        measured = quality.measure(experiment, params, num_test=options["num_test"])
        results, text = results | measured, f"{text}\n{quality.table(measured)}"
    if all_bounds:
        rungs = ladder.measure(experiment, params, **options)
        results, text = results | rungs, f"{text}\n{ladder.table(rungs)}"
    files.write_json(folder / "evaluation.json", results | {"test/step": step})
    if figures:
        drawn = pictures.figures(experiment, params, folder, formats=formats, log_prob=next(iter(log_prob), None))
        text += f"\nfigures in {drawn}"
    if page.report(folder, experiment, params, results=results, step=step):
        text += f"\npage in {folder / page.NAME}"
    return text


def _file_of(folder, source) -> Path:
    """Return evaluation-NAME.json, or evaluation-NAME-2.json ... if other data of that name have been measured."""
    for number in itertools.count(1):
        end = f"-{number}" if number > 1 else ""
        file = folder / f"evaluation-{own_data.title(**source)}{end}.json"
        if not file.exists():
            return file
        with contextlib.suppress(ValueError, AttributeError):  # damaged: it stays
            if files.read_json(file).get("test/data") == json.loads(files.strict_json(source)):
                return file


def _on(source, folder, experiment, checkpoint, options) -> str:
    """Measure the run on data of one's own, all examples by default, and write evaluation-NAME.json."""
    other = own_data.on(experiment, **source)
    source = source | {"path": source["path"] and str(Path(source["path"]).expanduser().resolve())}
    file = _file_of(folder, source)
    fitted = build.restore(folder, experiment, step=checkpoint, mesh=experiment.mesh)
    results = report.evaluate(other, fitted.params, **options)
    files.write_json(file, results | {"test/data": source})
    where = f"step {int(fitted.state.step)} of {folder} on {other.dataset.name}, {source['split']}"
    return f"{where}\n{report.table(results)}\nnumbers in {file}"
