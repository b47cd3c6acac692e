"""`report.html`: one file that shows a run, needs no network, and computes the decoder of a VAE in the browser."""

import functools
from pathlib import Path

import numpy as np
from absl import logging

from vae_jax import files
from vae_jax.runs import build, embedded, facts, passes, pictures, workdir
from vae_jax.runs import report as reports
from vae_jax.runs.writers import read_metrics
from vae_jax.training.progress import said

NAME = "report.html"
MOST_BYTES = 2_900_000  # of a page
MOST_POINTS = 400  # of a curve
FIRST_CURVES = ("bound", "loss", "rate", "distortion")  # the others follow by name


def report(folder, experiment, params, *, results=None, step=None) -> bool:
    """Write the page as `write` does and return True. A failure is one line in the log, and the result is False."""

    def make():
        with said(f"writing {NAME}"):
            write(folder, experiment, params, results=results, step=step)  # and no figure

    return pictures.drawn(NAME, make, None)


def write(folder, experiment=None, params=None, *, results=None, step=None) -> Path:
    """Write `report.html` of the run in `folder` from what the folder holds, and return its path.

    The data set of `experiment` may be a stand-in without examples (`data.description`): then test images and their
    codes are left out.

    Args:
      folder: the workdir.
      experiment: its experiment; None to build it, with the data if they can be read.
      params: the parameters to show; None for those of the last checkpoint.
      results: the flat results to show; None for those of results.json.
      step: the step of `params`, if they are not those of results.json.
    """
    folder = Path(folder).expanduser()
    experiment = experiment or _opened(folder)
    params = build.restore(folder, experiment, mesh=experiment.mesh).params if params is None else params
    params = passes.on_one_device(experiment, params)
    page = folder / NAME
    trained = workdir.read_results(folder) if (folder / "results.json").exists() else {}
    results = trained | (results or {})
    command = facts.command_of(page)
    name, default = facts.default_config(folder, command)
    rows = facts.config_rows(experiment.config, default)
    environments = files.read_json(folder / "environment.json") if (folder / "environment.json").exists() else []
    machine, drawn = _decoder(experiment, params, folder), curves(folder / "metrics.jsonl")
    content = {
        "title": folder.resolve().name,
        "sentence": facts.sentence(experiment, params, results),
        "family": facts.family(experiment),
        "step": step,
        "results": facts.result_rows(results),
        "verdict": results.get("test/verdict", ""),
        "diverged": bool(results.get("train/diverged")),
        "curves": drawn,
        "decoder": machine,
        "data": files.finite({"curves": drawn, "decoder": machine}),
        "has_latent": experiment.model.latent is not None,
        "config": rows,
        "config_name": name,
        "python": facts.python_of(name, rows) if name else "",
        "command": command,
        "environment": environments[-1] if environments else {},
        "environments": len(environments),
        "figures": [],
        "left_out": 0,
    }
    room = MOST_BYTES - len(render("report.html", **content).encode())
    content["figures"], content["left_out"] = embedded.figures(folder / "figures", room)
    files.write_text(page, render("report.html", **content))
    return page


def _opened(folder):
    """Return the experiment of a workdir, without the data if they cannot be read."""
    try:
        return build.build_trained(folder)
    except (ValueError, OSError) as error:
        logging.info("the page has no test images: %s", str(error).split("\n")[0])
        return build.build_trained(folder, with_data=False)


def _decoder(experiment, params, folder):
    """Return the decoder for the page, or None. A failure is one line in the log: the page is written without it."""
    from vae_jax.runs import decoder  # SciPy: not before a page is written

    log_prob = reports.read_log_prob(folder)  # of the test images that were measured, which figures show as well
    num_test = experiment.config["eval"]["num_test"] if log_prob is None else len(log_prob)
    try:
        return decoder.of(experiment, params, num_test)
    except Exception as error:  # of any kind: the rest of the page does not depend on it
        logging.warning("%s has no decoder: %s: %s", NAME, type(error).__name__, str(error).split("\n")[0])
        logging.debug("traceback:", exc_info=True)
        return None


def curves(metrics) -> dict:
    """Return {quantity: [{"name": "training" or "validation", "steps": [...], "values": [...]}]} of metrics.jsonl."""
    found = {}
    for name, split in zip(("training", "validation"), pictures.curves(read_metrics(metrics)), strict=True):
        for quantity, (steps, values) in split.items():
            found.setdefault(quantity, []).append({"name": name, **thinned(steps, values)})
    order = {name: n for n, name in enumerate(FIRST_CURVES)}
    return dict(sorted(found.items(), key=lambda item: (order.get(item[0], len(order)), item[0])))


def thinned(steps, values) -> dict:
    """Return at most `MOST_POINTS` finite points of a curve, with five digits."""
    keep = np.flatnonzero(np.isfinite(values))
    if len(keep) > MOST_POINTS:
        keep = keep[np.linspace(0, len(keep) - 1, MOST_POINTS).astype(int)]
    short = [float(f"{value:.5g}") for value in np.asarray(values)[keep]]
    return {"steps": [int(step) for step in np.asarray(steps)[keep]], "values": short}


def render(template, **content) -> str:
    """Return a page from `templates`. Text is escaped; scripts and styles are put in as they are."""
    return _templates().get_template(template).render(**content)


@functools.cache
def _templates():
    import jinja2  # not before a page is written: every command imports this module
    from markupsafe import Markup

    loader = jinja2.PackageLoader("vae_jax.runs")
    options = {"autoescape": True, "undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    templates = jinja2.Environment(loader=loader, **options)
    templates.policies["json.dumps_kwargs"] = {"sort_keys": False}
    templates.globals["asset"] = lambda name: Markup(loader.get_source(templates, name)[0])
    return templates
