"""Measure the methods of restoration where p(x|y) is known: coverage, CRPS and the distance to the posterior mean.

    python -m experiments.benchmarks.restoring [--num_images=200] [--num_draws=99] [--problems=mixture,tree]
        [--tasks=bottom,noise]

The problems and degradations are those of `vae_jax.tasks.known`. x is a draw of p(x) and y one of p(y|x), so that draws
of p(x|y) cover x as often as their intervals say, and a sampler is wrong where they do not. "exact" is the closed form,
the sum over all images or the quadrature. "excess" is the CRPS minus that of exact draws for the same images, "mean"
the root mean square distance to E[x|y]; both are 0 for a perfect method. Standard errors are over images.

Result of --num_images=40 (99 draws each, 100 steps of diffusion), coverage of pixels ± standard error:

    problem   y            method                    50 %           90 %           excess           mean    ESS
    mixture   bottom       exact                     0.466 ± 0.032  0.903 ± 0.020  -0.000 ± 0.001   0.000
                           replaced, resample 1      0.544 ± 0.037  0.928 ± 0.023   0.072 ± 0.010   0.243
                           replaced, resample 5      0.519 ± 0.028  0.931 ± 0.017   0.013 ± 0.003   0.095
                           replaced, 10, jump 5      0.525 ± 0.029  0.931 ± 0.014   0.004 ± 0.001   0.052
                           guided, norm              0.459 ± 0.031  0.894 ± 0.021   0.000 ± 0.001   0.027
                           guided, moments           0.559 ± 0.027  0.928 ± 0.018   0.015 ± 0.004   0.073
                           twisted, 99 particles     0.400 ± 0.030  0.791 ± 0.023   0.008 ± 0.002   0.042   25
              noise        exact                     0.489 ± 0.028  0.886 ± 0.018  -0.000 ± 0.001   0.000
                           guided, norm              0.273 ± 0.018  0.492 ± 0.023   0.106 ± 0.005   0.252
                           guided, moments           0.448 ± 0.029  0.837 ± 0.024   0.002 ± 0.001   0.027
                           twisted, 99 particles     0.472 ± 0.028  0.861 ± 0.021   0.003 ± 0.002   0.026   77
              downsample   exact                     0.481 ± 0.036  0.878 ± 0.032   0.001 ± 0.002   0.000
                           guided, norm              0.453 ± 0.036  0.842 ± 0.032   0.041 ± 0.012   0.164
                           guided, moments           0.550 ± 0.037  0.902 ± 0.030   0.050 ± 0.015   0.202
                           twisted, 99 particles     0.452 ± 0.033  0.847 ± 0.034   0.008 ± 0.005   0.053   71
              blur         guided, moments           0.453 ± 0.036  0.847 ± 0.027   0.009 ± 0.003   0.056
                           twisted, 99 particles     0.445 ± 0.029  0.861 ± 0.023   0.002 ± 0.002   0.022   72
    factors   bottom       exact                     0.562 ± 0.026  0.934 ± 0.013  -0.002 ± 0.001   0.000
                           importance                0.534 ± 0.025  0.922 ± 0.018   0.000 ± 0.002   0.014   96
                           annealed                  0.522 ± 0.029  0.903 ± 0.019   0.002 ± 0.002   0.036   24
              noise        importance                0.502 ± 0.023  0.908 ± 0.014  -0.000 ± 0.001   0.009   96
                           annealed                  0.522 ± 0.027  0.900 ± 0.014  -0.000 ± 0.001   0.019   31
              downsample   importance                0.512 ± 0.021  0.898 ± 0.015  -0.001 ± 0.001   0.009   96
                           annealed                  0.505 ± 0.022  0.897 ± 0.016  -0.000 ± 0.001   0.022   27
    bar       bottom       quadrature                0.484 ± 0.025  0.881 ± 0.016   0.000 ± 0.000   0.000
                           importance                0.475 ± 0.027  0.887 ± 0.020   0.000 ± 0.000   0.002   96
                           annealed                  0.475 ± 0.027  0.866 ± 0.021   0.000 ± 0.000   0.003   59
              downsample   importance                0.467 ± 0.027  0.869 ± 0.018   0.006 ± 0.002   0.017   76
                           annealed                  0.492 ± 0.018  0.898 ± 0.010   0.000 ± 0.000   0.004   72
    tree      bottom       exact                     0.528 ± 0.026  0.891 ± 0.016  -0.002 ± 0.003   0.000
              top          exact                     0.519 ± 0.030  0.925 ± 0.019   0.000 ± 0.004   0.000
              noise        exact                     0.502 ± 0.028  0.925 ± 0.010  -0.001 ± 0.002   0.000
    bits      bottom       ordered                   0.478 ± 0.031  0.891 ± 0.019   0.001 ± 0.003   0.033   99
              top          ordered                   0.475 ± 0.033  0.869 ± 0.024  -0.001 ± 0.007   0.064   83
              noise        ordered                   0.519 ± 0.025  0.879 ± 0.016   0.006 ± 0.004   0.032   74

Exact methods cover within their errors, and so do weights of codes and of pixels. RePaint needs its resampling. Under
noise, intervals of 90 % of DPS (ζ = 1) hold half of the pixels; moments and twisted particles are slightly too narrow.
Of 99 twisted particles of a noise-free half, few ancestors are left, and intervals of 90 % hold 79 %.

Trained models, `vae-jax restore --degradation=half` on 8-bit MNIST (mean ± standard error of few test images, so that
rows can only be compared with the baselines of their own images; log p is that of the hidden pixels, nats):

    model, method                              images   PSNR         SSIM            log p          50 %    90 %
    pixel_cnn_mnist_8bit, ordered (exact)      20       18.7 ± 0.7   0.811 ± 0.018   -261 ± 18      0.485   0.891
        mean of the training images                     14.7 ± 0.3   0.561 ± 0.010   -735 ± 33
    diffusion_mnist, replaced (30 steps x 3)    6       16.4 ± 0.7   0.678 ± 0.029                  0.489   0.893
        mean of the training images                     15.0 ± 0.6   0.540 ± 0.021   -697 ± 68
    vae_mnist_8bit, importance (prior, 200)    15       13.7 ± 0.4   0.630 ± 0.016   -676 ± 53      0.387   0.771
        mean of the training images                     14.9 ± 0.3   0.561 ± 0.013   -719 ± 38
    vae_mnist_8bit, annealed (40 steps, 9)      4       14.7 ± 1.8   0.686 ± 0.082   -638 ± 166     0.380   0.825
        mean of the training images                     14.7 ± 0.9   0.544 ± 0.031   -735 ± 96

The effective sample size of both VAE rows is 1: forty dimensions of z need a longer path than 40 temperatures.
"""

import argparse
import time

from vae_jax.runs import restoring
from vae_jax.tasks import known

METHODS = {
    "mixture": [
        ("exact", {}),
        ("replaced", {"resample": 1}),
        ("replaced", {"resample": 5}),
        ("replaced", {"resample": 10, "jump": 5}),
        ("guided", {"guide": "norm"}),
        ("guided", {"guide": "moments"}),
        ("twisted", {}),
    ],
    "factors": [("exact", {}), ("importance", {}), ("annealed", {})],
    "bar": [(None, {}), ("importance", {}), ("annealed", {})],
    "tree": [("exact", {})],
    "bits": [("enumerated", {}), ("ordered", {})],
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
