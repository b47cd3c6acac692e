"""Imputation of removed entries of a table: a VAE against column means and scikit-learn's IterativeImputer.

    python -m experiments.benchmarks.imputation [--table=breast_cancer|wine|diabetes|mixed] [--seeds=0,1,2]
        [--methods=column,iterative,draws,vae]

30 % of the entries of all splits are removed at random. Each method is fitted on the training rows with their holes,
sees the test rows with theirs, and is judged on the removed test entries, one by one: the mean log-score
log p(x_d | x_obs), nats, in standardised units, and for real columns the root mean square error of its mean.

    column      the observed training entries: N(mean, variance) of a real column, frequencies (plus one) of the others
    iterative   IterativeImputer, BayesianRidge: N(imputation, s_d²), s_d the root mean square error of the column for
                entries that are hidden from the imputer in turn, a tenth of the training entries at a time
    draws       IterativeImputer(sample_posterior=True): N(mean, variance) of 50 imputations
    vae         the config `vae_table`, its last parameters: p(x_d | x_obs) by 2,000 importance samples about the mode
                of p(z | x_obs) (`vae_jax.tasks.impute`, `vae_jax.inference.laplace`)

The imputers see binary columns and counts as numbers and categories as indicators; for those columns their normal is
integrated over the values, and normalised. Every row of the table below is one seed, of the holes and of the networks.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
import scipy.stats
from sklearn import datasets
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer

from vae_jax.configs import vae_table
from vae_jax.data import table
from vae_jax.evaluation import likelihood
from vae_jax.inference import laplace
from vae_jax.runs import build
from vae_jax.support import num_categories
from vae_jax.tasks import impute
from vae_jax.training import loop

HIDE, SAMPLES, FOLDS, DRAWS = 0.3, 2000, 10, 50
COUNTS = np.arange(400)  # values over which a normal is integrated


def data_set(name, seed, hide):
    """Return a table by name, with holes."""
    if name == "mixed":
        return table.of_columns(name, mixed(), seed=seed, hide=hide)
    if name == "breast_cancer":
        return table.load(seed=seed, hide=hide)
    loaded = {"wine": datasets.load_wine, "diabetes": datasets.load_diabetes}[name]()
    columns = dict(zip(map(str, loaded.feature_names), loaded.data.T, strict=True))
    return table.of_columns(name, columns, seed=seed, hide=hide)


def mixed(size=1500):
    """Return a table of eight real, three binary, two categorical and three count columns, from two curved factors."""
    rng = np.random.default_rng(7)
    z = rng.normal(size=(size, 2))
    features = np.concatenate([z, np.sin(2 * z), z[:, :1] * z[:, 1:], z**2 - 1], axis=1)
    weight = rng.normal(size=(features.shape[1], 30)) / np.sqrt(2)
    h = features @ weight
    columns = {f"real_{n}": h[:, n] + 0.3 * rng.standard_t(4, size=size) for n in range(8)}
    columns |= {
        f"yes_{n}": np.where(rng.random(size) < scipy.special.expit(2 * h[:, 8 + n]), "y", "n") for n in range(3)
    }
    for n in range(2):
        gumbel = 2 * h[:, 12 + 4 * n : 16 + 4 * n] + rng.gumbel(size=(size, 4))
        columns[f"kind_{n}"] = np.array(list("abcd"))[gumbel.argmax(axis=1)]
    return columns | {f"count_{n}": rng.poisson(np.exp(1.0 + 0.7 * np.clip(h[:, 20 + n], -4, 3))) for n in range(3)}


# ----------------------------------------------------------------------------------------------------------- methods
#
# Each returns log p(x_d | x_obs) [N, D] of the true test values, and the mean [N, D].


def column(holes, x, truth):
    """Columns on their own."""
    log_p, mean = np.zeros(truth.shape), np.zeros(truth.shape)
    for d, kind in enumerate(holes.columns.kinds):
        seen = holes.train.x[~np.isnan(holes.train.x[:, d]), d]
        mean[:, d] = seen.mean()
        if kind == "real":
            log_p[:, d] = scipy.stats.norm(seen.mean(), seen.std()).logpdf(truth[:, d])
        else:
            values = np.arange(num_categories(kind) or (2 if kind == "binary" else int(seen.max()) + 2))
            frequencies = np.array([np.sum(seen == v) + 1.0 for v in values])
            place = np.minimum(truth[:, d], values[-1]).astype(int)  # the last one stands for all larger counts
            log_p[:, d] = np.log(frequencies / frequencies.sum())[place]
    return log_p, mean


def iterative(holes, x, truth):
    """IterativeImputer with the errors that it makes on hidden training entries."""
    train, places = numbers(holes.columns, holes.train.x)
    seen, errors = ~np.isnan(train), np.full(train.shape, np.nan)
    fold = np.random.default_rng(0).integers(FOLDS, size=holes.train.x.shape)[:, places]
    for n in range(FOLDS):
        hidden = seen & (fold == n)
        filled = imputer().fit_transform(np.where(hidden, np.nan, train))
        errors[hidden] = (filled - train)[hidden]
    mean = imputer().fit(train).transform(numbers(holes.columns, x)[0])
    return scored(holes.columns, mean, np.sqrt(np.nanmean(errors**2, axis=0)), truth)


def draws(holes, x, truth):
    """IterativeImputer with its posterior."""
    train, test = (numbers(holes.columns, rows)[0] for rows in (holes.train.x, x))
    fitted = imputer(sample_posterior=True, random_state=0).fit(train)
    drawn = np.stack([fitted.transform(test) for _ in range(DRAWS)])
    return scored(holes.columns, drawn.mean(axis=0), np.maximum(drawn.std(axis=0, ddof=1), 1e-3), truth)


def vae(holes, x, truth, seed=0, **changes):
    """The config `vae_table`."""
    experiment = experiment_of(holes, seed, **changes)
    fitted = fit(experiment)
    params, latent = fitted.params, experiment.model.latent
    latent = latent.exchange(posterior=laplace.posterior(latent))

    @jax.jit
    def score(x, truth):
        keys = jax.random.split(jax.random.key(seed + 1), len(x))

        def one(item):
            key, x, truth = item
            key_score, key_mean = jax.random.split(key)
            options = {"num_samples": SAMPLES}
            scores = impute.score(latent, params, key_score, x, truth, **options)
            return scores.each, impute.impute(latent, params, key_mean, x, **options).mean, scores.ess

        return jax.lax.map(one, (keys, x, truth), batch_size=8)

    log_p, mean, ess = map(np.asarray, score(jnp.asarray(x), jnp.asarray(truth)))
    print(
        f"  effective samples of {SAMPLES}: median {np.median(ess):.0f}, least {ess.min():.0f}; best step "
        f"{fitted.record['best_step']}"
    )
    return log_p, mean


METHODS = {"column": column, "iterative": iterative, "draws": draws, "vae": vae}


def experiment_of(holes, seed, **changes):
    """Return the experiment of `vae_table` on a data set, with other values of config.model."""
    config = vae_table.get_config().to_dict()
    config["seed"] = seed
    config["model"] |= changes.get("model", {})
    config["train"] |= changes.get("train", {})
    config["optimizer"] |= changes.get("optimizer", {})
    config["data"] |= {"batch_size": min(64, len(holes.train.x))}
    return build.build(config, holes)


def fit(experiment):
    """Train without a workdir."""
    names = ("num_steps", "log_every", "eval_every", "checkpoint_every", "patience", "max_skipped")
    options = {name: experiment.config["train"][name] for name in names}
    validate = likelihood.validation(experiment.model, jax.random.fold_in(experiment.key, 2), experiment.split("valid"))
    key = jax.random.fold_in(experiment.key, 0)
    return loop.fit(experiment.learner, experiment.stream, key=key, validate=validate, progress=False, **options)


# -------------------------------------------------------------------------------------------- what the imputers see


def imputer(**options):
    return IterativeImputer(max_iter=20, tol=1e-3, **options)


def numbers(columns, x):
    """Return x with indicators for categories [N, F], and the column of each of the F numbers."""
    pieces, places = [], []
    for d, kind in enumerate(columns.kinds):
        size = num_categories(kind)
        codes = x[:, d, None]
        piece = np.where(np.isnan(codes), np.nan, codes == np.arange(size)) if size else codes
        pieces.append(piece)
        places += [d] * piece.shape[1]
    return np.concatenate(pieces, axis=1).astype(np.float64), np.array(places)


def scored(columns, mean, scale, truth):
    """Return the log-scores of normals N(mean, scale²) [N, F] at the truth [N, D], and the means [N, D].

    For values that are not real a normal is integrated over the values; indicators give probabilities by clipping.
    """
    scale = np.broadcast_to(scale, mean.shape)
    log_p, means, f = np.zeros(truth.shape), np.zeros(truth.shape), 0
    rows = np.arange(len(truth))
    for d, kind in enumerate(columns.kinds):
        size = num_categories(kind)
        if kind == "real":
            log_p[:, d] = scipy.stats.norm(mean[:, f], scale[:, f]).logpdf(truth[:, d])
            means[:, d] = mean[:, f]
        elif size:
            p = np.clip(mean[:, f : f + size], 0.02, 1.0)
            p /= p.sum(axis=1, keepdims=True)
            log_p[:, d], means[:, d] = np.log(p[rows, truth[:, d].astype(int)]), p.argmax(axis=1)
        elif kind == "binary":
            p = np.clip(mean[:, f], 0.02, 0.98)
            log_p[:, d], means[:, d] = np.where(truth[:, d] > 0.5, np.log(p), np.log1p(-p)), p
        else:
            log_mass = scipy.stats.norm(mean[:, f, None], scale[:, f, None]).logpdf(COUNTS)
            log_mass -= scipy.special.logsumexp(log_mass, axis=1, keepdims=True)
            log_p[:, d], means[:, d] = log_mass[rows, truth[:, d].astype(int)], mean[:, f]
        f += size or 1
    return log_p, means


def measure(name, seed, methods=METHODS):
    """Return {method: (mean log-score, its standard error over rows, root mean square error of real columns)}."""
    holes, whole = (data_set(name, seed, hide) for hide in (HIDE, 0.0))
    truth = holes.columns.to_model(whole.columns.to_original(whole.test.x))
    hidden = np.isnan(holes.test.x) & ~np.isnan(truth)
    real = hidden & (np.array(holes.columns.kinds) == "real")
    found = {}
    for method, function in methods.items():
        start = time.time()
        log_p, mean = function(holes, holes.test.x, truth, **({"seed": seed} if method == "vae" else {}))
        by_row = np.where(hidden, log_p, 0).sum(axis=1)
        score = log_p[hidden].mean()
        error = np.std(by_row - score * hidden.sum(axis=1), ddof=1) * np.sqrt(len(by_row)) / hidden.sum()
        rmse = np.sqrt(np.mean((mean - truth)[real] ** 2))
        found[method] = (score, error, rmse)
        print(
            f"{name} seed {seed} {method:9s} log-score {score:7.3f} ± {error:.3f}  RMSE {rmse:.3f}  "
            f"{time.time() - start:.0f} s"
        )
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--table", default="breast_cancer,mixed")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--methods", default=",".join(METHODS))
    args = parser.parse_args()
    for name in args.table.split(","):
        methods = {method: METHODS[method] for method in args.methods.split(",")}
        runs = [measure(name, int(seed), methods) for seed in args.seeds.split(",")]
        for method in methods:
            score, _, rmse = np.mean([run[method] for run in runs], axis=0)
            print(f"{name} mean over seeds {method:9s} log-score {score:7.3f}  RMSE {rmse:.3f}")


if __name__ == "__main__":
    main()
