"""Batches of data larger than memory, read ahead by Grain.

Threads or worker processes read beside the training. They use only NumPy: they wait for no device and take none.
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

EPOCHS = 128  # the permutations of so many epochs are drawn together: 25 kB
ITEM_BYTES = 2**21  # Grain handles the batches of several steps as one item, because its costs are per item
AHEAD_BYTES = 2**25


def reader(arrays, constants, *, size, batch_size, process=(0, 1), num_workers=0):
    """Return read(step, length) -> {name: [length, B / count, ...]}, the batches of these steps in host memory.

    Consecutive steps are read ahead. A single step out of order, a look at the data, starts no thread or process.

    Args:
      arrays: {name: [N, ...]} of the stored examples.
      constants: epoch -> [EPOCHS, R, 2], the constants of `permuted` for this epoch and those after it.
      size: the number N of examples.
      batch_size: examples per batch, over all processes.
      process: (index, count); only the rows of this process are read.
      num_workers: processes that read; with 0, threads of this process do.

    Raises ChildProcessError if a worker process has died, `BadOption` if every worker would need a copy of the images.
    """
    if num_workers:
        multiprocessing.spawn._check_not_importing_main()  # a script without its guard ends here, not in Grain
    batch_bytes = batch_size // process[1] * sum(array[0].nbytes for array in arrays.values())
    if isinstance(arrays["x"], Rows):
        arrays = arrays | {"x": arrays["x"].array, "rows": arrays["x"].index}
    index, count = process
    rows = range(batch_size)[index * batch_size // count : (index + 1) * batch_size // count]
    steps_per_epoch = size // batch_size
    if num_workers and _place(arrays["x"]) is None:
        raise BadOption(
            f"num_workers must be 0, got {num_workers}: these examples are in memory or of a source, not mapped "
            "from a file, so every worker process would need a copy; unpack a .gz to get a file that can be mapped"
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
                        del item  # shared memory: released before the next item, and before Grain is closed

    ahead = {"step": None, "items": None}  # the next step in order, and what is read ahead

    def read(step, length):
        in_order, ahead["step"] = step == ahead["step"], None
        if not in_order:
            _stop(ahead)
        if length == 1 and not in_order:
            feed = batches(step, 1)[0]
        else:
            ahead["items"] = ahead["items"] or endless(step)
            feed = _stacked(ahead["items"], length)
        ahead["step"] = step + length
        return feed

    # Ends with the stream or with this process, in that case before Grain's threads (15) that free shared memory.
    multiprocessing.util.Finalize(read, _stop, args=(ahead,), exitpriority=20)
    return read


class Rows:
    """Rows of a memory map in the order of `index`, without a copy: for example those that are not held out.

    It has the shape, type and length of an array. Indexing and `numpy.asarray` read rows into memory.
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
    """A Grain source. An item is the batches of several steps, [together, rows, ...], beginning with step `first`.

    For a memory map, only the place in its file is pickled, and a worker process maps it again. If `rows` is among the
    arrays, example i is row `rows[i]` of `x`.
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
        """Keep the pickle small: a message above the 64 kB of a pipe to a dead worker would wait for ever."""
        for name, place in self.places.items():
            if not isinstance(place, functools.partial):
                np.save(os.path.join(folder, f"{name}.npy"), place())
                self.places[name] = _place(np.load(os.path.join(folder, f"{name}.npy"), mmap_mode="r"))

    @functools.cached_property
    def arrays(self):
        """The arrays, opened in this process."""
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
    """Return `pipeline.shuffled` in NumPy, bit for bit, with the `constants` [R, 2, ...] of its rounds."""
    x = position.astype(np.uint32)
    for offset, salt in constants:
        x = swapped(x, offset, salt, size)
    return x.astype(np.int32)


def swapped(x, offset, salt, size):
    """Compute one round of swap-or-not: swap x and its partner K - x (mod size) if a hash of the pair says so."""
    xp = x.__array_namespace__()
    partner = (offset % size + size - x) % size
    chosen = _hash(xp.maximum(x, partner) ^ salt) & 1
    return xp.where(chosen == 1, partner, x)


def _hash(x):
    """Mix 32 bits (multiply and xor-shift): every input bit changes about half of the output bits."""
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)


def _stop(ahead):
    if ahead["items"]:
        ahead["items"].close()
        ahead["items"] = None


def _stacked(items, length):
    """Return the next `length` items as one. Each is released as soon as it is copied."""
    feed = {}
    for i, item in enumerate(itertools.islice(items, length)):
        feed = feed or {name: np.empty((length, *array.shape), array.dtype) for name, array in item.items()}
        for name, array in item.items():
            feed[name][i] = array
    return feed


def _prefetched(source, item_bytes, num_workers):
    """Yield the items of `source` in order, read ahead."""
    import grain
    from absl import flags

    if not flags.FLAGS.is_parsed():  # in a notebook: Grain reads its own flags before it starts a worker
        flags.FLAGS.mark_as_parsed()
    folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # until all workers have opened its files
    if num_workers:
        source.to_files(folder.name)
    ahead = max(4, min(16, AHEAD_BYTES // item_bytes))
    dataset = grain.MapDataset.source(source).to_iter_dataset(grain.ReadOptions(4, ahead))
    # A worker's items are in /dev/shm, which is often small, and they are twice as many as given here.
    options = grain.MultiprocessingOptions(num_workers, max(1, ahead // 2 // max(1, num_workers)))
    with contextlib.closing(iter(dataset.mp_prefetch(options, worker_init_fn=_start_worker))) as items:
        try:
            with folder, _hidden_devices():
                first = collections.deque(itertools.islice(items, num_workers))  # from here on all workers run
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
    """Return a function that opens the memory map behind `array` in any process, None for other arrays.

    A map of mode "c" is none here: changes of it are only in memory.
    """
    if getattr(array, "filename", None) is None or array.mode == "c":
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
        pages.madvise(mmap.MADV_RANDOM)  # otherwise every image is read with its neighbours
    return np.ndarray(shape, dtype, pages, offset, strides)


@contextlib.contextmanager
def _hidden_devices():
    """Let processes that start meanwhile see only the CPU, whatever their imports do with JAX."""
    before = os.environ.get("JAX_PLATFORMS")
    os.environ["JAX_PLATFORMS"] = "cpu"
    try:
        yield
    finally:
        del os.environ["JAX_PLATFORMS"]
        if before is not None:
            os.environ["JAX_PLATFORMS"] = before


def _start_worker(index, count):
    """Make a worker ignore interrupts, which are for the run, and end when the run ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
