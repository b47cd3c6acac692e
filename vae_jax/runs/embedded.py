"""Figures, pages of text and sounds of a workdir as parts of a page: data URIs within a number of bytes."""

import base64
import io
import math
from typing import NamedTuple

import numpy as np

FIRST = (
    *("samples", "drawings", "manifold", "reconstructions", "interpolations", "latents"),
    *("rate_per_dimension", "rate_per_level"),
)
CAPTIONS = {
    "samples": "Samples: means of p(x|z), z drawn from p(z).",
    "samples_of_pixels": "Samples x ~ p(x), every value drawn.",
    "drawings": "Test drawings, and draws of the model at three temperatures.",
    "drawings_in_time": "Draws of the model at temperature 0.5, a stroke after the other.",
    "manifold": "Means of p(x|z) on an even grid of the two latent dimensions.",
    "manifold_quantiles": "Means of p(x|z) at the quantiles of p(z).",
    "reconstructions": "Test images and their reconstructions from the mean code.",
    "reconstruction_samples": "Test images and reconstructions from several draws of q(z|x).",
    "interpolations": "From one test image to another, along the chord and along the arc between their codes.",
    "latents": "Codes of the test set.",
    "traversals": "Means of p(x|z) as one latent dimension changes, a row for each dimension.",
    "nearest": "Samples and the nearest training images.",
    "best_and_worst": "The test images with the highest and with the lowest log p(x).",
    "components": "The components of the mixture.",
    "rate_per_dimension": "The rate KL(q(z|x) ‖ p(z)) of each latent dimension.",
    "rate_per_level": "The rate of each level of the hierarchy, given the levels above it.",
}
DRAWN_IN_PAGE = ("training",)  # the page draws these curves itself
LEAST_SCALE = 0.15  # of figures that do not fit
LARGEST_WHOLE, TEXT_LINES = 200_000, 40
WHOLE = (("sounds/*.wav", "sound", "audio/wav"), ("*_in_time.svg", "image", "image/svg+xml"))


class Part(NamedTuple):
    """A figure, a text or a sound of a page."""

    name: str
    kind: str  # "image", "text" or "sound"
    content: str  # a data URI, or the text
    caption: str


def figures(folder, room) -> tuple[list[Part], int]:
    """Return the parts that the files of `folder` make, at most `room` bytes, and how many files found no room.

    PNG files are embedded as they are. If they are too large, they are reduced to 256 colours, and then scaled down.
    """
    order = {name: n for n, name in enumerate(FIRST)}
    paths = sorted(folder.glob("*.png"), key=lambda path: (order.get(path.stem, len(order)), path.name))
    paths = [path for path in paths if path.stem not in DRAWN_IN_PAGE]
    texts = [_text(path) for path in sorted(folder.glob("*.txt"))]
    room -= sum(len(part.content) for part in texts)
    whole, left_out = [], 0  # files that are not made smaller
    for pattern, kind, media_type in WHOLE:
        for path in sorted(folder.glob(pattern)):
            uri = _uri(media_type, path.read_bytes())
            if len(uri) > min(LARGEST_WHOLE, room):
                left_out += 1
                continue
            room -= len(uri)
            whole.append(Part(path.stem, kind, uri, CAPTIONS.get(path.stem, path.stem.replace("_", " "))))
    images, missing = _images(paths, room)
    return [*texts, *whole, *images], left_out + missing


def _images(paths, room):
    contents, scale = [path.read_bytes() for path in paths], 1.0
    if _size(contents) > room:
        contents = [_smaller(path.read_bytes(), scale) for path in paths]
    while (size := _size(contents)) > room and scale > LEAST_SCALE:
        scale = max(LEAST_SCALE, 0.95 * scale * math.sqrt(max(room, 1) / size))
        contents = [_smaller(path.read_bytes(), scale) for path in paths]
    parts = []
    for path, content in zip(paths, contents, strict=True):
        if _size([content]) > room:
            continue
        room -= _size([content])
        caption = CAPTIONS.get(path.stem, f"{path.stem.replace('_', ' ').capitalize()}.")
        parts.append(Part(path.stem, "image", _uri("image/png", content), caption))
    return parts, len(paths) - len(parts)


def _size(contents):
    """Return the number of characters of the data URIs of some contents."""
    return sum(4 * ((len(content) + 2) // 3) + 30 for content in contents)


def _smaller(content, scale):
    from PIL import Image  # matplotlib needs it as well

    with Image.open(io.BytesIO(content)) as image:
        image = image.convert("RGB")
        size = [max(1, round(side * scale)) for side in image.size]
        image = image.resize(size, Image.Resampling.LANCZOS) if scale < 1 else image
        file = io.BytesIO()
        image.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(file, "png")
    return file.getvalue()


def _text(path):
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    shown = lines[:TEXT_LINES] + (["..."] if len(lines) > TEXT_LINES else [])
    return Part(path.stem, "text", "\n".join(shown), f"{path.stem.replace('_', ' ').capitalize()}.")


def png(image) -> str:
    """Return an image [H, W, C] of numbers in [0, 1], C = 1, 3 or 4, as a data URI of a PNG."""
    from PIL import Image

    pixels = np.round(255 * np.clip(np.asarray(image, float), 0.0, 1.0)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "png", optimize=True)
    return _uri("image/png", file.getvalue())


def _uri(kind, content):
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
