"""The facts about a run, in words and rows for a reader: what it is, its results, its config, its command."""

import importlib
import inspect
import json
import math
import re
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

import jax

from vae_jax import files
from vae_jax.evaluation import latents, yardstick
from vae_jax.runs import configs
from vae_jax.runs.migrate import migrate
from vae_jax.spec import BadOption

TRANSFORMS = {  # how the values of a data set become those of the model
    "binarize": "each pixel drawn as 0 or 1",
    "dequantize": "levels with uniform noise",
    "levels": "as stored levels",
    "unit": "scaled to [0, 1]",
}
ABSENT = "(absent)"
COMMAND = re.compile(r"(?:^|[./\s])(?:experiments\.train|vae-jax train)(?:\s|$)|experiments/train\.py")
NOT_ROWS = (  # parts of other rows, or of the text below the table
    "kind log_prob_se num_samples num_examples num_tokens num_points effective_samples information_examples "
    "dequantized sample_rate verdict aggregate_kl_at_least aggregate_kl_at_most"
).split()


class Result(NamedTuple):
    """One number of the result table."""

    name: str
    value: str
    kind: str  # how to read it: "=", "≥ IW-K", "≥", "≤", or "" for a number that is just measured
    unit: str
    note: str  # what it is


def sentence(experiment, params, results) -> str:
    """Return one sentence that says what the run is: family, sizes, data set, training."""
    config, dataset = experiment.config, experiment.dataset
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    sizes = [f"{count:,} parameters"]
    if "latent_dim" in config["model"]:
        sizes.insert(0, f"{config['model']['latent_dim']} latent dimensions")
    shape = " × ".join(map(str, experiment.event.shape)).removesuffix(" × 1") or "1"
    values = "pixels" if len(experiment.event.shape) == 3 else "values"
    transform = TRANSFORMS.get(config["data"]["transform"])
    splits = ", ".join(f"{len(getattr(dataset, name).x):,} for {use}" for name, use in _USES.items())
    of_class = ", given the class" if experiment.context and experiment.context.shape == () else ""
    text = f"A model of the family {config['family']} with {' and '.join(sizes)}{of_class}"
    text += f", of the {_examples(experiment)} of {dataset.name}: {splits}, each of {shape} {values}"
    text += f" ({transform})" if transform else ""
    if results.get("train/steps"):
        batch = config["data"]["batch_size"]
        text += f"; trained for {results['train/steps']:,} steps of {batch} in {_seconds(results['train/seconds'])}"
    return f"{text}."


_USES = {"train": "training", "valid": "validation", "test": "testing"}


def family(experiment) -> str:
    """Return the first sentence of the documentation of the family."""
    module = importlib.import_module(f"vae_jax.models.{experiment.config['family']}")
    return (inspect.getdoc(module) or "").split("\n")[0]


def _examples(experiment):
    dataset = experiment.dataset
    if dataset.strokes:
        return "drawings"
    return "sentences" if dataset.vocabulary else "windows" if dataset.encoding else _by_rank(experiment.event.shape)


def _by_rank(shape):
    return {1: "rows", 3: "images"}.get(len(shape), "examples")


def _seconds(seconds):
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"


# --------------------------------------------------------------------------------------------------------- the results


def result_rows(results) -> list[Result]:
    """Return the numbers of `results` (the flat keys of results.json) with kind, unit and meaning.

    A number of the test set that this table does not know keeps its key as its name. Numbers that are missing or not
    finite are left out.
    """
    r = {name.removeprefix("test/"): value for name, value in results.items()}
    rows = [*_density_rows(r), *_code_rows(r)]
    known = {*NOT_ROWS, *_SHOWN, *filter(_OF_LEVEL.fullmatch, r)}
    other = {name: value for name, value in results.items() if name.startswith("test/") and name[5:] not in known}
    rows += [Result(name, number(value), "", "", "") for name, value in other.items() if _is_number(value)]
    return [*rows, *_training_rows(results)]


_SHOWN = (
    "log_prob log_density log_prob_original bits_per_dim bits_per_token bits_per_point perplexity accuracy elbo "
    "distortion rate mse active_units mutual_information total_correlation"
).split()
_OF_LEVEL = re.compile(r"(rate_|active_units_z)(\d+)")  # of one level of a hierarchy


def _density_rows(r):
    examples = f"mean over {r.get('num_examples', '?')} test examples"
    kind = r.get("kind", "")
    if _is_number(r.get("log_prob")):
        error = r.get("log_prob_se")
        value = number(r["log_prob"]) + (f" ± {number(error)}" if _is_number(error) else "")
        yield Result("log p(x)", value, kind, "nats", f"{_meaning(kind, r)}; {examples}, ± one standard error")
    if _is_number(r.get("log_density")):
        note = "density of dequantised values; minus D log(levels) it is the bound above"
        yield Result("log density", number(r["log_density"]), "", "nats", note)
    if _is_number(r.get("log_prob_original")):
        note = "log density in the original units of the columns"
        yield Result("log p, original", number(r["log_prob_original"]), kind, "nats", note)
    at_most = "≤" if yardstick.is_bound(kind) else "=" if kind else ""
    for name, label, unit, note in (
        ("bits_per_dim", "bits/dim", "bits", "−log₂ p(x) for each value of an example"),
        ("bits_per_token", "bits/token", "bits", "−log₂ p(x) for each token, ends included"),
        ("bits_per_point", "bits/point", "bits", f"−log₂ p(x) for each of the {r.get('num_points', '?')} pen points"),
        ("perplexity", "perplexity", "", "2 to the power of bits/token"),
    ):
        if _is_number(r.get(name)):
            yield Result(label, number(r[name], 4), at_most, unit, note)
    if _is_number(r.get("accuracy")):
        yield Result(
            "accuracy", number(r["accuracy"], 3), "=", "", "share of test examples with the class argmax p(c|x)"
        )


def _meaning(kind, r):
    """Return what a number of this kind is."""
    if "effective_samples" in r:
        text = f"lower bound by importance sampling, {r.get('num_samples', '?')} samples for each example"
        text += f" ({r['effective_samples']:.0f} effective)" if _is_number(r["effective_samples"]) else ""
    elif yardstick.is_bound(kind) and "num_samples" in r:
        text = f"lower bound, mean of {r['num_samples']} estimates for each example"
    else:
        text = "exact" if kind == yardstick.EXACT else "lower bound" if yardstick.is_bound(kind) else "as measured"
    return text + (", of stored levels, by the density of dequantised values" if r.get("dequantized") else "")


def _code_rows(r):
    has_bound = _is_number(r.get("elbo"))
    if has_bound:
        yield Result(
            "ELBO", number(r["elbo"]), "≥", "nats", "lower bound of log p(x) from one sample, −(distortion + rate)"
        )
    for name, label, unit, note in (
        ("distortion", "distortion", "nats", "−log p(x|z) of the code, mean over test examples"),
        ("rate", "rate", "nats", "KL(q(z|x) ‖ p(z)): what the code costs"),
        ("mse", "squared error", "", "of a reconstructed value"),
    ):
        if _is_number(r.get(name)):
            yield Result(label, number(r[name], 4 if name == "mse" else 2), "", unit, note)
    if _is_number(r.get("active_units")):
        note = "latent dimensions whose mean has a variance above 0.01 over the test set"
        yield Result("active units", f"{r['active_units']:d}", "", "", note)
    levels = sorted({int(match[2]) for match in map(_OF_LEVEL.fullmatch, r) if match})
    for level in levels:
        if _is_number(units := r.get(f"active_units_z{level}")):
            yield Result(f"active units of z{level}", f"{units:d}", "", "", "as above, of this level")
    for level in levels:
        if _is_number(rate := r.get(f"rate_{level}")):
            yield Result(f"rate of z{level}", number(rate), "", "nats", "what this level costs, given those above it")
    if _is_number(r.get("mutual_information")):
        examples = r.get("information_examples", r.get("num_examples", 1))
        is_capped = latents.is_capped(r["mutual_information"], max(examples, 1))
        note = f"I(x; z) over {examples} examples" + (", capped near log N" if is_capped else "")
        yield Result("mutual information", number(r["mutual_information"]), "≥" if is_capped else "", "nats", note)
    if _is_number(r.get("total_correlation")):
        note = "KL of q(z) from the product of its marginals: 0 if the dimensions are independent"
        yield Result("total correlation", number(r["total_correlation"]), "", "nats", note)


def _training_rows(results):
    for key, label, unit, note in (
        ("valid/best_bound", "best validation bound", "nats", "at step {valid/best_step}; chooses the best checkpoint"),
        ("valid/best_loss", "best validation loss", "", "at step {valid/best_step}; chooses the best checkpoint"),
        ("train/seconds", "training", "s", "without compilation, which took {train/compile_s:.1f} s"),
        ("train/images_per_s", "throughput", "examples/s", "of training"),
        ("train/peak_memory_mb", "memory", "MB", "at most, of the process"),
    ):
        if _is_number(results.get(key)):
            digits = 0 if key in ("train/images_per_s", "train/peak_memory_mb") else 2
            yield Result(label, number(results[key], digits), "", unit, _filled(note, results))


def _filled(note, results):
    """Return `note` with {key} replaced by the values of `results`, or "" if one is missing."""
    try:
        return re.sub(r"\{([\w/]+)(?::([^}]*))?\}", lambda m: format(results[m[1]], m[2] or ""), note)
    except (KeyError, TypeError, ValueError):
        return ""


def number(value, digits=2) -> str:
    """Return a number with a minus sign, a comma for thousands and no digits that it does not have."""
    if not math.isfinite(value):
        return str(value)
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"
    return text.replace("-", "−")


def signed(value, digits=2) -> str:
    """Return a difference with its sign."""
    return f"{'+' if value > 0 else ''}{number(value, digits)}"


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# ---------------------------------------------------------------------------------------------- config and command


def config_rows(config, default=None) -> list[dict]:
    """Return a row for each option: its dotted path `key`, its `value`, and `default` if that is another.

    Args:
      config: the config of the run.
      default: that of the config file; None if it is not known.
    """
    flat, before = dict(_flat(config)), None if default is None else dict(_flat(default))
    rows = []
    for key in [*flat, *(key for key in before or () if key not in flat)]:
        value = flat.get(key, ABSENT)
        other = value if before is None else before.get(key, ABSENT)
        rows.append({"key": key, "value": value, "default": None if other == value else other})
    return rows


def _flat(config, prefix=""):
    """Yield (dotted path, value as text) for every option of a config, in its order."""
    for key, value in config.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(files.finite(value), ensure_ascii=False)


def default_config(folder, command):
    """Return the name and the contents of the config file that a run was made from, or ("", None).

    The name is that of `--config` in `command`, or that of the folder (`configs.run_name`), if the library has such a
    config.
    """
    match = re.search(r"--config[= ]'?([^\s']+)", command or "")
    stem, _, argument = (match[1] if match else Path(folder).resolve().name.replace("-", ":", 1)).partition(":")
    name = ":".join(filter(None, (Path(stem).stem, argument)))
    try:
        return name, migrate(json.loads(files.strict_json(configs.find(name).to_dict())))
    except (BadOption, ValueError):
        return "", None


def command_of(page) -> str:
    """Return the command that trained the run: that of this process, or the one that an earlier `page` shows.

    Returns "" if the run was not made by a command.
    """
    command = shlex.join(["python" if n == 0 else word for n, word in enumerate(sys.orig_argv)])
    if COMMAND.search(command):
        return command
    try:
        stored = re.search(r'<script type="application/json" id="run">(.*?)</script>', page.read_text(encoding="utf-8"))
        return str(json.loads(stored[1])["command"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def python_of(config_name, rows) -> str:
    """Return Python that makes the same run, from the name of its config and the rows that differ from it."""
    lines = [f'config = configs.find("{config_name}")']
    for row in rows:
        if row["default"] is not None and row["value"] != ABSENT:
            lines.append(f"config.{row['key']} = {_python(row['value'])}")
    return "\n".join(
        ["from vae_jax.runs import configs, train", "", *lines, 'train.complete(config.to_dict(), "runs/again")']
    )


def _python(text):
    value = json.loads(text)
    return repr(tuple(value) if isinstance(value, list) else value)
