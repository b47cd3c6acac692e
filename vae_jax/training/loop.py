"""The loop: chunks of steps, each chunk one compiled scan; between chunks the host logs, validates and saves.

One loop serves a single run and a sweep (`training.sweep`). In a sweep, state, metrics and record have the member [M]
as first axis, and the numbers below are vectors.

Every log has `cpu_seconds`, of all threads of this process, and `wall_seconds`, both since training began. They count
all that the process does, also compilation and validation, and add up over the starts of a resumed run. Steps that
are repeated after a kill count once. For a sweep they are those of the whole program.
"""

import contextlib
import dataclasses
import functools
import signal
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import PartitionSpec as P

from vae_jax.spec import BadOption, integers
from vae_jax.training import sharding, signals
from vae_jax.training.progress import Progress, counted, logged, mean_of_finite, said
from vae_jax.training.signals import Preempted

JUDGED_BY = ("bound", "loss", "distortion")  # terms of a validation, the first of them that there is
EXPLODED = 1e3  # a loss that has grown by this factor does not recover
ADVICE = "the last checkpoint is the last good state; lower the optimizer's learning_rate or set its clip_norm"


class Diverged(RuntimeError):
    """Training cannot continue. The message names the step, the term and where the last good state is."""


class Fit(NamedTuple):
    """The result of a run."""

    state: Any
    params: Any  # to evaluate with: of the best validation bound under early stopping, otherwise of the last step
    record: dict  # steps, seconds (of chunks, all starts together), best_step, best_bound, skipped, diverged ...


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
    hooks=(),
    progress=True,
    profile=None,
    patience_from=0,
) -> Fit:
    """Run `learner` on `stream` up to step `num_steps`, from the newest of `checkpoints` if there is one.

    Between two logs nothing leaves the device, and the data of the next chunk are read while this one is computed.

    Args:
      learner: the learner, or many as one (`sweep.together`).
      stream: the training batches.
      key: the key of the run, or one for each member [M].
      num_steps: the last step.
      mesh: the devices (`training.sharding`); None for one device of this process.
      log_every: steps of a chunk.
      validate: (params, step) -> {"bound": nats, ...}.
      eval_every: steps between two validations.
      patience: validations without a better bound (`_worth`) after which the run ends with its best parameters; 0 runs
        to the last step and keeps the last parameters.
      checkpoints: where the state is saved; None saves nothing and ignores signals.
      checkpoint_every: steps between two checkpoints; 0 saves only at the end.
      max_skipped: non-finite steps in a row after which the run is given up.
      writer: gets the metrics of every chunk.
      hooks: pairs (every, function of (params, step)); it is called at the log after `every` steps and at the last.
      progress: True to show how far the run is (`progress.Progress`).
      profile: a folder for a trace of one chunk.
      patience_from: the step up to which validations do not count for `patience`, in a run that is made longer.

    Raises `Diverged` after `max_skipped` non-finite steps in a row, if the loss has exploded, or if no step was
    accepted; nothing is saved from then on. In a sweep, such a member is frozen and the others continue.
    Raises `Preempted` after SIGTERM, SIGHUP or SIGINT, at the next log, when the state is saved. A second SIGINT ends
    the process at once.
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
        raise BadOption("patience needs validation data, and there are none; set it to 0")
    mesh = mesh or sharding.single()
    chunks = _Chunks(learner, stream, mesh, profile)
    clocks = _clocks()
    run = _Run(*start(learner, stream, key, patience, mesh, chunks.feed), patience, checkpoints, clocks)
    run.resume(patience_from)
    if writer:
        writer.start(np.asarray(run.state.step))

    def span(step):
        return min(log_every - step % log_every, num_steps - step)

    def now(length, every):
        return _due(run.step, length, every) or run.step == num_steps

    shown = Progress(num_steps, enabled=progress)
    with contextlib.closing(shown), signals.noted() if checkpoints else contextlib.nullcontext(lambda: 0) as noted:
        while run.step < num_steps and not run.frozen().all():
            length, alive = span(run.step), ~run.frozen()
            state, metrics, seconds = chunks(run.state, run.step, length, span(run.step + length), ~alive)
            run.advance(state, metrics, seconds, alive, max_skipped)
            means = logged(metrics, length / seconds)
            if validate and now(length, eval_every):
                means |= run.validate(validate, learner.params(state), alive)
            means |= run.time()
            if writer:
                writer.write(np.asarray(state.step), means)
            for every, hook in hooks:
                if now(length, every):
                    hook(learner.params(state), run.step)
            shown.show(run.step, length, means)
            if number := _of_any_process(noted()):  # at the last step as well: what follows may take long
                run.save(wait=True)
                name = signal.Signals(number).name
                raise Preempted(number, f"{name}: stopped and saved at step {run.step}; the same command continues it")
            if _due(run.step, length, checkpoint_every) and run.step < num_steps and not run.frozen().all():
                run.save()
        run.finish(learner)
    record = {name: value.tolist() for name, value in run.record.items()}
    record |= {"first_step_at": chunks.first_step_at, "compile_s": chunks.compile_s}
    return Fit(run.state, run.best if patience else learner.params(run.state), record)


@dataclasses.dataclass
class _Run:
    """The progress of a run: the contents of its checkpoints."""

    state: Any
    best: Any  # the parameters of the best validation, None without patience
    record: dict
    patience: int
    checkpoints: Any
    clocks: dict  # `_clocks` when they were last read
    step: int = 0
    bound: Any = None  # of the newest chunk; None if it ended without a validation
    validated: bool = False

    def resume(self, patience_from=0):
        """Continue from the newest checkpoint, if there is one. Up to `patience_from`, validations are forgotten."""
        if self.checkpoints and (restored := self.checkpoints.restore((self.state, self.best))):
            step, (self.state, self.best), record = restored
            record = dict.fromkeys(self.clocks, np.nan) | record  # an earlier version has not counted
            self.record = {name: _array(value) for name, value in record.items()}
            self.checkpoints.set_aside_after(step)
            logging.info("resumed from the checkpoint of step %d", step)
        self.step = int(np.max(self.state.step))
        if self.step <= patience_from:
            self.record["stale"] = np.zeros_like(self.record["stale"])

    def frozen(self):
        """Return True for a run that has diverged or run out of patience, one value for each member."""
        return self.record["diverged"] | ((self.patience > 0) & (self.record["stale"] >= self.patience))

    def advance(self, state, metrics, seconds, alive, max_skipped):
        """Take over the result of a chunk. Raises `Diverged` if no run can continue."""
        record, loss = self.record, metrics["loss"]
        record["seconds"] = record["seconds"] + seconds
        record["first_loss"] = np.where(np.isnan(record["first_loss"]), loss[0], record["first_loss"])
        for member, reason in _diverged(metrics, self.step, state, record["first_loss"], max_skipped, alive):
            record["diverged"][member] = True
            if record["diverged"].all():
                raise Diverged(reason)
            logging.error("member %d is frozen: %s", member[0], reason)
        self.state, self.step, self.bound = state, self.step + len(loss), None

    def validate(self, validate, params, alive) -> dict:
        """Validate `params`, remember them if they are the best so far, and return the metrics."""
        with contextlib.nullcontext() if self.validated else said("compiling the validation"):
            valid = validate(params, self.step)
        self.bound, self.validated = _worth(valid), True
        better = _is_best(self.bound, self.step, self.record, alive)
        if self.patience:
            self.best = _select(better, params, self.best)
        return {f"valid/{name}": value for name, value in valid.items()}

    def time(self) -> dict:
        """Add the time since the last call to the record, and return the totals."""
        before, self.clocks = self.clocks, _clocks()
        totals = {name: self.record[name] + now - before[name] for name, now in self.clocks.items()}
        self.record |= totals
        return totals

    def save(self, *, wait=False):
        """Write a checkpoint in the background; with `wait`, return when it is on disk."""
        if self.checkpoints:
            host = {name: value.tolist() for name, value in self.record.items()}
            bound = None if np.ndim(self.bound) else self.bound  # the members of a sweep have no best step in common
            self.checkpoints.save(self.step, (self.state, self.best), host, bound=bound)
            if wait:
                self.checkpoints.wait()

    def finish(self, learner):
        """Save the last state, so that no later signal can lose it.

        Raises `Diverged` if no step was accepted, or if steps were skipped and the run's parameters are not finite.
        """
        record, steps, skipped = self.record, np.asarray(self.state.step), np.asarray(self.state.skipped)
        params = self.best if self.patience else learner.params(self.state)
        broken = (skipped > 0) & ~_finite(params, skipped.ndim) if skipped.any() else False
        record["diverged"] = record["diverged"] | (skipped >= steps) | broken
        if record["diverged"].all():
            reason = f"all {self.step} steps were skipped: no loss or gradient was finite or small enough"
            if np.any(broken):
                reason = f"the parameters are not finite after {self.step} steps, of which some were skipped"
            raise Diverged(f"{reason}; {ADVICE}")
        self.save(wait=True)
        record |= {"steps": steps, "skipped": skipped}


def _finite(params, ndim):
    """Return True if all parameters are finite; one value for each member if they lead by `ndim` = 1 axis."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(params) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return np.all([np.isfinite(leaf).all(axis=tuple(range(ndim, leaf.ndim))) for leaf in leaves], axis=0)


class _Chunks:
    """The chunks of a learner: one compiled program for each length, data read ahead, and their times."""

    def __init__(self, learner, stream, mesh, profile):
        self.learner, self.stream, self.mesh, self.profile = learner, stream, mesh, profile
        self.feed = None if stream.streamed else feed_of(stream, 0, 1, mesh)  # resident data are sent once
        self.compiled, self.compile_s, self.first_step_at = {}, 0.0, None

    def __call__(self, state, step, length, upcoming, frozen):
        """Run `length` steps and return the new state, the metrics as NumPy arrays, and the seconds this took.

        Args:
          state: the state at `step`.
          step: the first step.
          length: the number of steps.
          upcoming: the number of steps that follow; their data are read while these are computed.
          frozen: True for the members of a sweep that stand still.
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
            with said(f"compiling {length} training steps"):
                self.compiled[length] = compile_chunk(self.learner, self.stream, state, feed, length, self.mesh)
            self.compile_s += time.perf_counter() - began
        return self.compiled[length]

    def _traced(self, length):
        """Return a context that traces the first chunk that needs no compilation."""
        if not self.profile or length not in self.compiled:
            return contextlib.nullcontext()
        folder, self.profile = self.profile, None
        return jax.profiler.trace(str(folder))


def restore(learner, stream, checkpoints, *, patience=0, step=None, mesh=None) -> Fit | None:
    """Return what `fit` had reached at its newest checkpoint, or None if there is none.

    Args:
      learner: the learner of the run.
      stream: its training batches.
      checkpoints: its checkpoints.
      patience: that of `fit`.
      step: asks for the checkpoint of that step; "best" for that of the best validation bound.
      mesh: the devices on which the state is placed.
    """
    mesh, shapes = mesh or sharding.single(), state_shapes(learner, stream)
    state = _placed(shapes, mesh)
    best = _placed(jax.eval_shape(learner.params, shapes), mesh) if patience else None
    restored = checkpoints.restore((state, best), step=step)
    if restored is None:
        return None
    _, (state, best), record = restored
    return Fit(state, best if patience else learner.params(state), record)


def start(learner, stream, key, patience=0, mesh=None, feed=None):
    """Return where a run begins: the state from the first batch, the best parameters so far, an empty record.

    Args:
      learner: the learner of the run.
      stream: its training batches.
      key: its key, or one for each member [M].
      patience: that of `fit`; with 0 no best parameters are kept.
      mesh: the devices on which the state is placed.
      feed: the data, if they are on the devices already.
    """
    mesh = mesh or sharding.single()
    feed = feed or feed_of(stream, 0, 1, mesh)
    init = functools.partial(_init, learner, stream)
    arguments = np.asarray(jax.random.key_data(key)), feed
    shardings = sharding.state_shardings(mesh, jax.eval_shape(init, *arguments))
    state = jax.jit(init, out_shardings=shardings)(*arguments)
    best = jax.tree.map(jnp.copy, learner.params(state)) if patience else None
    record = {"best_bound": -np.inf, "best_step": 0, "stale": 0, "first_loss": np.nan, "diverged": False}
    record = {name: np.full(key.shape, value) for name, value in record.items()}
    return state, best, record | {name: np.zeros(()) for name in ("seconds", *_clocks())}


def _clocks() -> dict:
    """Return what the clocks of this process show, in seconds; only differences have a meaning."""
    return {"cpu_seconds": time.process_time(), "wall_seconds": time.perf_counter()}


def _placed(shapes, mesh):
    """Return `shapes` with the sharding that each array has on the devices of `mesh`."""
    place = lambda a, sharding: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding)  # noqa: E731
    return jax.tree.map(place, shapes, sharding.state_shardings(mesh, shapes))


def state_shapes(learner, stream):
    """Return the shapes and types of a run's state. Nothing is computed."""
    key_data = jax.random.key_data(jax.random.key(0))
    return jax.eval_shape(functools.partial(_init, learner, stream), key_data, stream.feed(0, 1))


def _init(learner, stream, key_data, feed):
    key = jax.random.wrap_key_data(key_data)
    return learner.init(key, stream.batch(feed, jnp.zeros(key.shape, jnp.int32), 0))


def feed_of(stream, step, length, mesh=None):
    """Return the data of steps [step, step + length) for a compiled chunk, on the devices of `mesh`."""
    return sharding.place_feed(mesh or sharding.single(), stream.feed(step, length), streamed=stream.streamed)


def compile_chunk(learner, stream, state, feed, length, mesh=None):
    """Compile `length` steps as one program, (state, feed) -> state, metrics {name: [length]}.

    The memory of the state is reused. For a sweep, a third argument `frozen` [M] says which members stand still.

    Args:
      learner: the learner of the run.
      stream: its training batches.
      state: the state, or its shapes.
      feed: the data of the chunk (`feed_of`).
      length: the number of steps.
      mesh: the devices; None for one device of this process.
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
        # Members are independent: every device runs its own, and nothing is exchanged.
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
    """Return `new` where `mask` is True, otherwise `old`; `mask` is one value or one for each member."""

    def select(new, old):
        if jax.dtypes.issubdtype(new.dtype, jax.dtypes.prng_key):
            return new  # a run's key never changes: the step is folded in
        return jnp.where(jnp.reshape(mask, mask.shape + (1,) * (new.ndim - mask.ndim)), new, old)

    return jax.tree.map(select, new, old)


def _of_any_process(number):
    """Return the signal that any process of the run has noted, 0 if none has."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.process_allgather(np.array(number)).max())


def check_options(*, num_steps, log_every, eval_every, checkpoint_every, patience, max_skipped):
    """Raise `BadOption` for an option of `fit` that is out of range."""
    integers(num_steps=num_steps, log_every=log_every, eval_every=eval_every, max_skipped=max_skipped)
    integers(checkpoint_every=checkpoint_every, patience=patience, at_least=0)


def _array(value):
    """Return a value of a stored record as an array. A null in it stands for a number that is not finite."""
    array = np.asarray(value)
    return array.astype(np.float64) if array.dtype == object else array


def _worth(valid):
    """Return the number by which a validation is judged, in nats.

    It is the bound, otherwise minus the loss or minus the distortion, and minus infinity if there is none of these.
    """
    name = next((name for name in JUDGED_BY if name in valid), None)
    if name is None:  # a model that only draws samples
        return np.full(np.shape(next(iter(valid.values()), 0.0)), -np.inf)
    return np.asarray(valid[name]) if name == "bound" else -np.asarray(valid[name])


def _is_best(bound, step, record, alive):
    """Return True if `bound` is the best so far. The record gets it, and counts the validations since the best."""
    better = alive & (bound > np.nan_to_num(record["best_bound"], nan=-np.inf))
    record["best_bound"] = np.where(better, bound, record["best_bound"])
    record["best_step"] = np.where(better, step, record["best_step"])
    record["stale"] = np.where(better, 0, record["stale"] + alive)
    return better


def _due(step, length, every):
    """Return True if a multiple of `every` lies in (step - length, step]."""
    return every > 0 and step // every > (step - length) // every


def _diverged(metrics, step, state, first_loss, max_skipped, alive):
    """Yield (member, reason) for every run that cannot recover. For a single run, `member` is ().

    Args:
      metrics: {name: [length] or [length, M]} of the chunk.
      step: the step before the chunk.
      state: the state after it.
      first_loss: the first loss of every run.
      max_skipped: non-finite steps in a row after which a run is given up.
      alive: False for members that are frozen already.
    """
    skipped = metrics["skipped"].astype(bool) & alive
    if skipped.any():
        logging.warning("steps %d to %d: %d skipped", step + 1, step + len(skipped), skipped.sum())
    in_row, loss = np.asarray(state.skipped_in_row), mean_of_finite(counted(metrics)["loss"])
    for member in zip(*np.nonzero(alive), strict=True) if in_row.ndim else [()]:
        of_member = {name: values[(slice(None), *member)] for name, values in metrics.items()}
        if in_row[member] >= max_skipped:
            since = len(skipped) - in_row[member]  # negative where the row began in an earlier chunk
            bad = [name for name, values in of_member.items() if not np.isfinite(values[max(since, 0)])]
            yield (
                member,
                f"step {step + since + 1}: {', '.join(bad)} not finite, {in_row[member]} steps in a row; {ADVICE}",
            )
        elif loss[member] > EXPLODED * (1.0 + abs(first_loss[member])):
            terms = {name: mean_of_finite(of_member[name]) for name in ("rate", "distortion") if name in of_member}
            worst = max(terms, key=terms.get, default="loss")
            yield (
                member,
                f"steps {step + 1} to {step + len(skipped)}: the loss has grown from {first_loss[member]:.4g} to "
                f"{loss[member]:.4g} nats, most of it in {worst!r} ({terms.get(worst, loss[member]):.4g}); {ADVICE}",
            )
