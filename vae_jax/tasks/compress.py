"""Lossless compression of data to bytes with a trained model, and back.

    model                             code                                                        length in bits
    exact density, autoregressive     entropy coding, conditional by conditional                  -log₂ p(x)
    mixture                           bits-back over the component, with its exact p(k|x)         -log₂ p(x)
    latent variables                  bits-back with ANS, arXiv:1901.04866 (`codecs.bits_back`)   -ELBO / log 2
    integer codes of a point mass     codes with p(k), then x with p(x|k)                         -log₂ p(x|k) p(k)

The field that a model fills decides: `density` first, then `latent`. Examples are coded side by side, so that a network
runs over a batch. All of them share one message.
"""

import functools
import itertools
import math
from typing import NamedTuple

import jax
import numpy as np

from vae_jax.codecs import bits_back, container
from vae_jax.codecs.stack import UNREAD, WORD, Stack
from vae_jax.distributions import Mixture, check_support
from vae_jax.distributions.support import supports
from vae_jax.spec import integers
from vae_jax.support import Columns, Counts, is_discrete

AT_ONCE, AT_ONCE_LATENT = 256, 64  # examples side by side, without and with bits-back


class Compressed(NamedTuple):
    """Data as bytes, and where the bytes come from."""

    data: bytes  # the file, with its header
    initial_bits: int  # random bits that bits-back took before there was a message; they are part of `data`

    @property
    def net_bits(self) -> int:
        """The bits of the file without the initial ones, which a longer message would share."""
        return 8 * len(self.data) - self.initial_bits


def compress(model, params, x, context=None, *, at_once=None) -> bytes:
    """Return examples x [N, ...] as bytes, from which `decompress` restores them bit for bit.

    Args:
      model: a `core.Model` of discrete data, with `density`, or `latent` and a prior.
      params: its parameters. Decompression needs the same ones.
      x: the examples, as the model takes them: bits, levels, counts or tokens.
      context: the contexts [N, ...] of a conditional model. They are not stored, and `decompress` needs them, too.
      at_once: how many examples are coded side by side; None for 256, or 64 with bits-back.

    Raises `ValueError` for models and data that have no exact code, before anything is computed.
    """
    return measured(model, params, x, context, at_once=at_once).data


def measured(model, params, x, context=None, *, at_once=None) -> Compressed:
    """Return what `compress` returns, with the number of initial bits. The arguments are those of `compress`."""
    x = np.asarray(x)
    if not len(x):
        raise ValueError("there is no example to compress")
    if context is not None and len(context) != len(x):
        raise ValueError(f"context must have one entry for each of the {len(x)} examples, got {len(context)}")
    most = _most(model, params, x, context)
    coding = coding_of(model, params, x[0], _first(context), most=most)
    at_once = _at_once(coding, len(x), at_once)
    stack, first, need = Stack(random_words=UNREAD if coding.pops else 0), 1 if coding.pops else at_once, 0
    start, sizes = 0, []
    while start < len(x):
        grows = coding.pops and start and at_once not in sizes
        size = _affordable(stack, need, at_once) if grows else at_once if start else first
        size = min(size, len(x) - start)
        batch, contexts = (_padded(a, start, start + size, at_once) for a in (x, context))
        encode = functools.partial(bits_back.encode, stack, coding, params, batch, contexts, size)
        need = (stack.dip(encode) + WORD) / size
        start, sizes = start + size, [*sizes, size]
    header = {
        "model": container.fingerprint(params),
        "by": container.environment(),
        "shape": list(x.shape),
        "type": str(x.dtype),
        "at_once": at_once,
        "x": container.checksum(x),
    }
    header |= {"context": container.checksum(np.asarray(context))} if context is not None else {}
    header |= {"groups": sizes[: sizes.index(at_once) if at_once in sizes else len(sizes)]} if coding.pops else {}
    header |= {"most": most} if most is not None else {}
    return Compressed(container.pack(header, stack.words()), stack.initial_bits)


def decompress(model, params, data, context=None):
    """Return the examples [N, ...] in the bytes that `compress` returned.

    Args:
      model: the model that compressed them.
      params: its parameters.
      data: the bytes.
      context: the contexts that they were compressed with.

    Raises `ValueError` for damaged bytes, for another model, another device or other versions, and for other contexts.
    """
    header, words = container.unpack(data)
    container.check(header, params)
    used = None if context is None else container.checksum(np.asarray(context))
    if header.get("context") != used:
        raise ValueError("the data were compressed with other contexts; give the same ones, in the same order")
    (number, *shape), at_once = header["shape"], header["at_once"]
    x = np.zeros((number, *shape), header["type"])
    coding = coding_of(model, params, x[0], _first(context), most=header.get("most"))
    stack = Stack(words)
    for start, stop in reversed(groups(number, at_once, header.get("groups", ()))):
        like, contexts = np.zeros((at_once, *shape), x.dtype), _padded(context, start, stop, at_once)
        x[start:stop] = bits_back.decode(stack, coding, params, like, contexts, stop - start)
    if container.checksum(x) != header["x"] or not stack.is_clean():
        raise ValueError(
            "decoding gave other data than were compressed: the model computes other numbers here than it did there"
        )
    return x


def coding_of(model, params, x, context=None, *, most=None) -> bits_back.Coding:
    """Return how a model codes data like the example `x` with its `context`.

    `most` is the largest value of data that are counts. Raises `ValueError` for a model that cannot compress.
    """
    if model.density is not None:
        density = jax.eval_shape(model.density, params, context)
        if not all(map(is_discrete, supports(density))):
            raise ValueError(f"bytes need discrete data, and this model is a density of {density.support} values")
        if isinstance(density, Mixture):
            return bits_back.of_latent(bits_back.latent_of_mixture(model.density), params, x, context, most=most)
        return bits_back.of_density(model.density, most=most)
    if model.latent is None or model.latent.prior is None:
        raise ValueError(
            "compression needs p(x), or a latent-variable model with a prior p(z), and this model has neither"
        )
    return bits_back.of_latent(model.latent, params, x, context, most=most)


def groups(number, at_once, first=()):
    """Return (start, stop) of the groups of examples that are coded side by side.

    The first groups have the sizes `first`, all others `at_once`, except that the last one may be smaller.
    """
    ends = [0, *itertools.accumulate(first)]
    ends += range(ends[-1] + at_once, number + at_once, at_once)
    return [(start, min(stop, number)) for start, stop in itertools.pairwise(ends) if start < number]


def _affordable(stack, need, at_once):
    """Return the size of the next group: as many examples as there are bits to pop, if each needs `need` of them.

    With bits-back the first group is one example, so that the initial bits are about those of one example.
    """
    return int(min(max(stack.available_bits // (1.1 * need), 1), at_once))


def message_bits(data) -> int:
    """Return the number of bits of the message in the bytes of a file, without its header."""
    return 32 * len(container.unpack(data)[1])


def bits_per_dim(num_bits, x) -> float:
    """Return bits for each entry of the examples x."""
    return num_bits / math.prod(np.shape(x))


def _most(model, params, x, context):
    """Check that data lie in the support, and return the largest value of counts, None for other data."""
    likelihood = _likelihood(model, params, _first(x), _first(context))
    if likelihood is None:
        return None
    check_support(likelihood, x)
    for support in supports(likelihood):
        if support == Counts():
            return int(x.max())
        if isinstance(support, Columns) and "count" in support.kinds:
            return int(np.nanmax(np.asarray(x)[:, [kind == "count" for kind in support.kinds]]))
    return None


def _likelihood(model, params, x, context):
    """Return p(x) or p(x|z) with shapes in place of arrays; None for a model that has neither."""
    if model.density is not None:
        return jax.eval_shape(model.density, params, context)
    if model.latent is None or model.latent.prior is None:
        return None

    def of_x(params, context):
        z = model.latent.prior(params, context).sample(jax.random.key(0))
        return model.latent.likelihood(params, z, context)

    return jax.eval_shape(of_x, params, context)


def _at_once(coding, number, at_once):
    if at_once is None:
        at_once = AT_ONCE_LATENT if coding.pops else AT_ONCE
    integers(at_once=at_once)
    return min(at_once, number)


def _padded(array, start, stop, size):
    """Return rows start, ..., stop - 1 of an array with zeros up to `size` rows; None for None."""
    if array is None:
        return None
    rows = np.asarray(array[start:stop])
    return np.concatenate([rows, np.zeros((size - len(rows), *rows.shape[1:]), rows.dtype)])


def _first(array):
    return None if array is None else array[0]
