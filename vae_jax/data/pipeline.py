"""Batches for a compiled loop. Which example stands in which batch is a pure function of (seed, step)."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.data import sources, transforms

DATA_BRANCH = 0xDA7A
FIXED_DRAW_SEED = 20131220  # of transforms that draw anything but bits


class Stream(NamedTuple):
    """`feed(step, length)` is what the host hands to the compiled chunk of steps [step, step + length): the `key` of
    order and draws (`data_key`) and what is `stored`. `batch(feed, step, i)`, inside the chunk, is the batch of
    `step`, its `i`-th: a pure function, the same for every seed.
    """

    feed: Callable[[int, int], Any]
    batch: Callable
    batch_size: int
    steps_per_epoch: int
    streamed: bool = (
        False  # whether `stored` is [length, B, ...], read for this chunk, or every example, always the same
    )


def stream(images, *, seed, batch_size, transform, max_value, context=False, memory_limit=2 * 2**30) -> Stream:
    """Training batches, shuffled anew every epoch; the images stay on the device as they are stored where they fit
    into `memory_limit` bytes, and are read by Grain, a batch an item, where they do not.

    `transform` is a function of `data.transforms`; its key is new at every step; with `context` the labels
    travel along. Raises `ValueError` where a batch is larger than the data.
    """
    size = len(images.x)
    if not 1 <= batch_size <= size:
        raise ValueError(f"config.data.batch_size must be between 1 and the {size} training examples, got {batch_size}")
    steps_per_epoch = size // batch_size
    arrays = {"x": images.x, "context": _labels(images, context)}
    key = data_key(seed)

    def positions(key, step):
        """The elements of the batch of `step`; each epoch leaves out its own random remainder."""
        epoch, index = step // steps_per_epoch, step % steps_per_epoch
        order = jax.random.wrap_key_data(key[0])
        return shuffled(jax.random.fold_in(order, epoch), index * batch_size + jnp.arange(batch_size), size)

    def finish(key, stored, step):
        draw = jax.random.wrap_key_data(key[1])
        x = transform(jax.random.fold_in(draw, step), stored["x"], max_value)
        return {"x": x} if stored["context"] is None else {"x": x, "context": stored["context"]}

    if images.x.nbytes <= memory_limit:

        def batch(feed, step, i):
            index = positions(feed["key"], step)
            return finish(feed["key"], jax.tree.map(lambda a: a[index], feed["stored"]), step)

        return Stream(lambda step, length: {"key": key, "stored": arrays}, batch, batch_size, steps_per_epoch)

    read = _reader(arrays, functools.partial(jax.jit(positions), key))
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


def _reader(arrays, positions):
    """(step, length) -> the stored batches of those steps, stacked [length, B, ...], read ahead by Grain."""
    import grain

    class Batches:
        """One item a step: Grain's cost is paid once a batch instead of once an example."""

        def __len__(self):
            return np.iinfo(np.int32).max

        def __getitem__(self, step):
            index = np.asarray(positions(step))
            order = np.argsort(index)  # a memory map is read front to back
            where = np.argsort(order)
            return jax.tree.map(lambda a: np.asarray(a[index[order]])[where], arrays)

    dataset = grain.MapDataset.source(Batches())
    ahead = {"next": None, "items": None}

    def read(step, length):
        if ahead["next"] != step:
            items = dataset.slice(slice(step, None)).to_iter_dataset(
                grain.ReadOptions(num_threads=4, prefetch_buffer_size=64)
            )
            ahead["items"] = iter(items)
        batches = [next(ahead["items"]) for _ in range(length)]
        ahead["next"] = step + length
        return jax.tree.map(lambda *leaves: np.stack(leaves), *batches)

    return read


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


def shuffled(key, position, size, rounds=24):
    """The elements at `position` of a pseudo-random permutation of range(size), without storing the permutation.

    Swap-or-not (Hoang, Morris and Rogaway 2012): every round pairs x with K - x (mod size) and swaps the two if a hash
    of the pair says so; each round is its own inverse, hence a permutation. `size` below 2³⁰.
    """
    constants = jax.random.bits(key, (rounds, 2), jnp.uint32)

    def swap(x, constant):
        offset, salt = constant
        partner = (offset % size + size - x) % size
        chosen = _hash(jnp.maximum(x, partner) ^ salt) & 1
        return jnp.where(chosen == 1, partner, x), None

    x, _ = jax.lax.scan(swap, position.astype(jnp.uint32), (constants[:, 0], constants[:, 1]), unroll=True)
    return x.astype(jnp.int32)


def _hash(x):
    """A 32-bit finaliser (multiply and xor-shift): every input bit moves about half the output bits."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def _labels(images, context):
    if not context:
        return None
    if images.label is None:
        raise ValueError("config.data.context is set, and this data set has no labels")
    return np.asarray(images.label)
