"""Batches of data larger than memory, read ahead by Grain. What runs beside the training, in threads or in worker
processes, is NumPy alone: no device is waited for and none is taken.
"""

import collections
import contextlib
import functools
import itertools
import mmap
import multiprocessing
import multiprocessing.spawn
import multiprocessing.util
import os
import signal
import tempfile
import threading

import numpy as np

from vae_jax.data import files
from vae_jax.spec import BadOption

EPOCHS = 128  # whose rounds are drawn at once: 25 kB
ITEM_BYTES = 2**21  # of as many steps' batches as Grain handles in one: its cost, and that of the order, is an item's
AHEAD_BYTES = 2**25


def reader(arrays, constants, *, size, batch_size, process=(0, 1), num_workers=0):
    """(step, length) -> {name: [length, B / count, ...]} in host memory, the rows of `process` of those steps' batches.

    `constants(epoch)` [EPOCHS, R, 2] are those of `permuted`, from `epoch` on. Steps asked for in turn are read ahead,
    by threads or by `num_workers` processes; a single step out of turn, a look at the data, starts neither.
    Raises ChildProcessError where a worker process has died, ValueError where workers would each copy the images.
    """
    if num_workers:
        multiprocessing.spawn._check_not_importing_main()  # a script without its guard ends here, and not in Grain
    batch_bytes = batch_size // process[1] * sum(array[0].nbytes for array in arrays.values())
    if isinstance(arrays["x"], Rows):
        arrays = arrays | {"x": arrays["x"].array, "rows": arrays["x"].index}
    index, count = process
    rows = range(batch_size)[index * batch_size // count : (index + 1) * batch_size // count]
    steps_per_epoch = size // batch_size
    if num_workers and _place(arrays["x"]) is None:
        raise BadOption(
            f"num_workers must be 0, got {num_workers}: these examples are in memory and not mapped from a file, so "
            "every worker process would need a copy; unpack a .gz to get a file that can be mapped"
        )
    together = max(1, min(64, ITEM_BYTES // batch_bytes))
    draw = functools.lru_cache(maxsize=1)(constants)

    def batches(step, together):
        epoch, place = divmod(step, steps_per_epoch)
        return Batches(arrays, draw(epoch), size, batch_size, rows, place, together)

    def endless(step):
        while True:
            source = batches(step, together)
            with contextlib.closing(_prefetched(source, batch_bytes * together, num_workers)) as items:
                for item in items:
                    try:
                        for i in range(len(item["x"])):
                            yield {name: array[i] for name, array in item.items()}
                            step += 1
                    finally:
                        del item  # shared memory: let go before the next, and before Grain is closed

    turn = {"step": None, "items": None}

    def read(step, length):
        in_turn, turn["step"] = step == turn["step"], None
        if not in_turn:
            _stop(turn)
        if length == 1 and not in_turn:
            feed = batches(step, 1)[0]
        else:
            turn["items"] = turn["items"] or endless(step)
            feed = _stacked(turn["items"], length)
        turn["step"] = step + length
        return feed

    # With the stream or with this process, then before Grain's own threads (15) that free shared memory.
    multiprocessing.util.Finalize(read, _stop, args=(turn,), exitpriority=20)
    return read


class Rows:
    """Rows of a memory map in the order of `index`, without a copy: the part of a set that is not held out.

    It has the shape, type and length of an array. Indexing it and `numpy.asarray` read rows into memory.
    """

    def __init__(self, array, index):
        self.array, self.index = array, np.asarray(index, np.int32)
        self.shape, self.dtype, self.ndim = (len(index), *array.shape[1:]), array.dtype, array.ndim
        self.size = int(np.prod(self.shape, dtype=np.int64))
        self.nbytes = self.size * self.dtype.itemsize

    def __len__(self):
        return len(self.index)

    def __array__(self, dtype=None, copy=None):
        return np.asarray(np.take(self.array, self.index, axis=0), dtype)

    def __getitem__(self, key):
        first, *rest = key if isinstance(key, tuple) else (key,)
        if first is None or first is Ellipsis:
            return np.asarray(self)[key]
        index = self.index[first]
        return np.take(self.array, index, axis=0)[(slice(None),) * np.ndim(index) + tuple(rest)]


class Batches:
    """A Grain source whose item is the batches of several steps, [together, rows, ...], from step `first` on.

    Of a memory map, the place in its file is pickled: a worker process maps it anew. With `rows` among the arrays,
    example i is row `rows[i]` of `x`.
    """

    def __init__(self, arrays, constants, size, batch_size, rows, first, together):
        self.places = {name: _place(array) or (lambda array=array: array) for name, array in arrays.items()}
        self.constants, self.size, self.batch_size, self.rows = constants, size, batch_size, np.asarray(rows)
        self.first, self.together = first, together
        self.steps_per_epoch = size // batch_size
        self.end = len(constants) * self.steps_per_epoch

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "arrays"}

    def to_files(self, folder):
        """Makes the pickle small: a message over the 64 kB of a pipe to a worker that has died would wait for ever."""
        for name, place in self.places.items():
            if not isinstance(place, functools.partial):
                np.save(os.path.join(folder, f"{name}.npy"), place())
                self.places[name] = _place(np.load(os.path.join(folder, f"{name}.npy"), mmap_mode="r"))

    @functools.cached_property
    def arrays(self):
        return {name: place() for name, place in self.places.items()}

    def __len__(self):
        return -(-(self.end - self.first) // self.together)

    def __getitem__(self, item):
        step = self.first + item * self.together
        epoch, place = np.divmod(np.arange(step, min(step + self.together, self.end)), self.steps_per_epoch)
        constants = np.moveaxis(self.constants[epoch], 0, -1)[..., None]  # [R, 2, steps, 1]
        index = permuted(constants, place[:, None] * self.batch_size + self.rows, self.size)
        arrays = dict(self.arrays)
        rows = np.take(arrays.pop("rows"), index) if "rows" in arrays else index  # of the file
        return {name: np.take(array, rows if name == "x" else index, axis=0) for name, array in arrays.items()}


def permuted(constants, position, size):
    """`pipeline.shuffled` in NumPy, bit for bit, with the `constants` [R, 2, ...] of its rounds."""
    x = position.astype(np.uint32)
    for offset, salt in constants:
        x = swapped(x, offset, salt, size)
    return x.astype(np.int32)


def swapped(x, offset, salt, size):
    """One round of swap-or-not: x and its partner K - x (mod size) are swapped if a hash of the pair says so."""
    xp = x.__array_namespace__()
    partner = (offset % size + size - x) % size
    chosen = _hash(xp.maximum(x, partner) ^ salt) & 1
    return xp.where(chosen == 1, partner, x)


def _hash(x):
    """A 32-bit finaliser (multiply and xor-shift): every input bit moves about half the output bits."""
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)


def _stop(turn):
    if turn["items"]:
        turn["items"].close()
        turn["items"] = None


def _stacked(items, length):
    """The next `length` items as one; each is let go as soon as it is copied."""
    feed = {}
    for i, item in enumerate(itertools.islice(items, length)):
        feed = feed or {name: np.empty((length, *array.shape), array.dtype) for name, array in item.items()}
        for name, array in item.items():
            feed[name][i] = array
    return feed


def _prefetched(source, item_bytes, num_workers):
    """The items of `source` in turn, read ahead."""
    import grain
    from absl import flags

    if not flags.FLAGS.is_parsed():  # as in a notebook: Grain asks its own before it starts a worker
        flags.FLAGS.mark_as_parsed()
    folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # until all workers have opened what is in it
    if num_workers:
        source.to_files(folder.name)
    ahead = max(4, min(16, AHEAD_BYTES // item_bytes))
    dataset = grain.MapDataset.source(source).to_iter_dataset(grain.ReadOptions(4, ahead))
    # A worker's items lie in /dev/shm, which is often small; twice as many as said here.
    options = grain.MultiprocessingOptions(num_workers, max(1, ahead // 2 // max(1, num_workers)))
    with contextlib.closing(iter(dataset.mp_prefetch(options, worker_init_fn=_start_worker))) as items:
        try:
            with folder, _hidden_devices():
                first = collections.deque(itertools.islice(items, num_workers))  # now all workers run
            while first:
                yield first.popleft()
            yield from items
        except RuntimeError as error:
            if not num_workers:
                raise
            raise ChildProcessError(
                f"a worker process (num_workers={num_workers}) has failed: {files.one_line(error)}"
            ) from error


# --------------------------------------------------------------------------------------- memory maps, worker processes


def _place(array):
    """What opens the memory map that `array` is (a view of), in any process; None where it is none."""
    if getattr(array, "filename", None) is None:
        return None
    whole = array
    while isinstance(whole.base, np.memmap):
        whole = whole.base
    start = array.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    return functools.partial(_map, array.filename, whole.offset + start, array.shape, array.strides, array.dtype)


def _map(path, offset, shape, strides, dtype):
    with open(path, "rb") as file:
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if hasattr(mmap, "MADV_RANDOM"):
        pages.madvise(mmap.MADV_RANDOM)  # else every image brings its neighbours along
    return np.ndarray(shape, dtype, pages, offset, strides)


@contextlib.contextmanager
def _hidden_devices():
    """Processes that start within see the CPU alone, whatever their imports do with JAX."""
    before = os.environ.get("JAX_PLATFORMS")
    os.environ["JAX_PLATFORMS"] = "cpu"
    try:
        yield
    finally:
        del os.environ["JAX_PLATFORMS"]
        if before is not None:
            os.environ["JAX_PLATFORMS"] = before


def _start_worker(index, count):
    """A worker leaves an interrupt to the run, and ends with it however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
