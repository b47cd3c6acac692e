"""Judges of faces by published networks: P(happy), 68 landmarks, and how far the head is turned.

The networks are those of face-api.js, trained on photographs of many persons. Their weights (MIT licence) are not part
of this library. Download them, and give the folder `package/model` of the archive to `load`:

    npm pack @vladmandic/face-api@1.7.15 && tar xzf vladmandic-face-api-1.7.15.tgz

Source of the equations: `src/faceFeatureExtractor`, `src/faceProcessor` and `src/dom/NetInput.ts` of that package. With
W the fully connected layer, the outputs [N, O] are

    x  = (resize(pad(image)) - mean RGB) / 255           [N, 112, 112, 3]
    f  = average of dense₃(dense₂(dense₁(dense₀(x))))    [N, 256]
    y  = W f + b                                         O = 7 logits of expressions, or 68 pairs (column, row)

A dense block of four convolutions, the first with stride 2, is h₀ = relu(c₀(x)), hₖ = relu(h₀ + Σ_{j≤k} uⱼ) with
uₖ = cₖ(hₖ₋₁), k = 1, 2, 3. All are separable, except the first of the network.
"""

import itertools
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

EXPRESSIONS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
OUTPUTS = {"face_expression_model": len(EXPRESSIONS), "face_landmark_68_model": 2 * 68}  # by the name of the files
NOSE_TIP, EYE_CORNERS = 30, (36, 45)  # landmarks, from 0; the outer corners, left and right in the image
SIZE = 112  # of the square that the networks see
MEAN_RGB = 122.782, 117.001, 104.298
CHUNK = 64  # images of one call
SOURCE = "run `npm pack @vladmandic/face-api@1.7.15`, unpack the archive, and give its folder package/model"


def load(folder, name):
    """Return the weights {name: float32 array} of a network. A weight of bytes q is scale · q + min.

    Args:
      folder: of NAME-weights_manifest.json and of the file of bytes that it names.
      name: `face_expression_model` or `face_landmark_68_model`.

    Raises:
      ValueError: if a file is missing, is damaged, or holds another network.
    """
    if name not in OUTPUTS:
        raise ValueError(f"name must be one of {', '.join(OUTPUTS)}, got {name!r}")
    manifest = Path(folder) / f"{name}-weights_manifest.json"
    try:
        weights = {}
        for group in json.loads(manifest.read_text()):
            content = b"".join((manifest.parent / path).read_bytes() for path in group["paths"])
            for entry in group["weights"]:
                weights[entry["name"]], content = _read(entry, content)
            if content:
                raise ValueError(f"{len(content)} bytes too many in {', '.join(group['paths'])}")
        _check(weights, OUTPUTS[name])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"no weights of {name} in {manifest}: {type(error).__name__}: {error}; {SOURCE}") from error
    return weights


def _read(entry, content):
    """Return the array of one entry of a manifest, and the bytes that follow it."""
    quantized, shape = entry.get("quantization"), entry["shape"]
    dtype = (quantized or entry)["dtype"]
    if dtype not in (("uint8", "uint16") if quantized else ("float32",)):
        raise ValueError(f"{entry['name']} has the unknown type {dtype}")
    dtype = np.dtype(dtype).newbyteorder("<")
    size = math.prod(shape) * dtype.itemsize
    if len(content) < size:
        raise ValueError(f"the bytes end within {entry['name']}")
    values = np.frombuffer(content[:size], dtype).reshape(shape)
    if quantized:
        values = quantized["scale"] * values.astype(np.float64) + quantized["min"]
    return values.astype(np.float32), content[size:]


def _check(weights, outputs):
    """Raise ValueError unless the names and shapes are those of the network. Widths are free."""
    widths = [3, *(len(weights[f"dense{block}/conv0/bias"]) for block in range(4))]
    expected = {"fc/weights": (widths[-1], outputs), "fc/bias": (outputs,)}
    for block, (before, width) in enumerate(itertools.pairwise(widths)):
        for conv in range(4):
            layer, channels = f"dense{block}/conv{conv}", width if conv else before
            expected[f"{layer}/bias"] = (width,)
            if block == conv == 0:
                expected[f"{layer}/filters"] = (3, 3, channels, width)
            else:
                expected[f"{layer}/depthwise_filter"] = (3, 3, channels, 1)
                expected[f"{layer}/pointwise_filter"] = (1, 1, channels, width)
    shapes = {name: values.shape for name, values in weights.items()}
    if names := sorted(name for name, _ in shapes.items() ^ expected.items()):
        raise ValueError(f"another network: {', '.join(names[:3])} differ in name or shape")


def expressions(weights, images):
    """Return the probabilities [N, 7] of EXPRESSIONS. For `images` see `happy`."""
    return np.asarray(jax.nn.softmax(_outputs("face_expression_model", weights, images)))


def landmarks(weights, images):
    """Return 68 points (column, row) of every face [N, 68, 2], in pixels. For `images` see `happy`.

    The left edge of the image is column 0, and its right edge is column W. The points are numbered as by dlib, from 0.
    """
    outputs = _outputs("face_landmark_68_model", weights, images)
    rows, columns = np.shape(images)[1:3]
    side = max(rows, columns)
    return side * outputs.reshape(-1, 68, 2) - 0.5 * np.array([side - columns, side - rows])


def happy(weights):
    """Return a judge: images -> P(happy) [N].

    The images are [N, H, W], [N, H, W, 1] or [N, H, W, 3], cut to one upright face, with values from 0 to 255.

    Args:
      weights: of `face_expression_model`.
    """
    return lambda images: expressions(weights, images)[:, EXPRESSIONS.index("happy")]


def turned(weights):
    """Return a judge: images -> `yaw` [N] of their landmarks. For the images see `happy`.

    Args:
      weights: of `face_landmark_68_model`.
    """
    return lambda images: yaw(landmarks(weights, images))


def yaw(points):
    """Return how far the head is turned [N]: by how much the tip of the nose is right of the middle of the eyes.

    The unit is the distance of the outer corners of the eyes, and the direction is that from one to the other. A head
    that is only tilted therefore has yaw 0. The mirror image has the opposite sign, as for `judges.yaw`.

    Args:
      points: [N, 68, 2], as of `landmarks`.
    """
    left, right = (points[:, corner] for corner in EYE_CORNERS)
    across = right - left
    return np.sum((points[:, NOSE_TIP] - 0.5 * (left + right)) * across, axis=1) / np.sum(across**2, axis=1)


def _outputs(name, weights, images):
    if len(weights["fc/bias"]) != OUTPUTS[name]:
        raise ValueError(f"weights of {name} are required, got {len(weights['fc/bias'])} outputs, not {OUTPUTS[name]}")
    images = np.asarray(images)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
        raise ValueError(f"images [N, H, W], [N, H, W, 1] or [N, H, W, 3] are required, got {list(images.shape)}")
    if not (images.min() >= 0 and images.max() <= 255):
        raise ValueError(f"values from 0 to 255 are required, got {images.min()} to {images.max()}")
    chunks = np.split(images, range(CHUNK, len(images), CHUNK))
    return np.concatenate([_forward(weights, chunk.astype(np.float32)) for chunk in chunks])


@jax.jit
def _forward(weights, images):
    rows, columns = (_resize(size, max(images.shape[1:3])) for size in images.shape[1:3])
    x = jnp.einsum("nhwc,rh,sw->nrsc", images, rows, columns, precision="highest")
    x = (x - np.array(MEAN_RGB, np.float32).reshape(1, 1, 1, 3)) / 255.0
    for block in range(4):
        total = jax.nn.relu(_convolve(weights, f"dense{block}/conv0", x, stride=2))
        for conv in range(1, 4):
            total += _convolve(weights, f"dense{block}/conv{conv}", jax.nn.relu(total), stride=1)
        x = jax.nn.relu(total)
    return jnp.dot(x.mean(axis=(1, 2)), weights["fc/weights"], precision="highest") + weights["fc/bias"][None]


def _convolve(weights, layer, x, stride):
    options = {"padding": "SAME", "dimension_numbers": ("NHWC", "HWIO", "NHWC"), "precision": "highest"}
    if f"{layer}/filters" in weights:
        x = lax.conv_general_dilated(x, weights[f"{layer}/filters"], (stride, stride), **options)
    else:
        depthwise = weights[f"{layer}/depthwise_filter"].transpose(0, 1, 3, 2)
        x = lax.conv_general_dilated(x, depthwise, (stride, stride), feature_group_count=x.shape[3], **options)
        x = jnp.einsum("nrsc,cd->nrsd", x, weights[f"{layer}/pointwise_filter"][0, 0], precision="highest")
    return x + weights[f"{layer}/bias"].reshape(1, 1, 1, -1)


def _resize(size, side):
    """Return the matrix [112, size] that pads with zeros to `side`, the image in the middle, and resizes linearly.

    Row r reads place r · side / 112 of the padded image, without half a pixel, as the original does.
    """
    place = np.arange(SIZE) * (side / SIZE)
    hat = np.maximum(0.0, 1.0 - np.abs(place[:, None] - np.arange(side)))
    hat[:, -1] += np.maximum(0.0, place - (side - 1))  # beyond the last pixel, its value
    before = (side - size) // 2
    return hat[:, before : before + size].astype(np.float32)
