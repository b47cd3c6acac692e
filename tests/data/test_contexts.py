"""Four kinds of context, from a data set to the batch: the same resident, streamed, shared by processes, or whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax import spec
from vae_jax.data import contexts, pipeline, reading, sources, text, transforms
from vae_jax.data.values import SPLITS, Dataset, Split, event_of
from vae_jax.runs import build
from vae_jax.spec import BadOption
from vae_jax.support import Binary, Levels, Real, Tokens, Unit

SIZE, BATCH = 23, 4


def dataset(x, max_value, context=None, labels=False, **fields):
    """`x` as all three splits; example i has the label i % 5."""
    label = np.arange(len(x), dtype=np.int32) % 5 if labels else None
    return Dataset("toy", *[Split(x, label, context)] * 3, max_value, 5 if labels else None, **fields)


def images(shape=(4, 6, 1)):
    return np.random.default_rng(0).integers(256, size=(SIZE, *shape), dtype=np.uint8)


def vectors():
    return np.random.default_rng(1).normal(size=(SIZE, 3))


def series():
    return np.random.default_rng(2).integers(256, size=(SIZE, 10), dtype=np.uint8)


def sentences():
    """Rows of 1 to 9 tokens of a vocabulary of 20, and <eos>."""
    rng = np.random.default_rng(3)
    long = np.arange(10) < rng.integers(1, 10, size=SIZE)[:, None]
    x = np.where(long, rng.integers(3, 20, size=long.shape), text.PAD).astype(np.int32)
    x[np.arange(SIZE), long.sum(1)] = text.EOS
    return x


def of_text(x):
    vocabulary = text.Vocabulary((*text.SPECIAL, *map(str, range(17))), "word")
    return dataset(x, 19, vocabulary=vocabulary)


def blocks(x, size):
    """The mean of each block, in NumPy."""
    (h, w), (height, width) = size, x.shape[1:3]
    rows = [x[:, i * height // h : (i + 1) * height // h] for i in range(h)]
    return np.stack(
        [np.stack([r[:, :, j * width // w : (j + 1) * width // w].mean((1, 2)) for j in range(w)], 1) for r in rows], 1
    )


# name: the data, the transform, the options, and from what the transform returns the x and the context of all examples
CASES = {
    "label": (dataset(images(), 255, labels=True), "binarize", {"name": "label"}, lambda x: (x, np.arange(SIZE) % 5)),
    "vector": (dataset(images(), 255, vectors()), "levels", {"name": "vector"}, lambda x: (x, vectors())),
    "stored image": (
        dataset(images(), 255, images((2, 3, 3))),
        "dequantize",
        {"name": "image"},
        lambda x: (x, images((2, 3, 3))),
    ),
    "reduced image": (
        dataset(images(), 255),
        "levels",
        {"name": "image", "size": (2, 3)},
        lambda x: (x, blocks(x, (2, 3))),
    ),
    "reduced bits": (
        dataset(images(), 255),
        "binarize",
        {"name": "image", "size": (1, 2)},
        lambda x: (x, blocks(x, (1, 2))),
    ),
    "prefix of a series": (
        dataset(series(), 255),
        "levels",
        {"name": "prefix", "length": 4},
        lambda x: (x[:, 4:], x[:, :4]),
    ),
    "prefix of tokens": (
        of_text(sentences()),
        "tokens",
        {"name": "prefix", "length": 3},
        lambda x: (x[:, 3:], x[:, :3]),
    ),
}
EVERY = pytest.mark.parametrize("case", CASES)


def built(case):
    data, transform, options, _ = CASES[case]
    return spec.build(contexts, options, data, event_of(data, transform), where="context")


def stream(case, data=None, **options):
    data, transform = data or CASES[case][0], getattr(transforms, CASES[case][1])
    given = {"seed": 0, "batch_size": BATCH, "max_value": data.max_value, **options}
    return pipeline.stream(data.train, transform=transform, conditioning=built(case), **given)


def batches(stream, start, length):
    feed, make = stream.feed(start, length), jax.jit(stream.batch)
    return [jax.tree.map(np.asarray, make(feed, jnp.int32(start + i), i)) for i in range(length)]


@EVERY
def test_a_whole_split_has_its_contexts(case):
    data, transform, _, expected = CASES[case]
    transform = getattr(transforms, transform)
    plain = pipeline.fixed_split(data, "test", transform=transform)["x"]
    batch = pipeline.fixed_split(data, "test", transform=transform, conditioning=built(case))
    x, context = expected(plain)
    np.testing.assert_array_equal(batch["x"], x)
    np.testing.assert_allclose(batch["context"], context, rtol=1e-6)
    assert {type(value) for value in batch.values()} == {np.ndarray}


@EVERY
def test_the_batch_is_what_event_and_context_say(case):
    (event, context, *_), (batch,) = built(case), batches(stream(case), 0, 1)
    assert batch["x"].shape == (BATCH, *event.shape) and batch["context"].shape == (BATCH, *context.shape)
    seen = np.asarray(jax.vmap(context.embed)(batch["context"]))
    if isinstance(context.support, Levels) and context.shape:
        assert seen.min() >= -1 and seen.max() <= 1 and batch["context"].max() < context.support.num_levels
    assert np.issubdtype(seen.dtype, np.floating)


SUPPORTS = {
    "label": ((), Levels(5)),
    "vector": ((3,), Real()),
    "stored image": ((2, 3, 3), Levels(256)),
    "reduced image": ((2, 3, 1), Levels(256)),
    "reduced bits": ((1, 2, 1), Unit()),  # the mean of bits
    "prefix of a series": ((4,), Levels(256)),
    "prefix of tokens": ((3,), Tokens(20)),
}


@EVERY
def test_the_context_is_described(case):
    assert built(case).context[:2] == SUPPORTS[case]
    assert isinstance(built(case).event.support, Binary) == (CASES[case][1] == "binarize")


@EVERY
def test_streamed_batches_are_the_resident_ones(case, tmp_path):
    data = CASES[case][0]
    np.save(tmp_path / "x.npy", data.train.x)
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    mapped = data._replace(train=data.train._replace(x=x))
    resident, streamed = stream(case), stream(case, mapped, memory_limit=0)
    assert (resident.streamed, streamed.streamed) == (False, True)
    for start, length in ((0, 3), (3, 4), (11, 2)):
        for a, b in zip(batches(resident, start, length), batches(streamed, start, length), strict=True):
            jax.tree.map(np.testing.assert_array_equal, a, b)


@EVERY
def test_each_process_reads_the_contexts_of_its_rows(case):
    whole = stream(case, memory_limit=0).feed(2, 3)["stored"]
    rows = [stream(case, memory_limit=0, process=(i, 2)).feed(2, 3)["stored"] for i in range(2)]
    jax.tree.map(lambda a, *b: np.testing.assert_array_equal(np.concatenate(b, axis=1), a), whole, *rows)


def test_stored_contexts_may_be_mapped(tmp_path):
    data, rows = CASES["vector"][0], np.arange(2, 2 * SIZE + 2, 2)
    file = np.zeros((2 * SIZE + 2, 3))
    file[rows] = vectors()
    np.save(tmp_path / "c.npy", file)
    mapped = np.load(tmp_path / "c.npy", mmap_mode="r")
    for context in (mapped[2::2], reading.Rows(mapped, rows)):
        other = data._replace(train=data.train._replace(context=context))
        for limit in (0, 2**20):
            again = batches(stream("vector", other, memory_limit=limit), 0, 2)
            for a, b in zip(batches(stream("vector"), 0, 2), again, strict=True):
                jax.tree.map(np.testing.assert_array_equal, a, b)


def test_contexts_count_as_memory():
    data = CASES["vector"][0]
    assert not stream("vector", memory_limit=data.train.x.nbytes + vectors().nbytes).streamed
    assert stream("vector", memory_limit=data.train.x.nbytes).streamed


def test_a_context_of_float_images_stays_as_it_is():
    stored = np.random.default_rng(0).random((SIZE, 2, 2, 1), np.float32)
    data = dataset(images(), 255, stored)
    given = contexts.image(data, event_of(data, "levels"))
    assert given.context.support == Real()
    batch = pipeline.fixed_split(data, "test", transform=transforms.levels, conditioning=given)
    np.testing.assert_array_equal(given.context.embed(batch["context"]), stored)


def test_buckets_are_by_the_length_of_the_rest():
    long = np.concatenate([sentences()] * 4)
    data = of_text(long)
    given = contexts.prefix(data, event_of(data, "tokens"), length=3)
    options = {"seed": 0, "batch_size": 8, "transform": transforms.tokens, "max_value": 19, "conditioning": given}
    bucketed = pipeline.stream(data.train, buckets=3, **options)
    assert bucketed.lengths[-1] == (long != text.PAD).sum(1).max() - 3 and min(bucketed.lengths) >= 1
    run = jax.jit(bucketed.without_padding(lambda state, batch: (jnp.sum(batch["x"]), {})))
    for batch in batches(bucketed, 0, 6):
        assert run(0, batch)[0] == batch["x"].sum()  # nothing but padding is cut away


def test_without_a_context_the_batch_has_none():
    data = dataset(images(), 255, vectors(), labels=True)
    given = contexts.none(data, event_of(data, "levels"))
    assert given.context is None and given.event.shape == (4, 6, 1)
    assert set(pipeline.fixed_split(data, "valid", transform=transforms.levels, conditioning=given)) == {"x"}


SERIES, IMAGES = dataset(series(), 255), dataset(images(), 255)
GAPS, HOLES = SERIES._replace(missing=True), IMAGES._replace(missing=True)


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        (IMAGES, {"name": "label"}, r"\.name 'label': toy has no labels; set it to 'none', or store labels"),
        (IMAGES, {"name": "vector"}, r"\.name 'vector': toy stores no contexts in its train split; give every `Split`"),
        (IMAGES, {"name": "image"}, r"\.name 'image': toy stores no contexts .* context=\[N, H, W, C\]"),
        (
            dataset(images(), 255, vectors()[:9]),
            {"name": "vector"},
            r"\.name 'vector': the contexts of toy must be \[N, D\], one for each of the 23 examples .* has \[9, 3\]",
        ),
        (dataset(images(), 255, images()), {"name": "vector"}, r"must be \[N, D\]"),
        (dataset(images(), 255, vectors()), {"name": "image"}, r"must be \[N, H, W, C\]"),
        (dataset(images(), 255, images()), {"name": "image", "max_value": 0}, r"\.max_value must be at least 1, got 0"),
        (IMAGES, {"name": "image", "size": (3, 3)}, r"\.size must be \(h, w\), where h divides 4 and w divides 6"),
        (IMAGES, {"name": "image", "size": (2,)}, r"\.size must be \(h, w\), .* got \(2,\)"),
        (IMAGES, {"name": "image", "size": (0, 2)}, r"\.size: each entry must be at least 1, got 0"),
        (SERIES, {"name": "image", "size": (2, 2)}, r"\.size is for images \[H, W, C\], and an example of toy has"),
        (IMAGES, {"name": "prefix", "length": 2}, r"\.name 'prefix' is for sequences \[T\].* take 'image' with a size"),
        (
            HOLES,
            {"name": "image", "size": (2, 2)},
            r"\.name 'image' with a size: toy has missing values, .* use 'none'",
        ),
        (HOLES, {"name": "degraded", "degradation": {"name": "half"}}, r"\.name 'degraded': toy has missing values"),
        (GAPS, {"name": "prefix", "length": 2}, r"\.name 'prefix': toy has missing values"),
        (SERIES, {"name": "prefix"}, r": missing key 'length'"),
        (SERIES, {"name": "prefix", "length": 10}, r"\.length must be between 1 and 9, so that a rest is left, got 10"),
        (SERIES, {"name": "prefix", "length": 0}, r"\.length must be at least 1, got 0"),
        (SERIES, {"name": "class"}, r"\.name: unknown value 'class'"),
        (SERIES, {"name": "none", "length": 3}, r": unknown key 'length'"),
    ],
)
def test_contexts_that_cannot_be_are_refused(data, options, words):
    config = {"data": {"transform": "levels", "context": options}}
    with pytest.raises(BadOption, match=r"^config\.data\.context.*" + words):
        build.conditioning(config, data)


def test_splits_must_store_alike():
    data = dataset(images(), 255, vectors())
    other = data._replace(valid=data.valid._replace(context=vectors()[:, :2]))
    with pytest.raises(BadOption, match=r"of one shape in all splits; its valid split has \[23, 2\]"):
        contexts.vector(other, event_of(other, "levels"))


def test_a_config_builds_streams_and_splits():
    digits = sources.load("digits")
    config = {"data": {"name": "digits", "transform": "dequantize", "context": {"name": "image", "size": (4, 4)}}}
    given = build.conditioning(config, digits)
    assert given.event == ((8, 8, 1), Unit(), False) and given.context[:2] == ((4, 4, 1), Unit())
    for split in SPLITS:
        batch = pipeline.fixed_split(digits, split, transform=transforms.dequantize, conditioning=given)
        np.testing.assert_allclose(batch["context"], blocks(batch["x"], (4, 4)), rtol=1e-5)


DEGRADED = {
    "half": ({"name": "half"}, (4, 6, 1), (4, 6, 2)),
    "low": ({"name": "downsample", "size": (2, 3)}, (2, 3, 1), (2, 3, 1)),
    "jpeg": ({"name": "jpeg", "quality": 20}, (8, 8, 1), (4, 6, 1)),
    "noise": ({"name": "identity", "scale": 0.2}, (4, 6, 1), (4, 6, 1)),
}


@pytest.mark.parametrize("kind", DEGRADED)
def test_a_degraded_image_as_context(kind):
    """The same for every order of the examples; networks see finite numbers, and the mask."""
    degradation, shape, embedded = DEGRADED[kind]
    data = dataset(images(), 255)
    conditioning = contexts.degraded(data, event_of(data, "levels"), degradation=degradation)
    batch = {"x": images().astype(np.float32)}
    y = conditioning.divide(batch)["context"]
    assert y.shape == (SIZE, *shape) and conditioning.context.shape == shape
    backwards = conditioning.divide({"x": batch["x"][::-1]})["context"]
    np.testing.assert_array_equal(backwards[::-1], y)
    seen = jax.vmap(conditioning.context.embed)(y)
    assert seen.shape == (SIZE, *embedded) and bool(jnp.isfinite(seen).all())
    if kind == "half":
        np.testing.assert_array_equal(jnp.isnan(y[0, :, 0, 0]), [False, False, True, True])
        np.testing.assert_array_equal(seen[0, :, 0, 1], [1, 1, 0, 0])
    if kind == "low":
        np.testing.assert_allclose(y, blocks(batch["x"], (2, 3)), rtol=1e-5)
    if kind == "noise":
        np.testing.assert_allclose(jnp.std(y - batch["x"]), 51.0, rtol=0.1)


def test_the_noise_of_an_image_depends_on_its_pixels_alone():
    """And not on the batch."""
    data = dataset(images((28, 28, 1)), 255)
    conditioning = contexts.degraded(data, event_of(data, "levels"), degradation={"name": "identity", "scale": 0.1})
    x = data.train.x[:8]
    together = conditioning.divide({"x": x})["context"]
    alone = [jax.jit(conditioning.divide)({"x": x[n : n + 1]})["context"] for n in range(8)]
    np.testing.assert_allclose(together, jnp.concatenate(alone), atol=1e-3)
    assert not np.allclose(together[0] - x[0], together[1] - x[1])


@pytest.mark.parametrize(
    ("degradation", "message"),
    [
        ({"name": "matrix"}, "degradation.name must be one of blur, downsample, half, .*got 'matrix'"),
        ({"name": "downsample", "size": (3, 3)}, "degradation.size must be .*where h divides 4"),
        ({"name": "jpeg"}, "degradation: missing key 'quality'"),
        ("half", "degradation.name must be one of"),
    ],
)
def test_a_wrong_degradation_names_its_key(degradation, message):
    data = dataset(images(), 255)
    with pytest.raises(BadOption, match=message):
        contexts.degraded(data, event_of(data, "levels"), degradation=degradation)
