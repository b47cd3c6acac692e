"""The loop: chunks of steps, each chunk one compiled scan; between chunks the host logs, validates and saves.

One loop for a lone run and for a sweep (`training.sweep`), whose state, metrics and record lead with the member [M]:
what is written here for numbers holds for vectors.
"""

import contextlib
import functools
import signal
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import PartitionSpec as P

from vae_jax.spec import integers
from vae_jax.training import sharding, signals
from vae_jax.training.signals import Preempted

EXPLODED = 1e3  # a loss that has grown by this factor is not coming back
ADVICE = "the last checkpoint is the last good state; lower config.optimizer.learning_rate or set clip_norm"


class Diverged(RuntimeError):
    """Training cannot go on: the message names the step, the term and where the last good state is."""


class Fit(NamedTuple):
    state: Any
    params: Any  # to evaluate with: of the best validation bound under early stopping, else of the last step
    record: dict  # steps, seconds (training alone, every start counted), best_step, best_bound, skipped, diverged ...


def fit(
    learner,
    stream,
    *,
    key,
    num_steps,
    mesh=None,
    log_every=100,
    validate: Callable | None = None,
    eval_every=1000,
    patience=0,
    checkpoints=None,
    checkpoint_every=1000,
    max_skipped=20,
    writer=None,
    progress=True,
    profile=None,
) -> Fit:
    """Run `learner` on `stream` up to step `num_steps`; where `checkpoints` hold a state, go on from it.

    `validate(params, step)` -> {"bound": nats, ...} runs every `eval_every` steps; with `patience` > 0 the run ends
    after that many validations without a better bound (`_worth`), and the best parameters are kept.
    Between two logs nothing leaves the device; the next chunk's data are read while this one is computed. `mesh`
    (`training.sharding`) says over which devices; `profile` is a folder for a trace of one chunk.
    Raises `Diverged` after `max_skipped` non-finite steps in a row, or when the loss has exploded; nothing is saved
    from then on, and when no step of the run was accepted. In a sweep, such a member is frozen and the others go on.
    Raises `Preempted` after SIGTERM, SIGHUP or SIGINT, at the next log, when the state is saved; a second SIGINT ends
    the process at once. Without `checkpoints` there is nothing to save, and signals are left alone.
    """
    check_options(
        num_steps=num_steps,
        log_every=log_every,
        eval_every=eval_every,
        checkpoint_every=checkpoint_every,
        patience=patience,
        max_skipped=max_skipped,
    )
    if patience and validate is None:
        raise ValueError("config.train.patience needs a validation set")
    mesh = mesh or sharding.single()
    chunks = _Chunks(learner, stream, mesh, profile)
    state, best, record = start(learner, stream, key, patience, mesh, chunks.feed)
    restored = checkpoints.restore((state, best)) if checkpoints else None
    if restored:
        step, (state, best), record = restored
        record = {name: _array(value) for name, value in record.items()}
        checkpoints.set_aside_after(step)
        logging.info("resumed from the checkpoint of step %d", step)
    step, bound = int(np.max(state.step)), None
    if writer:
        writer.start(np.asarray(state.step))

    def frozen():
        return record["diverged"] | ((patience > 0) & (record["stale"] >= patience))

    def finished():
        return step >= num_steps or frozen().all()

    def span(step):
        return min(log_every - step % log_every, num_steps - step)

    def save():
        if checkpoints:  # the members of a sweep have no best step in common
            host = {name: value.tolist() for name, value in record.items()}
            checkpoints.save(step, (state, best), host, bound=None if np.ndim(bound) else bound)

    bar = tqdm.tqdm(total=num_steps, initial=step, unit="step", disable=not progress, dynamic_ncols=True)
    with bar, signals.noted() if checkpoints else contextlib.nullcontext(lambda: 0) as noted:
        while not finished():
            length, alive, bound = span(step), ~frozen(), None
            state, metrics, seconds = chunks(state, step, length, span(step + length), frozen())
            record["seconds"] = record["seconds"] + seconds
            record["first_loss"] = np.where(np.isnan(record["first_loss"]), metrics["loss"][0], record["first_loss"])
            for member, reason in _diverged(metrics, step, state, record["first_loss"], max_skipped, alive):
                record["diverged"][member] = True
                if record["diverged"].all():
                    raise Diverged(reason)
                logging.error("member %d is frozen: %s", member[0], reason)
            step += length
            logged = {f"train/{name}": _mean_of_finite(values) for name, values in _counted(metrics).items()}
            logged["train/steps_per_s"] = length / seconds
            if validate and (_due(step, length, eval_every) or step == num_steps):
                params = learner.params(state)
                valid = validate(params, step)
                logged |= {f"valid/{name}": value for name, value in valid.items()}
                bound = _worth(valid)
                better = _is_best(bound, step, record, alive)
                if patience:
                    best = _select(better, params, best)
            if writer:
                writer.write(np.asarray(state.step), logged)
            bar.update(length)
            shown = "bound" if "train/bound" in logged else "loss"
            bar.set_postfix_str(f"{shown} {_mean_of_finite(np.ravel(logged[f'train/{shown}'])):.2f} nats")
            if number := _of_any_process(noted()):  # at the last step, too: what comes after may take long
                save()
                checkpoints.wait()
                name = signal.Signals(number).name
                raise Preempted(number, f"{name}: stopped and saved at step {step}; the same command again goes on")
            if _due(step, length, checkpoint_every) and not finished():
                save()
        record["diverged"] = record["diverged"] | (np.asarray(state.skipped) >= np.asarray(state.step))
        if record["diverged"].all():
            raise Diverged(f"all {step} steps were skipped: no loss or gradient was finite or small enough; {ADVICE}")
        save()
        if checkpoints:
            checkpoints.wait()  # a signal must not end the process before the last state is on disk
    record |= {"steps": np.asarray(state.step), "skipped": np.asarray(state.skipped)}
    record = {name: value.tolist() for name, value in record.items()}
    record |= {"first_step_at": chunks.first_step_at, "compile_s": chunks.compile_s}
    return Fit(state, best if patience else learner.params(state), record)


class _Chunks:
    """Runs a learner's chunks: compiles a program for each length, reads ahead, keeps time."""

    def __init__(self, learner, stream, mesh, profile):
        self.learner, self.stream, self.mesh, self.profile = learner, stream, mesh, profile
        self.feed = None if stream.streamed else feed_of(stream, 0, 1, mesh)  # what is resident is sent there once
        self.compiled, self.compile_s, self.first_step_at = {}, 0.0, None

    def __call__(self, state, step, length, upcoming, frozen):
        """The state `length` steps after `step`, the metrics as NumPy, for which this waits, and the seconds both took.
        Meanwhile the data of the `upcoming` steps thereafter are read.
        """
        feed = self.feed or feed_of(self.stream, step, length, self.mesh)
        with self._traced(length):
            program = self._program(state, feed, length)
            began = time.perf_counter()
            state, metrics = program(state, feed, *sharding.place_members(self.mesh, frozen))
            if self.stream.streamed:
                self.feed = feed_of(self.stream, step + length, upcoming, self.mesh) if upcoming else None
            metrics = {name: np.asarray(values, np.float64) for name, values in metrics.items()}
            seconds = time.perf_counter() - began
        self.first_step_at = self.first_step_at or time.time() - seconds * (1 - 1 / length)
        return state, metrics, seconds

    def _program(self, state, feed, length):
        if length not in self.compiled:
            began = time.perf_counter()
            self.compiled[length] = compile_chunk(self.learner, self.stream, state, feed, length, self.mesh)
            self.compile_s += time.perf_counter() - began
        return self.compiled[length]

    def _traced(self, length):
        """A trace of the first chunk that needs no compilation."""
        if not self.profile or length not in self.compiled:
            return contextlib.nullcontext()
        folder, self.profile = self.profile, None
        return jax.profiler.trace(str(folder))


def restore(learner, stream, checkpoints, *, patience=0, step=None, mesh=None) -> Fit | None:
    """What `fit` had reached at its newest checkpoint, or at that of `step` ("best": of the best validation bound);
    None where there is none.
    """
    state, best, _ = start(learner, stream, jax.random.key(0), patience, mesh)
    restored = checkpoints.restore((state, best), step=step)
    if restored is None:
        return None
    _, (state, best), record = restored
    return Fit(state, best if patience else learner.params(state), record)


def start(learner, stream, key, patience=0, mesh=None, feed=None):
    """Where a run begins: the state from the first batch, the best parameters so far, an empty record. `feed`: what is
    resident, where it is on the devices already.
    """
    mesh = mesh or sharding.single()
    feed = feed or feed_of(stream, 0, 1, mesh)
    init = functools.partial(_init, learner, stream)
    arguments = np.asarray(jax.random.key_data(key)), feed
    shardings = sharding.state_shardings(mesh, jax.eval_shape(init, *arguments))
    state = jax.jit(init, out_shardings=shardings)(*arguments)
    best = jax.tree.map(jnp.copy, learner.params(state)) if patience else None
    record = {"best_bound": -np.inf, "best_step": 0, "stale": 0, "first_loss": np.nan, "diverged": False}
    return state, best, {k: np.full(key.shape, v) for k, v in record.items()} | {"seconds": np.zeros(())}


def state_shapes(learner, stream):
    """The shapes and types of a run's state: nothing is computed."""
    key_data = jax.random.key_data(jax.random.key(0))
    return jax.eval_shape(functools.partial(_init, learner, stream), key_data, stream.feed(0, 1))


def _init(learner, stream, key_data, feed):
    key = jax.random.wrap_key_data(key_data)
    return learner.init(key, stream.batch(feed, jnp.zeros(key.shape, jnp.int32), 0))


def feed_of(stream, step, length, mesh=None):
    """What the compiled chunk of steps [step, step + length) takes beside the state, on the devices of `mesh`."""
    return sharding.place_feed(mesh or sharding.single(), stream.feed(step, length), streamed=stream.streamed)


def compile_chunk(learner, stream, state, feed, length, mesh=None):
    """`length` steps as one program, (state, feed) -> state, metrics {name: [length]}, on the devices of `mesh`; the
    state's memory is reused. Of a sweep, a third argument `frozen` [M] says which members stand still.
    """
    mesh = mesh or sharding.single()
    step = stream.without_padding(learner.step)

    def run(state, feed, frozen=None):
        def body(state, i):
            new, metrics = step(state, sharding.cut_batch(mesh, stream.batch(feed, state.step, i)))
            return (new if frozen is None else _select(frozen, state, new)), metrics

        return jax.lax.scan(body, state, jnp.arange(length))

    if sharding.members(mesh):
        specs = sharding.feed_specs(mesh, feed, streamed=stream.streamed)
        # No member needs another: every device runs its own, and nothing is exchanged.
        run = jax.shard_map(
            run,
            mesh=mesh,
            in_specs=(P("member"), specs, P("member")),
            out_specs=(P("member"), P(None, "member")),
            check_vma=False,
        )
    shardings = (sharding.state_shardings(mesh, state), None if sharding.members(mesh) else sharding.replicated(mesh))
    frozen = sharding.place_members(mesh, np.zeros(state.step.shape, bool))
    return jax.jit(run, donate_argnums=0, out_shardings=shardings).lower(state, feed, *frozen).compile()


@jax.jit
def _select(mask, new, old):
    """`new` where `mask`, a number or one of each member, else `old`."""

    def select(new, old):
        if jax.dtypes.issubdtype(new.dtype, jax.dtypes.prng_key):
            return new  # a run's key never changes: the step is folded in
        return jnp.where(jnp.reshape(mask, mask.shape + (1,) * (new.ndim - mask.ndim)), new, old)

    return jax.tree.map(select, new, old)


def _of_any_process(number):
    """The signal that one of the processes of a run has noted, 0 where none has."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.process_allgather(np.array(number)).max())


def check_options(*, num_steps, log_every, eval_every, checkpoint_every, patience, max_skipped):
    """Raise `BadOption` for an option of `fit` that is out of range."""
    integers(num_steps=num_steps, log_every=log_every, eval_every=eval_every, max_skipped=max_skipped)
    integers(checkpoint_every=checkpoint_every, patience=patience, at_least=0)


def _array(value):
    """A value of a record, or one of each member, as JSON has it: null is a number that is not finite."""
    array = np.asarray(value)
    return array.astype(np.float64) if array.dtype == object else array


def _worth(valid):
    """What a validation is judged by, nats: the bound; minus the loss, or minus the distortion, where there is none."""
    name = next(name for name in ("bound", "loss", "distortion") if name in valid)
    return np.asarray(valid[name]) if name == "bound" else -np.asarray(valid[name])


def _is_best(bound, step, record, alive):
    """Whether `bound` is the best so far; the record remembers it, and how many have not been since."""
    better = alive & (bound > np.nan_to_num(record["best_bound"], nan=-np.inf))
    record["best_bound"] = np.where(better, bound, record["best_bound"])
    record["best_step"] = np.where(better, step, record["best_step"])
    record["stale"] = np.where(better, 0, record["stale"] + alive)
    return better


def _due(step, length, every):
    """Whether a multiple of `every` lies in (step - length, step]."""
    return every > 0 and step // every > (step - length) // every


def _counted(metrics):
    """The metrics with NaN at the steps that were skipped: these are in `skipped`, not in the curve."""
    skipped = metrics["skipped"].astype(bool)
    counted = {name: np.where(skipped, np.nan, values) for name, values in metrics.items()}
    return counted | {"skipped": metrics["skipped"]}


def _mean_of_finite(values):
    """The mean over the steps [length, ...] that counted: a skipped step is in `skipped`, not in the curve."""
    finite = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(finite, values, 0.0).sum(0) / finite.sum(0)


def _diverged(metrics, step, state, first_loss, max_skipped, alive):
    """Pairs (member, reason) of the runs that are beyond saving; of a lone run, the member is ()."""
    skipped = metrics["skipped"].astype(bool) & alive
    if skipped.any():
        logging.warning("steps %d to %d: %d skipped", step + 1, step + len(skipped), skipped.sum())
    in_row, loss = np.asarray(state.skipped_in_row), _mean_of_finite(_counted(metrics)["loss"])
    for member in zip(*np.nonzero(alive), strict=True) if in_row.ndim else [()]:
        own = {name: values[(slice(None), *member)] for name, values in metrics.items()}
        if in_row[member] >= max_skipped:
            since = len(skipped) - in_row[member]  # negative where the row began in an earlier chunk
            bad = [name for name, values in own.items() if not np.isfinite(values[max(since, 0)])]
            yield (
                member,
                f"step {step + since + 1}: {', '.join(bad)} not finite, {in_row[member]} steps in a row; {ADVICE}",
            )
        elif loss[member] > EXPLODED * (1.0 + abs(first_loss[member])):
            terms = {name: _mean_of_finite(own[name]) for name in ("rate", "distortion") if name in own}
            worst = max(terms, key=terms.get, default="loss")
            yield (
                member,
                f"steps {step + 1} to {step + len(skipped)}: the loss has grown from {first_loss[member]:.4g} to "
                f"{loss[member]:.4g} nats, most of it in {worst!r} ({terms.get(worst, loss[member]):.4g}); {ADVICE}",
            )
