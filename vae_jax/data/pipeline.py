"""Batches for a compiled loop. Which example stands in which batch is a pure function of (seed, step).

Resident or streamed, a batch is the same bit for bit: one order for both, and all draws are made inside the chunk.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.data import reading, sources, transforms

DATA_BRANCH = 0xDA7A
FIXED_DRAW_SEED = 20131220  # of transforms that draw anything but bits


class Stream(NamedTuple):
    """`feed(step, length)` is what the host hands to the compiled chunk of steps [step, step + length): the `key` of
    order and draws (`data_key`), and what is `stored`, in host memory. `batch(feed, step, i)`, inside the chunk, is the
    batch of `step`, its `i`-th: a pure function, the same for every seed.

    Of a `streamed` one, `stored` are those steps' batches, [length, B, ...], of which `feed` returns the rows of this
    process and `batch` takes all; else they are all examples, the same at every call.
    """

    feed: Callable[[int, int], Any]
    batch: Callable
    batch_size: int
    steps_per_epoch: int
    streamed: bool = False


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
) -> Stream:
    """Training batches, shuffled anew every epoch; the images stay on the device as they are stored where they fit
    into `memory_limit` bytes, and are read ahead by Grain, a batch an item, where they do not: the same batches.

    `transform` is a function of `data.transforms`; its key is new at every step; with `context` the labels
    travel along. `num_workers` processes read, or with 0 threads of this one (a script that starts processes needs
    `if __name__ == "__main__"`); they end with the stream or with this process. `process` = (index, count), of several
    that train together, reads the rows [index B / count, (index + 1) B / count) of every batch.
    Raises `ValueError` where a batch is larger than the data or not to be shared evenly, and where worker processes are
    asked for images that are not mapped from a file.
    """
    size = len(images.x)
    if not 1 <= batch_size <= size:
        raise ValueError(f"config.data.batch_size must be between 1 and the {size} training examples, got {batch_size}")
    index, count = process
    if batch_size % count or not 0 <= index < count:
        raise ValueError(f"config.data.batch_size {batch_size} does not give process {index} of {count} an even share")
    steps_per_epoch = size // batch_size
    labels = _labels(images, context)
    arrays = {"x": images.x} | ({} if labels is None else {"context": labels})
    key = data_key(seed)

    def positions(key, step):
        """The elements of the batch of `step`; each epoch leaves out its own random remainder."""
        epoch, index = step // steps_per_epoch, step % steps_per_epoch
        order = jax.random.fold_in(jax.random.wrap_key_data(key[0]), epoch)
        return shuffled(order, index * batch_size + jnp.arange(batch_size), size)

    def finish(key, stored, step):
        draw = jax.random.fold_in(jax.random.wrap_key_data(key[1]), step)
        return stored | {"x": transform(draw, stored["x"], max_value)}

    if images.x.nbytes <= memory_limit:

        def batch(feed, step, i):
            index = positions(feed["key"], step)
            return finish(feed["key"], jax.tree.map(lambda a: a[index], feed["stored"]), step)

        return Stream(lambda step, length: {"key": key, "stored": arrays}, batch, batch_size, steps_per_epoch)

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


def data_key(seed):
    """The keys of a run's order and of its draws, as key data [2, ...]. `split` and `fold_in` of one key give the same
    numbers, so the data's keys have a branch of their own, apart from the learner's.
    """
    branch = jax.random.fold_in(jax.random.key(seed), DATA_BRANCH)
    return np.asarray(jax.random.key_data(jax.random.split(branch)))


def fixed_split(dataset, split, *, transform, context=False) -> dict:
    """A whole split as one batch, drawn once with a fixed seed: validation and test data, the same for every run.

    Binarised, it is the draw of `sources.fixed_draw`, so `mnist_static` and dynamic MNIST share their test set.
    """
    images = getattr(dataset, split)
    if transform is transforms.binarize:
        x = sources.fixed_draw(images.x, dataset.max_value, split).astype(np.float32)
    else:
        x = np.asarray(transform(jax.random.key(FIXED_DRAW_SEED), jnp.asarray(images.x), dataset.max_value))
    labels = _labels(images, context)
    return {"x": x} if labels is None else {"x": x, "context": labels}


def shuffled(key, position, size):
    """The elements at `position` of a pseudo-random permutation of range(size), without storing the permutation.

    Swap-or-not (Hoang, Morris and Rogaway 2012): every round pairs x with K - x (mod size) and swaps the two if a hash
    of the pair says so; each round is its own inverse, hence a permutation. `size` below 2³⁰.
    """

    def swap(x, constant):
        return reading.swapped(x, *constant, size), None

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
