"""Values of discrete distributions as symbols: which masses code which part of a value, and in which order.

`visit` goes through the value of every example of a batch. Encoder and decoder run the same code, with the same
compiled functions and the same shapes: only `choose` differs, which records the symbols or pops them. An
autoregressive network therefore runs position by position in both directions. A pass over a whole example would be
faster for the encoder, but its last digits may differ, and the decoder would then read noise.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.codecs import batch as batches
from vae_jax.codecs.batch import Batch, lift, rows
from vae_jax.codecs.stack import Recorded, base_of
from vae_jax.distributions import (
    Autoregressive,
    CodeMap,
    Drawing,
    LinearLogisticMixture,
    Observed,
    OneHot,
    OrderedCategorical,
    PenPoints,
    RasterScan,
    Reshaped,
    Rows,
    Sentence,
    Series,
    Squares,
    Tree,
    drawings,
)
from vae_jax.distributions.autoregressive import over_places
from vae_jax.distributions.sentence import END, PAD, LevelSeries
from vae_jax.numerics import as_jax
from vae_jax.support import Binary, Counts, Levels, Tokens

NARROW = 32  # levels: of more, an ordered distribution gives the masses of two digits


class Recorder(Recorded):
    """The `choose` of an encoder: it records the symbols of known values, for `push`."""

    def __init__(self, count):
        super().__init__()
        self.count = count

    def __call__(self, tables, symbols):
        self.add(symbols, tables)
        return symbols


class Popper:
    """The `choose` of a decoder: it pops the symbols."""

    def __init__(self, count, stack):
        self.count, self._stack = count, stack

    def __call__(self, tables, symbols):
        return self._stack.pop(tables)


def push(stack, batch, x, count, *, most=None):
    """Push the values x [count, ...] of the first `count` examples of a batch of distributions.

    `most` is the largest count, if the values are counts without a limit.
    """
    recorder = Recorder(count)
    visit(batch, recorder, x, most)
    recorder.push(stack)


def pop(stack, batch, count, *, most=None):
    """Pop the values of the first `count` examples, [count, ...], as `push` pushed them."""
    return visit(batch, Popper(count, stack), None, most)


def visit(batch: Batch, choose, x=None, most=None):
    """Return the values [n, *event] of the first n = `choose.count` examples, symbol by symbol.

    Args:
      batch: distributions of B examples.
      choose: (masses [m, V], symbols [m] or None) -> symbols [m].
      x: the values, of an encoder; None in a decoder.
      most: the largest of values that are counts.

    Raises `ValueError` for a distribution whose values have no exact masses.
    """
    function = _VISITS.get(type(batch.tree), _independent)
    return function(batch, choose, x, most)


# ------------------------------------------------------------------------------------------- independent entries


def _independent(batch, choose, x, most):
    """Code all entries at once: with a table of all levels, or if the levels are many, in two digits."""
    distribution = batch.tree
    has_table, has_blocks = hasattr(distribution, "log_probs"), hasattr(distribution, "between")
    if not (has_table or has_blocks):
        raise ValueError(f"a {type(distribution).__name__} has no masses of single values: it cannot be coded exactly")
    size, shape = number_of_values(distribution.support, most), event_shape(batch)
    known = None if x is None else np.asarray(x).reshape(-1).astype(np.int32)
    if has_blocks and (size > NARROW or not has_table):
        return _in_digits(batch, choose, known, size, shape)
    tables = rows(_all_masses(size), batch, size=batch.size)
    return choose(_cut(tables, choose.count), known).reshape(choose.count, *shape)


def _in_digits(batch, choose, known, size, shape):
    """Code v = r a + b: the digit a from the masses of blocks of r levels, then b from the levels of its block."""
    base, count = base_of(size), choose.count
    first = np.zeros((batch.size, *shape), np.int32)
    coarse = rows(_blocks(base, base, size), batch, batches.of(first, batch.size), size=batch.size)
    digit = choose(_cut(coarse, count), None if known is None else known // base)
    first[:count] = base * digit.reshape(count, *shape)
    fine = rows(_blocks(1, base, size), batch, batches.of(first, batch.size), size=batch.size)
    fine = _cut(fine, count)
    fine = np.where(fine.sum(axis=1, keepdims=True) > 0, fine, np.float32(1.0))
    value = base * digit + choose(fine, None if known is None else known % base)
    return np.minimum(value, size - 1).reshape(count, *shape)


@functools.cache
def _all_masses(size):
    """Return the function distribution -> masses [E, V] of 0, ..., V - 1 for its E independent entries, at most 1."""

    def masses(distribution):
        shape = jax.eval_shape(distribution.sample, jax.random.key(0)).shape
        dtype = jnp.int32 if isinstance(distribution.support, Tokens) else jnp.float32
        log_probs = jax.vmap(lambda v: distribution.log_probs(jnp.full(shape, v)))(jnp.arange(size, dtype=dtype))
        masses = jnp.exp(log_probs - jnp.max(log_probs, axis=0, keepdims=True))  # all 0 for a mean far above V
        return jnp.moveaxis(masses, 0, -1).reshape(math.prod(shape), size)

    return masses


@functools.cache
def _blocks(step, number, size):
    """Return the function distribution, first -> masses [E, number] of the blocks of `step` values from `first` on."""

    def masses(distribution, first):
        def block(j):
            low, high = first + j * step, first + (j + 1) * step - 1
            top = size - 1
            mass = distribution.between(jnp.minimum(low, top), jnp.minimum(high, top))
            return jnp.where(low > top, 0.0, jnp.maximum(mass, 0.0))

        return jnp.moveaxis(jax.vmap(block)(jnp.arange(number)), 0, -1).reshape(math.prod(first.shape), number)

    return masses


def number_of_values(support, most=None) -> int:
    """Return V of values 0, ..., V - 1. Raises `ValueError` for a support that is not finite, given the largest."""
    if isinstance(support, Binary | Levels | Tokens):
        return support.num_levels
    if isinstance(support, Counts) and most is not None:
        return most + 1
    raise ValueError(f"bytes need discrete values, and these are {support}: take bits, levels, counts or tokens")


def event_shape(batch) -> tuple:
    """Return the shape of one value."""
    one = jax.tree.map(
        lambda a, axis: jax.ShapeDtypeStruct(jnp.shape(a)[axis + 1 :], jnp.result_type(a)), batch.tree, batch.axes
    )
    leaves, treedef = jax.tree.flatten(one)
    return _event_shape(treedef, tuple(leaves))


@functools.lru_cache(maxsize=256)
def _event_shape(treedef, leaves):
    distribution = jax.tree.unflatten(treedef, leaves)
    return jax.eval_shape(lambda d, key: d.sample(key), distribution, jax.random.key(0)).shape


def _cut(tables, count):
    """Return masses [B, E, V] of the first `count` examples, as NumPy [count E, V]."""
    tables = np.asarray(tables)
    return tables[:count].reshape(-1, tables.shape[-1])


def _one_hot(batch, choose, x, most):
    tables = rows(_softmax, batch, size=batch.size)
    known = None if x is None else np.asarray(x).argmax(axis=-1)
    categories = choose(_cut(tables, choose.count), None if known is None else known.reshape(-1))
    return np.eye(tables.shape[-1], dtype=np.int32)[categories].reshape(choose.count, *tables.shape[1:])


def _softmax(distribution):
    return jax.nn.softmax(distribution.logits)


def _columns(batch, choose, x, most):
    parts = batch.part("parts")
    columns = np.zeros((choose.count, sum(map(len, batch.tree.places))), np.int32)
    for place, where in enumerate(batch.tree.places):
        where = list(where)
        columns[:, where] = visit(parts[place], choose, None if x is None else np.asarray(x)[:, where], most)
    return columns


# ----------------------------------------------------------------------------------------- one after the other


def _autoregressive(batch, choose, x, most):
    """Code dimension by dimension; every dimension takes a call of the whole network, in which later ones are zero."""
    shape = batch.tree.event_shape
    out = np.zeros((batch.size, *shape), np.float32)
    for d in range(shape[0]):
        conditional = lift(_dimension, batch, batches.of(out, batch.size), np.int32(d), size=batch.size)
        out[: choose.count, d] = visit(conditional, choose, _at(x, d), most)
    return out[: choose.count]


def _dimension(distribution, x, d):
    conditionals = as_jax(distribution.conditionals(as_jax(distribution.params), x))
    return over_places(lambda a: a[d], conditionals)


def _series(batch, choose, x, most):
    (length,), size = batch.tree.event_shape, batch.size
    out, cache = np.zeros((size, length), np.float32), lift(_series_start, batch, size=size)
    previous = np.zeros(size, np.float32)
    for t in range(length):
        both = lift(_series_step, batch, cache, batches.of(previous, size), np.int32(t), size=size)
        cache = both[0]
        out[: choose.count, t] = visit(both[1], choose, _at(x, t), most)
        previous = out[:, t]
    return out[: choose.count]


def _series_start(distribution):
    return distribution.start(as_jax(distribution.params))


def _series_step(distribution, cache, previous, t):
    return distribution.step(as_jax(distribution.params), cache, previous, t)


def _raster_scan(batch, choose, x, most, dtype=np.float32):
    """Code pixel by pixel; the network computes every row and every pixel of each layer once."""
    (height, width, channels), size = batch.tree.event_shape, batch.size
    out = np.zeros((size, height, width, channels), dtype)
    start = lift(_scan_start, batch, size=size)
    above_rows, above = start[0], np.zeros((size, width, channels), dtype)
    for i in range(height):
        both = lift(_scan_row, batch, above_rows, batches.of(above, size), np.int32(i), size=size)
        above_rows, features = both[0], both[1]
        pixels, left = start[1], np.zeros((size, channels), dtype)
        for j in range(width):
            place = np.array([i, j], np.int32)
            one = lift(_scan_pixel, batch, pixels, batches.of(left, size), features, place, size=size)
            pixels = one[0]
            out[: choose.count, i, j] = visit(one[1], choose, None if x is None else x[:, i, j], most)
            left = out[:, i, j]
        above = out[:, i]
    return out[: choose.count]


def _scan_start(distribution):
    return distribution.cached.start(as_jax(distribution.params))


def _scan_row(distribution, cache, above, i):
    return distribution.cached.row(as_jax(distribution.params), cache, above, i)


def _scan_pixel(distribution, cache, left, features, place):
    i, j = place
    here = jax.tree.map(lambda a: a[j], features)
    return distribution.cached.pixel(as_jax(distribution.params), cache, left, i, j, here)


def _code_map(batch, choose, x, most):
    known = None if x is None else np.asarray(x)[..., None]
    return _raster_scan(batch.part("base"), choose, known, most, np.int32)[..., 0]


def _channels(batch, choose, x, most):
    """Code the channels of pixels that depend on the earlier channels of the same pixel."""
    size, count = batch.size, choose.count
    *pixels, channels = event_shape(batch)
    out = np.zeros((size, *pixels, channels), np.int32)
    for c in range(channels):
        conditional = lift(_channel(c), batch, batches.of(out, size), size=size)
        out[:count, ..., c] = visit(conditional, choose, None if x is None else np.asarray(x)[..., c], most)
    return out[:count]


@functools.cache
def _channel(c):
    return lambda distribution, levels: distribution.channel([levels[..., k] for k in range(c)])


def _sentence(batch, choose, x, most):
    """Code word by word. A row that has ended is not coded any more."""
    length, size, count = batch.tree.length, batch.size, choose.count
    out, cache = np.full((size, length), PAD, np.int32), lift(_sentence_start, batch, size=size)
    previous, going = np.full(size, PAD, np.int32), np.ones(count, bool)
    for t in range(length):
        if not going.any():
            break
        both = lift(_sentence_step, batch, cache, batches.of(previous, size), size=size)
        cache = both[0]
        some = _Some(choose, going)
        out[:count, t][going] = visit(both[1], some, None if x is None else np.asarray(x)[:, t], most)[going]
        going &= out[:count, t] != END
        previous = out[:, t]
    return out[:count]


class _Some:
    """A `choose` of the values of those examples where `going` [n] is True; others get 0."""

    def __init__(self, choose, going):
        self.count, self._choose, self._going = choose.count, choose, going

    def __call__(self, tables, symbols):
        chosen = np.zeros(self.count, np.int32)
        known = None if symbols is None else symbols[self._going]
        chosen[self._going] = self._choose(tables[self._going], known)
        return chosen


def _sentence_start(distribution):
    return distribution.start(as_jax(distribution.params))


def _sentence_step(distribution, cache, previous):
    return distribution.step(as_jax(distribution.params), cache, previous)


def _drawing(batch, choose, x, most):
    """Code point by point. A drawing that has ended is not coded any more."""
    length, size, count = batch.tree.length, batch.size, choose.count
    out, cache = np.zeros((size, length, 3), np.int32), lift(_sentence_start, batch, size=size)
    previous, going = np.tile(np.array(drawings.BEFORE, np.int32), (size, 1)), np.ones(count, bool)
    for t in range(length):
        if not going.any():
            break
        both = lift(_sentence_step, batch, cache, batches.of(previous, size), size=size)
        cache = both[0]
        some = _Some(choose, going)
        out[:count, t][going] = visit(both[1], some, _at(x, t), most)[going]
        going &= out[:count, t, 2] != drawings.END
        previous = out[:, t]
    return out[:count]


def _pen_points(batch, choose, x, most):
    """Code Δx, then Δy given Δx, then the pen. Offsets are levels above -R."""
    size, count = batch.size, choose.count
    out = np.zeros((size, *event_shape(batch)), np.int32)
    for c, lowest in enumerate((-batch.tree.limit, -batch.tree.limit, 0)):
        conditional = lift(_part(c), batch, batches.of(out, size), size=size)
        known = None if x is None else np.asarray(x)[..., c] - lowest
        out[:count, ..., c] = visit(conditional, choose, known, most) + lowest
    return out[:count]


@functools.cache
def _part(c):
    return lambda distribution, x: distribution.part([x[..., k] for k in range(c)])


def _level_series(batch, choose, x, most):
    known = None if x is None else np.asarray(x).astype(np.int32) + (END + 1)
    return np.maximum(_sentence(batch.part("base"), choose, known, most) - (END + 1), 0)


def _tree(batch, choose, x, most):
    """Code all bits of the same distance from the root at once, given their parents."""
    order, parent, logits = (np.asarray(getattr(batch.tree, name)) for name in ("order", "parent", "logits"))
    if 0 in jax.tree.leaves(batch.axes):
        raise ValueError("a tree whose parameters differ between examples cannot be coded")
    depth = np.zeros(len(order), int)
    for d in order[1:]:
        depth[d] = depth[parent[d]] + 1
    bright = np.asarray(jax.nn.sigmoid(logits))
    out = np.zeros((choose.count, len(order)), np.int32)
    known = None if x is None else np.asarray(x).reshape(choose.count, -1).astype(np.int32)
    for level in range(depth.max() + 1):
        here = np.nonzero(depth == level)[0]
        p = bright[here[None], out[:, parent[here]]].reshape(-1)
        symbols = None if known is None else known[:, here].reshape(-1)
        out[:, here] = choose(np.stack([1.0 - p, p], axis=1), symbols).reshape(choose.count, len(here))
    return out


# ----------------------------------------------------------------------------------------------- other shapes


def _reshaped(batch, choose, x, most):
    tree = batch.tree
    known = None if x is None else np.asarray(jax.vmap(tree.to_base)(jnp.asarray(x)))
    return np.asarray(jax.vmap(tree.from_base)(visit(batch.part("base"), choose, known, most)))


def _observed(batch, choose, x, most):
    if x is not None and np.isnan(x).any():
        raise ValueError("missing values (NaN) cannot be coded; leave out these examples")
    return visit(batch.part("base"), choose, x, most)


def _at(x, place):
    return None if x is None else np.asarray(x)[:, place]


_VISITS = {
    Autoregressive: _autoregressive,
    CodeMap: _code_map,
    Drawing: _drawing,
    LevelSeries: _level_series,
    LinearLogisticMixture: _channels,
    Observed: _observed,
    OneHot: _one_hot,
    OrderedCategorical: _channels,
    PenPoints: _pen_points,
    RasterScan: _raster_scan,
    Reshaped: _reshaped,
    Rows: _columns,
    Sentence: _sentence,
    Series: _series,
    Squares: _reshaped,
    Tree: _tree,
}
