"""A VAE of counts against the process that drew them, and our negative binomial against the formula of scvi-tools.

    python -m experiments.benchmarks.counts [--steps=N] [--seeds=0,1,2]

The data set is `counts`: 2,000 cells of 200 genes, 1,400 for training (`data.synthetic`). Log-likelihoods of the
300 test cells, each from 1,000 importance samples about the mode of the posterior (`inference.laplace`):

    process          W, b, θ as they drew the data, the depth of a cell as it was drawn
    process, totals  the same, with the total count in place of the depth: what a model with `library` knows
    vae, depths      the config `vae_counts`, given the depths as the process is
    vae              the config `vae_counts`: it sees the total count, which tells a little more about x than the depth
    vae, plain q     the same model, with its encoder as the proposal
    no factors       W = 0: shares and θ that are the same in all cells, the best fit to the training cells
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.special

from vae_jax.configs import vae_counts
from vae_jax.core import Latent
from vae_jax.data import synthetic
from vae_jax.data.values import SPLITS, Dataset, Split
from vae_jax.distributions import NegativeBinomial, Normal
from vae_jax.evaluation import likelihood
from vae_jax.inference import laplace
from vae_jax.runs import build
from vae_jax.training import loop

SAMPLES = 1000


def process() -> Latent:
    """Return the process that drew the data, given the logarithm of the depth of a cell."""
    weight, bias, log_theta = (jnp.asarray(a, jnp.float32) for a in synthetic.counts_process())

    def p(params, z, log_depth):
        return NegativeBinomial(log_depth + jax.nn.log_softmax(weight @ z + bias), log_theta)

    prior = lambda params, context=None: Normal.standard((weight.shape[1],))  # noqa: E731
    return Latent(prior, lambda params, x, context: prior(params), p)


def log_prob(latent, params, x, context):
    """Return log p(x) of every cell, from samples about the mode of p(z|x), and the effective number of samples."""
    latent = latent.exchange(posterior=laplace.posterior(latent))
    return estimated(latent, params, x, context)


def estimated(latent, params, x, context):
    @jax.jit
    def run(x, context):
        def one(item):
            key, x, context = item
            return likelihood.importance_weighted(latent, params, key, x, context, num_samples=SAMPLES)

        return jax.lax.map(one, (jax.random.split(jax.random.key(1), len(x)), x, context), batch_size=4)

    found = run(jnp.asarray(x), jnp.asarray(context))
    return np.asarray(found["log_prob"], np.float64), float(np.median(found["ess"]))


def of_scvi(x, mu, theta, eps=1e-8):
    """The formula of scvi-tools (arXiv:1709.02082), in float64."""
    both = np.log(theta + mu + eps)
    gammaln = scipy.special.gammaln
    constant = gammaln(x + theta) - gammaln(theta) - gammaln(x + 1)
    return theta * (np.log(theta + eps) - both) + x * (np.log(mu + eps) - both) + constant


def same_formula(x):
    """Return the largest difference of one entry, and of a cell as a share of its log-likelihood."""
    _, log_depth, _ = synthetic.counts("test")
    weight, bias, log_theta = synthetic.counts_process()
    z = synthetic.counts("test")[0]
    logits = z @ weight.T + bias
    log_mean = log_depth[:, None] + logits - scipy.special.logsumexp(logits, axis=1, keepdims=True)
    log_mean, log_theta = np.float32(log_mean), np.float32(np.broadcast_to(log_theta, log_mean.shape))
    ours = NegativeBinomial(jnp.asarray(log_mean), jnp.asarray(log_theta)).log_probs(jnp.asarray(x))
    theirs = of_scvi(x.astype(np.float64), np.exp(np.float64(log_mean)), np.exp(np.float64(log_theta)))
    ours, whole = np.asarray(ours, np.float64), theirs.sum(axis=1)
    return np.abs(ours - theirs).max(), (np.abs(ours.sum(axis=1) - whole) / np.abs(whole)).max()


def without_factors(train, test):
    """Return log p(x) of test cells with the same shares and θ in all cells, fitted by gradient descent."""
    total = lambda x: jnp.log(jnp.sum(x, axis=1, keepdims=True))  # noqa: E731
    of = lambda p, x: NegativeBinomial(total(x) + jax.nn.log_softmax(p[0])[None], p[1][None] + 0.0 * x).log_probs(x)  # noqa: E731
    optimizer, p = optax.adam(3e-2), (jnp.zeros(train.shape[1]), jnp.zeros(train.shape[1]))

    @jax.jit
    def step(carry, _):
        p, state = carry
        gradient = jax.grad(lambda p: -jnp.mean(jnp.sum(of(p, train), axis=1)))(p)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(p, updates), state), None

    (p, _), _ = jax.lax.scan(step, (p, optimizer.init(p)), None, length=600)
    return np.asarray(jnp.sum(of(p, test), axis=1), np.float64)


def trained(seed, steps, depths=False):
    """Return the experiment of `vae_counts`, its last parameters, and the record of the training."""
    config = vae_counts.get_config().to_dict()
    config["seed"] = seed
    if steps:
        config["train"]["num_steps"] = config["optimizer"]["schedule"]["decay_steps"] = steps
    if depths:
        config["data"]["context"] = {"name": "vector"}
        drawn = {split: synthetic.counts(split) for split in SPLITS}
        splits = {s: Split(x, context=log_depth[:, None].astype(np.float32)) for s, (_, log_depth, x) in drawn.items()}
        experiment = build.build(config, Dataset("counts", **splits, max_value=1))
    else:
        experiment = build.build(config)
    validation = jax.random.fold_in(experiment.key, 2), experiment.split("valid")
    names = ("num_steps", "log_every", "eval_every", "checkpoint_every", "patience", "max_skipped")
    fitted = loop.fit(
        experiment.learner,
        experiment.stream,
        key=jax.random.fold_in(experiment.key, 0),
        validate=likelihood.validation(experiment.model, *validation),
        progress=False,
        **{name: config["train"][name] for name in names},
    )
    return experiment, fitted.params, fitted.record


def report(name, values, reference=None, note=""):
    error = values.std(ddof=1) / np.sqrt(len(values))
    apart = "" if reference is None else f"  minus the process: {np.mean(values - reference):8.2f} ± "
    apart += "" if reference is None else f"{np.std(values - reference, ddof=1) / np.sqrt(len(values)):.2f}"
    print(f"{name:18s} {values.mean():9.2f} ± {error:5.2f} nats a cell{apart}  {note}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--seeds", default="0")
    args = parser.parse_args()
    _, log_depth, x = synthetic.counts("test")
    x, train = x.astype(np.float32), synthetic.counts("train")[2].astype(np.float32)
    entry, cell = same_formula(x)
    print(f"scvi-tools' formula: {entry:.1e} nats apart at most in an entry, {cell:.1e} of log p in a cell")
    total = x.sum(axis=1, keepdims=True)
    drawn, ess = log_prob(process(), {}, x, log_depth[:, None].astype(np.float32))
    report("process", drawn, note=f"effective samples {ess:.0f} of {SAMPLES}")
    known, ess = log_prob(process(), {}, x, np.log(total))
    report("process, totals", known, note=f"effective samples {ess:.0f}")
    report("no factors", without_factors(jnp.asarray(train), jnp.asarray(x)), known)
    depths = log_depth[:, None].astype(np.float32)
    for seed in map(int, args.seeds.split(",")):
        start, models = time.time(), [trained(seed, args.steps, depths=with_depths) for with_depths in (True, False)]
        estimates = ("vae, depths", log_prob, depths), ("vae", log_prob, total), ("vae, plain q", estimated, total)
        for n, (name, estimate, context) in enumerate(estimates):
            experiment, params, record = models[min(n, 1)]
            values, ess = estimate(experiment.model.latent, params, x, context)
            note = f"effective samples {ess:.0f}; seed {seed}, best step {record['best_step']}, "
            note += f"{time.time() - start:.0f} s"
            report(name, values, known if n else drawn, note)


if __name__ == "__main__":
    main()
