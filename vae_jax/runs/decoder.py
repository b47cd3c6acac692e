"""The decoder of a trained VAE as a list of layers that a page computes, with the codes that the page shows.

A layer is a dict with the name of its operation `op`. `decode` is what every operation means; `templates/decoder.js`
computes the same in the browser. Weights are stored in float16 if the pixels allow it. `of` compares the pixels with
those of the model, and returns None for a decoder that this list cannot describe.
"""

import base64
import math

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit, softmax

from vae_jax.distributions import (
    Bernoulli,
    Categorical,
    Deterministic,
    DiscretizedLogisticMixture,
    Normal,
)
from vae_jax.evaluation import latents
from vae_jax.networks import layers
from vae_jax.runs import passes, report
from vae_jax.runs.scene import standard_normal_prior, to_unit

MOST_BYTES = 2_200_000  # of the weights as text: a page stays below 3 MB
NEAR = 0.5 / 255  # the largest difference of a pixel from the model's; the browser's rounding comes on top
IMAGES, CODES = 16, 600  # test images to choose from, points in the plane
EXTENT = 3.0  # standard deviations of a standard normal prior that sliders cover
ACTIVATIONS = {
    "relu": lambda h: np.maximum(h, 0.0),
    "elu": lambda h: np.where(h > 0, h, np.expm1(np.minimum(h, 0.0))),
    "leaky_relu": lambda h: np.where(h > 0, h, 0.01 * h),
    "tanh": np.tanh,
    "sigmoid": expit,
    "softplus": lambda h: np.logaddexp(h, 0.0),
    "silu": lambda h: h * expit(h),
    "swish": lambda h: h * expit(h),
    "gelu": lambda h: 0.5 * h * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (h + 0.044715 * h**3))),
    "identity": lambda h: h,
}


def of(experiment, params, num_test=0) -> dict | None:
    """Return what a page needs to decode: layers, latent dimensions by activity, test images and their codes.

    Without the data (`description.stand_in`) there are no images and no codes, and the activity of a dimension is how
    much it changes the decoded image. Returns None for a model that is no VAE or auto-encoder of images with a dense or
    convolutional decoder, is conditional on other things than a class, is too large, or computes other pixels.

    Args:
      experiment: the experiment of the run.
      params: its trained parameters.
      num_test: how many test examples are encoded; 0 for all.
    """
    event, context = experiment.event, experiment.context
    is_image = len(event.shape) == 3 and event.shape[-1] in (1, 3) and not experiment.dataset.encoding
    if experiment.config["family"] not in ("vae", "autoencoder") or not is_image or (context and context.shape != ()):
        return None
    layers, contexts = layers_of(experiment, params)
    if layers is None:
        return None
    has_data = experiment.dataset.stands_for is None
    test = jax.tree.map(np.asarray, report.test_examples(experiment, num_test)) if has_data else None
    dim = experiment.config["model"]["latent_dim"]
    means = np.zeros((0, dim)) if test is None else np.asarray(latents.posterior_means(experiment.model, params, test))
    label = experiment.dataset.test.label if has_data else None
    codes = _Codes(means, None if label is None else label[: len(means)])
    is_standard = standard_normal_prior(experiment, params) is not None
    z, classes = _trial(codes.means, dim, 0 if context is None else context.support.num_levels)
    expected = _pixels(experiment, params, z, classes)
    stored = _stored(layers, z, contexts[classes] if context else None, expected)
    if stored is None:
        return None
    activity, unit = _activity(experiment, params, test, layers, contexts)
    order = np.argsort(-activity, kind="stable")
    plane = np.sort(order[:2])
    low, high = _range(codes.means, dim, is_standard)
    names = experiment.dataset.class_names
    number = experiment.dataset.num_classes or 0
    return {
        "size": list(event.shape),
        **stored,
        "contexts": None if context is None else np.round(contexts, 6).tolist(),
        "classes": [str(name) for name in (names or range(number))],
        "activity": [round(float(value), 4) for value in activity],
        "activity_unit": unit,
        "order": order.tolist(),
        "plane": plane.tolist(),
        "low": low.round(3).tolist(),
        "high": high.round(3).tolist(),
        "start": (np.zeros(dim) if is_standard or not len(codes.means) else codes.means.mean(0)).round(4).tolist(),
        "is_standard": is_standard,
        "images": [] if test is None else codes.images(to_unit(experiment), test["x"]),
        "codes": codes.points(plane),
    }


def decode(layers, z, context=None):
    """Return the pixels [N, H W C] of the codes `z` [N, D]; float64, between 0 and 1.

    Args:
      layers: the layers.
      z: the codes.
      context: the vectors [N, F] that "join" appends.
    """
    return np.clip(_run(layers, z, context), 0.0, 1.0)


def _run(layers, h, context=None):
    h = np.asarray(h, np.float64)
    for layer in layers:
        h = _OPERATIONS[layer["op"]](h, layer, context)
    return h


def _dense(h, layer, context):
    return h @ layer["kernel"].astype(np.float64) + layer["bias"]


def _gate(h, layer, context):
    value, gate = np.split(h, 2, axis=-1)
    return ACTIVATIONS[layer["name"]](value) * expit(gate)


def _up(h, layer, context):
    """Return the transposed convolution: pixel [h, w] adds x[h, w] K[i, j] at [s h + i - p, s w + j - p]."""
    height, width, stride = layer["height"], layer["width"], layer["stride"]
    kernel = layer["kernel"].astype(np.float64)
    size, pad = len(kernel), (len(kernel) - stride) // 2
    x = h.reshape(len(h), height, width, -1)
    y = np.zeros((len(h), stride * height + 2 * pad, stride * width + 2 * pad, kernel.shape[-1]))
    for i, j in np.ndindex(size, size):
        y[:, i : i + stride * height : stride, j : j + stride * width : stride] += x @ kernel[i, j]
    return (y[:, pad : pad + stride * height, pad : pad + stride * width] + layer["bias"]).reshape(len(h), -1)


def _mixture(h, layer, context):
    """Return Σ_m π_m μ_m, from -1 to 1, as a number from 0 to 1; logits and means of a pixel stand side by side."""
    logits, locs = np.split(h.reshape(len(h), -1, 2 * layer["parts"]), 2, axis=-1)
    return (np.sum(softmax(logits, axis=-1) * locs, axis=-1) + 1.0) / 2.0


def _expected(h, layer, context):
    """Return Σ_v v p(v) / (V - 1) from the V logits of a pixel."""
    p = softmax(h.reshape(len(h), -1, layer["parts"]), axis=-1)
    return p @ np.linspace(0.0, 1.0, layer["parts"])


_OPERATIONS = {
    "dense": _dense,
    "act": lambda h, layer, context: ACTIVATIONS[layer["name"]](h),
    "gate": _gate,
    "join": lambda h, layer, context: np.concatenate([h, context], axis=-1),
    "up": _up,
    "sigmoid": lambda h, layer, context: expit(h),
    "scale": lambda h, layer, context: h * layer["by"] + layer["plus"],
    "mixture": _mixture,
    "expected": _expected,
}


# -------------------------------------------------------------------------------------------------------- the layers


def layers_of(experiment, params):
    """Return the layers, and the vector [C, F] that each class appends to the code (None without classes).

    Returns (None, None) for a network or a likelihood that has no such layers.
    """
    options = experiment.config["model"]
    network, tree = options["decoder"], params["decoder"].get("params")
    if tree is None or options.get("tied") or network.get("activation", "relu") not in ACTIVATIONS:
        return None, None
    classes = experiment.context.support.num_levels if experiment.context else 0
    body = {"mlp": _mlp, "conv_decoder": _conv}.get(network["name"])
    if body is None:
        return None, None
    tree = jax.tree.map(np.asarray, tree)
    described, contexts = body(network, tree, experiment.event.shape, np.eye(classes) if classes else None)
    head = _head(experiment, params, described[-1]["bias"].size, described[-1]["op"])
    if head is None:
        return None, None
    columns, ending = head
    described[-1] |= {name: described[-1][name][..., columns] for name in ("kernel", "bias")}
    return [*described, *ending], contexts


def _mlp(network, tree, shape, contexts):
    """Return the layers of `networks.mlp`, and the contexts after the branch that processes them."""
    described, branch = layers.mlp(network, tree, context=contexts is not None)
    return described, _run(branch, contexts) if branch else contexts


def _conv(network, tree, shape, contexts):
    """Return the layers of `networks.conv_decoder`, and the contexts as they are."""
    return layers.conv_decoder(network, tree, shape, context=contexts is not None), contexts


def _head(experiment, params, outputs, last):
    """Return which outputs of the last layer the mean of p(x|z) needs, and the layers that compute it from them.

    Args:
      experiment: the experiment of the run.
      params: its trained parameters.
      outputs: the number of outputs of the last layer: for a convolution, those of one pixel.
      last: the operation of the last layer.

    Returns None for a distribution whose mean is no simple function of the outputs.
    """
    event, dim = experiment.event, experiment.config["model"]["latent_dim"]
    context = None if experiment.context is None else jnp.int32(0)
    likelihood = experiment.model.latent.likelihood
    p = jax.eval_shape(lambda params: likelihood(params, jnp.zeros(dim), context), params)
    each = event.shape[-1] if last == "up" else math.prod(event.shape)  # values among the outputs
    to_unit = {"op": "scale", "by": 1.0 / experiment.dataset.max_value, "plus": 0.0}
    is_levels = experiment.config["data"]["transform"] == "levels"
    if isinstance(p, Bernoulli):
        return _columns(each, 1, 1), [{"op": "sigmoid"}]
    if isinstance(p, Normal | Deterministic):
        return _columns(each, 1, 1), [to_unit] if is_levels else []
    if isinstance(p, Categorical):
        levels = p.logits.shape[-1]
        return _columns(each, levels, 1), [{"op": "expected", "parts": levels}]
    if isinstance(p, DiscretizedLogisticMixture):
        parts = p.locs.shape[-1]
        if outputs == 2 * each * parts:  # a mean and a scale, no weights
            return _columns(each, 1, 1), [{"op": "scale", "by": 0.5, "plus": 0.5}]
        return _columns(each, parts, 2), [{"op": "mixture", "parts": parts}]
    return None


def _columns(each, parts, arrays):
    """Return the outputs that hold the first `arrays` arrays [each, parts], with those of a value side by side."""
    index = np.arange(arrays * each * parts).reshape(arrays, each, parts)
    return np.moveaxis(index, 0, 1).ravel()


# ------------------------------------------------------------------------------------------------- the stored weights


def _stored(layers, z, contexts, expected):
    """Return the layers with their weights as text, in the fewest bits with which the pixels are those `expected`."""
    for bits, dtype in ((16, np.float16), (32, np.float32)):
        with np.errstate(over="ignore"):
            rounded = [_map_weights(lambda a, dtype=dtype: np.asarray(a, dtype), layer) for layer in layers]
        with np.errstate(all="ignore"):
            error = np.max(np.abs(decode(rounded, z, contexts) - expected), initial=0.0)
        size = sum(a.nbytes for layer in rounded for a in layer.values() if isinstance(a, np.ndarray)) * 4 // 3
        if size <= MOST_BYTES and error <= NEAR:  # not so for NaN
            return {"bits": bits, "layers": [_described(layer) for layer in rounded]}
    return None


def _map_weights(function, layer):
    return {name: function(value) if isinstance(value, np.ndarray) else value for name, value in layer.items()}


def _described(layer):
    shape = {"shape": list(layer["kernel"].shape)} if "kernel" in layer else {}
    return shape | _map_weights(
        lambda a: base64.b64encode(a.astype(a.dtype.newbyteorder("<")).tobytes()).decode(), layer
    )


def _pixels(experiment, params, z, classes):
    """Return the model's pixels in [0, 1], [N, H W C]."""
    mean = passes.decode(experiment.model.latent, params, z, classes if experiment.context else None)
    return to_unit(experiment)(mean).reshape(len(z), -1)


def _trial(means, dim, num_classes):
    """Return codes and classes for a comparison: codes of test images, and draws of a wide normal."""
    rng = np.random.default_rng(0)
    z = np.concatenate([means[:16], 1.5 * rng.normal(size=(16, dim))]).astype(np.float32)
    return z, np.arange(len(z)) % max(num_classes, 1)


# --------------------------------------------------------------------------------------------------------- the codes


class _Codes:
    """The codes of the test images, and their classes."""

    def __init__(self, means, label):
        finite = np.isfinite(means).all(axis=1)
        self.index, self.means = np.flatnonzero(finite), means[finite]
        self.label = None if label is None else np.asarray(label)[finite]

    def images(self, to_unit, x):
        """Return test images as text with their codes, the classes in turn."""
        order = np.arange(len(self.means))
        if self.label is not None:  # the first of each class, the second of each class, ...
            turn = np.zeros(len(order), int)
            for name in np.unique(self.label):
                turn[self.label == name] = np.arange(np.sum(self.label == name))
            order = np.lexsort((self.label, turn))
        chosen = order[:IMAGES]
        pixels = np.round(255 * np.nan_to_num(to_unit(np.asarray(x)[self.index[chosen]]))).astype(np.uint8)
        return [
            {
                "pixels": base64.b64encode(image.tobytes()).decode(),
                "z": self.means[n].astype(float).round(4).tolist(),
                "label": None if self.label is None else int(self.label[n]),
            }
            for n, image in zip(chosen, pixels, strict=True)
        ]

    def points(self, plane):
        """Return (z_i, z_j, class) of some images in the plane of two dimensions."""
        chosen = np.linspace(0, len(self.means) - 1, min(CODES, len(self.means))).astype(int)
        label = np.zeros(len(self.means), int) if self.label is None else self.label
        return [[*(round(float(self.means[n, i]), 3) for i in plane), int(label[n])] for n in chosen]


def _activity(experiment, params, test, layers, contexts):
    """Return how active every latent dimension is [D], and the unit of these numbers.

    This is the mean KL from the prior, in nats; without it, the variance of the codes; without data, the mean change of
    a pixel, of 255, if the dimension goes from -1 to 1.
    """
    dim = experiment.config["model"]["latent_dim"]
    if test is None:
        context = None if contexts is None else np.repeat(contexts[:1], dim, axis=0)
        ends = [decode(layers, sign * np.eye(dim), context) for sign in (1.0, -1.0)]
        return 255 * np.mean(np.abs(ends[0] - ends[1]), axis=-1), "of 255"
    some = jax.tree.map(lambda a: a[: report.MUTUAL_INFORMATION_EXAMPLES], test)
    try:
        return np.asarray(latents.rate_per_dimension(experiment.model, params, some)), "nats"
    except TypeError:
        means = np.asarray(latents.posterior_means(experiment.model, params, test))
        return np.var(means, axis=0), "variance"


def _range(means, dim, is_standard):
    """Return the ends of the sliders [D] each: they contain 99 % of the codes, and a standard normal prior."""
    low, high = np.full(dim, -EXTENT), np.full(dim, EXTENT)
    if len(means):
        ends = np.quantile(means, [0.005, 0.995], axis=0)
        margin = 0.1 * np.maximum(ends[1] - ends[0], 1e-3)
        ends = ends + np.stack([-margin, margin])
        low, high = (np.minimum(low, ends[0]), np.maximum(high, ends[1])) if is_standard else ends
    return low, high
