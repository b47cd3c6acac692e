"""What a trained model is worth and what it looks like: numbers for `results.json`, figures as PNG."""

import contextlib
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from experiments import sentences, setup, sounds
from vae_jax.data import text, transforms
from vae_jax.evaluation import gaps, latents, likelihood
from vae_jax.tasks import cluster, interpolate, manifold, reconstruct
from vae_jax.training import cost, loop
from vae_jax.training.writers import read_metrics

COLUMNS = {  # of the table of a sweep, where a member has them
    "valid bound": "valid/best_bound",
    "valid loss": "valid/best_loss",
    "log p(x)": "test/log_prob",
    "ELBO": "test/elbo",
    "rate": "test/rate",
    "distortion": "test/distortion",
}
MUTUAL_INFORMATION_EXAMPLES, WITH_NETWORKS = 2000, 200  # N² densities, where a density is closed or takes a network


def evaluate(experiment, params, *, num_samples, num_test, progress=True) -> dict:
    """The flat `test/...` record: nats an image, exact where the model has log p(x), else bounded from below by
    `num_samples` importance weights; bits/dim, or perplexity of text, which are then bounded from above; and what the
    latents carry, where there are such, with a verdict in words on whether they have collapsed.
    """
    test = experiment.split("test")
    if num_test:
        test = jax.tree.map(lambda a: a[:num_test], test)
    model = experiment.model
    key_terms, key_weights, key_information = jax.random.split(jax.random.fold_in(experiment.key, 1), 3)
    if experiment.dataset.vocabulary:
        units = {"num_tokens": text.num_predicted(test["x"])}
    else:
        units = {
            "event_size": int(np.prod(test["x"].shape[1:])),
            "offset": transforms.log_levels_per_dim(experiment.transform, experiment.dataset.max_value),
        }
    if model.latent and model.latent.prior is None:
        summary = _of_codes(model, params, test)
    elif model.log_prob:
        summary = likelihood.summary_of(likelihood.exact(model, params, test), **units)
        if "context" in test:
            summary |= _as_classifier(model, params, test)
    else:
        terms = likelihood.elbo_terms(model, params, key_terms, test)
        estimate = likelihood.log_likelihood(
            model, params, key_weights, test, num_samples=num_samples, progress=progress
        )
        summary = likelihood.summary(terms, estimate, num_samples=num_samples, **units)
    if model.latent and model.latent.prior:
        summary |= _codes(model, params, key_information, test)
    if experiment.dataset.encoding:
        summary["sample_rate"] = experiment.dataset.encoding.sample_rate
    return {f"test/{name}": value for name, value in summary.items()}


def _as_classifier(model, params, test) -> dict:
    """How often the most probable class, argmax_c p(c|x), is the true one, where the components are the classes."""
    with contextlib.suppress(ValueError):  # a density of x that is no mixture
        label = jax.jit(lambda x: jax.lax.map(lambda x: cluster.label(model, params, x), x, batch_size=500))
        return {"accuracy": float(np.mean(label(test["x"]) == test["context"]))}
    return {}


def _codes(model, params, key, test) -> dict:
    """What the latents carry; says in the log whether they have collapsed."""
    some = jax.tree.map(lambda a: a[:MUTUAL_INFORMATION_EXAMPLES], test)
    q = latents.posteriors(model, params, some)
    if latents.shares_networks(q):
        some = jax.tree.map(lambda a: a[:WITH_NETWORKS], some)
        q = latents.posteriors(model, params, some)
    means = latents.posterior_means(model, params, test)
    summary = {"active_units": latents.active_units(means)}
    if isinstance(means, tuple):
        summary |= {f"active_units_z{n}": latents.active_units(level) for n, level in enumerate(means, 1)}
    summary["mutual_information"] = float(latents.mutual_information(q, key))
    with contextlib.suppress(TypeError):  # a posterior that does not split by dimension
        key_correlation = jax.random.fold_in(key, len(test["x"]))
        summary["total_correlation"] = float(latents.total_correlation(q, key_correlation))
    with contextlib.suppress(TypeError):
        rates = latents.rate_per_dimension(model, params, some)
        told = gaps.diagnose(rates, summary["mutual_information"], summary["active_units"], num_examples=len(some["x"]))
        summary["verdict"] = told.verdict
        logging.info("codes: %s", told.verdict)
    return summary


def _of_codes(model, params, test) -> dict:
    """What can be said of a model without p(z), an auto-encoder: how well its codes are decoded, how many are used."""
    kept = likelihood.reconstruction(model, params, test)
    return {name: float(np.asarray(values).mean(dtype=np.float64)) for name, values in kept.items()} | {
        "num_examples": len(test["x"]),
        "active_units": latents.active_units(latents.posterior_means(model, params, test)),
    }


def training(experiment, record, members=1) -> dict:
    """The flat `train/...` and `valid/...` record of a run, one of `members` of one program: seconds are the program's,
    steps and images the run's own, FLOP/s those of all together.
    """
    seconds, steps, batch_size = record["seconds"], record["steps"], experiment.stream.batch_size
    batch = jax.tree.map(lambda a: jax.ShapeDtypeStruct((batch_size, *a.shape[1:]), a.dtype), experiment.split("valid"))
    state = loop.state_shapes(experiment.learner, experiment.stream)
    rate = cost.step_flop(experiment.learner, state, batch) * steps * members / seconds
    return {
        "train/steps": steps,
        "train/seconds": seconds,
        "train/images_per_s": steps * batch_size / seconds,
        "train/compile_s": record["compile_s"],
        "train/gflop_per_s": rate / 1e9,
        "train/fraction_of_peak": rate / (cost.matmul_rate() * experiment.mesh.size),
        "train/peak_memory_mb": cost.peak_memory() / 2**20,
        "train/first_step_s": (record["first_step_at"] or time.time()) - setup.process_start(),
        "train/skipped": record["skipped"],
        **_best(experiment.model, record["best_bound"]),
        "valid/best_step": record["best_step"],
    }


def _best(model, worth):
    """What validation was judged by (`loop.fit`): a family without any bound, by its loss (coupled: the distortion)."""
    has_bound = model.log_prob or model.bound
    return {"valid/best_bound": worth} if has_bound else {"valid/best_loss": -worth}


def table(results: dict) -> str:
    """Results for a person, a line each with its unit."""
    r = {name.removeprefix("test/"): value for name, value in results.items()}
    lines = list(_density_lines(r) if "log_prob" in r else _code_lines(r))
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


def _code_lines(r):
    return [
        f"codes     {r['distortion']:10.2f} nats of distortion -log p(x|z), mean squared error {r['mse']:.4f}; "
        f"{r['num_examples']} test images",
        f"          {r['active_units']:10d} active units; no p(z), hence no log p(x)",
    ]


def _examples(r):
    return "sentences" if "perplexity" in r else "windows" if "sample_rate" in r else "images"


def _density_lines(r):
    kind = f"exact, {r['num_examples']} test {_examples(r)}"
    if "num_samples" in r:
        kind = (
            f"importance-weighted bound, K = {r['num_samples']}, {r['num_examples']} test {_examples(r)}, "
            f"{r['effective_samples']:.0f} effective samples"
        )
    yield f"log p(x)  {r['log_prob']:10.2f} ± {r['log_prob_se']:.2f} nats   {kind}"
    if "perplexity" in r:
        bounded = ", at most" if "num_samples" in r else ""
        yield (
            f"          {r['perplexity']:10.2f} perplexity, {r['bits_per_token']:.4f} bits a token{bounded}; "
            f"{r['num_tokens']} tokens, ends included"
        )
    elif "sample_rate" in r:
        rate = r["bits_per_dim"] * r["sample_rate"] / 1000
        yield f"          {r['bits_per_dim']:10.4f} bits a sample, {rate:.1f} kbit/s"
    else:
        yield f"          {r['bits_per_dim']:10.4f} bits/dim"
    if "accuracy" in r:
        yield f"classes   {r['accuracy']:10.3f} of the test images, by argmax p(c|x)"
    if "elbo" in r:
        yield f"ELBO      {r['elbo']:10.2f} nats = -(distortion {r['distortion']:.2f} + rate {r['rate']:.2f})"
    if "active_units" in r:
        correlation = f", total correlation {r['total_correlation']:.2f} nats" if "total_correlation" in r else ""
        told = f"mutual information {r['mutual_information']:.2f} nats{correlation}"
        yield f"latents   {r['active_units']:10d} active units, {told}"


def figures(experiment, params, workdir, *, seed=0):
    """Draw everything that the model and the data allow into `workdir`/figures; of text, the pages of `sentences`; of
    sound, .wav files too.
    """
    from vae_jax import plotting  # matplotlib: not before it is needed
    from vae_jax.plotting import curves

    directory = Path(workdir) / "figures"
    directory.mkdir(exist_ok=True)
    drawn, key = {}, jax.random.key(seed)
    if experiment.dataset.vocabulary:
        sentences.write(experiment, params, directory, key)
    elif experiment.dataset.encoding:
        if experiment.model.sample:
            drawn["sounds"] = sounds.write(experiment, params, key, directory)
    elif experiment.model.latent:
        drawn |= _image_figures(experiment, params, key)
    elif experiment.model.sample:
        drawn["samples_of_pixels"] = _pixel_samples(experiment, params, key)
    if experiment.model.latent:
        drawn |= _code_figures(experiment, params)
    drawn["training"] = curves.training(*_curves(read_metrics(Path(workdir) / "metrics.jsonl")))
    for name, figure in drawn.items():
        plotting.save(figure, directory / f"{name}.png")
    return directory


def _code_figures(experiment, params) -> dict:
    """The codes of the test set."""
    from vae_jax.plotting import latents as latent_plots

    drawn, test = {}, experiment.split("test")
    means = latents.posterior_means(experiment.model, params, test)
    codes, axes = to_plane(np.concatenate(jax.tree.leaves(means), axis=1))  # of all levels
    drawn["latents"] = latent_plots.scatter(codes, experiment.dataset.test.label, axes=axes)
    try:
        rates = np.asarray(latents.rate_per_dimension(experiment.model, params, test))
        drawn["rate_per_dimension"] = latent_plots.kl_per_dimension(rates, threshold=0.01)
    except TypeError as error:
        logging.info("no figure of the rate by dimension: %s", error)
    return drawn


def sweep_rows(folders, axes) -> list[dict]:
    """A row for each setting of a sweep, over its seeds: means and their standard errors, the best by validation."""
    members = {}
    for folder in folders:
        config = setup.load_config(folder)
        setting = {path: setup.value_at(config, path) for path in axes if path != "seed"}
        members.setdefault(json.dumps(setting), []).append(folder)
    rows = []
    for setting, own in members.items():
        results = [json.loads((folder / "results.json").read_text()) for folder in own]
        whole = [r for r in results if not r.get("train/diverged")]
        row = {"setting": json.loads(setting), "members": [folder.name for folder in own], "best": False}
        row["diverged"] = len(results) - len(whole)
        for name in (*COLUMNS.values(), "test/active_units"):
            values = np.array([r[name] for r in whole if name in r], np.float64)  # an auto-encoder has no log p(x)
            row[name] = float(values.mean()) if len(values) else None
            row[f"{name}_se"] = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
        rows.append(row)
    for name, sign in (("valid/best_bound", 1), ("valid/best_loss", -1)):  # one or the other: a sweep has one family
        if finished := [row for row in rows if row[name] is not None]:
            max(finished, key=lambda row, name=name, sign=sign: sign * row[name])["best"] = True
    return rows


def sweep_table(rows) -> str:
    """`sweep_rows` for a person: mean ± standard error over seeds, nats; * marks the best by validation."""

    def cell(row, name):
        mean, error = row[name], row[f"{name}_se"]
        return "-" if mean is None else f"{mean:.2f}" + ("" if error is None else f" ± {error:.2f}")

    columns = {title: name for title, name in COLUMNS.items() if any(row[name] is not None for row in rows)}
    lines = [["", "setting", "seeds", "diverged", *columns, "active units"]]
    for row in rows:
        cells = [cell(row, name) for name in (*columns.values(), "test/active_units")]
        lines.append(["*" * row["best"], setting_name(row), len(row["members"]), row["diverged"], *cells])
    widths = [max(len(str(line[i])) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(str(c).ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def setting_name(row) -> str:
    """lr=0.001: the setting of a row by the last parts of its paths."""
    return ", ".join(f"{path.rpartition('.')[2]}={value}" for path, value in row["setting"].items()) or "all"


def sweep_figure(rows, workdir):
    """Validation bounds of a sweep, or losses where there are none, a band for each setting, into figures/."""
    from vae_jax import plotting
    from vae_jax.plotting import curves

    bands, judged = {}, "bound" if any(row["valid/best_bound"] is not None for row in rows) else "loss"
    for row in rows:
        members = [read_metrics(workdir / "members" / name / "metrics.jsonl") for name in row["members"]]
        runs = [_curves(lines)[1].get(judged) for lines in members]
        longest = max((run for run in runs if run is not None), key=lambda run: len(run[0]), default=None)
        if longest is not None:  # members that were stopped or frozen leave the band where they end
            values = np.full((len(runs), len(longest[0])), np.nan)
            for own, run in zip(values, runs, strict=True):
                own[: 0 if run is None else len(run[1])] = () if run is None else run[1]
            bands[setting_name(row)] = longest[0], values
    path = workdir / "figures" / "sweep.png"
    plotting.save(curves.bands(bands, label=f"validation {judged}, mean and standard error over seeds"), path)
    return path


def _image_figures(experiment, params, key):
    """Pairs (name, figure) of images: reconstructions, samples, interpolations and, with two latents, the manifold."""
    from vae_jax.plotting import images

    latent, test = experiment.model.latent, experiment.split("test")
    key_z, key_prior, key_class = jax.random.split(key, 3)
    show = to_unit(experiment)
    x, context = jnp.asarray(test["x"]), test.get("context")
    c = None if context is None else jnp.asarray(context)

    first = jax.tree.map(lambda a: a[:12], (x, c))
    mean = jax.jit(jax.vmap(lambda x, c: reconstruct.from_mean(latent, params, x, c)))(*first)
    yield "reconstructions", images.reconstructions(show(first[0]), show(mean))

    few = jax.tree.map(lambda a: a[:5], (x, c))
    redraw = jax.vmap(lambda k, x, c: reconstruct.from_samples(latent, params, k, x, c, num_samples=8))
    samples = jax.jit(redraw)(jax.random.split(key_z, 5), *few)
    yield "reconstruction_samples", images.reconstruction_samples(show(few[0]), show(samples))

    yield "interpolations", _interpolations(experiment, params, x, c, show)
    if latent.prior is None:
        return

    classes = _classes(experiment)

    def draw(k, c):
        return latent.likelihood(params, latent.prior(params, c).sample(k), c).mean()

    prior_means = jax.jit(jax.vmap(draw))(jax.random.split(key_prior, 100), classes)
    yield "samples", images.grid(show(prior_means), ncols=10)
    yield "samples_of_pixels", _pixel_samples(experiment, params, key_class)

    if jax.tree.map(jnp.shape, latent.prior(params, None if c is None else c[0]).mean()) == (2,):
        axes = {"manifold": manifold.grid_values(20), "manifold_quantiles": manifold.normal_quantiles(20)}
        for name, values in axes.items():
            grid = jax.jit(lambda v: manifold.decode_grid(latent, params, v, None if c is None else c[0]))(values)
            yield name, images.manifold(show(grid), np.asarray(values))


def draws(experiment, params, key, number):
    """So many draws of x itself, in [0, 1], of the classes in turn where the model is conditional."""
    draw = jax.jit(jax.vmap(lambda k, c: experiment.model.sample(params, k, c)))
    return to_unit(experiment)(draw(jax.random.split(key, number), _classes(experiment, number)))


def _pixel_samples(experiment, params, key):
    from vae_jax.plotting import images

    return images.grid(draws(experiment, params, key, 100), ncols=10)


def _classes(experiment, number=100):
    """A class for each draw, None where the model has none."""
    return jnp.arange(number) % experiment.dataset.num_classes if experiment.config["data"]["context"] else None


def _interpolations(experiment, params, x, context, show, pairs=4, steps=9):
    """Between test images of different classes: the codes on a chord and on an arc."""
    from vae_jax.plotting import images

    latent, t = experiment.model.latent, jnp.linspace(0.0, 1.0, steps)
    index = _different_classes(experiment.dataset.test.label, pairs, len(x))
    a, b = (jax.tree.map(lambda v, i=i: v[i], (x, context)) for i in index)

    def paths(x_a, c_a, x_b, c_b):
        z_a, z_b = (latent.posterior(params, x, c).mean() for x, c in ((x_a, c_a), (x_b, c_b)))
        codes = tuple(interpolate.by_level(path, z_a, z_b, t) for path in (interpolate.linear, interpolate.spherical))
        decoded = tuple(interpolate.decode_path(latent, params, path, c_a) for path in codes)
        return tuple(path[-1] if isinstance(path, tuple) else path for path in codes), decoded  # the codes of the top

    (chord, arc), (along_chord, along_arc) = jax.jit(jax.vmap(paths))(*a, *b)
    return images.interpolation(
        show(a[0]), show(b[0]), show(along_chord), show(along_arc), np.asarray(chord), np.asarray(arc)
    )


def _different_classes(label, pairs, size):
    """Indices of the first images a, b whose classes differ, one pair after the other."""
    left = np.arange(pairs)
    if label is None:
        return left, left + pairs
    right = [next(i for i in range(pairs, size) if label[i] != label[a] and i % pairs == a % pairs) for a in left]
    return left, np.asarray(right)


def to_unit(experiment):
    """Pixels of the model's scale -> NumPy in [0, 1]."""
    scale = experiment.dataset.max_value if experiment.transform is transforms.levels else 1.0
    return lambda x: np.clip(np.asarray(x, np.float32) / scale, 0.0, 1.0)


def to_plane(means):
    """Two coordinates of each code: themselves, or their first two principal components."""
    if means.shape[1] == 2:
        return means, ("$z_1$", "$z_2$")
    centred = means - means.mean(0)
    if means.shape[1] == 1:
        return np.concatenate([means, np.zeros_like(means)], 1), ("$z_1$", "")
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    return means @ directions[:2].T, ("first principal component", "second principal component")


def _curves(metrics):
    def series(prefix):
        names = {name for line in metrics for name in line if name.startswith(prefix)}
        return {
            name.removeprefix(prefix): tuple(np.array([(m["step"], m[name]) for m in metrics if name in m]).T)
            for name in names
        }

    return series("train/"), series("valid/")
