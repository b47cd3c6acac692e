"""Degradations of images, y = A(x) + noise: masks, down-sampling, blur, JPEG and noise, as values.

Images x have the shape [H, W, C] and the units of the model: levels 0 .. V - 1, bits, or real numbers. Scales of noise
are fractions of the range of x, which is V - 1 for levels and 1 otherwise.

There is one down-sampler, the box filter: the mean of equal blocks of pixels. Bicubic interpolation is that of Keys
with a = -1/2, with its pixels at the centres of blocks (`jax.image.resize`, "cubic"). Libraries differ in both kernels,
and so do scores that depend on them.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.core import Event
from vae_jax.numerics import LOG_2PI
from vae_jax.spec import BadOption, integers, numbers, sizes
from vae_jax.support import Binary, Levels, Unit

BLOCK = 8  # pixels: the side of a block of JPEG
LUMINANCE = np.array(  # the table of ITU-T T.81, annex K
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float64,
)


class Linear(NamedTuple):
    """A linear observation with independent Gaussian noise: observe(y) = forward(x) + scale ε, of M numbers."""

    forward: Callable  # x -> F x [M]
    observe: Callable  # y -> [M]
    scale: np.ndarray  # [M], in the units of x; 0 for an entry without noise


class Degradation(NamedTuple):
    """How y is made from an image x. Every function is for one image.

    It equals only itself, so that it can be a static argument of a compiled function.
    """

    name: str
    event: Event  # x
    apply: Callable  # x -> A(x): y without noise
    sample: Callable  # (key, x) -> y
    log_prob: Callable  # (y, x) -> log p(y|x), nats; without noise 0 or -inf
    baseline: Callable  # y -> an image [H, W, C]: y as it is shown, or the plainest restoration
    linear: Linear | None  # None if A is not linear
    mask: np.ndarray | None = None  # [H, W, C], True where y shows x: then each entry of y depends on one entry of x
    noise: float = 0.0  # the standard deviation of each entry of y, in the units of x

    def __eq__(self, other):
        return self is other

    def __hash__(self):
        return id(self)


def top_of(support) -> float:
    """Return the largest value of x, the unit of `scale`: V - 1 for levels, 1 otherwise."""
    return float(support.num_levels - 1) if isinstance(support, Levels) else 1.0


def identity(event, *, scale) -> Degradation:
    """Return y = x + s ε, s = `scale` of the range. Raises `BadOption` for a scale that is not above 0."""
    numbers(scale=scale, above=0)
    return _pixelwise("noise", event, np.ones(_image(event), bool), scale, lambda y: y)


def masked(event, *, mask, scale=0.0) -> Degradation:
    """Return y = x + s ε where `mask` is True, and NaN elsewhere: inpainting.

    The baseline fills hidden entries with the mean of those that are shown.

    Args:
      event: the `core.Event` x.
      mask: True where x is shown, [H, W], [H, W, C] or [H, W, 1].
      scale: s as a fraction of the range; 0 for exact values.

    Raises `BadOption` for a mask of another shape or type, and for one that shows or hides nothing.
    """
    shape, mask = _image(event), np.asarray(mask)
    numbers(scale=scale, at_least=0)
    mask = mask[..., None] if mask.ndim == 2 else mask
    if mask.dtype != bool or mask.ndim != 3 or mask.shape[:2] != shape[:2] or mask.shape[2] not in (1, shape[2]):
        raise BadOption(f"mask must hold True and False, {list(shape[:2])} or {list(shape)}; got {_kind(mask)}")
    mask = np.broadcast_to(mask, shape)
    if mask.all() or not mask.any():
        what = "hides nothing: there is nothing to restore" if mask.all() else "shows nothing: y would say nothing of x"
        raise BadOption(f"mask {what}; give one that is True for some pixels and False for others")
    return _pixelwise("mask", event, mask, scale, lambda y: jnp.where(mask, y, jnp.nanmean(y)))


def half(event, *, side="bottom", scale=0.0) -> Degradation:
    """Return the degradation that hides the half of an image on one side: "bottom", "top", "left" or "right"."""
    height, width, _ = _image(event)
    row, column = np.indices((height, width))
    shown = {
        "bottom": row < height // 2,
        "top": row >= height - height // 2,
        "right": column < width // 2,
        "left": column >= width - width // 2,
    }
    if side not in shown:
        raise BadOption(f"side must be one of {', '.join(shown)}, got {side!r}")
    return masked(event, mask=shown[side], scale=scale)._replace(name="half")


def square(event, *, size=None, scale=0.0) -> Degradation:
    """Return the degradation that hides a square of `size` pixels in the middle, by default half of the shorter side.

    Raises `BadOption` for a size that is not inside the image.
    """
    height, width, _ = _image(event)
    size = min(height, width) // 2 if size is None else size
    integers(size=size, at_most=min(height, width) - 1)
    top, left = (height - size) // 2, (width - size) // 2
    mask = np.ones((height, width), bool)
    mask[top : top + size, left : left + size] = False
    return masked(event, mask=mask, scale=scale)._replace(name="square")


def downsample(event, *, size, scale=0.0) -> Degradation:
    """Return y [h, w, C] = the means of equal blocks of x + s ε: super-resolution.

    It is the down-sampler of `data.contexts.image`. The baseline is bicubic interpolation.

    Args:
      event: the `core.Event` x.
      size: (h, w); h divides H and w divides W.
      scale: s as a fraction of the range.

    Raises `BadOption` for a size that does not divide that of x, and for the size of x itself.
    """
    shape = _image(event)
    sizes(size=size)
    if len(size) != 2 or shape[0] % size[0] or shape[1] % size[1] or tuple(size) == shape[:2]:
        raise BadOption(
            f"size must be (h, w), where h divides {shape[0]} and w divides {shape[1]}, and be smaller; got "
            f"{tuple(size)}"
        )
    h, w = size

    def apply(x):
        return jnp.mean(jnp.reshape(x, (h, shape[0] // h, w, shape[1] // w, shape[2])), axis=(1, 3))

    return _linear("downsample", event, apply, scale, lambda y: jax.image.resize(y, shape, "cubic"))


def blur(event, *, width, scale=0.01) -> Degradation:
    """Return y = a Gaussian blur of x + s ε, whose kernel has the standard deviation `width` in pixels.

    The kernel ends at three deviations and sums to 1; an image continues with the pixels of its border. The baseline is
    y. Raises `BadOption` for a width that is not above 0, and for no noise: the inverse of a blur would amplify
    rounding without limit.
    """
    shape = _image(event)
    numbers(width=width, scale=scale, above=0)
    rows, columns = (_blur_matrix(n, width) for n in shape[:2])

    def apply(x):
        return jnp.einsum("ih,hwc,jw->ijc", rows, x, columns, precision="highest")

    return _linear("blur", event, apply, scale, lambda y: y)


def jpeg(event, *, quality) -> Degradation:
    """Return y = the coefficients that a JPEG file of grey images keeps, multiplied by their steps again.

        y = q round(DCT(x - middle) / q)        in blocks of 8 x 8 pixels

    q is the luminance table of ITU-T T.81 annex K, scaled as libjpeg does for a `quality` from 1 to 100, in units of
    1/255 of the range. Each channel is treated as grey. An image whose sides are not multiples of 8 continues with the
    pixels of its border. A file says of a coefficient that it lies within q/2 of y. As a linear observation this is
    taken as Gaussian noise with the same variance, q²/12 (`linear`), while `log_prob` is 0 or -inf.

    The baseline is the decoded image. Raises `BadOption` for a quality outside 1 .. 100.
    """
    shape = _image(event)
    integers(quality=quality, at_most=100)
    top = top_of(event.support)
    percent = 5000 / quality if quality < 50 else 200 - 2 * quality
    steps = np.clip(np.floor((LUMINANCE * percent + 50) / 100), 1, 255) * top / 255
    padded = tuple(-(-n // BLOCK) * BLOCK for n in shape[:2])
    basis = _dct(BLOCK)
    q = np.tile(steps, (padded[0] // BLOCK, padded[1] // BLOCK))[..., None].repeat(shape[2], axis=2).astype(np.float32)

    def transform(x, matrix):
        blocks = jnp.reshape(x, (padded[0] // BLOCK, BLOCK, padded[1] // BLOCK, BLOCK, shape[2]))
        return jnp.einsum("ui,aibjc,vj->aubvc", matrix, blocks, matrix, precision="highest").reshape(*padded, shape[2])

    def coefficients(x):
        pads = [(0, after - before) for before, after in zip(shape[:2], padded, strict=True)]
        return transform(jnp.pad(x, (*pads, (0, 0)), mode="edge"), basis)

    middle = np.zeros((*padded, shape[2]), np.float32)  # the coefficients of a grey image
    middle[::BLOCK, ::BLOCK] = BLOCK * top * 128 / 255

    def apply(x):
        return q * jnp.round((coefficients(x) - middle) / q)

    def log_prob(y, x):
        inside = jnp.abs(coefficients(x) - middle - y) <= q * (0.5 + 1e-4)
        return jnp.where(jnp.all(inside), 0.0, -jnp.inf)

    def baseline(y):
        return jnp.clip(transform(y + middle, basis.T)[: shape[0], : shape[1]], 0.0, top)

    linear = Linear(
        lambda x: jnp.ravel(coefficients(x)), lambda y: jnp.ravel(y + middle), np.ravel(q).astype(np.float32) / 12**0.5
    )
    return Degradation("jpeg", event, apply, lambda key, x: apply(x), log_prob, baseline, linear)


def matrix(degradation) -> np.ndarray:
    """Return F [M, D] of the linear observation of D entries of x. Raises `ValueError` if there is none."""
    if degradation.linear is None:
        raise ValueError(f"this method requires a linear degradation, and {degradation.name!r} is not linear")
    size = math.prod(degradation.event.shape)
    if degradation.mask is not None:
        return np.eye(size, dtype=np.float32)[degradation.mask.ravel()]
    with jax.ensure_compile_time_eval():
        rows = jax.jit(jax.vmap(degradation.linear.forward))(jnp.eye(size).reshape(size, *degradation.event.shape))
    return np.asarray(rows).T


def misfit(degradation, y, x):
    """Return the root mean square of (observe(y) - F x) / s: about 1 for a true x, and the largest of it without noise.

    Entries without noise count in units of a thousandth of the range.
    """
    linear = degradation.linear
    scale = np.where(linear.scale > 0, linear.scale, 1e-3 * top_of(degradation.event.support))
    return jnp.sqrt(jnp.mean(jnp.square((linear.observe(y) - linear.forward(x)) / scale)))


def check_observation(degradation, y):
    """Raise `ValueError` unless y has the shape of what this degradation returns."""
    expected = jax.eval_shape(degradation.apply, jax.ShapeDtypeStruct(degradation.event.shape, jnp.float32)).shape
    if jnp.shape(y) != expected:
        raise ValueError(
            f"y of the degradation {degradation.name!r} of images {list(degradation.event.shape)} has the shape "
            f"{list(expected)}, got {list(jnp.shape(y))}"
        )


def _pixelwise(name, event, mask, scale, baseline):
    """Return a degradation that shows some entries of x, each with noise of its own."""
    noise = scale * top_of(event.support)
    places = np.flatnonzero(mask)

    def apply(x):
        return jnp.where(mask, x, jnp.nan)

    def sample(key, x):
        return apply(x + noise * jax.random.normal(key, mask.shape))

    observe = lambda y: jnp.ravel(y)[places]  # noqa: E731
    linear = Linear(observe, observe, np.full(len(places), noise, np.float32))
    log_prob = _gaussian(linear)
    return Degradation(name, event, apply, sample, log_prob, baseline, linear, mask, noise)


def _linear(name, event, apply, scale, baseline):
    numbers(scale=scale, at_least=0)
    noise = scale * top_of(event.support)
    shape = jax.eval_shape(apply, jax.ShapeDtypeStruct(event.shape, jnp.float32)).shape

    def sample(key, x):
        return apply(x) + noise * jax.random.normal(key, shape)

    linear = Linear(lambda x: jnp.ravel(apply(x)), jnp.ravel, np.full(math.prod(shape), noise, np.float32))
    shown = lambda y: jnp.clip(baseline(y), 0.0, top_of(event.support)) if _bounded(event) else baseline(y)  # noqa: E731
    return Degradation(name, event, apply, sample, _gaussian(linear), shown, linear, noise=noise)


def _gaussian(linear):
    """Return log p(y|x) = Σ_m log N(observe(y)_m; (F x)_m, s²). Without noise: 0 if they agree, up to rounding."""
    scale = linear.scale

    def log_prob(y, x):
        residual = linear.observe(y) - linear.forward(x)
        if not np.all(scale):
            return jnp.where(jnp.all(jnp.abs(residual) <= 1e-4 * (1.0 + jnp.abs(linear.observe(y)))), 0.0, -jnp.inf)
        return jnp.sum(-0.5 * (jnp.square(residual / scale) + LOG_2PI) - np.log(scale))

    return log_prob


def _bounded(event):
    return isinstance(event.support, Levels | Binary | Unit)


def _image(event):
    if len(event.shape) != 3:
        raise BadOption(f": degradations are of images [H, W, C], and an example has the shape {tuple(event.shape)}")
    return tuple(event.shape)


def _kind(mask):
    return f"{mask.dtype} {list(mask.shape)}"


def _blur_matrix(size, width):
    """Return the matrix [size, size] of a blur of one axis that continues with its border."""
    reach = max(1, math.ceil(3 * width))
    kernel = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / width))
    kernel /= kernel.sum()
    rows = np.zeros((size, size))
    for offset, weight in zip(range(-reach, reach + 1), kernel, strict=True):
        np.add.at(rows, (np.arange(size), np.clip(np.arange(size) + offset, 0, size - 1)), weight)
    return rows.astype(np.float32)


def _dct(size):
    """Return the orthonormal matrix [size, size] of the discrete cosine transform, frequencies first."""
    u, i = np.arange(size)[:, None], np.arange(size)[None]
    rows = np.cos(np.pi * (2 * i + 1) * u / (2 * size)) * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return rows.astype(np.float32)
