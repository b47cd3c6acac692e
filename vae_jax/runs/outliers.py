"""The outliers of a trained run, and how well each score that the model allows detects them."""

import functools
import time
from pathlib import Path

import jax
import numpy as np
import optax

from vae_jax import files
from vae_jax.data import pipeline, sources
from vae_jax.evaluation import probes, yardstick
from vae_jax.runs import build, own_data, pictures, workdir
from vae_jax.spec import numbers, under
from vae_jax.tasks import outliers

ELBO_SAMPLES, FIT_SAMPLES = 50, 4
EXAMPLES_AT_ONCE, SAMPLES_AT_ONCE = 500, 2000
TITLES = {
    "negative_elbo": "−ELBO",
    "surprise": "−log p(x)",
    "typicality": "typicality",
    "complexity_corrected": "−log p(x) − complexity",
    "likelihood_regret": "likelihood regret",
    "distortion": "distortion",
}


def measure(folder, name, path=None, *, num_images, num_samples, num_steps, learning_rate, coder) -> dict:
    """Measure how well the run in `folder` separates its test images from outliers.

    Writes outliers.json and figures/outliers.png into the folder, and returns the contents of outliers.json.

    Args:
      folder: the workdir of the run.
      name: the outliers: a data set, or "left_out" for the classes that the run has never seen.
      path: where the files of that data set are.
      num_images: the most inliers, outliers, and validation images (the reference of typicality).
      num_samples: K of -log p(x), if it is not exact.
      num_steps: steps of the fit of q(z|x) for the likelihood regret.
      learning_rate: of that fit at first; it falls to 0 as a cosine.
      coder: measures the complexity of an image (`tasks.outliers.CODERS`).

    Raises `ValueError` or `OSError` if there are no such images, or if the model allows no score.
    """
    numbers(learning_rate=learning_rate, above=0)
    began, folder = time.perf_counter(), Path(folder).expanduser()
    workdir.check_run(folder)
    experiment = build.build_trained(folder)
    try:
        yardstick.check_has_number(experiment.model)
    except ValueError as error:
        raise ValueError(f"{folder} allows no score of x: {error}") from error
    title, images = _outliers(experiment, name, path)
    sets = {"inliers": experiment.split("test")["x"], "outliers": images, "reference": experiment.split("valid")["x"]}
    sets = {role: images[:num_images] for role, images in sets.items()}
    params = build.restore(folder, experiment).params
    fit = {"num_steps": num_steps, "optimizer": optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))}
    key = jax.random.fold_in(experiment.key, 4)
    scores, refused = _scores(experiment, params, key, sets, num_samples=num_samples, fit=fit, coder=coder)
    if not scores:
        raise ValueError(f"{folder} allows no score of x: {refused['distortion']}")
    results = {
        "inliers": {"name": experiment.dataset.name, "num_images": len(sets["inliers"])},
        "outliers": {"name": title, "num_images": len(sets["outliers"])},
        "scores": {score: _measured(*values) for score, values in scores.items()},
        "refused": refused,
        "log_prob": _kind(experiment.model, num_samples),
        "regret": {"num_steps": num_steps, "learning_rate": learning_rate},
        "coder": coder,
        "seconds": time.perf_counter() - began,
    }
    files.write_json(folder / "outliers.json", results)
    if "surprise" in scores:
        make = functools.partial(_figure, scores["surprise"], results)
        pictures.drawn("outliers", make, folder / "figures" / "outliers.png")
    return results


def table(results) -> str:
    """Return the results of `measure` as Markdown: best AUROC first, then the refused scores with the reason."""
    inside, outside = results["inliers"], results["outliers"]
    lines = [
        f"{outside['num_images']} images ({outside['name']}) against {inside['num_images']} test images of "
        f"{inside['name']}; means in nats; outliers count as positives.\n",
        "| score | inliers | outliers | AUROC | AUPR | FPR@95 |\n|---|---|---|---|---|---|",
    ]
    details = {
        "surprise": results["log_prob"],
        "complexity_corrected": results["coder"],
        "likelihood_regret": f"{results['regret']['num_steps']} steps",
    }
    titles = {name: f"{title} ({details[name]})" if name in details else title for name, title in TITLES.items()}
    for name in sorted(results["scores"], key=lambda name: -results["scores"][name]["auroc"]):
        r = results["scores"][name]
        numbers = f"{r['auroc']:.3f} | {r['aupr']:.3f} | {r['fpr_at_95']:.3f}"
        lines.append(f"| {titles[name]} | {r['inliers']:.2f} | {r['outliers']:.2f} | {numbers} |")
    lines += [f"\nNo {TITLES[name]}: {reason}." for name, reason in results["refused"].items()]
    return "\n".join(lines)


def _outliers(experiment, name, path):
    """Return the name of the outliers, and the images [M, H, W, C] in their fixed draw."""
    data, dataset, transform = experiment.config["data"], experiment.dataset, experiment.transform
    if name == "left_out":
        if not (classes := data["leave_out"]):
            raise ValueError("this run leaves no class out; train one with --config.data.leave_out='(0,)', for example")
        left_out = sources.only_classes(build.load_data(data), classes)
        with under("config.data"):
            splits = [pipeline.fixed_split(left_out, split, transform=transform)["x"] for split in sources.SPLITS]
        return f"{dataset.name}, left out: {', '.join(map(str, classes))}", np.concatenate(splits)
    other = own_data.read(experiment, name, path, flag="--outliers")
    with under("config.data"):
        return name, pipeline.fixed_split(other, "test", transform=transform)["x"]


def _kind(model, num_samples):
    """Return in words what kind of number -log p(x) is."""
    kind = yardstick.kind_of(model, num_samples)
    words = {yardstick.EXACT: "exact", yardstick.BOUND: f"bound, mean of {num_samples} estimates"}
    return words.get(kind, f"importance-weighted, K = {num_samples}")


def _scores(experiment, params, key, sets, *, num_samples, fit, coder):
    """Return {score: [of the inliers [N], of the outliers [M]]} in nats, and {score: the reason why there is none}.

    Args:
      experiment: the experiment of the run.
      params: its trained parameters.
      key: of the samples.
      sets: {"inliers", "outliers", "reference": images}.
      num_samples: K of -log p(x).
      fit: the options of the fit for the likelihood regret.
      coder: measures the complexity of an image.
    """
    model = experiment.model
    num_samples = 1 if model.log_prob else num_samples
    fit = {**fit, "num_samples": FIT_SAMPLES, "bound_samples": ELBO_SAMPLES}
    at_once = min(EXAMPLES_AT_ONCE, max(1, SAMPLES_AT_ONCE // num_samples))
    functions = {
        "negative_elbo": (outliers.negative_elbo, {"num_samples": ELBO_SAMPLES}),
        "surprise": (outliers.surprise, {"num_samples": num_samples}),
        "likelihood_regret": (outliers.likelihood_regret, fit),
        "distortion": (outliers.distortion, {}),
    }
    scores, refused = {}, {}
    for name, (score, options) in functions.items():
        some = [images for role, images in sets.items() if role != "reference" or name == "surprise"]
        try:  # only traced, so that this catches a field that the model lacks, and no failure of the computation
            jax.eval_shape(functools.partial(score, model, **options), params, key, some[0][0])
        except ValueError as error:
            refused[name] = str(error)
            continue
        together = {"at_once": at_once} if name == "surprise" else {}
        values = outliers.of_data(score, model, params, key, {"x": np.concatenate(some)}, **options, **together)
        if name != "likelihood_regret":  # a difference, in which the offset cancels
            values = values + build.levels_offset(experiment.config, experiment.dataset)
        scores[name] = np.split(values, np.cumsum([len(images) for images in some])[:-1])
    if "surprise" in refused:
        return scores, refused | dict.fromkeys(("typicality", "complexity_corrected"), refused["surprise"])
    *scores["surprise"], reference = scores["surprise"]
    scores["typicality"] = [outliers.typicality(values, reference) for values in scores["surprise"]]
    likelihood = build.likelihood_shapes(experiment)
    levels = None if likelihood is None else likelihood.support.num_levels
    if levels is None:
        refused["complexity_corrected"] = (
            "the length of a code compares only with a mass of levels; this model has a density"
        )
        return scores, refused
    try:
        lengths = [outliers.code_lengths(sets[role], coder=coder, levels=levels) for role in ("inliers", "outliers")]
    except ValueError as error:  # more than 256 levels, missing values
        return scores, refused | {"complexity_corrected": str(error)}
    scores["complexity_corrected"] = list(map(outliers.complexity_corrected, scores["surprise"], lengths))
    return scores, refused


def _measured(inside, outside) -> dict:
    means = {"inliers": float(inside.mean()), "outliers": float(outside.mean())}
    return means | probes.outlier_detection(inside, outside)


def _figure(surprises, results):
    from vae_jax import plotting  # matplotlib: not before it is needed
    from vae_jax.plotting import scores

    names = [plotting.plain(results[role]["name"]) for role in ("inliers", "outliers")]
    label = rf"$-\log\, p(x)$, {results['log_prob']}"
    return scores.histograms(*surprises, label=label, names=names)
