"""Seconds and memory of a pass of EM over random data: ours, the same equations in NumPy, scikit-learn's.

    python -m experiments.benchmarks.mixture [--components=bernoulli|diagonal] [--num=500] [--examples=N] [--dim=D]

Each has a process of its own: one pass that compiles, then `--passes` that are timed. NumPy computes the same batches
in float32; scikit-learn's GaussianMixture (only `diagonal`) uses all data at once, and does one E and one M step.
Memory is the peak of the process beyond its size after the data were read. Of ours, 157 MB are the data as JAX stores
them, and most of the rest is JAX's runtime and compiler; batches need a few MB.

Measured on one core of a busy machine, --examples=60000, seconds of CPU a pass: 500 Bernoullis ours 1.68, NumPy 1.55;
100 diagonal Gaussians ours 0.76 and 0.77 (two runs), scikit-learn 0.79 and 1.04.
"""

import argparse
import resource
import subprocess
import sys
import time

import numpy as np

BATCH = 1000


def ours(args, x):
    import jax

    from vae_jax.models.mixture import bernoulli, gaussian, mixture
    from vae_jax.training import em

    kind = {
        "bernoulli": (bernoulli, {"smoothing": 0.1}),
        "diagonal": (gaussian, {"covariance": "diagonal", "floor": 1e-3}),
    }
    function, options = kind[args.components]
    shape = x.shape[1:]
    model = mixture(shape, function(shape, **options), num_components=args.num, concentration=1.0, revive_below=0.5)
    parts = jax.numpy.asarray(x.reshape(-1, BATCH, *shape))
    learner = em.em(model, batches_per_pass=len(parts))
    one_pass = jax.jit(lambda state, parts: jax.lax.scan(learner.step, state, {"x": parts}), donate_argnums=0)
    state = jax.jit(learner.init)(jax.random.key(0), {"x": parts[0]})
    while True:
        state, metrics = one_pass(state, parts)
        yield float(metrics["bound"].mean())


def numpy(args, x):
    logits = np.random.default_rng(1).normal(size=(args.num, x.shape[1])).astype(np.float32)
    log_weights = np.full(args.num, -np.log(args.num), np.float32)
    while True:
        count, bright, total = np.zeros(args.num), np.zeros(logits.shape), 0.0
        offset = log_weights - np.logaddexp(0, logits).sum(1)
        for part in x.reshape(-1, BATCH, x.shape[1]):
            joint = part @ logits.T + offset
            top = joint.max(1, keepdims=True)
            r = np.exp(joint - top)
            norm = r.sum(1, keepdims=True)
            r /= norm
            total += float(np.sum(top + np.log(norm)))
            count += r.sum(0)
            bright += r.T @ part
        log_weights = np.log((count + 1.0) / (len(x) + args.num)).astype(np.float32)
        logits = (np.log(bright + 0.1) - np.log(count[:, None] - bright + 0.1)).astype(np.float32)
        yield total / len(x)


def sklearn(args, x):
    from sklearn.mixture import GaussianMixture

    options = {"covariance_type": "diag", "reg_covar": 1e-3, "tol": 0.0, "init_params": "random_from_data"}
    model = GaussianMixture(args.num, max_iter=1, random_state=0, **options).fit(x)
    while True:  # `fit` ends with a second E step, so a pass is its two parts
        log_likelihood, log_resp = model._e_step(x)
        model._m_step(x, log_resp)
        yield float(log_likelihood)


def worker(args):
    rng, x = np.random.default_rng(0), np.empty((args.examples, args.dim), np.float32)
    for part in x.reshape(-1, BATCH, args.dim):
        rng.random(out=part, dtype=np.float32)
        if args.components == "bernoulli":
            part[...] = part < 0.2
    held = peak_mb()
    passes = {"ours": ours, "numpy": numpy, "sklearn": sklearn}[args.worker](args, x)
    started = time.perf_counter()
    next(passes)
    first = time.perf_counter() - started
    started, cpu = time.perf_counter(), time.process_time()
    bounds = [next(passes) for _ in range(args.passes)]
    seconds, cpu = (time.perf_counter() - started) / args.passes, (time.process_time() - cpu) / args.passes
    print(
        f"{args.worker:8s}{seconds:8.2f} s a pass ({cpu:.2f} s of CPU), {first:6.2f} s the first (with the start), "
        f"{peak_mb() - held:6.0f} MB beyond the {held:.0f} with the data, log p(x) {bounds[-1]:.2f}",
        flush=True,
    )


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--components", choices=["bernoulli", "diagonal"], default="bernoulli")
    for name, value in {"num": 500, "examples": 50_000, "dim": 784, "passes": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--worker", help="internal: take this one's turn")
    args = parser.parse_args()
    if args.worker:
        return worker(args)
    for name in ("ours", "numpy" if args.components == "bernoulli" else "sklearn"):
        subprocess.run(
            [sys.executable, "-m", "experiments.benchmarks.mixture", *sys.argv[1:], f"--worker={name}"], check=True
        )


if __name__ == "__main__":
    import warnings

    warnings.filterwarnings("ignore", "Best performing|.*did not converge")
    main()
