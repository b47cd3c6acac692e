"""Checkpoints by Orbax: written atomically in the background, verified when read, by one process or by many."""

import contextlib
import json
import os
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from vae_jax.files import finite
from vae_jax.spec import first_line

ATTEMPTS = 5  # at reading a folder from which a run that trains removes old checkpoints at the same time


class Checkpoints:
    """The last checkpoints of a run and the best one, each a pytree and a small JSON record in a folder of its own.

    Orbax writes a checkpoint to a temporary folder and renames it, so a killed run leaves none half-written. A checksum
    finds one that was damaged later. Arrays may be cut over devices and processes, and may be restored to another
    layout.

    Args:
      directory: the folder of the checkpoints.
      keep: how many of the last ones are kept.
      made_by: the origin of the run, a JSON value, stored in every checkpoint.
      difference: (stored, made_by) -> text, "" if a checkpoint with the origin `stored` belongs to this run.
      read_only: True to read while another process may be training: nothing is created, moved or removed.

    Raises `ValueError` if `directory` is a file.
    """

    def __init__(self, directory, *, keep=2, made_by=None, difference=None, read_only=False):
        import orbax.checkpoint as ocp  # a third of a second: not before it is needed

        self._ocp, self._read_only = ocp, read_only
        self._made_by, self._difference = made_by, difference
        self.directory = Path(directory).absolute()
        if os.path.lexists(self.directory) and not self.directory.is_dir():
            raise ValueError(f"{self.directory} is a file, and must be the folder of the checkpoints; move it away")
        if read_only and not self.directory.is_dir():
            raise ValueError(f"{self.directory.parent} holds no checkpoint yet: train first")
        self._manager = self._open(keep)

    def _open(self, keep):
        """Open Orbax's manager. It reads the metrics of all checkpoints first, and fails if one of them is damaged."""
        ocp = self._ocp
        best = ocp.checkpoint_managers.BestN(
            get_metric_fn=lambda metrics: metrics["bound"], n=1, keep_checkpoints_without_metrics=False
        )
        policy = ocp.checkpoint_managers.AnyPreservationPolicy([ocp.checkpoint_managers.LatestN(keep), best])
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy,
            create=not self._read_only,
            read_only=self._read_only,
            enable_async_checkpointing=not self._read_only,
            best_fn=best.get_metric_fn,
        )
        if damaged := self._damaged_metrics():
            if self._read_only:
                logging.warning("damaged checkpoints under %s: steps %s", self.directory, damaged)
                options.lightweight_initialize = True  # without the metrics: then no step is known to be the best
            else:
                self._set_aside(damaged)
        for attempt in range(ATTEMPTS):
            try:
                with _without_warnings() if self._read_only else contextlib.nullcontext():
                    return ocp.CheckpointManager(self.directory, options=options)
            except FileNotFoundError:  # the run that trains has just removed one of them
                if attempt == ATTEMPTS - 1:
                    raise

    def _damaged_metrics(self) -> list[int]:
        """Return the steps whose metrics are not {"bound": number}. The first process reads them for all."""
        steps = [] if jax.process_index() or not self.directory.is_dir() else self._steps()
        damaged = [step for step in steps if not self._has_whole_metrics(step)]
        if jax.process_count() > 1:
            number = int(multihost_utils.broadcast_one_to_all(np.array(len(damaged))))
            padded = np.array(damaged if damaged else [0] * max(1, number))
            damaged = multihost_utils.broadcast_one_to_all(padded).tolist()[:number]
        return damaged

    def _steps(self):
        return sorted(int(path.name) for path in self.directory.iterdir() if path.name.isdecimal())

    def _has_whole_metrics(self, step):
        try:
            metrics = json.loads((self.directory / str(step) / "metrics" / "metrics").read_text())
            float(metrics["bound"])
            return True
        except FileNotFoundError:  # without metrics, or removed by a run that trains
            return True
        except (ValueError, KeyError, TypeError):
            return False
        except OSError as error:
            raise self._unreadable(step, error) from error

    def save(self, step: int, tree, record: dict, *, bound=None):
        """Write a checkpoint in the background. One that exists already stays as it is.

        Args:
          step: its number.
          tree: the state, a pytree of arrays.
          record: what else belongs to it, a small dict of JSON values.
          bound: nats, by which the best checkpoint is chosen; None if there is no validation at this step.
        """
        if step in self._manager.all_steps():
            return
        arrays = _raw(tree)
        if jax.default_backend() == "cpu":
            arrays = _copied(arrays)  # Orbax reads them later, when their memory is donated to the next step
        record = {**finite(record), "checksum": _checksum(arrays), "made_by": self._made_by, "layout": state_settings()}
        args = self._ocp.args
        with self._errors_explained():
            self._manager.save(
                step,
                args=args.Composite(tree=args.StandardSave(arrays), record=args.JsonSave(record)),
                metrics=None if bound is None or not np.isfinite(bound) else {"bound": float(bound)},
            )

    def restore(self, like, *, step=None):
        """Return (step, tree, record) of the newest whole checkpoint, or None if there is none.

        A damaged checkpoint is skipped with a line in the log.

        Args:
          like: a pytree with the structure, shapes and shardings of the result, of arrays or of `ShapeDtypeStruct`.
          step: asks for the checkpoint of that step; "best" for that of the highest bound.

        Raises `ValueError` if all checkpoints are damaged, if the requested one does not exist, or if one belongs to
        another run. Raises `OSError` for one whose files cannot be read now (permission, a lost disk): it may be whole.
        """
        for _ in range(ATTEMPTS - 1):
            with contextlib.suppress(_Gone):
                return self._restore(like, step)
            self._manager.reload()
        return self._restore(like, step)

    def _restore(self, like, step):
        steps = sorted(self._manager.all_steps(), reverse=True)
        if step is not None:
            number = self._manager.best_step() if step == "best" else int(step)
            if number not in steps:
                raise ValueError(f"{self.directory} holds no checkpoint {step}; there are {sorted(steps)}")
            steps = [number]
        problems = []
        for number in steps:
            try:
                record, tree = self._read_twice(number, like)
                for problem in problems:
                    logging.warning("a damaged checkpoint is skipped: %s", problem)
                return number, tree, {k: v for k, v in record.items() if k not in ("checksum", "made_by", "layout")}
            except (jax.errors.JaxRuntimeError, MemoryError, _Other):  # the files may be whole
                raise
            except Exception as error:  # Orbax raises as many kinds as there are ways to damage a folder
                self._check_readable(number, error)
                problems.append(f"step {number}: {first_line(error)}")
        if problems and step is not None:
            raise ValueError(
                f"the checkpoint of {problems[0]}, under {self.directory}, is damaged; there are "
                f"{sorted(self._manager.all_steps())}"
            )
        if problems:
            raise ValueError(
                f"all {len(problems)} checkpoints under {self.directory} are damaged; nothing was removed. Restore one "
                f"from a copy, or use another workdir ({problems[0]})"
            )
        return None

    def set_aside_after(self, step: int):
        """Move the checkpoints after `step`, which are damaged, to the folder `damaged` beside `directory`.

        A run that continues from `step` writes those steps again. Nothing is deleted.
        """
        if later := [number for number in self._manager.all_steps() if number > step]:
            self._set_aside(later)
            self._manager.reload()

    def _set_aside(self, steps):
        if jax.process_index() == 0:
            aside = self.directory.with_name("damaged")
            aside.mkdir(exist_ok=True)
            for number in steps:
                name = next(n for i in range(10**6) if not (aside / (n := f"{number}-{i}")).exists())
                os.rename(self.directory / str(number), aside / name)
                logging.warning("the damaged checkpoint of step %d was moved to %s", number, aside / name)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("damaged checkpoints are set aside")

    def wait(self):
        """Wait until everything is on disk. Raises `OSError` where something could not be written."""
        with self._errors_explained():
            self._manager.wait_until_finished()

    def close(self):
        """Wait until everything is on disk. Raises `OSError` where something could not be written."""
        with self._errors_explained():
            self._manager.wait_until_finished()
            self._manager.close()

    def _read_twice(self, step, like):
        """Return the record and the tree of a checkpoint. A failure counts only if it happens twice."""
        for attempt in (1, 2):
            try:
                record = self._read_record(step)
                self._check_made_by(step, record)
                return record, self._read(step, like, record)
            except (jax.errors.JaxRuntimeError, MemoryError, _Other):
                raise
            except Exception:
                if attempt == 2 or not (self.directory / str(step)).is_dir():
                    raise

    def _read_record(self, step) -> dict:
        args = self._ocp.args
        return self._manager.restore(step, args=args.Composite(record=args.JsonRestore())).record

    def _read(self, step, like, record):
        template = jax.tree.map(_raw_shape, like)
        args = self._ocp.args
        arrays = self._manager.restore(step, args=args.Composite(tree=args.StandardRestore(template))).tree
        if _checksum(arrays) != record["checksum"]:
            raise ValueError("its checksum does not match its content")
        # A copy: on CPU the device array could otherwise share memory with Orbax's, and be donated.
        wrap = lambda a, b: jax.random.wrap_key_data(a) if _is_key(b) else a  # noqa: E731
        return jax.tree.map(wrap, _copied(arrays), like)

    def _check_made_by(self, step, record):
        """Raise `_Other` if the checkpoint belongs to another run. Checkpoints of version 0.1.0 do not say."""
        where = f"the checkpoint of step {step} under {self.directory}"
        if (layout := record.get("layout", state_settings())) != state_settings():
            raise _Other(
                f"{where} was written with {layout}, and JAX is set to {state_settings()}; set JAX_ENABLE_X64 and "
                "JAX_DEFAULT_PRNG_IMPL as they were"
            )
        stored = record.get("made_by")
        if self._difference and stored is not None and (text := self._difference(stored, self._made_by)):
            raise _Other(f"{where} {text}")

    def _check_readable(self, step, error):
        """Raise `OSError` if a file of the checkpoint cannot be read now, which is no damage.

        A missing folder was removed by the run that trains (`_Gone`). A missing file is damage.
        """
        folder = self.directory / str(step)
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError) and error.errno:
            problem = error
        else:
            problem = _first_unreadable(folder)
        if problem is not None:
            raise self._unreadable(step, problem) from error
        if not folder.is_dir():
            raise _Gone(f"the checkpoint of step {step} under {self.directory} has just been removed") from error

    def _unreadable(self, step, problem) -> OSError:
        reason = os.strerror(problem.errno) if problem.errno else problem
        return OSError(
            f"the checkpoint of step {step} under {self.directory} cannot be read now: {reason}; nothing was changed. "
            "Repair that and run the same command again"
        )

    @contextlib.contextmanager
    def _errors_explained(self):
        """Explain an error of the background writer, which appears at the next call. Whole checkpoints are not lost."""
        try:
            yield
        except Exception as error:  # a full disk arrives as a ValueError of a page
            reason = "no space left on device" if "No space left" in str(error) else str(error)[:200]
            raise OSError(
                f"a checkpoint could not be written under {self.directory}: {reason}; earlier checkpoints are kept. "
                "Repair that and run the same command again"
            ) from error


@contextlib.contextmanager
def _without_warnings():
    """Leave out the warnings of Orbax that a folder which is opened for reading is read-only."""
    logger, serious = logging.get_absl_logger(), lambda record: record.levelno >= logging.converter.STANDARD_ERROR
    logger.addFilter(serious)
    try:
        yield
    finally:
        logger.removeFilter(serious)


def state_settings() -> dict:
    """Return the settings of JAX that decide which types the arrays of a state have."""
    return {"x64": bool(jax.config.jax_enable_x64), "prng_impl": str(jax.config.jax_default_prng_impl)}


class _Other(ValueError):
    """The checkpoint belongs to another run."""


class _Gone(ValueError):
    """The checkpoint was removed after its folder had been listed."""


def _first_unreadable(folder):
    """Read every file of `folder` and return the first `OSError`, except for missing files; None if there is none."""
    problems = []
    for root, _, names in os.walk(folder, onerror=problems.append):
        for name in names:
            try:
                with open(os.path.join(root, name), "rb") as file:
                    while file.read(2**20):
                        pass
            except OSError as error:
                problems.append(error)
    return next((problem for problem in problems if not isinstance(problem, FileNotFoundError)), None)


_copied = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))


def _is_key(leaf):
    return jax.dtypes.issubdtype(getattr(leaf, "dtype", np.dtype(float)), jax.dtypes.prng_key)


def _raw_shape(leaf):
    """Return the shape, type and sharding of a leaf, or of the data of a key."""
    raw = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else jax.eval_shape(jnp.asarray, leaf)
    return jax.ShapeDtypeStruct(raw.shape, raw.dtype, sharding=getattr(leaf, "sharding", None))


def _raw(tree):
    """Return `tree` with the data of its keys in their place, which a file can hold."""
    return jax.tree.map(lambda a: jax.random.key_data(a) if _is_key(a) else jnp.asarray(a), tree)


def _checksum(tree) -> int:
    """Return one number for the structure and every bit of the arrays, which does not depend on their layout."""
    names = [
        (jax.tree_util.keystr(path), str(leaf.dtype), leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]
    sums = np.asarray([np.asarray(total) for total in _sums(jax.tree.leaves(tree))], np.uint32)
    return zlib.crc32(sums.tobytes(), zlib.crc32(json.dumps(names).encode()))


@jax.jit
def _sums(leaves):
    """Return Σ_i bits_i · (odd hash of i) mod 2³² of each array. The order of integer additions does not matter."""

    def total(leaf):
        leaf = leaf.astype(jnp.uint8) if leaf.dtype == bool else leaf
        bits = jax.lax.bitcast_convert_type(leaf, f"uint{8 * leaf.dtype.itemsize}").astype(jnp.uint32)
        index = jnp.zeros(bits.shape, jnp.uint32)
        for axis, size in enumerate(bits.shape):
            index = index * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
        weight = (index * jnp.uint32(0x9E3779B1)) ^ (index >> 15)
        return jnp.sum(bits * (weight | 1), dtype=jnp.uint32)

    return [total(leaf) for leaf in leaves]
