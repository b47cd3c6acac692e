"""Published networks of faces: against a slow transcription and numbers of the original; files that are not theirs."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from vae_jax.evaluation import face_networks

MODEL = Path(__file__).parents[2] / "package" / "model"  # where `npm pack` and `tar` leave it in a checkout
NAMES = ["face_expression_model", "face_landmark_68_model"]
WIDTHS = [3, 2, 3, 4, 6]


def random_weights(name, seed=0):
    rng, weights = np.random.default_rng(seed), {}
    for block, (before, width) in enumerate(itertools.pairwise(WIDTHS)):
        for conv in range(4):
            layer, channels = f"dense{block}/conv{conv}", width if conv else before
            if block == conv == 0:
                weights[f"{layer}/filters"] = rng.normal(size=(3, 3, channels, width)) * 0.4
            else:
                weights[f"{layer}/depthwise_filter"] = rng.normal(size=(3, 3, channels, 1)) * 0.4
                weights[f"{layer}/pointwise_filter"] = rng.normal(size=(1, 1, channels, width))
            weights[f"{layer}/bias"] = rng.normal(size=width) * 0.2
    weights["fc/weights"] = rng.normal(size=(WIDTHS[-1], face_networks.OUTPUTS[name])) * 0.02
    weights["fc/bias"] = rng.normal(size=face_networks.OUTPUTS[name])
    return {key: values.astype(np.float32) for key, values in weights.items()}


def write(folder, name, weights, kinds=("float32",)):
    """Write the two files of a network. The types of its weights go round `kinds`. Return the path of the manifest."""
    entries, content = [], b""
    for i, (key, values) in enumerate(weights.items()):
        entry = {"name": key, "shape": list(values.shape), "dtype": "float32"}
        if (kind := kinds[i % len(kinds)]) != "float32":
            low, scale = float(values.min()), float(np.ptp(values)) / np.iinfo(kind).max or 1.0
            entry["quantization"] = {"dtype": kind, "scale": scale, "min": low}
            values = np.round((values - low) / scale)
        content += values.astype(kind).tobytes()
        entries.append(entry)
    manifest = folder / f"{name}-weights_manifest.json"
    manifest.write_text(json.dumps([{"weights": entries, "paths": [f"{name}.bin"]}]))
    (folder / f"{name}.bin").write_bytes(content)
    return manifest


def transcribed(weights, image):
    """Return the features of one image [H, W, C], pixel by pixel, from the TypeScript sources."""
    height, width, _ = image.shape
    image = np.broadcast_to(image, (height, width, 3)).astype(float)
    appended = math.floor(abs(height - width) * 0.5 + 0.5)  # Math.round
    border = [(abs(height - width) - appended, appended), (0, 0)]
    padded = np.pad(image, [*(border if height < width else border[::-1]), (0, 0)])
    side, x = len(padded), np.zeros((112, 112, 3))
    for r in range(112):
        for c in range(112):
            y, z = r * side / 112, c * side / 112
            top, left = math.floor(y), math.floor(z)
            bottom, right = min(side - 1, math.ceil(y)), min(side - 1, math.ceil(z))
            above = padded[top, left] + (padded[top, right] - padded[top, left]) * (z - left)
            below = padded[bottom, left] + (padded[bottom, right] - padded[bottom, left]) * (z - left)
            x[r, c] = above + (below - above) * (y - top)
    x = (x - [122.782, 117.001, 104.298]) / 255

    def convolve(x, layer, stride):
        size, before = len(x) // stride, 1 if stride == 1 else 0
        x = np.pad(x, ((before, 1), (before, 1), (0, 0)))
        patch = lambda r, c: x[r * stride : r * stride + 3, c * stride : c * stride + 3]  # noqa: E731
        if f"{layer}/filters" in weights:
            kernel = weights[f"{layer}/filters"]
            pixel = lambda p: np.einsum("abc,abcd->d", p, kernel)  # noqa: E731
        else:
            kernel, mix = weights[f"{layer}/depthwise_filter"][..., 0], weights[f"{layer}/pointwise_filter"][0, 0]
            pixel = lambda p: (p * kernel).sum(axis=(0, 1)) @ mix  # noqa: E731
        rows = [[pixel(patch(r, c)) for c in range(size)] for r in range(size)]
        return np.array(rows) + weights[f"{layer}/bias"]

    relu = lambda x: np.maximum(x, 0)  # noqa: E731
    for block in range(4):
        out1 = relu(convolve(x, f"dense{block}/conv0", 2))
        out2 = convolve(out1, f"dense{block}/conv1", 1)
        out3 = convolve(relu(out1 + out2), f"dense{block}/conv2", 1)
        out4 = convolve(relu(out1 + out2 + out3), f"dense{block}/conv3", 1)
        x = relu(out1 + out2 + out3 + out4)
    assert x.shape == (7, 7, WIDTHS[-1])
    return x.mean(axis=(0, 1))


@pytest.mark.parametrize("kinds", [("float32",), ("uint8",), ("uint8", "float32", "uint16")], ids="-".join)
def test_weights_are_read_as_written(tmp_path, kinds):
    weights = random_weights(NAMES[0])
    write(tmp_path, NAMES[0], weights, kinds)
    read = face_networks.load(tmp_path, NAMES[0])
    assert list(read) == list(weights)
    for i, (key, values) in enumerate(weights.items()):
        kind = kinds[i % len(kinds)]
        step = 0.0 if kind == "float32" else np.ptp(values) / np.iinfo(kind).max
        assert read[key].dtype == np.float32
        np.testing.assert_allclose(read[key], values, atol=0.5 * step * (1 + 1e-3), rtol=1e-6 * (step > 0))


@pytest.mark.parametrize("shape", [(28, 20), (29, 20, 1), (17, 30, 3), (112, 112, 3), (150, 111, 1)], ids=str)
def test_outputs_are_those_of_a_slow_transcription(shape):
    image = np.random.default_rng(1).uniform(0, 255, size=(1, *shape))
    of_expressions, of_landmarks = (random_weights(name) for name in NAMES)  # the convolutions are the same
    features = transcribed(of_expressions, image.reshape(*image.shape[1:3], -1))

    logits = features @ of_expressions["fc/weights"] + of_expressions["fc/bias"]
    p = np.exp(logits) / np.exp(logits).sum()
    assert 0.01 < p[1] < 0.99
    np.testing.assert_allclose(face_networks.expressions(of_expressions, image), p[None], atol=1e-5)
    np.testing.assert_allclose(face_networks.happy(of_expressions)(image), p[1:2], atol=1e-5)

    side = max(shape[:2])
    points = side * (features @ of_landmarks["fc/weights"] + of_landmarks["fc/bias"]).reshape(1, 68, 2)
    points -= [(side - shape[1]) / 2, (side - shape[0]) / 2]
    np.testing.assert_allclose(face_networks.landmarks(of_landmarks, image), points, atol=1e-4 * side)
    np.testing.assert_allclose(face_networks.turned(of_landmarks)(image), face_networks.yaw(points), rtol=1e-3)


def test_many_images_are_judged_in_chunks(monkeypatch):
    monkeypatch.setattr(face_networks, "CHUNK", 2)
    images = np.random.default_rng(2).integers(256, size=(5, 28, 20, 1), dtype=np.uint8)
    judge = face_networks.happy(random_weights(NAMES[0]))
    np.testing.assert_allclose(judge(images), np.concatenate([judge(images[i : i + 1]) for i in range(5)]), rtol=1e-5)


@pytest.mark.parametrize("shape", [(28, 20), (20, 28), (30, 30)], ids=str)
def test_landmarks_are_in_pixels_of_the_image(shape):
    weights = random_weights(NAMES[1])
    weights["fc/weights"] *= 0
    weights["fc/bias"] = np.full(136, 0.5, np.float32)  # the middle of the square
    points = face_networks.landmarks(weights, np.zeros((1, *shape)))
    np.testing.assert_allclose(points[0], np.tile([shape[1] / 2, shape[0] / 2], (68, 1)), atol=1e-5)


def test_yaw_of_mirrored_tilted_and_scaled_landmarks():
    points = np.zeros((1, 68, 2))
    points[0, [36, 45, 30]] = [4.0, 8.0], [14.0, 8.0], [10.5, 15.0]
    assert face_networks.yaw(points) == pytest.approx([0.15])  # 1.5 columns of 10, to the right
    mirrored = points * [-1.0, 1.0] + [20.0, 0.0]
    mirrored[0, [36, 45]] = mirrored[0, [45, 36]]
    assert face_networks.yaw(mirrored) == pytest.approx([-0.15])
    turn = np.array([[np.cos(0.3), np.sin(0.3)], [-np.sin(0.3), np.cos(0.3)]])
    assert face_networks.yaw(3.0 * points @ turn + 7.0) == pytest.approx([0.15])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((28, 20)), r"\[N, H, W, 3\] are required, got \[28, 20\]"),
        (np.zeros((2, 28, 20, 4)), r"got \[2, 28, 20, 4\]"),
        (np.zeros((0, 28, 20, 1)), r"got \[0, 28, 20, 1\]"),
        (np.full((1, 28, 20), 256.0), r"from 0 to 255 are required, got 256.0"),
        (np.full((1, 28, 20), np.nan), r"from 0 to 255 are required, got nan"),
    ],
)
def test_images_that_cannot_be_judged(images, message):
    with pytest.raises(ValueError, match=message):
        face_networks.happy(random_weights(NAMES[0]))(images)


def edit(change):
    """Return a function that changes the first group of a manifest."""

    def damage(manifest):
        groups = json.loads(manifest.read_text())
        change(groups[0])
        manifest.write_text(json.dumps(groups))

    return damage


def resize(change):
    def damage(manifest):
        binary = manifest.with_name(f"{NAMES[0]}.bin")
        content = binary.read_bytes()
        binary.write_bytes(content + bytes(change) if change > 0 else content[:change])

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (Path.unlink, "FileNotFoundError"),
        (lambda m: m.with_name(f"{NAMES[0]}.bin").unlink(), "FileNotFoundError"),
        (lambda m: m.write_text("<html>"), "JSONDecodeError"),
        (lambda m: m.write_text('{"weights": 3}'), "TypeError"),
        (lambda m: m.write_bytes(b"\xff\xfe\x00"), "UnicodeDecodeError"),
        (lambda m: m.write_text('[{"weights": [3], "paths": []}]'), "AttributeError"),
        (lambda m: m.write_text("[]"), "KeyError: 'dense0/conv0/bias'"),
        (resize(-1), "the bytes end within fc/bias"),
        (resize(5), "5 bytes too many"),
        (
            edit(lambda group: group["weights"][0].update(dtype="int32")),
            "dense0/conv0/filters has the unknown type int32",
        ),
        (edit(lambda group: group["weights"][0].update(name="other")), "another network: dense0/conv0/filters, other"),
        (edit(lambda group: group["weights"][0].update(shape=[3, 3, 2, 3])), "another network: dense0/conv0/filters"),
        (
            lambda m: write(m.parent, NAMES[0], random_weights(NAMES[1])),
            "another network: fc/bias, fc/bias, fc",
        ),
    ],
)
def test_files_that_are_missing_damaged_or_of_another_network(tmp_path, damage, message):
    damage(write(tmp_path, NAMES[0], random_weights(NAMES[0])))
    with pytest.raises(ValueError, match=rf"no weights of {NAMES[0]} in .*{message}.*npm pack"):
        face_networks.load(tmp_path, NAMES[0])


@pytest.mark.parametrize(("judge", "required", "other"), [("happy", *NAMES), ("turned", *NAMES[::-1])])
def test_weights_of_the_other_network_are_refused(judge, required, other):
    with pytest.raises(ValueError, match=f"weights of {required} are required"):
        getattr(face_networks, judge)(random_weights(other))(np.zeros((1, 28, 20)))


def test_name_of_an_unknown_network(tmp_path):
    with pytest.raises(ValueError, match=r"name must be one of face_expression_model, face_landmark_.*'age'"):
        face_networks.load(tmp_path, "age")


@pytest.mark.skipif(not MODEL.is_dir(), reason="the weights of face-api.js are not unpacked in package/model")
def test_published_weights_give_the_numbers_of_the_original():
    rows, columns, channels = np.mgrid[:28, :20, :3]
    image = np.round(127.5 * (1 + np.sin(0.3 * rows + channels) * np.cos(0.5 * columns)))[None]
    # From dist/face-api.esm.js of version 1.7.15, in node 20 with tfjs' CPU backend.
    p = [0.28947619, 0.00251702, 0.52824563, 0.00663283, 0.02228949, 0.00132795, 0.14951091]
    found = face_networks.expressions(face_networks.load(MODEL, NAMES[0]), image)
    np.testing.assert_allclose(found[0], p, atol=1e-5)
    points = [[0.65017259, 0.57956725], [0.66015512, 0.43996230], [0.44105500, 0.41846195], [0.55233252, 0.41226748]]
    found = face_networks.landmarks(face_networks.load(MODEL, NAMES[1]), image)
    np.testing.assert_allclose(found[0, [8, 30, 36, 45]] / [20, 28], points, atol=1e-5)
