"""The gaps of a trained model's bounds to log p(x): ELBO ≤ IW-5 ≤ IW-50 ≤ IW-500 ≤ AIS ≤ log p(x) ≤ BDMC.

    python -m experiments.benchmarks.ladder --workdir=DIR [--num_images=1000] [--num_temperatures=1000] [--num_chains=4]

The bounds are measured on test images, where there is none from above, and on as many draws of the model, where
bidirectional Monte Carlo is one. Every rung is the mean over the images ± its standard error, and the step from the
rung before ± the standard error of the paired difference. Writes ladder.json into the workdir.
"""

import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from vae_jax import files
from vae_jax.evaluation import annealed, likelihood
from vae_jax.runs import build, launching
from vae_jax.spec import numbers

WORKDIR = flags.DEFINE_string("workdir", None, "A folder that experiments.train has written.", required=True)
NUM_IMAGES = flags.DEFINE_integer("num_images", 1000, "Of the test set, and as many simulated.", lower_bound=2)
NUM_TEMPERATURES = flags.DEFINE_integer("num_temperatures", 1000, "Of annealed importance sampling.", lower_bound=1)
NUM_CHAINS = flags.DEFINE_integer("num_chains", 4, "An image.", lower_bound=1)
NUM_LEAPFROG = flags.DEFINE_integer("num_leapfrog", 5, "Steps of a transition.", lower_bound=1)
STEP_SIZE = flags.DEFINE_float("step_size", 0.1, "Where the tuning of the leapfrog step begins.")
INITIAL = flags.DEFINE_enum("initial", "posterior", ["prior", "posterior"], "Where the path begins: p(z), or q(z|x).")
COUNTS = (5, 50, 500)


@launching.launched
def main(argv):
    del argv
    numbers(step_size=STEP_SIZE.value, above=0)
    folder = Path(WORKDIR.value).expanduser()
    experiment = build.build_trained(folder)
    params = build.restore(folder, experiment, mesh=experiment.mesh).params
    test = jax.tree.map(lambda a: a[: NUM_IMAGES.value], experiment.split("test"))
    key_test, key_drawn = jax.random.split(jax.random.fold_in(experiment.key, 3))
    path = {
        "num_temperatures": NUM_TEMPERATURES.value,
        "num_chains": NUM_CHAINS.value,
        "num_leapfrog": NUM_LEAPFROG.value,
        "step_size": STEP_SIZE.value,
        "initial": INITIAL.value,
    }
    began = time.perf_counter()
    rungs = _importance(experiment.model, params, key_test, test)
    rungs["AIS"] = annealed.log_likelihood(experiment.model, params, jax.random.fold_in(key_test, 0), test, **path)[
        "log_prob"
    ]
    results = {"test": _report(f"{len(test['x'])} test images", rungs)}
    keys = jax.random.split(key_drawn, len(test["x"]))
    context = test.get("context")
    both = annealed.simulated(experiment.model, params, keys, None if context is None else jnp.asarray(context), **path)
    drawn = {"x": both["x"], **({} if context is None else {"context": context})}
    rungs = _importance(experiment.model, params, jax.random.fold_in(key_drawn, 0), drawn)
    rungs |= {"AIS": both["lower"], "BDMC, upper": both["upper"]}
    results["simulated"] = _report(f"{len(test['x'])} images drawn from the model", rungs)
    results |= {"path": path, "seconds": time.perf_counter() - began}
    files.write_json(folder / "ladder.json", results)
    print(f"\n{path}, {results['seconds']:.0f} s; numbers in {folder / 'ladder.json'}")


def _importance(model, params, key, data):
    """Return {"ELBO": [N], "IW-5": [N], ...}, each with draws of its own."""
    estimates = {
        k: likelihood.log_likelihood(model, params, jax.random.fold_in(key, k), data, num_samples=k) for k in COUNTS
    }
    bounds = {f"IW-{k}": estimate["log_prob"] for k, estimate in estimates.items()}
    return {"ELBO": estimates[max(COUNTS)]["elbo"], **bounds}


def _report(title, rungs) -> dict:
    """Print the rungs in nats, and return {name: [mean, s.e., step from the rung before, its s.e.]}."""
    print(f"\n{title}, nats\n{'':14}{'log p(x)':>20}{'from the rung before':>26}")
    results, before = {}, None
    for name, values in rungs.items():
        pair = [_mean(values), (None, None) if before is None else _mean(values - before)]
        step = "" if before is None else f"{pair[1][0]:+.3f} ± {pair[1][1]:.3f}"
        print(f"{name:14}{pair[0][0]:12.3f} ± {pair[0][1]:.3f}{step:>26}")
        results[name], before = [*pair[0], *pair[1]], values
    return results


def _mean(values):
    values = np.asarray(values, np.float64)
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


if __name__ == "__main__":
    app.run(main, flags_parser=launching.parse_flags)
