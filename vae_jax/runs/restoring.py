"""Restored test images of a trained run, their scores beside plain baselines, and samplers beside known posteriors."""

import functools
import io
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import degradations, files, spec
from vae_jax.data import contexts
from vae_jax.evaluation import calibration, denoisers, residuals, yardstick
from vae_jax.runs import build, scene, workdir
from vae_jax.spec import check_options, integers, one_of, under
from vae_jax.tasks import denoise, known, restore

METHODS = {
    **{method.__name__: method for method in (restore.exact, restore.enumerated, restore.ordered, restore.importance)},
    **{method.__name__: method for method in (restore.annealed, restore.conditional)},
    **{method.__name__: method for method in (denoise.replaced, denoise.guided, denoise.twisted)},
}

NUM_SAMPLES = 50  # K of the importance-weighted bound of a conditional model
FITTED_ON = 1000  # training images for the scales of the baselines
SHOWN, SHOWN_DRAWS = 8, 4  # images and draws in the figure
COLUMNS = {
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "log_prob": "log p(x given y), nats",
    "crps": "CRPS",
    "coverage_50": "in 50 %",
    "coverage_90": "in 90 %",
    "residual": "misfit",
    "ess": "ESS",
}


def measure(
    folder,
    degradation=None,
    method=None,
    *,
    out=None,
    num_images=50,
    num_draws=20,
    seed=0,
    options=None,
    checkpoint=None,
) -> dict:
    """Restore test images of a run, and score the restorations beside plain baselines.

    Writes restored.json, restored.npz (x, y, draws, mean) and restored.png into `out`; the figure shows the baseline of
    the largest PSNR. The baselines are that of the degradation (bicubic interpolation, the mean of the shown pixels, y
    itself or the decoded JPEG), for a mask the mean of the training images, and for noise and JPEG the denoisers of
    `evaluation.denoisers`. Each has a fitted density (`evaluation.residuals`). Only entries that y does not give
    exactly are scored, except in PSNR and SSIM, which see whole images.

    Args:
      folder: the workdir of the run.
      degradation: {"name": ..., ...}, a function of `degradations` and its options; None for that of a conditional run.
      method: a name of `METHODS`; None for the first that the model allows.
      out: the folder to write; None for `folder`/restored.
      num_images: how many test images.
      num_draws: S of each.
      seed: of the degradation and the draws.
      options: those of the method.
      checkpoint: a step, "best", or None for the last.

    Returns the contents of restored.json. Raises `ValueError` if the run has no images, if a degradation is missing or
    does not fit, and from the method if the model lacks a field.
    """
    integers(num_images=num_images, num_draws=num_draws)
    integers(seed=seed, at_least=0)
    calibration.similarity()  # before anything is restored
    began, folder = time.perf_counter(), Path(folder).expanduser()
    out = workdir.output_folder(out or folder / "restored")
    experiment = build.build_trained(folder)
    made = degradation_of(experiment, degradation)
    method = method or suited(experiment, made)
    one_of(METHODS, method=method)
    with under("--method_options"):
        check_options(METHODS[method], options or {}, num_args=6, given=("num_draws", "truth"))
    test = jax.tree.map(lambda a: np.asarray(a[:num_images]), experiment.split("test"))
    x = test["x"].astype(np.float32)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 1), (len(x), 2))
    of_model = method == "conditional"
    if of_model and (experiment.context is None or degradation not in (None, _of_context(experiment))):
        raise ValueError(
            "--method=conditional requires a run whose context is y: leave out --degradation, or train one"
        )
    y = test["context"] if of_model else np.asarray(jax.vmap(made.sample)(keys[:, 0], x))
    given = None if of_model or experiment.context is None else test["context"]
    params = build.restore(folder, experiment, step=checkpoint).params
    call = functools.partial(METHODS[method], experiment.model, num_draws=num_draws, **(options or {}))

    @jax.jit
    def each(params, *items):
        def one(item):
            key, y, context, truth = item
            return call(params, key, made, y, context, truth=truth)

        return jax.lax.map(one, items)

    together = jax.device_get(each(params, keys[:, 1], y, given, x))
    restored = [jax.tree.map(lambda a, n=n: a[n], together) for n in range(len(x))]
    rows = {method: [_scores(made, y[n], x[n], restored[n]) for n in range(len(x))]}
    note = "log p(x given y) is that of the method"
    if of_model and restored[0].log_prob is None:
        scored, entries = _scored(experiment, made)
        measured = yardstick.measure(scored, params, keys[0, 0], test, num_samples=NUM_SAMPLES)
        note = f"log p(x given y) of the model, {entries}: {measured.kind}"
        for n, row in enumerate(rows[method]):
            row["log_prob"] = np.nan if measured.log_prob is None else float(measured.log_prob[n])
    plain = baselines(experiment, made, x, y)
    for name, (estimates, log_prob) in plain.items():
        rows[name] = [_of_estimate(made, y[n], x[n], estimates[n]) | {"log_prob": log_prob[n]} for n in range(len(x))]
    results = {
        "degradation": made.name,
        "method": method,
        "num_images": len(x),
        "num_draws": num_draws,
        "note": note,
        "scores": {name: calibration.summary(scores) for name, scores in rows.items()},
        "seconds": time.perf_counter() - began,
    }
    _write(out, experiment, made, x, y, restored, plain, results)
    return results


def _scored(experiment, made):
    """Return the model of the pixels that y does not give exactly, if there is one, and what its log p(x|y) counts."""
    model = experiment.model
    if hidden_entries(made).all() or model.latent is None or model.latent.prior is None:
        return model, "all pixels"
    if not hasattr(build.likelihood_shapes(experiment), "log_probs"):
        return model, "all pixels"
    return model._replace(latent=restore.hidden_only(model.latent, made)), "hidden pixels"


def degradation_of(experiment, degradation):
    """Return the `Degradation` of a dict, or of a conditional run if it is None."""
    degradation = _of_context(experiment) if degradation is None else degradation
    if degradation is None:
        raise ValueError(
            "--degradation is missing: this run is not conditional on a degraded image; name one of "
            f"{', '.join(contexts.KINDS)}"
        )
    if spec.name_of(degradation) not in contexts.KINDS:
        known_names = ", ".join(contexts.KINDS)
        raise ValueError(f"--degradation: unknown value {spec.name_of(degradation)!r} (allowed: {known_names})")
    return spec.build(degradations, degradation, experiment.event, where="--degradation")


def _of_context(experiment) -> dict | None:
    """Return the degradation on which a run is conditional."""
    context = experiment.config["data"]["context"]
    if context["name"] == "image" and "size" in context:
        return {"name": "downsample", "size": context["size"]}
    return context.get("degradation")


def suited(experiment, degradation) -> str:
    """Return the first method that the fields of the model allow."""
    model = experiment.model
    if _of_context(experiment) is not None:
        return "conditional"
    if model.denoiser is not None:
        return "replaced" if degradation.mask is not None and not degradation.noise else "guided"
    if model.latent is not None and model.latent.prior is not None:
        return "importance"
    density = build.likelihood_shapes(experiment)
    ordered = model.density is not None and hasattr(getattr(density, "base", density), "complete")
    return "ordered" if ordered else "exact"


def baselines(experiment, made, x, y) -> dict:
    """Return {name: (estimates [N, *event], log p(x|x̂) [N])} of the plain restorations of test images.

    log p(x|x̂) is the sum over the entries that y does not give exactly.
    """
    train = np.asarray(experiment.split("train")["x"][:FITTED_ON], np.float32)
    keys = jax.random.split(jax.random.key(7), len(train))
    train_y = np.asarray(jax.vmap(made.sample)(keys, train))
    hidden, plain = hidden_entries(made), jax.jit(jax.vmap(made.baseline))
    estimates = {_BASELINES.get(made.name, "y itself"): (np.asarray(plain(train_y)), np.asarray(plain(y)))}
    if not hidden.all():
        average = train.mean(axis=0)[None]
        estimates["mean of the training images"] = tuple(np.where(hidden, average, images) for images in (train, x))
    if made.name in ("noise", "jpeg"):
        shown_train, shown_test = next(iter(estimates.values()))
        peak = degradations.top_of(experiment.event.support)
        for name, denoise_images in denoisers.tuned(shown_train, train, peak=peak).items():
            estimates[name] = denoise_images(shown_train), denoise_images(shown_test)
    result = {}
    for name, (of_train, of_test) in estimates.items():
        density = residuals.fit(of_train, train, num_levels=experiment.event.support.num_levels)
        result[name] = of_test, density.log_probs(of_test, x)[:, hidden].sum(axis=1)
    return result


_BASELINES = {
    "downsample": "bicubic",
    "jpeg": "decoded JPEG",
    "half": "mean of the shown pixels",
    "square": "mean of the shown pixels",
}


def table(results) -> str:
    """Return the scores as a Markdown table, means and standard errors over images."""
    scores = results["scores"]
    names = [name for name in COLUMNS if any(name in row for row in scores.values())]
    lines = [
        "| | " + " | ".join(COLUMNS[name] for name in names) + " |",
        "|---|" + "---|" * len(names),
    ]
    for method, row in scores.items():
        cells = [f"{row[name][0]:.3g} ± {row[name][1]:.2g}" if name in row else "" for name in names]
        cells = [
            f"{row[name][0]:.1f} ± {row[name][1]:.1f}" if name == "log_prob" and name in row else cell
            for name, cell in zip(names, cells, strict=True)
        ]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", results["note"]])


def _scores(made, y, x, restored) -> dict:
    scores = _of_estimate(made, y, x, restored.mean)
    scores |= calibration.of_draws(restored.draws, x, hidden=hidden_entries(made))
    peak = degradations.top_of(made.event.support)
    scores["psnr_draw"] = calibration.psnr(restored.draws[0], x, peak=peak)
    scores["residual"] = float(np.mean([_residual(made, y, draw) for draw in restored.draws]))
    if restored.log_weights is not None:
        scores["ess"] = float(restored.ess())
    scores["log_prob"] = np.nan if restored.log_prob is None else float(restored.log_prob)
    return scores


def _of_estimate(made, y, x, estimate) -> dict:
    peak = degradations.top_of(made.event.support)
    return {
        "psnr": calibration.psnr(estimate, x, peak=peak),
        "ssim": calibration.ssim(estimate, x, peak=peak),
        "residual": _residual(made, y, estimate),
    }


def _residual(made, y, x) -> float:
    """Return the root mean square of observe(y) - F x, as a share of the range."""
    difference = np.asarray(made.linear.observe(y)) - np.asarray(made.linear.forward(x))
    return float(np.sqrt(np.mean(difference**2)) / degradations.top_of(made.event.support))


def _write(out, experiment, made, x, y, restored, plain, results):
    """Write restored.json, restored.npz and restored.png."""
    from vae_jax import plotting  # matplotlib: not before it is needed
    from vae_jax.plotting import images

    out.mkdir(parents=True, exist_ok=True)
    files.write_text(out / "restored.json", files.strict_json(results))
    draws, means = (np.stack([getattr(one, name) for one in restored]) for name in ("draws", "mean"))
    with io.BytesIO() as content:
        np.savez_compressed(content, x=x, y=y, draws=draws, mean=means)
        files.write_bytes(out / "restored.npz", content.getvalue())
    show = scene.to_unit(experiment)
    best = max(plain, key=lambda name: results["scores"][name]["psnr"][0])
    given = jax.vmap(lambda y: shown(made, y))(y[:SHOWN])
    figure = images.restorations(
        show(given), show(x[:SHOWN]), show(plain[best][0][:SHOWN]), show(draws[:SHOWN]), num=SHOWN_DRAWS
    )
    plotting.save(figure, out / "restored.png")


def shown(made, y):
    """Return y as an image of the size of x: hidden pixels are grey, low resolution has large pixels."""
    top = degradations.top_of(made.event.support)
    if made.mask is not None:
        return jnp.where(made.mask, y, 0.5 * top)
    if made.name == "downsample":
        return jax.image.resize(y, made.event.shape, "nearest")
    return made.baseline(y)


def known_scores(problem, degradation, method=None, *, num_images, num_draws, seed=0, **options) -> dict:
    """Return the scores of a method on a problem whose posterior is known: {name: (mean, standard error)}.

    The truth of each image is a draw of p(x), and y one of p(y|x), so that a method that draws from p(x|y) covers it as
    often as its intervals say. `crps_excess` is the CRPS minus that of exact draws of the same images, and `rms_mean`
    the root mean square distance to the exact posterior mean.

    Args:
      problem: a `tasks.known.Problem`.
      degradation: one of `tasks.known.tasks`.
      method: a name of `METHODS`; None for the exact posterior itself.
      num_images: how many images are restored.
      num_draws: S.
      seed: of the images and the draws.
      **options: those of the method.
    """
    keys = jax.random.split(jax.random.key(seed), (num_images, 3))
    x, y = jax.jit(jax.vmap(lambda key: known.simulated(problem, degradation, key)))(keys[:, 0])
    exact = functools.partial(problem.exact, degradation=degradation, num_draws=num_draws)
    truth = jax.jit(lambda keys, y: jax.lax.map(lambda item: exact(item[0], y=item[1]), (keys, y)))(keys[:, 1], y)
    restored = truth
    if method is not None:
        call = functools.partial(METHODS[method], problem.model, problem.params, num_draws=num_draws, **options)
        restored = jax.jit(lambda keys, y: jax.lax.map(lambda item: call(item[0], degradation, item[1]), (keys, y)))(
            keys[:, 2], y
        )
    hidden = hidden_entries(degradation)
    rng, rows = np.random.default_rng(seed), []
    for n in range(num_images):
        scores = calibration.of_draws(restored.draws[n], x[n], hidden=hidden, rng=rng)
        best = calibration.of_draws(truth.draws[n], x[n], hidden=hidden, rng=rng)
        distance = np.asarray(restored.mean[n] - truth.mean[n])[hidden]
        scores |= {"crps_excess": scores["crps"] - best["crps"], "rms_mean": float(np.sqrt(np.mean(distance**2)))}
        if restored.log_weights is not None:
            scores["ess"] = float(restored._replace(log_weights=restored.log_weights[n]).ess())
        rows.append(scores)
    return calibration.summary(rows)


def hidden_entries(degradation):
    """Return the entries that y does not give exactly, which are those that are scored."""
    if degradation.mask is None or degradation.noise:
        return np.ones(degradation.event.shape, bool)
    return ~degradation.mask
