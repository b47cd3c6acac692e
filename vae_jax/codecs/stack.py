"""The entropy coder: a stack of symbols with asymmetric numeral systems (ANS), arXiv:1311.2540.

The coder is that of the package `constriction`. Probabilities become integers in `counts`, and nowhere else.
"""

import math

import numpy as np

WORD = 32  # bits
RESOLUTION = 2.0**22  # probabilities are multiples of 2⁻²², and at least that: constriction works with 24 bits
WIDE = 64  # a table of more symbols is coded as two digits
UNREAD = 2**20  # random words under a message; those that were not read are cut off


class Stack:
    """A message on which symbols are pushed, and from which the last one is popped first.

    Popping symbols that were never pushed draws them from their distribution, with random words under the message as
    the source of bits: that is bits-back. Pushing them again restores the words.
    """

    def __init__(self, words=None, *, random_words=0):
        """Start from the words of a message, or from `random_words` words of a fixed stream for a new message."""
        constriction = _constriction()
        self._random = _random_words(random_words)
        self._models = constriction.stream.model
        if words is None:
            self._coder = constriction.stream.stack.AnsCoder(self._random, seal=True)
        else:
            self._coder = constriction.stream.stack.AnsCoder(np.ascontiguousarray(words, np.uint32))
        self._least = self._lowest = self._coder.num_words()

    def push(self, symbols, tables):
        """Push symbols [n] from distributions with the masses `tables` [n, V], which need not be normalised."""
        symbols, tables = np.asarray(symbols, np.int32), np.asarray(tables)
        if not len(symbols):
            return
        if tables.shape[1] > WIDE:
            recorded = Recorded()
            recorded.add(symbols, tables)
            recorded.push(self)
        else:
            self._coder.encode_reverse(symbols, self._categorical(), counts(tables))

    def pop(self, tables):
        """Pop symbols, int32 [n], with the masses `tables` [n, V] with which they were pushed."""
        tables = np.asarray(tables)
        if not len(tables):
            return np.zeros(0, np.int32)
        if tables.shape[1] > WIDE:
            blocks = _blocks_of(tables)
            first = self.pop(blocks.sum(axis=2))
            return first * np.int32(blocks.shape[1]) + self.pop(_within(blocks, first))
        return self._popped(self._coder.decode(self._categorical(), counts(tables)))

    def push_uniform(self, symbols, size):
        """Push symbols [n] that are uniform on 0, ..., `size` - 1."""
        if len(symbols):
            self._coder.encode_reverse(np.asarray(symbols, np.int32), self._models.Uniform(int(size)))

    def pop_uniform(self, number, size):
        """Pop `number` symbols, int32, that are uniform on 0, ..., `size` - 1."""
        if not number:
            return np.zeros(0, np.int32)
        return self._popped(self._coder.decode(self._models.Uniform(int(size)), int(number)))

    @property
    def initial_bits(self):
        """The number of bits of the random words that were read."""
        return WORD * (len(self._random) - self._unread())

    @property
    def available_bits(self):
        """The number of bits that can be popped before further random words are read."""
        return WORD * (self._coder.num_words() - self._least)

    def dip(self, function):
        """Return how many bits the message was shorter, at most, while `function` pushed and popped."""
        self._lowest = before = self._coder.num_words()
        function()
        return WORD * (before - self._lowest)

    def words(self):
        """Return the message, uint32 [n], without the random words that were never read."""
        return self._coder.get_compressed()[self._unread() :]

    def is_clean(self):
        """Return True if only random words are left, those under every message: all symbols were popped."""
        left = self._coder.get_compressed()
        return len(left) > 0 and left[-1] == 1 and np.array_equal(left[:-1], _random_words(len(left) - 1))

    def _unread(self):
        """Return how many random words at the bottom were never read. The coder's state holds up to two words more."""
        return min(max(0, self._least - 2), len(self._random))

    def _popped(self, symbols):
        self._lowest = min(self._lowest, self._coder.num_words())
        self._least = min(self._least, self._lowest)
        return symbols

    def _categorical(self):
        return self._models.Categorical(perfect=False, lazy=True)


class Recorded:
    """Symbols and their masses, in the order in which a decoder pops them. Wide tables are stored as two digits."""

    def __init__(self):
        self._pieces = []

    def add(self, symbols, tables):
        """Record symbols [n] with masses [n, V]."""
        symbols = np.asarray(symbols, np.int32)
        if tables.shape[1] > WIDE:
            blocks = _blocks_of(tables)
            first, symbols = np.divmod(symbols, np.int32(blocks.shape[1]))
            self._pieces.append((first, blocks.sum(axis=2)))
            tables = _within(blocks, first)
        self._pieces.append((symbols, tables))

    def push(self, stack):
        """Push everything, the last piece first."""
        for symbols, tables in reversed(self._pieces):
            stack.push(symbols, tables)


def counts(tables):
    """Return masses [n, V] as whole numbers, float32, at least 1 and about 2²² in each row.

    Encoder and decoder agree if they round to the same whole numbers. Raises `ValueError` for masses that are NaN,
    infinite, or all zero.
    """
    peak = tables.max(axis=1, keepdims=True)
    if not (np.all(np.isfinite(peak)) and np.all(peak > 0)):
        raise ValueError("the model gives probabilities that are NaN or zero; nothing can be coded with it")
    shares = (tables / peak).astype(np.float32)  # the largest is 1: nothing overflows below
    total = shares.sum(axis=1, keepdims=True, dtype=np.float64)
    return np.maximum(np.rint(shares * (RESOLUTION / total).astype(np.float32)), np.float32(1.0))


def _random_words(number):
    """Return the random words under a message, the bottom first. Fewer words are the last ones of more words."""
    return np.frombuffer(np.random.RandomState(0).bytes(4 * number), "<u4")[::-1].astype(np.uint32)


def base_of(size):
    """Return the base r of two digits for `size` symbols, the least r with r² ≥ `size`."""
    return math.isqrt(size - 1) + 1


def _blocks_of(tables):
    """Return masses [n, V] as blocks [n, r, r], in which the first digit counts blocks and the second one symbols."""
    number, size = tables.shape
    base = base_of(size)
    blocks = np.zeros((number, base * base), np.float32)
    blocks[:, :size] = tables
    return blocks.reshape(number, base, base)


def _within(blocks, first):
    """Return the masses [n, r] of the second digit given the first one [n]; equal ones for a block without mass."""
    fine = blocks[np.arange(len(blocks)), first]
    return np.where(fine.sum(axis=1, keepdims=True) > 0, fine, np.float32(1.0))


def _constriction():
    try:
        import constriction
    except ImportError as error:
        raise ValueError("compression needs the package constriction: pip install 'vae_jax[compression]'") from error
    return constriction
