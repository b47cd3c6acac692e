"""One image file as an array [H, W, C]: its channels, its bits, and its size.

Pillow decodes. Images are resized with its Lanczos filter, whose support grows with the reduction: this is the
antialiasing. No gap is taken (`reducing_gap=None`), so the result is exact. TIFF with more channels or bits than Pillow
has needs `tifffile`.
"""

import io
from typing import NamedTuple

import numpy as np

from vae_jax.data import files
from vae_jax.spec import BadOption, integers, one_of, shown, sizes

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".gif", ".bmp", ".pgm", ".ppm")
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM")  # no other decoder sees the bytes
FITS = ("resize", "crop", "pad")
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
NATURAL = {"La": "LA", "RGBa": "RGBA", "PA": "RGBA"}  # of other modes than these and `MODES`: RGB
COMPRESSED = 1100  # times, by deflate at most
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class Options(NamedTuple):
    """How images become arrays of one shape: the keyword arguments of `folders.load`."""

    size: tuple | None = None
    channels: int | None = None
    fit: str = "resize"
    bits: int | None = None


def options(size=None, channels=None, fit="resize", bits=None) -> Options:
    """Return checked options. Raises `BadOption`."""
    if size is not None:
        size = (size, size) if isinstance(size, int) else size
        sizes(size=size)
        if len(size) != 2:
            raise BadOption(f"size must be (height, width), such as (32, 32), got {shown(size)}")
        size = tuple(size)
    if channels is not None:
        integers(channels=channels)
    one_of(FITS, fit=fit)
    if bits not in (None, 8):
        raise BadOption(f"bits must be 8, so that 16-bit images are read as 8 bits, or None, got {shown(bits)}")
    return Options(size, channels, fit, bits)


def decode(content, where, chosen: Options) -> tuple[np.ndarray, int]:
    """Return the first image of a file as an array [H, W, C], and the number of images in the file.

    The array is uint8, uint16 of 16 bits, float32 of 32-bit floats, or bool of black and white. An orientation in the
    metadata is followed. A TIFF of as many grey pages as `channels` is one image, whose channels are the pages.

    Args:
      content: the path of a file, or its bytes.
      where: what messages name.
      chosen: the `options`.

    Raises `ValueError` of one line for a file that is damaged or no image, and `BadOption` for one that does not fit
    the options.
    """
    with files.reading(where, "not readable as an image"):
        x, frames = _array(content, where, chosen)
        if chosen.bits == 8 and x.dtype != np.uint8:
            x = _eight_bits(where, x)
        if chosen.channels is not None and x.shape[2] != chosen.channels:
            raise BadOption(
                f"channels must be {x.shape[2]} or None for {where}, an image of {x.shape[2]} channels that cannot be "
                f"converted, got {chosen.channels}"
            )
        if chosen.size is not None and x.shape[:2] != chosen.size:
            x = _fitted_bands(x, chosen)
        return x, frames


def _array(content, where, chosen):
    """Return an image in its own type, and the number of images in the file."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    opened = io.BytesIO(content) if isinstance(content, bytes) else files.regular(content).open("rb")
    with opened:
        start = opened.read(4)
        if not start:
            raise ValueError(f"{where}: an empty file")
        opened.seek(0)
        try:
            with Image.open(opened, formats=FORMATS) as image:
                frames = getattr(image, "n_frames", 1)
                if image.format == "TIFF" and frames > 1 and frames == chosen.channels:
                    return _of_pages(image, where), 1
                if image.format == "TIFF" and _beyond_pillow(image, chosen):
                    return _of_tiff(opened, where)
                if image.format == "PNG" and "16B" in str(image.tile) and image.mode != "I;16" and chosen.bits != 8:
                    raise BadOption(
                        f"bits must be 8 to read {where}: Pillow has no colour of 16 bits; or store it as TIFF"
                    )
                return _of_pillow(ImageOps.exif_transpose(image), where, chosen), frames
        except UnidentifiedImageError:
            if start not in TIFF:
                raise ValueError(f"{where}: not readable as an image of {', '.join(FORMATS)}") from None
            return _of_tiff(opened, where)


def _of_pillow(image, where, chosen) -> np.ndarray:
    mode = image.mode
    if mode.startswith("I;16"):
        return np.asarray(image, np.uint16)[..., None]
    if mode == "I":
        x = np.asarray(image)[..., None]
        if x.min() < 0 or x.max() > 65535:
            raise ValueError(f"{where}: its values reach from {x.min()} to {x.max()}, and 0 to 65535 is read")
        return x.astype(np.uint16)
    if mode == "F":
        return np.asarray(image)[..., None]
    if chosen.channels in MODES:
        target = MODES[chosen.channels]
    elif mode == "P":
        target = "RGBA" if "transparency" in image.info else "RGB"
    else:
        target = mode if mode in MODES.values() else NATURAL.get(mode, "RGB")
    if mode == "1" and chosen.channels in (None, 1):
        if chosen.size is None and chosen.bits is None:
            return (np.asarray(image.convert("L")) > 0)[..., None]
        target = "L"
    if mode != target:
        image = image.convert(target)
    if chosen.size is not None:
        image = _fitted(image, chosen)
    x = np.asarray(image)
    return x if x.ndim == 3 else x[..., None]


def _of_pages(image, where) -> np.ndarray:
    """Return the pages of a TIFF as channels."""
    pages = []
    for page in range(image.n_frames):
        image.seek(page)
        pages.append(np.asarray(image))
    if any(page.shape != pages[0].shape or page.ndim != 2 for page in pages):
        raise ValueError(f"{where}: its {len(pages)} pages are channels only if all are grey and of one size")
    return np.stack(pages, -1)


def _beyond_pillow(image, chosen) -> bool:
    """Return True if Pillow would lose channels or bits of a TIFF."""
    bits, samples = np.max(image.tag_v2.get(258, 1)), image.tag_v2.get(277, 1)
    return samples != len(image.getbands()) or (samples > 1 and bits > 8 and chosen.bits != 8)


def _of_tiff(opened, where):
    """Read with `tifffile`."""
    try:
        import tifffile
    except ImportError:
        raise ValueError(f"{where}: a TIFF of such channels and bits needs: pip install 'vae_jax[files]'") from None
    length = opened.seek(0, io.SEEK_END)
    opened.seek(0)
    with tifffile.TiffFile(opened) as tiff:
        page = tiff.pages[0]
        if page.nbytes > COMPRESSED * length:
            raise ValueError(f"{where}: damaged: {page.dtype} {page.shape} cannot be in {length:,} bytes")
        x, axes, frames = page.asarray(), page.axes, len(tiff.pages)
    if axes == "SYX":
        x = np.moveaxis(x, 0, -1)
    x = x[..., None] if x.ndim == 2 else x
    if x.ndim != 3 or x.dtype.kind not in "buf" or x.dtype.itemsize > (4 if x.dtype.kind == "f" else 2):
        raise ValueError(
            f"{where}: {x.dtype} {list(x.shape)}, axes {axes}; 8 or 16 bits or floats of [H, W] or [H, W, C] are read"
        )
    return x.astype(np.float32) if x.dtype.kind == "f" else x.astype(x.dtype.newbyteorder("=")), frames


def _eight_bits(where, x):
    """Return the upper 8 of 16 bits; black and white as 0 and 255."""
    if x.dtype.kind == "f":
        raise BadOption(f"bits must be None for {where}, an image of floats")
    return np.where(x, 255, 0).astype(np.uint8) if x.dtype == bool else (x >> 8).astype(np.uint8)


# ---------------------------------------------------------------------------------------------------------------- size


def _fitted(image, chosen):
    """Return a Pillow image of the size: stretched, or its middle, or with a margin of zeros."""
    from PIL import Image

    (height, width), filter_ = chosen.size, Image.Resampling.LANCZOS
    if image.size == (width, height):
        return image
    if chosen.fit == "resize":
        return image.resize((width, height), filter_)
    scales = width / image.width, height / image.height
    if chosen.fit == "crop":
        w, h = width / max(scales), height / max(scales)
        left, top = (image.width - w) / 2, (image.height - h) / 2
        box = max(0.0, left), max(0.0, top), min(image.width, left + w), min(image.height, top + h)
        return image.resize((width, height), filter_, box=box)
    inner = [max(1, min(most, round(s * min(scales)))) for s, most in zip(image.size, (width, height), strict=True)]
    padded = Image.new(image.mode, (width, height))
    padded.paste(image.resize(inner, filter_), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return padded


def _fitted_bands(x, chosen):
    """Return an array of the size. Every channel is resized in float32 and rounded to the type."""
    from PIL import Image

    dtype = np.dtype(np.uint8) if x.dtype == bool else x.dtype
    bands = (Image.fromarray(np.ascontiguousarray(band, np.float32)) for band in np.moveaxis(x, -1, 0))
    y = np.stack([np.asarray(_fitted(band, chosen)) for band in bands], -1)
    if dtype.kind == "f":
        return y
    return np.clip(np.round(y), 0, np.iinfo(dtype).max).astype(dtype)
