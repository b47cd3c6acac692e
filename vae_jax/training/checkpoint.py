"""Checkpoints by Orbax: written atomically in the background, verified when read."""

import contextlib
import json
import zlib
from pathlib import Path

import jax
import numpy as np
from absl import logging


class Checkpoints:
    """The last `keep` checkpoints under `directory`, one folder a step, each a pytree and a small JSON record.

    Orbax writes a checkpoint to a temporary folder and renames it, so a killed run leaves none half-written; a
    checksum finds one that was damaged later.
    """

    def __init__(self, directory, *, keep=2):
        import orbax.checkpoint as ocp  # a third of a second: not before it is needed

        self._ocp = ocp
        self.directory = Path(directory).absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, enable_async_checkpointing=True)
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def save(self, step: int, tree, record: dict):
        """Write `tree` and `record` under `step`, in the background. A step that is there already is left as it is."""
        if step in self._manager.all_steps():
            return
        host = _to_host(tree)
        record = {**record, "checksum": _checksum(host)}
        args = self._ocp.args
        with self._errors_explained():
            self._manager.save(step, args=args.Composite(tree=args.StandardSave(host), record=args.JsonSave(record)))

    def restore(self, like):
        """(step, tree, record) of the newest whole checkpoint, or None where there is none.

        `like` is a pytree of the wanted structure and shapes. A damaged checkpoint is named in the log and passed over.
        Raises `ValueError` where there are checkpoints and none can be read.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        args, template = self._ocp.args, _to_host(like)
        problems = []
        for step in steps:
            try:
                wanted = args.Composite(tree=args.StandardRestore(template), record=args.JsonRestore())
                found = self._manager.restore(step, args=wanted)
                if _checksum(found.tree) != found.record["checksum"]:
                    raise ValueError("its checksum does not match its content")
            except Exception as error:  # Orbax raises as many kinds as there are ways to damage a folder
                reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
                problems.append(f"step {step}: {reason}")
                logging.warning("checkpoint of step %d is damaged and is passed over (%s)", step, reason)
                continue
            for newer in (s for s in steps if s > step):
                self._manager.delete(newer)  # else the run could not write that step again
            return step, _to_device(found.tree, like), found.record
        if problems:
            raise ValueError(f"no checkpoint under {self.directory} can be read; {'; '.join(problems)}")
        return None

    def close(self):
        """Wait until everything is on disk. Raises `OSError` where something could not be written."""
        with self._errors_explained():
            self._manager.wait_until_finished()
            self._manager.close()

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


def _is_key(leaf):
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_host(tree):
    """A copy in host memory: the device buffers are donated to the next step while Orbax still writes."""
    return jax.tree.map(lambda a: np.array(jax.random.key_data(a) if _is_key(a) else a), tree)


def _to_device(tree, like):
    def put(leaf, reference):
        # A copy: on CPU the device array could otherwise share memory with Orbax's, and be donated.
        return jax.random.wrap_key_data(np.array(leaf)) if _is_key(reference) else jax.numpy.array(leaf, copy=True)

    return jax.tree.map(put, tree, like)


def _checksum(tree) -> int:
    total = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        header = json.dumps([jax.tree_util.keystr(path), str(leaf.dtype), list(leaf.shape)]).encode()
        total = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), zlib.crc32(header, total))
    return total
