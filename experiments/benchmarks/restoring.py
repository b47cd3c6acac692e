"""Measure the methods of restoration where p(x|y) is known: coverage, CRPS and the distance to the posterior mean.

    python -m experiments.benchmarks.restoring [--num_images=200] [--num_draws=99] [--problems=mixture,tree]
        [--tasks=bottom,noise]

The problems and degradations are those of `vae_jax.tasks.known`. x is a draw of p(x) and y one of p(y|x), so that draws
of p(x|y) cover x as often as their intervals say, and a sampler is wrong where they do not. "exact" is the closed form,
the sum over all images or the quadrature. "excess" is the CRPS minus that of exact draws for the same images, "mean"
the root mean square distance to E[x|y]; both are 0 for a perfect method. Standard errors are over images.
RESULTS
"""

import argparse
import time

from vae_jax.runs import restoring
from vae_jax.tasks import known

METHODS = {
    "mixture": [
        ("exact", {}),
        ("replaced", {"resample": 1}),
        ("replaced", {"resample": 10}),
        ("guided", {"guide": "norm"}),
        ("guided", {"guide": "moments"}),
        ("twisted", {}),
        ("twisted", {"num_samples": 1000}),
    ],
    "factors": [("exact", {}), ("importance", {"num_samples": 200}), ("annealed", {})],
    "bar": [(None, {}), ("importance", {"num_samples": 200}), ("annealed", {})],
    "tree": [("exact", {})],
    "bits": [("enumerated", {}), ("ordered", {}), ("ordered", {"num_samples": 1000})],
}
SHOWN = ("coverage_50", "coverage_90", "projected_50", "projected_90", "crps", "crps_excess", "rms_mean", "ess")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--num_images", type=int, default=200)
    parser.add_argument("--num_draws", type=int, default=99)
    parser.add_argument("--problems", default=",".join(METHODS))
    parser.add_argument("--tasks", default="bottom,top,noise,downsample,blur")
    args = parser.parse_args()
    problems = known.problems()
    print("| problem | y | method | 50 % | 90 % | sums 50 % | sums 90 % | CRPS | excess | mean | ESS | s |")
    print("|" + "---|" * 12)
    for name in args.problems.split(","):
        tasks = known.tasks(problems[name].event)
        for task in filter(tasks.__contains__, args.tasks.split(",")):
            for method, options in METHODS[name]:
                if method == "replaced" and task not in ("bottom", "top"):
                    continue
                began = time.perf_counter()
                sizes = {"num_images": args.num_images, "num_draws": args.num_draws}
                scores = restoring.known_scores(problems[name], tasks[task], method, **sizes, **options)
                title = " ".join([method or "quadrature", *(f"{k}={v}" for k, v in options.items())])
                cells = ["{:.3f} ± {:.3f}".format(*scores[key]) if key in scores else "" for key in SHOWN]
                cells[-1] = f"{scores['ess'][0]:.0f}" if "ess" in scores else ""
                seconds = time.perf_counter() - began
                print(f"| {name} | {task} | {title} | " + " | ".join(cells) + f" | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
