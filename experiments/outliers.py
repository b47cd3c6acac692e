"""How well a trained model tells images that are unlike its data from those that are like them.

    python -m experiments.outliers --workdir=DIR --outliers=fashion_mnist [--outliers_path=DIR] [--num_images=1000]
    python -m experiments.outliers --workdir=DIR --outliers=left_out

Inliers are test images of the run's own data; outliers are test images of another set, made in the same way, or all
images of the classes that `config.data.leave_out` has kept from the run. The scores are those of `tasks.outliers`, the
reference of typicality being validation images; what the model does not allow is named with the reason. Prints a
Markdown table; writes outliers.json and, of -log p(x), figures/outliers.png into the workdir.
"""

import time
from pathlib import Path

import jax
import numpy as np
import optax
from absl import app, flags

from experiments import setup
from vae_jax.data import pipeline, sources, transforms
from vae_jax.distributions import num_levels
from vae_jax.evaluation import probes
from vae_jax.tasks import outliers
from vae_jax.training import writers

WORKDIR = flags.DEFINE_string("workdir", None, "A folder that experiments.train has written.", required=True)
OUTLIERS = flags.DEFINE_string("outliers", None, "A data set, or left_out: the run's own.", required=True)
OUTLIERS_PATH = flags.DEFINE_string("outliers_path", None, "Where that set's files are; default: where usually found.")
NUM_IMAGES = flags.DEFINE_integer("num_images", 1000, "Of the inliers, and of the outliers, at most.", lower_bound=2)
NUM_SAMPLES = flags.DEFINE_integer("num_samples", 200, "K of -log p(x), where it is not exact.", lower_bound=1)
NUM_STEPS = flags.DEFINE_integer("num_steps", 100, "Of the likelihood regret's fit of q(z|x).", lower_bound=1)
LEARNING_RATE = flags.DEFINE_float("learning_rate", 0.05, "Of that fit's Adam at first; it falls to 0 as a cosine.")
CODER = flags.DEFINE_enum("coder", "zlib", sorted(outliers.CODERS), "What the complexity of an image is measured by.")
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


@setup.launched
def main(argv):
    del argv
    began, workdir = time.perf_counter(), Path(WORKDIR.value)
    experiment = setup.build(setup.load_config(workdir))
    name, unlike = _outliers(experiment, OUTLIERS.value, OUTLIERS_PATH.value)
    sets = {"inliers": experiment.split("test")["x"], "outliers": unlike, "reference": experiment.split("valid")["x"]}
    sets = {role: images[: NUM_IMAGES.value] for role, images in sets.items()}
    params = setup.restore(workdir, experiment.config, experiment.learner, experiment.stream).params
    scores, refused = _scores(experiment.model, params, jax.random.fold_in(experiment.key, 4), sets)
    if not scores:
        raise ValueError(f"{workdir} allows no score of x alone: {refused['distortion']}")
    results = {
        "inliers": {"name": experiment.dataset.name, "num_images": len(sets["inliers"])},
        "outliers": {"name": name, "num_images": len(sets["outliers"])},
        "scores": {score: _measured(*values) for score, values in scores.items()},
        "refused": refused,
        "log_prob": "exact" if experiment.model.log_prob else f"importance-weighted, K = {NUM_SAMPLES.value}",
        "regret": {"num_steps": NUM_STEPS.value, "learning_rate": LEARNING_RATE.value},
        "coder": CODER.value,
        "seconds": time.perf_counter() - began,
    }
    writers.write_json(workdir / "outliers.json", results)
    print(_table(results))
    if "surprise" in scores:
        _figure(scores["surprise"], results, workdir / "figures" / "outliers.png")
    print(f"\n{results['seconds']:.0f} s; numbers in {workdir / 'outliers.json'}")


def _outliers(experiment, name, path):
    """What they are called, and the images [M, H, W, C] in their fixed draw."""
    data, own, transform = experiment.config["data"], experiment.dataset, experiment.transform
    if name == "left_out":
        if not (classes := data.get("leave_out")):
            raise ValueError("no class is left out of this run: train one with --config.data.leave_out='(0,)', say")
        never = sources.only_classes(sources.load(data["name"], data["path"] or None), classes)
        splits = [pipeline.fixed_split(never, split, transform=transform)["x"] for split in sources.SPLITS]
        return f"{own.name}, left out: {', '.join(map(str, classes))}", np.concatenate(splits)
    other = sources.load(name, path)
    there, here = other.test.x.shape[1:], own.test.x.shape[1:]
    if there != here:
        raise ValueError(f"--outliers={name}: its images are {there}, those of {own.name} are {here}: give a set alike")
    if other.max_value != own.max_value and transform is not transforms.binarize:
        raise ValueError(
            f"--outliers={name}: its levels are 0..{other.max_value}, those of {own.name} 0..{own.max_value}; give a "
            "set alike, or a run of binarised data"
        )
    return name, pipeline.fixed_split(other, "test", transform=transform)["x"]


def _scores(model, params, key, sets):
    """{score: [of the inliers [N], of the outliers [M]]} in nats, and {score: why there is none}."""
    num_samples = 1 if model.log_prob else NUM_SAMPLES.value
    rate = optax.cosine_decay_schedule(LEARNING_RATE.value, NUM_STEPS.value)
    fit = {"optimizer": optax.adam(rate), "num_steps": NUM_STEPS.value, "num_samples": FIT_SAMPLES}
    at_once = min(EXAMPLES_AT_ONCE, max(1, SAMPLES_AT_ONCE // num_samples))
    wanted = {
        "negative_elbo": (outliers.negative_elbo, {"num_samples": ELBO_SAMPLES}),
        "surprise": (outliers.surprise, {"num_samples": num_samples, "at_once": at_once}),
        "likelihood_regret": (outliers.likelihood_regret, {**fit, "bound_samples": ELBO_SAMPLES}),
        "distortion": (outliers.distortion, {}),
    }
    scores, refused = {}, {}
    for name, (score, options) in wanted.items():
        some = [images for role, images in sets.items() if role != "reference" or name == "surprise"]
        try:
            values = outliers.of_data(score, model, params, key, {"x": np.concatenate(some)}, **options)
        except ValueError as error:  # a field that the model has not
            refused[name] = str(error)
            continue
        scores[name] = np.split(values, np.cumsum([len(images) for images in some])[:-1])
    if "surprise" in refused:
        return scores, refused | dict.fromkeys(("typicality", "complexity_corrected"), refused["surprise"])
    *scores["surprise"], reference = scores["surprise"]
    scores["typicality"] = [outliers.typicality(values, reference) for values in scores["surprise"]]
    likelihood = setup.likelihood_shapes(model, {"x": sets["inliers"]})
    levels = None if likelihood is None else num_levels(likelihood.support)
    if levels is None:
        refused["complexity_corrected"] = "a code's length wants a mass on levels beside it; this model has a density"
        return scores, refused
    lengths = [outliers.code_lengths(sets[role], coder=CODER.value, levels=levels) for role in ("inliers", "outliers")]
    scores["complexity_corrected"] = list(map(outliers.complexity_corrected, scores["surprise"], lengths))
    return scores, refused


def _measured(inside, outside) -> dict:
    means = {"inliers": float(inside.mean()), "outliers": float(outside.mean())}
    return means | probes.outlier_detection(inside, outside)


def _table(results) -> str:
    """Markdown, best AUROC first, and what there is to know of it."""
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


def _figure(surprises, results, path):
    from vae_jax import plotting  # matplotlib: not before it is needed
    from vae_jax.plotting import scores

    names = [results[role]["name"] for role in ("inliers", "outliers")]
    label = rf"$-\log\, p(x)$, {results['log_prob']}"
    plotting.save(scores.histograms(*surprises, label=label, names=names), path)


if __name__ == "__main__":
    app.run(main, flags_parser=setup.parse_flags)
