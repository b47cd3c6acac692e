"""Outliers of a trained run: which images they are, and how well each score that the model allows finds them."""

import functools
import time
from pathlib import Path

import jax
import numpy as np
import optax

from vae_jax import files
from vae_jax.data import pipeline, sources, transforms
from vae_jax.distributions import num_levels
from vae_jax.evaluation import probes
from vae_jax.runs import build, pictures
from vae_jax.spec import numbers
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
    """How well the run in `folder` tells its test images from `name`, a data set (its files in `path`) or left_out.

    At most `num_images` of each, and as many validation images as the reference of typicality; `num_samples` is K of
    -log p(x) where it is not exact, `num_steps` and `learning_rate` (which falls to 0 as a cosine) are those of the
    regret's fit of q(z|x). Writes outliers.json and figures/outliers.png there.
    Raises `ValueError` or `OSError` where there are no such images, and where the model allows no score.
    """
    numbers(learning_rate=learning_rate, above=0)
    began, folder = time.perf_counter(), Path(folder).expanduser()
    experiment = build.build_trained(folder)
    title, unlike = _outliers(experiment, name, path)
    sets = {"inliers": experiment.split("test")["x"], "outliers": unlike, "reference": experiment.split("valid")["x"]}
    sets = {role: images[:num_images] for role, images in sets.items()}
    params = build.restore(folder, experiment).params
    fit = {"num_steps": num_steps, "optimizer": optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))}
    key = jax.random.fold_in(experiment.key, 4)
    scores, refused = _scores(experiment, params, key, sets, num_samples=num_samples, fit=fit, coder=coder)
    if not scores:
        raise ValueError(f"{folder} allows no score of x alone: {refused['distortion']}")
    results = {
        "inliers": {"name": experiment.dataset.name, "num_images": len(sets["inliers"])},
        "outliers": {"name": title, "num_images": len(sets["outliers"])},
        "scores": {score: _measured(*values) for score, values in scores.items()},
        "refused": refused,
        "log_prob": "exact" if experiment.model.log_prob else f"importance-weighted, K = {num_samples}",
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
    """What `measure` returns, for a person: Markdown, best AUROC first, then what was refused and why."""
    inside, outside = results["inliers"], results["outliers"]
    lines = [
        f"Of {outside['num_images']} images ({outside['name']}) against {inside['num_images']} test images of "
        f"{inside['name']}; means in nats, the outliers being the positives.\n",
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
    """What they are called, and the images [M, H, W, C] in their fixed draw."""
    data, own, transform = experiment.config["data"], experiment.dataset, experiment.transform
    if name == "left_out":
        if not (classes := data["leave_out"]):
            raise ValueError("no class is left out of this run: train one with --config.data.leave_out='(0,)', say")
        never = sources.only_classes(build.load_data(data), classes)
        splits = [pipeline.fixed_split(never, split, transform=transform)["x"] for split in sources.SPLITS]
        return f"{own.name}, left out: {', '.join(map(str, classes))}", np.concatenate(splits)
    other = sources.load(name, path, max_value=data["max_value"])
    there, here = other.test.x.shape[1:], own.test.x.shape[1:]
    if there != here:
        raise ValueError(f"--outliers={name}: its images are {there}, those of {own.name} are {here}: give a set alike")
    if other.max_value != own.max_value and transform is not transforms.binarize:
        raise ValueError(
            f"--outliers={name}: its levels are 0..{other.max_value}, those of {own.name} 0..{own.max_value}; give a "
            "set alike, or a run of binarised data"
        )
    return name, pipeline.fixed_split(other, "test", transform=transform)["x"]


def _scores(experiment, params, key, sets, *, num_samples, fit, coder):
    """{score: [of the inliers [N], of the outliers [M]]} in nats, and {score: why there is none}."""
    model = experiment.model
    num_samples = 1 if model.log_prob else num_samples
    fit = {**fit, "num_samples": FIT_SAMPLES, "bound_samples": ELBO_SAMPLES}
    at_once = min(EXAMPLES_AT_ONCE, max(1, SAMPLES_AT_ONCE // num_samples))
    wanted = {
        "negative_elbo": (outliers.negative_elbo, {"num_samples": ELBO_SAMPLES}),
        "surprise": (outliers.surprise, {"num_samples": num_samples}),
        "likelihood_regret": (outliers.likelihood_regret, fit),
        "distortion": (outliers.distortion, {}),
    }
    scores, refused = {}, {}
    for name, (score, options) in wanted.items():
        some = [images for role, images in sets.items() if role != "reference" or name == "surprise"]
        try:  # traced alone: what is caught is a field that the model has not, and no failure of the computation
            jax.eval_shape(functools.partial(score, model, **options), params, key, some[0][0])
        except ValueError as error:
            refused[name] = str(error)
            continue
        together = {"at_once": at_once} if name == "surprise" else {}
        values = outliers.of_data(score, model, params, key, {"x": np.concatenate(some)}, **options, **together)
        if name != "likelihood_regret":  # a difference
            values = values + build.levels_offset(experiment.config, experiment.dataset)
        scores[name] = np.split(values, np.cumsum([len(images) for images in some])[:-1])
    if "surprise" in refused:
        return scores, refused | dict.fromkeys(("typicality", "complexity_corrected"), refused["surprise"])
    *scores["surprise"], reference = scores["surprise"]
    scores["typicality"] = [outliers.typicality(values, reference) for values in scores["surprise"]]
    likelihood = build.likelihood_shapes(experiment)
    levels = None if likelihood is None else num_levels(likelihood.support)
    if levels is None:
        refused["complexity_corrected"] = "a code's length wants a mass on levels beside it; this model has a density"
        return scores, refused
    lengths = [outliers.code_lengths(sets[role], coder=coder, levels=levels) for role in ("inliers", "outliers")]
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
