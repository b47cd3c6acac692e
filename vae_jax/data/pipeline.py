"""Batches for a compiled loop. The examples of a batch are a pure function of (seed, step).

Resident or streamed, a batch is the same bit for bit: both have one order, and all draws are made inside the chunk.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.data import drawings, ranges, reading, scale, text, transforms
from vae_jax.data.on_demand import OnDemand
from vae_jax.data.values import Dataset, Split
from vae_jax.spec import BadOption

DATA_BRANCH = 0xDA7A
FIXED_DRAW_SEED = 20131220  # of all transforms that draw, except `binarize`


class Stream(NamedTuple):
    """Training batches, as what the host hands over and what the compiled chunk makes of it.

    feed: (step, length) -> {"key", "stored"} for the chunk of steps [step, step + length): the key data of order and
      draws (`data_key`), and arrays in host memory. If `streamed`, these are the batches of the steps,
      [length, B, ...], with the rows of this process; otherwise they are all examples, the same at every call.
    batch: (feed, step, i) -> the batch of `step`, the i-th of the chunk: a pure function, the same for every seed.
    lengths: the increasing lengths of the buckets. A batch has no token after the first of them that is long enough.
    axis: the axis of x that is cut: -1 for tokens [B, T], -2 for points [B, T, 3].
    """

    feed: Callable[[int, int], Any]
    batch: Callable
    batch_size: int
    steps_per_epoch: int
    streamed: bool = False
    lengths: tuple[int, ...] = ()
    axis: int = -1

    def without_padding(self, step):
        """Return `step(state, batch)` on batches that are cut after the first of `lengths` that is long enough.

        Each length is a branch of the program. The members of a sweep share a program and take the longest row of all.
        """
        if not self.lengths:
            return step

        def at(length):
            return lambda state, batch: step(
                state, batch | {"x": jax.lax.slice_in_dim(batch["x"], 0, length, axis=self.axis)}
            )

        def run(state, batch):
            filled = batch["x"] != text.PAD
            if self.axis == -2:  # the last point of a drawing has a pen that is not 0
                filled = jnp.any(filled, axis=-1)
            longest = jnp.max(jnp.where(filled, 1 + jnp.arange(filled.shape[-1]), 0))
            branch = jnp.searchsorted(jnp.asarray(self.lengths), longest)
            return jax.lax.switch(branch, [at(length) for length in self.lengths], state, batch)

        return run


def stream(
    split: Split,
    *,
    seed,
    batch_size,
    transform,
    max_value,
    conditioning=None,
    memory_limit=2 * 2**30,
    num_workers=0,
    process=(0, 1),
    buckets=1,
    missing=False,
) -> Stream:
    """Return training batches, shuffled in every epoch. Resident or streamed, they are the same bit for bit.

    Args:
      split: the stored training examples.
      seed: of the order and of what `transform` draws.
      batch_size: examples a batch, over all processes.
      transform: a function of `data.transforms`. Its key is another one at every step.
      max_value: the largest value that can be stored (`Dataset.max_value`).
      conditioning: what makes the context of a batch (`data.contexts`); None for p(x).
      memory_limit: bytes up to which the stored arrays stay on the device. Larger ones are read ahead by Grain.
      num_workers: processes that read; with 0, threads of this process do. A script that starts processes needs
        `if __name__ == "__main__"`. They end with the stream or with this process.
      process: (index, count) of several processes that train together. Each reads the rows [index B / count,
        (index + 1) B / count) of every batch.
      buckets: the number of groups of equal size into which sentences are sorted by length. A batch comes from one
        group, so it is padded to the longest sentence of that group. Each epoch shuffles the groups and the order of
        the batches; every sentence is as likely as with one bucket.
      missing: True if values of x may be NaN, which means: not observed. They stay NaN (`Dataset.missing`).

    Raises `BadOption` for a batch that is larger than the data or than a bucket, or cannot be shared evenly; for worker
    processes if the examples are not mapped from a file; for buckets of other data than text, or of more bytes than
    `memory_limit`; and for values that `transform` does not take (`ranges.check`).
    """
    size = len(split.x)
    _check_sizes(size, batch_size, process, buckets)
    ranges.check(split.x, transform, max_value, missing=missing)
    ends = np.arange(buckets + 1) * size // buckets
    lengths = ()
    if buckets > 1:
        split, lengths = _by_length(split, ends, transform, memory_limit, conditioning)
    arrays, divide, key = _arrays(split, conditioning), _divide(conditioning), data_key(seed)

    def finish(key, stored, step):
        draw = jax.random.fold_in(jax.random.wrap_key_data(key[1]), step)
        x = transform(draw, stored["x"], max_value)
        return divide(stored | {"x": jnp.where(jnp.isnan(stored["x"]), jnp.nan, x) if missing else x})

    if sum(array.nbytes for array in arrays.values()) <= memory_limit:
        stream = _resident(arrays, key, finish, batch_size, ends, lengths)
        return stream._replace(axis=-2) if transform is transforms.strokes else stream
    return _streamed(arrays, key, finish, batch_size, process, num_workers)


def _check_sizes(size, batch_size, process, buckets):
    if not 1 <= batch_size <= size:
        raise BadOption(f"batch_size must be between 1 and the {size} training examples, got {batch_size}")
    index, count = process
    if batch_size % count or not 0 <= index < count:
        raise BadOption(f"batch_size must be a multiple of the {count} processes that share it, got {batch_size}")
    if not 1 <= buckets <= size // batch_size:
        raise BadOption(
            f"buckets must be between 1 and {size // batch_size}, because there are {size} examples in batches of "
            f"{batch_size}; got {buckets}"
        )


def _resident(arrays, key, finish, batch_size, ends, lengths) -> Stream:
    """Keep all examples on the device; a batch picks its rows there."""
    buckets, size = len(ends) - 1, int(ends[-1])
    steps_per_epoch = buckets * (size // buckets // batch_size)
    arrays = {name: np.asarray(a) if isinstance(a, reading.Rows | OnDemand) else a for name, a in arrays.items()}

    def batch(feed, step, i):
        order = jax.random.fold_in(jax.random.wrap_key_data(feed["key"][0]), step // steps_per_epoch)
        index = _of_epoch(order, step % steps_per_epoch, batch_size, ends)
        return finish(feed["key"], jax.tree.map(lambda a: a[index], feed["stored"]), step)

    feed = lambda step, length: {"key": key, "stored": arrays}  # noqa: E731
    return Stream(feed, batch, batch_size, steps_per_epoch, lengths=lengths)


def _streamed(arrays, key, finish, batch_size, process, num_workers) -> Stream:
    """Read the batches of a chunk of steps while the chunk before is computed."""

    @jax.jit
    def constants(epoch):
        order = jax.random.wrap_key_data(key[0])
        return jax.vmap(lambda e: _constants(jax.random.fold_in(order, e)))(epoch + jnp.arange(reading.EPOCHS))

    size = len(arrays["x"])
    read = reading.reader(
        arrays,
        lambda epoch: np.asarray(constants(epoch)),
        size=size,
        batch_size=batch_size,
        process=process,
        num_workers=num_workers,
    )
    return Stream(
        lambda step, length: {"key": key, "stored": read(step, length)},
        lambda feed, step, i: finish(feed["key"], jax.tree.map(lambda a: a[i], feed["stored"]), step),
        batch_size,
        size // batch_size,
        streamed=True,
    )


def _arrays(split, conditioning) -> dict:
    """Return the stored arrays of the examples: "x", and "context" if it is stored."""
    context = None if conditioning is None else conditioning.stored(split)
    return {"x": split.x} if context is None else {"x": split.x, "context": context}


def _divide(conditioning):
    return (lambda batch: batch) if conditioning is None else conditioning.divide


def _of_epoch(order, index, batch_size, ends):
    """Return the elements of the batch at `index` of an epoch.

    They are of one bucket, [ends[k], ends[k+1]). All buckets have equally many batches, and an epoch leaves out its own
    random remainder.
    """
    buckets, size = len(ends) - 1, int(ends[-1])
    places = lambda index: index * batch_size + jnp.arange(batch_size)  # noqa: E731
    if buckets == 1:
        return shuffled(order, places(index), size)
    index = shuffled(jax.random.fold_in(order, buckets), index, buckets * (size // buckets // batch_size))
    bucket, index = index % buckets, index // buckets
    first, end = jnp.asarray(ends)[bucket], jnp.asarray(ends)[bucket + 1]
    return first + shuffled(jax.random.fold_in(order, bucket), places(index), end - first)


def _by_length(split, ends, transform, memory_limit, conditioning):
    """Return the sentences in the order of their lengths, and the distinct largest lengths of x in the buckets."""
    if transform not in (transforms.tokens, transforms.strokes):
        raise BadOption(
            f"buckets must be 1, because these data are not text or drawings and are not padded; got {len(ends) - 1}"
        )
    if split.x.nbytes > memory_limit:
        raise BadOption(
            f"buckets must be 1 for data that are streamed, got {len(ends) - 1}; or raise memory_limit, which is "
            f"{memory_limit}, to the {split.x.nbytes} bytes of these data"
        )
    is_text = transform is transforms.tokens
    lengths = np.count_nonzero(split.x != text.PAD, axis=1) if is_text else drawings.lengths_of(split.x)
    order = np.argsort(lengths, kind="stable")
    before_x = 0 if conditioning is None else split.x.shape[1] - conditioning.event.shape[0]  # a prefix
    longest = np.unique(np.maximum(lengths[order[ends[1:] - 1]] - before_x, 1))
    return jax.tree.map(lambda a: a[order], split), tuple(longest.tolist())


def data_key(seed):
    """Return the keys of the order and of the draws of a run, as key data [2, ...].

    `split` and `fold_in` of one key give the same numbers, so the data have a branch of their own, separate from the
    learner's.
    """
    branch = jax.random.fold_in(jax.random.key(seed), DATA_BRANCH)
    return np.asarray(jax.random.key_data(jax.random.split(branch)))


def fixed_split(dataset: Dataset, split: str, *, transform, conditioning=None, expected=False) -> dict:
    """Return a whole split as one batch, drawn once with a fixed seed: the same validation and test data for every run.

    Binarised, it is the draw of `transforms.fixed_draw`: `mnist_static` and dynamic MNIST share their test set.

    Args:
      dataset: the stored data.
      split: "train", "valid" or "test".
      transform: a function of `data.transforms`.
      conditioning: what makes the context (`data.contexts`); None for p(x).
      expected: True for the mean of what `transform` draws (`scale.expected`), so that an example does not depend on
        those beside it.

    Raises `BadOption` for values that `transform` does not take (`ranges.check`).
    """
    stored = getattr(dataset, split)
    ranges.check(stored.x, transform, dataset.max_value, missing=dataset.missing)
    arrays = _arrays(stored, conditioning)
    if expected:
        x = np.asarray(scale.expected(transform, jnp.asarray(np.asarray(stored.x)), dataset.max_value))
    elif transform is transforms.binarize:
        x = transforms.fixed_draw(stored.x, dataset.max_value, split).astype(np.float32)
    else:
        key = jax.random.key(FIXED_DRAW_SEED, impl="threefry2x32")  # for every kind of key that runs use
        x = np.asarray(transform(key, jnp.asarray(np.asarray(stored.x)), dataset.max_value))
    if dataset.missing:
        x = np.where(np.isnan(stored.x), np.float32(np.nan), x)
    return jax.tree.map(np.asarray, _divide(conditioning)(arrays | {"x": x}))


def shuffled(key, position, size):
    """Return the elements at `position` of a pseudo-random permutation of range(size), which is never stored.

    Swap-or-not (Hoang, Morris and Rogaway 2012): every round pairs x with K - x (mod size) and swaps the two if a hash
    of the pair says so. Each round is its own inverse, hence a permutation. `size` must be below 2³⁰.
    """

    def swap(x, constant):
        return reading.swapped(x, *constant, size), None

    size = jnp.asarray(size, jnp.uint32)
    x, _ = jax.lax.scan(swap, position.astype(jnp.uint32), tuple(_constants(key).T), unroll=True)
    return x.astype(jnp.int32)


def _constants(key, rounds=24):
    """Return K and the salt of the hash for every round, [R, 2]."""
    return jax.random.bits(key, (rounds, 2), jnp.uint32)
