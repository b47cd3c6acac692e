"""The evaluation of a trained model: numbers for `results.json`, and lines for a person."""

import contextlib
import io
import statistics
import time
from pathlib import Path

import jax
import numpy as np
from absl import logging

from vae_jax.data import drawings, text, transforms
from vae_jax.evaluation import gaps, latents, likelihood, yardstick
from vae_jax.evaluation.code_use import code_use, sizes_of_codebooks
from vae_jax.files import write_bytes
from vae_jax.numerics import bits_per_dim
from vae_jax.runs import build
from vae_jax.tasks import cluster
from vae_jax.training import cost, loop
from vae_jax.training.progress import said

MUTUAL_INFORMATION_EXAMPLES, WITH_NETWORKS = 2000, 200  # N² densities, where a density is closed or takes a network


def evaluate(experiment, params, *, num_samples, num_test, progress=True, keep=None) -> dict:
    """Return the flat `test/...` record of a model: log p(x) in nats, its kind, and what the latents carry.

    Nats are those of the stored levels. The density of dequantised values bounds the levels' log-probability from
    below, and `test/log_density` is the density's own mean, before D log(levels) is subtracted.

    Args:
      experiment: the experiment of the run.
      params: the trained parameters.
      num_samples: K of a bound (`yardstick.measure`).
      num_test: how many test examples; 0 for all.
      progress: True for a progress bar.
      keep: a function that receives log p(x) of every example [N], such as one that writes it (`write_log_prob`).
    """
    model, test, key = experiment.model, test_examples(experiment, num_test), measuring_key(experiment)
    kind = yardstick.kind_of(model, num_samples)
    samples = f" with K = {num_samples:,}" if yardstick.is_bound(kind) else ""
    what = "the reconstructions" if kind == yardstick.NONE else "log p(x)"
    with said(f"measuring {what} of {len(test['x']):,} test examples{samples}"):
        measured = measure(experiment, params, test, num_samples=num_samples, progress=progress)
    if keep is not None and measured.log_prob is not None:
        keep(measured.log_prob)
    summary = yardstick.summary(
        measured, num_samples=num_samples, num_examples=len(test["x"]), **units(experiment, test)
    )
    if model.latent and model.latent.prior is None:
        summary["active_units"] = latents.active_units(latents.posterior_means(model, params, test))
    if measured.kind.startswith(yardstick.EXACT) and "context" in test:
        summary |= _as_classifier(model, params, test)
    if sizes_of_codebooks(model, params, test):
        with said("counting the codes"):
            summary |= code_use(model, params, test)
    elif model.latent and model.latent.prior:
        with said("measuring what the codes tell"):
            summary |= _codes(model, params, jax.random.split(key, 3)[2], test)  # the first two: those of `measure`
    if experiment.transform is transforms.dequantize:
        summary["dequantized"] = True
        if "log_prob" in summary:
            summary["log_density"] = summary["log_prob"] + build.levels_offset(experiment.config, experiment.dataset)
    if experiment.dataset.columns and "log_prob" in summary:
        volume = float(np.mean(experiment.dataset.columns.log_volume(test["x"])))
        summary["log_prob_original"] = summary["log_prob"] - volume
    if experiment.dataset.encoding:
        summary["sample_rate"] = experiment.dataset.encoding.sample_rate
    if experiment.dataset.strokes and "log_prob" in summary:
        summary |= _of_points(summary, test["x"])
    return {f"test/{name}": value for name, value in summary.items()}


def measure(experiment, params, test, *, num_samples, progress=False, key=None) -> yardstick.Measured:
    """Measure a trained model on `test` examples by `yardstick.measure`, in nats of the stored levels.

    `key` is the randomness; None for that of all that is measured on the test set.
    """
    offset = build.levels_offset(experiment.config, experiment.dataset)
    options = {"num_samples": num_samples, "offset": offset, "progress": progress}
    return yardstick.measure(
        experiment.model, params, measuring_key(experiment) if key is None else key, test, **options
    )


def write_log_prob(folder, log_prob):
    """Write log p(x) of every test example [N], nats, to `folder`/log_prob.npy. A failure is one line in the log."""
    whole = io.BytesIO()
    np.save(whole, np.asarray(log_prob, np.float64))
    try:
        write_bytes(Path(folder) / "log_prob.npy", whole.getvalue())
    except OSError as error:
        logging.info("%s cannot be written: %s", Path(folder) / "log_prob.npy", error)


def read_log_prob(folder) -> np.ndarray | None:
    """Return log p(x) of every test example [N], nats, as `write_log_prob` left it; None if it cannot be read."""
    try:
        values = np.load(Path(folder) / "log_prob.npy", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return values if values.ndim == 1 and values.size and values.dtype.kind == "f" else None


def measuring_key(experiment):
    """Return the key of all that is measured on the test set."""
    return jax.random.fold_in(experiment.key, 1)


def test_examples(experiment, num_test) -> dict:
    """Return the first `num_test` test examples, or all of them for 0."""
    return jax.tree.map(lambda a: a[: num_test or None], experiment.split("test"))


def units(experiment, test) -> dict:
    """Return the size that turns nats into bits/dim, or into a perplexity; nothing for the density of real values."""
    if experiment.dataset.vocabulary:
        return {"num_tokens": text.num_predicted(test["x"])}
    if experiment.dataset.strokes:
        return {}  # a row is mostly padding: see `_of_points`
    return {"event_size": int(np.prod(test["x"].shape[1:]))} if build.is_mass(experiment) else {}


def _of_points(summary, x) -> dict:
    """Return the number of points of the drawings x [N, T, 3], and the bits of one."""
    num_points = int(drawings.lengths_of(x).sum())
    return {"num_points": num_points, "bits_per_point": bits_per_dim(len(x) * summary["log_prob"], num_points)}


def _as_classifier(model, params, test) -> dict:
    """Return how often argmax_c p(c|x) is the true class, for a mixture whose components are the classes."""
    with contextlib.suppress(ValueError):  # a density of x that is no mixture
        label = jax.jit(lambda x: jax.lax.map(lambda x: cluster.label(model, params, x), x, batch_size=500))
        return {"accuracy": float(np.mean(label(test["x"]) == test["context"]))}
    return {}


def _codes(model, params, key, test) -> dict:
    """Return what the latents carry: nothing for a flow. The log says in words if they have collapsed."""
    if latents.is_invertible(model, params, test):
        return {}
    some = jax.tree.map(lambda a: a[:MUTUAL_INFORMATION_EXAMPLES], test)
    q = latents.posteriors(model, params, some)
    if latents.shares_networks(q):
        some = jax.tree.map(lambda a: a[:WITH_NETWORKS], some)
        q = latents.posteriors(model, params, some)
    means = latents.posterior_means(model, params, test)
    summary = {"active_units": latents.active_units(means)}
    if isinstance(means, tuple):
        summary |= {f"active_units_z{n}": latents.active_units(level) for n, level in enumerate(means, 1)}
    if likelihood.judges_levels(model, params, test):
        levels = likelihood.rate_by_level(model, params, jax.random.fold_in(key, len(test["x"]) + 2), test)
        summary |= {f"rate_{n}": float(nats) for n, nats in enumerate(levels, 1)}
    summary["mutual_information"] = float(latents.mutual_information(q, key))
    summary["information_examples"] = len(some["x"])
    with contextlib.suppress(TypeError):  # a posterior that does not split by dimension
        key_correlation = jax.random.fold_in(key, len(test["x"]))
        summary["total_correlation"] = float(latents.total_correlation(q, key_correlation))
    with contextlib.suppress(TypeError):
        rates = latents.rate_per_dimension(model, params, some)
        least = latents.least_aggregate_kl(
            q, latents.prior_of(model, params, some), jax.random.fold_in(key, len(test["x"]) + 1)
        )
        known = summary["mutual_information"], summary["active_units"]
        diagnosis = gaps.diagnose(rates, *known, num_examples=len(some["x"]), least_aggregate_kl=least)
        summary |= {"aggregate_kl_at_least": least, "aggregate_kl_at_most": diagnosis.aggregate_kl}
        summary["verdict"] = diagnosis.verdict
        logging.info("codes: %s", diagnosis.verdict)
    return summary


def training(experiment, record, members=1) -> dict:
    """Return the flat `train/...` and `valid/...` record of a run.

    For one of `members` of a program, seconds and FLOP/s are those of the whole program, steps and images those of the
    member.
    """
    seconds, steps, batch_size = record["seconds"], record["steps"], experiment.stream.batch_size
    batch = experiment.batch_shapes()
    state = loop.state_shapes(experiment.learner, experiment.stream)
    shape = lambda length: (batch_size, length, *batch["x"].shape[2:])  # noqa: E731
    cut = lambda length: batch | {"x": jax.ShapeDtypeStruct(shape(length), batch["x"].dtype)}  # noqa: E731
    batches = [cut(length) for length in experiment.stream.lengths] or [batch]
    flops = [cost.step_flop(experiment.learner, state, shapes) for shapes in batches]
    return {
        "train/steps": steps,
        "train/seconds": seconds,
        "train/images_per_s": steps * batch_size / seconds,
        "train/compile_s": record["compile_s"],
        **({} if None in flops else _rate(statistics.mean(flops) * steps * members / seconds, experiment.mesh)),
        "train/peak_memory_mb": cost.peak_memory() / 2**20,
        "train/first_step_s": (record["first_step_at"] or time.time()) - build.process_start(),
        "train/skipped": record["skipped"],
        **_best(experiment.model, record["best_bound"]),
        "valid/best_step": record["best_step"],
    }


def _rate(flop_per_s, mesh):
    peak = cost.matmul_rate() * mesh.size
    return {"train/gflop_per_s": flop_per_s / 1e9, "train/fraction_of_peak": flop_per_s / peak}


def _best(model, worth):
    """Return the number by which validation chose (`loop.fit`): the bound; for a family without one, the loss."""
    has_bound = model.log_prob or model.bound
    return {"valid/best_bound": worth} if has_bound else {"valid/best_loss": -worth}


def table(results: dict) -> str:
    """Return the results as lines for a person, each with its unit."""
    r = {name.removeprefix("test/"): np.nan if value is None else value for name, value in results.items()}
    lines = list(_density_lines(r) if "log_prob" in r else _code_lines(r) if "distortion" in r else _sample_lines(r))
    if "train/steps" in results:
        lines.append(
            f"training  {results['train/steps']:10d} steps in {results['train/seconds']:.1f} s, "
            f"{results['train/images_per_s']:.0f} {_examples(r)}/s; "
            f"first step after {results['train/first_step_s']:.1f} s"
        )
    if "train/gflop_per_s" in results:
        lines.append(
            f"machine   {results['train/gflop_per_s']:10.1f} GFLOP/s, {results['train/fraction_of_peak']:.2f} of its "
            f"matrix products; compiled in {results['train/compile_s']:.1f} s; at most "
            f"{results['train/peak_memory_mb']:.0f} MB"
        )
    return "\n".join(lines)


def _sample_lines(r):
    return [f"samples            - nats: this model only draws, there is no log p(x); {r['num_examples']} test images"]


def _code_lines(r):
    return [
        f"codes     {r['distortion']:10.2f} nats of distortion -log p(x|z), mean squared error {r['mse']:.4f}; "
        f"{r['num_examples']} test images",
        f"          {r['active_units']:10d} active units; no p(z), hence no log p(x)",
    ]


def _examples(r):
    return (
        "sentences"
        if "perplexity" in r
        else "drawings"
        if "bits_per_point" in r
        else "windows"
        if "sample_rate" in r
        else "rows"
        if "log_prob_original" in r
        else "images"
    )


def _density_lines(r):
    kind = f"exact, {r['num_examples']} test {_examples(r)}"
    if "effective_samples" in r:
        kind = (
            f"importance-weighted bound, K = {r['num_samples']}, {r['num_examples']} test {_examples(r)}, "
            f"{r['effective_samples']:.0f} effective samples"
        )
    if "num_samples" in r and "effective_samples" not in r:
        kind = f"bound, mean of {r['num_samples']} estimates, {r['num_examples']} test {_examples(r)}"
    error = r["log_prob_se"]  # one example has none
    error = f" ± {error:.2f}" if error is not None and np.isfinite(error) else ""
    yield f"log p(x)  {r['log_prob']:10.2f}{error} nats   {kind}"
    if "log_density" in r:
        yield (
            f"          {r['log_density']:10.2f} nats, log-density of dequantised values in [0, 1); minus "
            "D log(levels) it is the line above, a lower bound for the levels"
        )
    if "log_prob_original" in r:
        yield (
            f"          {r['log_prob_original']:10.2f} nats in the original units of the columns; above, those of "
            "standardised columns"
        )
    bounded = ", at most" if "num_samples" in r or "dequantized" in r else ""
    if "perplexity" in r:
        yield (
            f"          {r['perplexity']:10.2f} perplexity, {r['bits_per_token']:.4f} bits a token{bounded}; "
            f"{r['num_tokens']} tokens, ends included"
        )
    elif "bits_per_point" in r:
        yield f"          {r['bits_per_point']:10.4f} bits a point{bounded}; {r['num_points']} points"
    elif "bits_per_dim" not in r:
        yield "                   - bits/dim: a density of real values has none"
    elif "sample_rate" in r:
        rate = r["bits_per_dim"] * r["sample_rate"] / 1000
        yield f"          {r['bits_per_dim']:10.4f} bits a sample, {rate:.1f} kbit/s{bounded}"
    else:
        yield f"          {r['bits_per_dim']:10.4f} bits/dim{bounded}"
    if "accuracy" in r:
        yield f"classes   {r['accuracy']:10.3f} of the test images, by argmax p(c|x)"
    if "elbo" in r:
        yield f"ELBO      {r['elbo']:10.2f} nats = -(distortion {r['distortion']:.2f} + rate {r['rate']:.2f})"
    for level in ("", "_top", "_bottom"):
        if f"code_perplexity{level}" in r:
            yield (
                f"codes     {r[f'code_perplexity{level}']:10.1f} perplexity{level.replace('_', ', ')}: "
                f"{r[f'used_codes{level}']} of {r[f'num_codes{level}']} codes are in use"
            )
    if "mutual_information" in r:
        correlation = f", total correlation {r['total_correlation']:.2f} nats" if "total_correlation" in r else ""
        capped = latents.is_capped(r["mutual_information"], r.get("information_examples", r["num_examples"]))
        least = "at least " if capped else ""
        information = f"mutual information {least}{r['mutual_information']:.2f} nats{correlation}"
        yield f"latents   {r['active_units']:10d} active units, {information}"
