"""Restored test images of a trained run, their scores beside plain baselines, and samplers beside known posteriors."""

import functools

import jax
import numpy as np

from vae_jax.evaluation import calibration
from vae_jax.tasks import denoise, known, restore

METHODS = {
    **{method.__name__: method for method in (restore.exact, restore.enumerated, restore.ordered, restore.importance)},
    **{method.__name__: method for method in (restore.annealed, restore.conditional)},
    **{method.__name__: method for method in (denoise.replaced, denoise.guided, denoise.twisted)},
}


def known_scores(problem, degradation, method=None, *, num_images, num_draws, seed=0, **options) -> dict:
    """Return the scores of a method on a problem whose posterior is known: {name: (mean, standard error)}.

    The truth of each image is a draw of p(x), and y one of p(y|x), so that a method that draws from p(x|y) covers it as
    often as its intervals say. `crps_excess` is the CRPS minus that of exact draws of the same images, and `rms_mean`
    the root mean square distance to the exact posterior mean.

    Args:
      problem: a `tasks.known.Problem`.
      degradation: one of `tasks.known.tasks`.
      method: a name of `METHODS`; None for the exact posterior itself.
      num_images: how many images are restored.
      num_draws: S.
      seed: of the images and the draws.
      **options: those of the method.
    """
    keys = jax.random.split(jax.random.key(seed), (num_images, 3))
    x, y = jax.vmap(lambda key: known.simulated(problem, degradation, key))(keys[:, 0])
    exact = functools.partial(problem.exact, degradation=degradation, num_draws=num_draws)
    truth = jax.lax.map(lambda item: exact(item[0], y=item[1]), (keys[:, 1], y))
    restored = truth
    if method is not None:
        call = functools.partial(METHODS[method], problem.model, problem.params, num_draws=num_draws, **options)
        restored = jax.jit(lambda keys, y: jax.lax.map(lambda item: call(item[0], degradation, item[1]), (keys, y)))(
            keys[:, 2], y
        )
    hidden = hidden_entries(degradation)
    rng, rows = np.random.default_rng(seed), []
    for n in range(num_images):
        scores = calibration.of_draws(restored.draws[n], x[n], hidden=hidden, rng=rng)
        best = calibration.of_draws(truth.draws[n], x[n], hidden=hidden, rng=rng)
        distance = np.asarray(restored.mean[n] - truth.mean[n])[hidden]
        scores |= {"crps_excess": scores["crps"] - best["crps"], "rms_mean": float(np.sqrt(np.mean(distance**2)))}
        if restored.log_weights is not None:
            scores["ess"] = float(restored._replace(log_weights=restored.log_weights[n]).ess())
        rows.append(scores)
    return calibration.summary(rows)


def hidden_entries(degradation):
    """Return the entries that y does not give exactly, which are those that are scored."""
    if degradation.mask is None or degradation.noise:
        return np.ones(degradation.event.shape, bool)
    return ~degradation.mask
