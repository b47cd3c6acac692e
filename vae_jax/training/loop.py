"""The loop: chunks of steps, each chunk one compiled scan; between chunks the host logs, validates and saves."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from absl import logging

EXPLODED = 1e3  # a loss that has grown by this factor is not coming back


class Diverged(RuntimeError):
    """Training cannot go on: the message names the step, the term and where the last good state is."""


class Fit(NamedTuple):
    state: Any
    params: Any  # to evaluate with: of the best validation bound under early stopping, else of the last step
    record: dict  # steps, seconds (training alone, every start counted), best_step, best_bound, skipped


def fit(
    learner,
    stream,
    *,
    key,
    num_steps,
    log_every=100,
    validate: Callable | None = None,
    eval_every=1000,
    patience=0,
    checkpoints=None,
    checkpoint_every=1000,
    max_skipped=20,
    writer=None,
    progress=True,
) -> Fit:
    """Run `learner` on `stream` up to step `num_steps`; where `checkpoints` hold a state, go on from it.

    `validate(params, step)` -> {"bound": nats, ...} runs every `eval_every` steps; with `patience` > 0 the run ends
    after that many validations without a better bound, and the best parameters are kept.
    Between two logs nothing leaves the device. Raises `Diverged` after `max_skipped` non-finite steps in a row, or
    when the loss has exploded; nothing is saved from then on.
    """
    _check_options(validate, patience, num_steps=num_steps, log_every=log_every, eval_every=eval_every)
    state, best, record = start(learner, stream, key, patience)
    restored = checkpoints.restore((state, best)) if checkpoints else None
    if restored:
        step, (state, best), record = restored
        logging.info("resumed from the checkpoint of step %d", step)
    step = int(state.step)
    if writer:
        writer.start(step)
    compiled, first_step_at = {}, None

    def save():
        if checkpoints:
            checkpoints.save(step, (state, best), record)

    def finished():
        return step >= num_steps or (patience and record["stale"] >= patience)

    with tqdm.tqdm(total=num_steps, initial=step, unit="step", disable=not progress, dynamic_ncols=True) as bar:
        while not finished():
            length = min(log_every - step % log_every, num_steps - step)
            feed = stream.feed(step, length)
            if length not in compiled:
                compiled[length] = compile_chunk(learner, stream, state, feed, length)
            state, metrics, seconds = _timed(compiled[length], state, feed)
            first_step_at = first_step_at or time.time() - seconds * (1 - 1 / length)
            record["seconds"] += seconds
            record["first_loss"] = record["first_loss"] or float(metrics["loss"][0])
            _check(metrics, step, state, record["first_loss"], max_skipped)
            step += length
            logged = {f"train/{name}": _mean_of_finite(values) for name, values in _counted(metrics).items()}
            logged["train/steps_per_s"] = length / seconds
            if validate and (_due(step, length, eval_every) or step == num_steps):
                valid = validate(learner.params(state), step)
                logged |= {f"valid/{name}": value for name, value in valid.items()}
                if _is_best(valid["bound"], step, record) and patience:
                    best = jax.tree.map(jnp.copy, learner.params(state))
            if writer:
                writer.write(step, logged)
            bar.update(length)
            bar.set_postfix_str(f"bound {logged.get('train/bound', np.nan):.2f} nats")
            if _due(step, length, checkpoint_every) and not finished():
                save()
    save()
    record |= {"steps": step, "first_step_at": first_step_at, "skipped": int(state.skipped)}
    return Fit(state, best if patience else learner.params(state), record)


def restore(learner, stream, checkpoints, *, patience=0) -> Fit | None:
    """What `fit` had reached at its newest checkpoint, or None where there is none."""
    state, best, _ = start(learner, stream, jax.random.key(0), patience)
    restored = checkpoints.restore((state, best))
    if restored is None:
        return None
    _, (state, best), record = restored
    return Fit(state, best if patience else learner.params(state), record)


def compile_chunk(learner, stream, state, feed, length):
    """`length` steps as one program, (state, feed) -> state, metrics {name: [length]}; the state's memory is reused."""

    def run(state, feed):
        def body(state, i):
            return learner.step(state, stream.batch(feed, state.step, i))

        return jax.lax.scan(body, state, jnp.arange(length))

    return jax.jit(run, donate_argnums=0).lower(state, feed).compile()


def _timed(chunk, state, feed):
    """A chunk's state, its metrics as NumPy, for which this waits, and the seconds both took."""
    began = time.perf_counter()
    state, metrics = chunk(state, feed)
    metrics = {name: np.asarray(values, np.float64) for name, values in metrics.items()}
    return state, metrics, time.perf_counter() - began


def start(learner, stream, key, patience=0):
    """Where a run begins: the state from the first batch, the best parameters so far, an empty record."""
    feed = stream.feed(0, 1)
    state = jax.jit(lambda key, feed: learner.init(key, stream.batch(feed, jnp.zeros((), jnp.int32), 0)))(key, feed)
    best = jax.tree.map(jnp.copy, learner.params(state)) if patience else None
    return state, best, {"best_bound": -np.inf, "best_step": 0, "stale": 0, "seconds": 0.0, "first_loss": None}


def _check_options(validate, patience, **at_least_one):
    for name, value in at_least_one.items():
        if value < 1:
            raise ValueError(f"config.train.{name} must be at least 1, got {value}")
    if patience and validate is None:
        raise ValueError("config.train.patience needs a validation set")


def _is_best(bound, step, record) -> bool:
    """Whether `bound` is the best so far; the record remembers it, and how many have not been since."""
    if bound > record["best_bound"]:
        record |= {"best_bound": bound, "best_step": step, "stale": 0}
        return True
    record["stale"] += 1
    return False


def _due(step, length, every):
    """Whether a multiple of `every` lies in (step - length, step]."""
    return every > 0 and step // every > (step - length) // every


def _counted(metrics):
    """The metrics with NaN at the steps that were skipped: these are in `skipped`, not in the curve."""
    skipped = metrics["skipped"].astype(bool)
    counted = {name: np.where(skipped, np.nan, values) for name, values in metrics.items()}
    return counted | {"skipped": metrics["skipped"]}


def _mean_of_finite(values):
    """The mean over the steps that counted."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def _check(metrics, step, state, first_loss, max_skipped):
    """Raise `Diverged` where the run is beyond saving."""
    skipped = metrics["skipped"].astype(bool)
    in_row = int(state.skipped_in_row)
    if skipped.any():
        logging.warning("steps %d to %d: %d skipped", step + 1, step + len(skipped), skipped.sum())
    advice = "the last checkpoint is the last good state; lower config.optimizer.learning_rate or set clip_norm"
    if in_row >= max_skipped:
        since = len(skipped) - in_row  # negative where the row began in an earlier chunk
        bad = [name for name, values in metrics.items() if not np.isfinite(values[max(since, 0)])]
        raise Diverged(f"step {step + since + 1}: {', '.join(bad)} not finite, {in_row} steps in a row; {advice}")
    loss = _mean_of_finite(_counted(metrics)["loss"])
    if loss > EXPLODED * (1.0 + abs(first_loss)):
        terms = {name: _mean_of_finite(metrics[name]) for name in ("rate", "distortion") if name in metrics}
        worst = max(terms, key=terms.get, default="loss")
        raise Diverged(
            f"steps {step + 1} to {step + len(skipped)}: the loss has grown from {first_loss:.4g} to {loss:.4g} nats, "
            f"most of it in {worst!r} ({terms.get(worst, loss):.4g}); {advice}"
        )
