"""Batches for a compiled loop. Which example stands in which batch is a pure function of (seed, step).

Resident or streamed, a batch is the same bit for bit: one order for both, and all draws are made inside the chunk.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.data import ranges, reading, sources, text, transforms

DATA_BRANCH = 0xDA7A
FIXED_DRAW_SEED = 20131220  # of transforms that draw anything but bits


class Stream(NamedTuple):
    """`feed(step, length)` is what the host hands to the compiled chunk of steps [step, step + length): the `key` of
    order and draws (`data_key`), and what is `stored`, in host memory. `batch(feed, step, i)`, inside the chunk, is the
    batch of `step`, its `i`-th: a pure function, the same for every seed.

    Of a `streamed` one, `stored` are those steps' batches, [length, B, ...], of which `feed` returns the rows of this
    process and `batch` takes all; else they are all examples, the same at every call.

    `lengths` are those of its buckets, rising: a batch has no token behind the first of them that its rows fit into.
    """

    feed: Callable[[int, int], Any]
    batch: Callable
    batch_size: int
    steps_per_epoch: int
    streamed: bool = False
    lengths: tuple[int, ...] = ()

    def without_padding(self, step):
        """`step(state, batch)` where a batch is cut behind the first of `lengths` that all its rows fit into, a branch
        of the program for each. The members of a sweep, which share a program, go by the longest row among them.
        """
        if not self.lengths:
            return step

        def at(length):
            return lambda state, batch: step(state, batch | {"x": batch["x"][..., :length]})

        def run(state, batch):
            longest = jnp.max(jnp.sum(batch["x"] != text.PAD, axis=-1))
            branch = jnp.searchsorted(jnp.asarray(self.lengths), longest)
            return jax.lax.switch(branch, [at(length) for length in self.lengths], state, batch)

        return run


def stream(
    images,
    *,
    seed,
    batch_size,
    transform,
    max_value,
    context=False,
    memory_limit=2 * 2**30,
    num_workers=0,
    process=(0, 1),
    buckets=1,
) -> Stream:
    """Training batches, shuffled anew every epoch; the images stay on the device as they are stored where they fit
    into `memory_limit` bytes, and are read ahead by Grain, a batch an item, where they do not: the same batches.

    `transform` is a function of `data.transforms`; its key is new at every step; with `context` the labels
    travel along. `num_workers` processes read, or with 0 threads of this one (a script that starts processes needs
    `if __name__ == "__main__"`); they end with the stream or with this process. `process` = (index, count), of several
    that train together, reads the rows [index B / count, (index + 1) B / count) of every batch.

    With `buckets` > 1 sentences are sorted by length into so many buckets of equal size, and a batch is of one of them:
    an epoch shuffles each bucket and the order of the batches. Every sentence is as likely as before, and what a batch
    pads is its own bucket's.

    Raises `ValueError` where a batch is larger than the data, or than a bucket, or not to be shared evenly, where
    worker processes are asked for images that are not mapped from a file, for buckets of what is not text or is larger
    than `memory_limit`, and for values that `transform` does not take (`ranges.check`).
    """
    size = len(images.x)
    if not 1 <= batch_size <= size:
        raise ValueError(f"config.data.batch_size must be between 1 and the {size} training examples, got {batch_size}")
    index, count = process
    if batch_size % count or not 0 <= index < count:
        raise ValueError(f"config.data.batch_size {batch_size} does not give process {index} of {count} an even share")
    if not 1 <= buckets <= size // batch_size:
        raise ValueError(
            f"config.data.buckets must be between 1 and {size // batch_size}, for {size} examples in batches of "
            f"{batch_size}; got {buckets}"
        )
    ranges.check(images.x, transform, max_value)
    ends = np.arange(buckets + 1) * size // buckets
    images, lengths = (images, ()) if buckets == 1 else _by_length(images, ends, transform, memory_limit)
    steps_per_epoch = buckets * (size // buckets // batch_size)
    labels = _labels(images, context)
    arrays = {"x": images.x} | ({} if labels is None else {"context": labels})
    key = data_key(seed)

    def positions(key, step):
        epoch, index = step // steps_per_epoch, step % steps_per_epoch
        order = jax.random.fold_in(jax.random.wrap_key_data(key[0]), epoch)
        return _of_epoch(order, index, batch_size, ends)

    def finish(key, stored, step):
        draw = jax.random.fold_in(jax.random.wrap_key_data(key[1]), step)
        return stored | {"x": transform(draw, stored["x"], max_value)}

    if images.x.nbytes <= memory_limit:
        if isinstance(images.x, reading.Rows):
            arrays["x"] = np.asarray(images.x)

        def batch(feed, step, i):
            index = positions(feed["key"], step)
            return finish(feed["key"], jax.tree.map(lambda a: a[index], feed["stored"]), step)

        feed = lambda step, length: {"key": key, "stored": arrays}  # noqa: E731
        return Stream(feed, batch, batch_size, steps_per_epoch, lengths=lengths)

    @jax.jit
    def constants(epoch):
        order = jax.random.wrap_key_data(key[0])
        return jax.vmap(lambda e: _constants(jax.random.fold_in(order, e)))(epoch + jnp.arange(reading.EPOCHS))

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
        steps_per_epoch,
        streamed=True,
    )


def _of_epoch(order, index, batch_size, ends):
    """The elements of the batch at `index` of an epoch, which leaves out its own random remainder: those of one bucket,
    [ends[k], ends[k+1]), of which each has as many batches.
    """
    buckets, size = len(ends) - 1, int(ends[-1])
    places = lambda index: index * batch_size + jnp.arange(batch_size)  # noqa: E731
    if buckets == 1:
        return shuffled(order, places(index), size)
    index = shuffled(jax.random.fold_in(order, buckets), index, buckets * (size // buckets // batch_size))
    bucket, index = index % buckets, index // buckets
    first, end = jnp.asarray(ends)[bucket], jnp.asarray(ends)[bucket + 1]
    return first + shuffled(jax.random.fold_in(order, bucket), places(index), end - first)


def _by_length(images, ends, transform, memory_limit):
    """The sentences in the order of their lengths, and the distinct lengths of the longest of each bucket."""
    if transform is not transforms.tokens:
        raise ValueError(f"config.data.buckets: {len(ends) - 1} buckets by length are of text, which alone is padded")
    if images.x.nbytes > memory_limit:
        raise ValueError(
            f"config.data.buckets: {images.x.nbytes} bytes of text are more than config.data.memory_limit "
            f"{memory_limit}, and what is read in batches is not sorted; raise the limit, or take 1 bucket"
        )
    lengths = np.count_nonzero(images.x != text.PAD, axis=1)
    order = np.argsort(lengths, kind="stable")
    longest = np.unique(lengths[order[ends[1:] - 1]])
    return jax.tree.map(lambda a: a[order], images), tuple(longest.tolist())


def data_key(seed):
    """The keys of a run's order and of its draws, as key data [2, ...]. `split` and `fold_in` of one key give the same
    numbers, so the data's keys have a branch of their own, apart from the learner's.
    """
    branch = jax.random.fold_in(jax.random.key(seed), DATA_BRANCH)
    return np.asarray(jax.random.key_data(jax.random.split(branch)))


def fixed_split(dataset, split, *, transform, context=False) -> dict:
    """A whole split as one batch, drawn once with a fixed seed: validation and test data, the same for every run.

    Binarised, it is the draw of `sources.fixed_draw`, so `mnist_static` and dynamic MNIST share their test set. Raises
    `ValueError` for values that `transform` does not take (`ranges.check`).
    """
    images = getattr(dataset, split)
    ranges.check(images.x, transform, dataset.max_value)
    if transform is transforms.binarize:
        x = sources.fixed_draw(images.x, dataset.max_value, split).astype(np.float32)
    else:
        key = jax.random.key(FIXED_DRAW_SEED, impl="threefry2x32")  # whatever kind of key the runs use
        x = np.asarray(transform(key, jnp.asarray(np.asarray(images.x)), dataset.max_value))
    labels = _labels(images, context)
    return {"x": x} if labels is None else {"x": x, "context": labels}


def shuffled(key, position, size):
    """The elements at `position` of a pseudo-random permutation of range(size), without storing the permutation.

    Swap-or-not (Hoang, Morris and Rogaway 2012): every round pairs x with K - x (mod size) and swaps the two if a hash
    of the pair says so; each round is its own inverse, hence a permutation. `size` below 2³⁰.
    """

    def swap(x, constant):
        return reading.swapped(x, *constant, size), None

    size = jnp.asarray(size, jnp.uint32)
    x, _ = jax.lax.scan(swap, position.astype(jnp.uint32), tuple(_constants(key).T), unroll=True)
    return x.astype(jnp.int32)


def _constants(key, rounds=24):
    """K and the salt of the hash, for every round: [R, 2]."""
    return jax.random.bits(key, (rounds, 2), jnp.uint32)


def _labels(images, context):
    if not context:
        return None
    if images.label is None:
        raise ValueError("config.data.context is set, and this data set has no labels")
    return np.asarray(images.label)
