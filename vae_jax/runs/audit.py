"""The audit of a trained run: its number, what bounds it from both sides, and what could make it wrong, on one page."""

import math
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import files
from vae_jax.evaluation import annealed, audits, latents, likelihood, yardstick
from vae_jax.runs import build, compressed, facts, page, report, twins, workdir
from vae_jax.spec import integers
from vae_jax.tasks import compress

TEMPLATES = {"audit.md": "audit.markdown", "audit.html": "audit.html"}
BOTH_SIDES = "bounds from both sides meet"
HOLDS, FAILS, LEFT_OUT = "holds", "fails", "not checked"
TRUSTED_SHAPE = 0.7  # of k̂
LEAST_WEIGHTS = 100  # for k̂
SIGMAS = 4.0  # standard errors that a difference may have
LEAPFROG, STEP_SIZE = 5, 0.1
PASSES = 2**18  # of a twin
TWIN_IMAGES, TWIN_WEIGHTS = 64, 1000  # for k̂ of a twin
FEW_SAMPLES = 16  # of a check that holds for any number
ROUNDING = 1e-3  # nats, of float32 sums
OVERHEAD, END_BITS = 0.05, 96  # of a message: the share over the bound, and the bits of its last words


def write(
    folder,
    *,
    num_images=100,
    counts=(1, 5, 50, 500, 5000),
    num_temperatures=500,
    num_chains=4,
    num_compressed=50,
    checkpoint=None,
) -> dict:
    """Audit a run, write audit.json, audit.md and audit.html into its folder, and return the contents of audit.json.

    Args:
      folder: the workdir of the run.
      num_images: how many test images; as many are drawn from the model for the bounds from both sides.
      counts: the numbers K of importance samples, increasing.
      num_temperatures: of annealed importance sampling; 0 to leave it out.
      num_chains: of each image.
      num_compressed: how many test images are compressed and restored; 0 to leave it out.
      checkpoint: a step, "best", or None for the last.

    Raises `ValueError` for a model without a number for log p(x).
    """
    integers(num_images=num_images, at_least=4)
    integers(num_temperatures=num_temperatures, num_compressed=num_compressed, at_least=0)
    integers(num_chains=num_chains)
    for count in counts:
        integers(counts=count)
    began, folder = time.perf_counter(), Path(folder).expanduser()
    workdir.check_run(folder)
    experiment = build.build_trained(folder)
    model = experiment.model
    yardstick.check_has_number(model)
    counts = tuple(sorted(counts))
    if (kind := yardstick.kind_of(model, counts[-1])) == yardstick.NONE:
        raise ValueError("an audit is one of log p(x), and this model has no p(z), hence no number")
    params = build.restore(folder, experiment, step=checkpoint, mesh=experiment.mesh).params
    test = report.test_examples(experiment, num_images)
    key_bounds, key_sandwich, key_levels, key_checks = jax.random.split(report.measuring_key(experiment), 4)
    record = {
        "run": folder.resolve().name,
        "sentence": facts.sentence(experiment, params, {}),
        "command": facts.command_of(folder / page.NAME),
        "seed": experiment.config["seed"],
        "kind": kind,
        "num_images": len(test["x"]),
        "trained": files.read_json(folder / "results.json") if (folder / "results.json").exists() else {},
    }
    has_weights = kind.startswith(yardstick.IMPORTANCE)
    record["bounds"] = (
        bounds(experiment, params, key_bounds, test, counts) if has_weights else exact(experiment, params, test)
    )
    if has_weights and num_temperatures and latents.is_invertible(model, params, test):
        record["without_sandwich"] = "the code determines x, so that p(x|z) has no slope for Hamiltonian dynamics"
    elif has_weights and num_temperatures:
        path = {"num_temperatures": num_temperatures, "num_chains": num_chains}
        path |= {"num_leapfrog": LEAPFROG, "step_size": STEP_SIZE, "initial": "posterior"}
        try:
            record["sandwich"] = sandwich(experiment, params, key_sandwich, test, counts, path)
        except (ImportError, ValueError) as error:  # the extra `inference`; z that is not real
            record["without_sandwich"] = str(error)
    if model.latent is not None and likelihood.judges_levels(model, params, test):
        record["levels"] = [float(nats) for nats in likelihood.rate_by_level(model, params, key_levels, test)]
    record["checks"] = checks(experiment, params, key_checks, test, record, num_compressed=num_compressed)
    record["seconds"] = time.perf_counter() - began
    files.write_json(folder / "audit.json", record)
    for name, template in TEMPLATES.items():
        files.write_text(folder / name, page.render(template, data={}, **tables(record)))
    return record


def counts_of(words) -> tuple:
    """Return numbers of samples, increasing. Raises `ValueError` for a word that is not a positive integer."""
    if bad := [word for word in words if not word.strip().isdecimal() or not int(word)]:
        raise ValueError(f"--counts: {bad[0]!r} is not a positive integer")
    if not words:
        raise ValueError("--counts: give at least one number of samples")
    return tuple(sorted(map(int, words)))


def exact(experiment, params, test) -> list:
    """Return the one row of a model without weights: its log p(x), or its bound."""
    measured = report.measure(experiment, params, test, num_samples=FEW_SAMPLES)
    return [{"name": measured.kind, **mean_of(measured.log_prob)}]


def bounds(experiment, params, key, test, counts) -> list:
    """Return a row for the ELBO and for each K: its mean, the step from the row before, effective samples, and tails.

    The ELBO is that of the samples of the largest K. Nats, with standard errors over the images.
    """
    offset, rungs, more = build.levels_offset(experiment.config, experiment.dataset), {}, {"ELBO": {}}
    for count in counts:
        key_count, name = jax.random.fold_in(key, count), f"IW-{count}"
        terms = likelihood.log_likelihood(experiment.model, params, key_count, test, num_samples=count)
        rungs[name] = terms["log_prob"] - offset
        more[name] = {"ess_least": float(terms["ess"].min()), "ess_median": float(np.median(terms["ess"]))}
        if count >= LEAST_WEIGHTS:
            shape = audits.tail_shapes(experiment.model, params, key_count, test, num_samples=count)
            more[name] |= {"k_median": float(np.median(shape)), "k_above": float(np.mean(shape > TRUSTED_SHAPE))}
    return [row | more[row["name"]] for row in _steps({"ELBO": terms["elbo"] - offset} | rungs)]


def sandwich(experiment, params, key, test, counts, path) -> dict:
    """Return the bounds of test images, and those from both sides of images that the model has drawn.

    Annealed importance sampling is a bound from below. On an image that the model drew, a chain that starts at the very
    z of the image is one from above: bidirectional Monte Carlo, arXiv:1511.02543.
    """
    model, offset = experiment.model, build.levels_offset(experiment.config, experiment.dataset)
    key_test, key_drawn = jax.random.split(key)

    def rungs(key, data, **others):
        weighted = likelihood.log_likelihood(model, params, key, data, num_samples=counts[-1])
        return {"ELBO": weighted["elbo"], f"IW-{counts[-1]}": weighted["log_prob"], **others}

    lower = annealed.log_likelihood(model, params, jax.random.fold_in(key_test, 0), test, **path)
    of_test = rungs(key_test, test, AIS=lower["log_prob"])
    context = test.get("context")
    keys = jax.random.split(key_drawn, len(test["x"]))
    both = annealed.simulated(model, params, keys, None if context is None else jnp.asarray(context), **path)
    drawn = {"x": both["x"]} | ({} if context is None else {"context": context})
    of_drawn = rungs(jax.random.fold_in(key_drawn, 0), drawn, AIS=both["lower"], BDMC=both["upper"])
    return {
        "path": path,
        "acceptance": float(np.mean(lower["acceptance"])),
        "test": _steps({name: values - offset for name, values in of_test.items()}),
        "drawn": _steps({name: values - offset for name, values in of_drawn.items()}),
    }


def _steps(rungs) -> list:
    """Return a row for each rung: its mean, and the paired difference from the rung before, each with its error."""
    rows, before = [], None
    for name, values in rungs.items():
        step = {} if before is None else {f"step_{k}": v for k, v in mean_of(np.subtract(values, before)).items()}
        rows.append({"name": name, **mean_of(values), **step})
        before = values
    return rows


def checks(experiment, params, key, test, record, *, num_compressed) -> list:
    """Return a row for each check: what was compared, the figure, and whether it holds."""
    model, rows = experiment.model, []
    key_rate, key_mass, key_mates, key_bytes = jax.random.split(key, 4)
    has_weights = record["kind"].startswith(yardstick.IMPORTANCE)
    if has_weights:
        rows += [_of_order(record["bounds"]), _of_rate(experiment, params, key_rate, test), _of_tails(record["bounds"])]
        if "sandwich" in record:
            rows.append(_of_sandwich(record["sandwich"]))
        elif "without_sandwich" in record:
            rows.append(_left_out(BOTH_SIDES, record["without_sandwich"]))
    rows.append(_of_mass(experiment, params, test, key_mass))
    change = audits.of_batch_mates(model, params, key_mates, test, num_samples=FEW_SAMPLES)
    figure = f"largest change of log p(x): {change.max():.1g} nats"
    rows.append(_row("an image against its batch-mates", figure, change.max() <= ROUNDING))
    if num_compressed:
        some = jax.tree.map(lambda a: a[:num_compressed], test)
        rows.append(_of_bytes(experiment, params, some, record["kind"], key_bytes))
    return rows


def _row(name, figure, holds) -> dict:
    return {"name": name, "figure": figure, "verdict": HOLDS if holds else FAILS}


def _left_out(name, error) -> dict:
    return {"name": name, "figure": str(error).split("\n")[0], "verdict": LEFT_OUT}


def _of_order(rows):
    """More samples never loosen the bound in the mean."""
    figure = "steps " + ", ".join(f"{row['step_mean']:+.2f}" for row in rows[1:]) + " nats"
    return _row("the bound rises with K", figure, all(row["step_mean"] >= -SIGMAS * row["step_se"] for row in rows[1:]))


def _of_rate(experiment, params, key, test):
    """The KL in closed form is the mean of log q - log p. A sum that mixes the two is no bound."""
    model, (key_closed, key_sampled) = experiment.model, jax.random.split(key)
    closed = likelihood.elbo_terms(model, params, key_closed, test)["bound"]
    sampled = likelihood.log_likelihood(model, params, key_sampled, test, num_samples=500)["elbo"]
    gap = mean_of(sampled - closed)
    figure = f"{gap['mean']:+.3f} ± {gap['se']:.3f} nats"
    holds = abs(gap["mean"]) <= SIGMAS * gap["se"] + ROUNDING
    return _row("the ELBO by samples less that by its own KL", figure, holds)


def _of_tails(rows):
    """With heavy tails the bound of the largest K is far from log p(x)."""
    last = rows[-1]
    if "k_above" not in last:
        return _left_out("the tails of the weights", f"k̂ takes {LEAST_WEIGHTS} weights or more")
    figure = f"k̂ above {TRUSTED_SHAPE} for {100 * last['k_above']:.0f} % of the images at {last['name']}"
    figure += f", median {last['k_median']:.2f}; effective samples {last['ess_least']:.1f} or more"
    return _row("the tails of the weights", figure, last["k_above"] <= 0.1)


def _of_sandwich(record):
    by = {row["name"]: row for row in record["drawn"]}
    gap = by["BDMC"]["step_mean"]
    figure = f"{gap:.2f} ± {by['BDMC']['step_se']:.2f} nats between AIS and BDMC on drawn images"
    return _row(BOTH_SIDES, figure, -SIGMAS * by["BDMC"]["step_se"] <= gap <= 1.0)


def _of_mass(experiment, params, test, key):
    """Σ_x p(x) = 1 on a twin of few bits, through the function that measures the table."""
    name, context = "Σ p(x) = 1 on a small twin", test.get("context")
    try:
        given = {"context": experiment.context, "of_context": None if context is None else np.asarray(context)[0]}
        small = twins.of(experiment.config["family"], experiment.config["model"], experiment.event, **given)
        number = len(small.data["x"])
        options = {"num_samples": _affordable(number)}
        total, se = audits.total_mass(small.model, small.params, key, small.data, **options)
    except ValueError as error:
        return _left_out(name, error)
    is_bound = yardstick.kind_of(small.model, 1) == yardstick.BOUND
    figure = f"{total:.5f} ± {se:.5f} over {number:,} images" + (", by a bound: at most 1" if is_bound else "")
    error = SIGMAS * se + 1e-4
    too_small = total < 1.0 - error and not is_bound
    if too_small and (shape := _tail(small, jax.random.fold_in(key, 1))) > TRUSTED_SHAPE:
        # Rare large weights are missing, in the standard error too.
        return _left_out(name, f"{figure}, which is too small, but the weights have heavy tails: k̂ {shape:.2f}")
    return _row(name, figure, total <= 1.0 + error and not too_small)


def _tail(small, key) -> float:
    """Return the median k̂ of the weights of a few images of a twin; -inf for a model without weights."""
    if not yardstick.kind_of(small.model, 1).startswith(yardstick.IMPORTANCE):
        return -np.inf
    number = len(small.data["x"])
    some = jax.tree.map(lambda a: a[:: max(1, number // TWIN_IMAGES)], small.data)
    return float(np.median(audits.tail_shapes(small.model, small.params, key, some, num_samples=TWIN_WEIGHTS)))


def _affordable(num_images) -> int:
    """Return so many samples of each image of a twin that the check takes seconds."""
    return max(FEW_SAMPLES, min(5_000, PASSES // num_images))


def _of_bytes(experiment, params, test, kind, key):
    """The bytes of a lossless file are a number that nobody can compute wrongly."""
    name = f"real bytes of {len(test['x'])} images"
    try:
        data, measured = compressed.round_trip(experiment, params, test, bound=True)
    except (ValueError, ImportError) as error:
        return _left_out(name, error)
    message = compress.message_bits(data) - measured.initial_bits
    share, bound = message / measured.bound - 1.0, "log p(x)" if kind == yardstick.EXACT else "the ELBO"
    figure = (
        f"{measured.total:,} bytes, restored bit for bit; without the header and {measured.initial_bits:,} initial "
    )
    figure += f"bits {100 * share:+.2f} % over {bound}"
    once = [report.measure(experiment, params, test, num_samples=1, key=k).log_prob for k in jax.random.split(key)]
    spread = float(np.sqrt(np.sum(np.square(once[0] - once[1])) / 2.0)) / math.log(2)  # of one draw of z an image
    return _row(name, figure, message <= (1 + OVERHEAD) * measured.bound + SIGMAS * spread + END_BITS)


def mean_of(values) -> dict:
    """Return the mean and its standard error over examples."""
    values = np.asarray(values, np.float64)
    return {"mean": float(values.mean()), "se": float(values.std(ddof=1) / np.sqrt(len(values)))}


def tables(record) -> dict:
    """Return the text of the page: cells of all tables."""
    number = lambda row: f"{row['mean']:.2f} ± {row['se']:.2f}"  # noqa: E731
    rungs = []
    for row in record["bounds"]:
        least = f"{row['ess_least']:.1f}, {row['ess_median']:.1f}" if "ess_least" in row else ""
        tail = f"{row['k_median']:.2f}, {100 * row['k_above']:.0f} %" if "k_above" in row else ""
        rungs.append((row["name"], number(row), least, tail))
    steps = {}
    for split in ("test", "drawn") if "sandwich" in record else ():
        steps[split] = [
            (row["name"], number(row), f"{row['step_mean']:+.2f} ± {row['step_se']:.2f}" if "step_mean" in row else "")
            for row in record["sandwich"][split]
        ]
    levels = record.get("levels", [])
    found = record["trained"]
    number = f"{found['test/log_prob']:.2f} ± {found['test/log_prob_se']:.2f} nats" if "test/log_prob" in found else ""
    return {
        "record": record,
        "number": number,
        "rungs": rungs,
        "steps": steps,
        "levels": [(n, f"{nats:.2f}") for n, nats in enumerate(levels, 1)],
        "rate": f"{sum(levels):.2f}",
        "checks": [(row["name"], row["figure"], row["verdict"]) for row in record["checks"]],
    }
