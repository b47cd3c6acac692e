"""Checkpoints by Orbax: written atomically in the background, verified when read, by one process or by many."""

import contextlib
import json
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging


class Checkpoints:
    """The last `keep` checkpoints under `directory` and the best, one folder a step, each a pytree and a small JSON
    record.

    Orbax writes a checkpoint to a temporary folder and renames it, so a killed run leaves none half-written; a
    checksum finds one that was damaged later. Arrays may be cut over devices and processes, and may be restored to
    another layout.
    """

    def __init__(self, directory, *, keep=2):
        import orbax.checkpoint as ocp  # a third of a second: not before it is needed

        self._ocp = ocp
        self.directory = Path(directory).absolute()
        best = ocp.checkpoint_managers.BestN(
            get_metric_fn=lambda metrics: metrics["bound"], n=1, keep_checkpoints_without_metrics=False
        )
        policy = ocp.checkpoint_managers.AnyPreservationPolicy([ocp.checkpoint_managers.LatestN(keep), best])
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy, create=True, enable_async_checkpointing=True, best_fn=best.get_metric_fn
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def save(self, step: int, tree, record: dict, *, bound=None):
        """Write `tree` and `record` under `step`, in the background; `bound` (nats) ranks it among the others. A step
        that is there already is left as it is.
        """
        if step in self._manager.all_steps():
            return
        arrays = _raw(tree)
        if jax.default_backend() == "cpu":
            arrays = _copied(arrays)  # Orbax would read, later, the very memory that is donated to the next step
        record = {**record, "checksum": _checksum(arrays)}
        args = self._ocp.args
        with self._errors_explained():
            self._manager.save(
                step,
                args=args.Composite(tree=args.StandardSave(arrays), record=args.JsonSave(record)),
                metrics=None if bound is None else {"bound": float(bound)},
            )

    def restore(self, like, *, step=None):
        """(step, tree, record) of the newest whole checkpoint, or None where there is none.

        `like` is a pytree of the wanted structure, shapes and shardings. A damaged checkpoint is named in the log and
        passed over. `step` asks for that very one; "best" for the one of the highest bound.
        Raises `ValueError` where there are checkpoints and none can be read, or not the one asked for.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        if step is not None:
            wanted = self._manager.best_step() if step == "best" else int(step)
            if wanted not in steps:
                raise ValueError(f"{self.directory} holds no checkpoint {step}; there are {sorted(steps)}")
            steps = [wanted]
        problems = []
        for number in steps:
            try:
                return number, *self._read(number, like)
            except jax.errors.JaxRuntimeError:  # the files may be whole: another process has gone, or memory is short
                raise
            except Exception as error:  # Orbax raises as many kinds as there are ways to damage a folder
                reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
                problems.append(f"step {number}: {reason}")
                logging.warning("checkpoint of step %d is damaged and is passed over (%s)", number, reason)
        if problems:
            raise ValueError(f"no checkpoint under {self.directory} can be read; {'; '.join(problems)}")
        return None

    def forget_after(self, step: int):
        """Remove what is damaged after `step`: else a run that goes on from there could not write those steps again."""
        for later in self._manager.all_steps():
            if later > step:
                self._manager.delete(later)

    def close(self):
        """Wait until everything is on disk. Raises `OSError` where something could not be written."""
        with self._errors_explained():
            self._manager.wait_until_finished()
            self._manager.close()

    def _read(self, step, like):
        template = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=getattr(a, "sharding", None)), _raw(like)
        )
        args = self._ocp.args
        wanted = args.Composite(tree=args.StandardRestore(template), record=args.JsonRestore())
        found = self._manager.restore(step, args=wanted)
        if _checksum(found.tree) != found.record["checksum"]:
            raise ValueError("its checksum does not match its content")
        # A copy: on CPU the device array could otherwise share memory with Orbax's, and be donated.
        wrap = lambda a, b: jax.random.wrap_key_data(a) if _is_key(b) else a  # noqa: E731
        return jax.tree.map(wrap, _copied(found.tree), like), found.record

    @contextlib.contextmanager
    def _errors_explained(self):
        """What failed in the background surfaces at the next call: say what it was, and that nothing whole is lost."""
        try:
            yield
        except Exception as error:  # a full disk arrives as a ValueError of a page
            reason = "no space left on device" if "No space left" in str(error) else str(error)[:200]
            raise OSError(
                f"a checkpoint could not be written under {self.directory}: {reason}; the whole ones before it are "
                "kept. Mend that and run the same command again"
            ) from error


_copied = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))


def _is_key(leaf):
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _raw(tree):
    """Keys as the words they are made of: what a file can hold."""
    return jax.tree.map(lambda a: jax.random.key_data(a) if _is_key(a) else jnp.asarray(a), tree)


def _checksum(tree) -> int:
    """One number for the structure and every bit of the arrays, the same however they are cut over devices."""
    names = [
        (jax.tree_util.keystr(path), str(leaf.dtype), leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]
    sums = np.asarray([np.asarray(total) for total in _sums(jax.tree.leaves(tree))], np.uint32)
    return zlib.crc32(sums.tobytes(), zlib.crc32(json.dumps(names).encode()))


@jax.jit
def _sums(leaves):
    """Of each array Σ_i bits_i · (odd hash of i) mod 2³²: integers, so the order of the additions does not matter."""

    def total(leaf):
        leaf = leaf.astype(jnp.uint8) if leaf.dtype == bool else leaf
        bits = jax.lax.bitcast_convert_type(leaf, f"uint{8 * leaf.dtype.itemsize}").astype(jnp.uint32)
        index = jnp.zeros(bits.shape, jnp.uint32)
        for axis, size in enumerate(bits.shape):
            index = index * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
        weight = (index * jnp.uint32(0x9E3779B1)) ^ (index >> 15)
        return jnp.sum(bits * (weight | 1), dtype=jnp.uint32)

    return [total(leaf) for leaf in leaves]
