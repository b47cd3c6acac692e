"""What a model is told of its data: the shape and the support of an example, and what it is conditional on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.data import pipeline, sources, transforms, values
from vae_jax.data.fingerprint import fingerprint
from vae_jax.data.values import Dataset, Split, event_of
from vae_jax.spec import BadOption
from vae_jax.support import Binary, Columns, Counts, Levels, Real, Tokens, Unit, seen


@pytest.mark.parametrize(
    ("name", "transform", "shape", "support"),
    [
        ("digits", "binarize", (8, 8, 1), Binary()),
        ("digits", "levels", (8, 8, 1), Levels(17)),
        ("digits", "dequantize", (8, 8, 1), Unit()),
        ("four_by_four", "unit", (4, 4, 1), Unit()),
        ("four_by_four", "real", (4, 4, 1), Real()),
        ("text", "tokens", (33,), Tokens(27)),
        ("audio", "levels", (4000,), Levels(256)),
        ("audio", "dequantize", (4000,), Unit()),
    ],
)
def test_the_event_is_that_of_the_transformed_data(name, transform, shape, support):
    dataset = sources.load(name)
    assert event_of(dataset, transform) == (shape, support, False)
    x = pipeline.fixed_split(dataset, "test", transform=getattr(transforms, transform))["x"]
    assert x.shape[1:] == shape
    if support.num_levels:
        assert set(np.unique(x)) <= set(range(support.num_levels))
    if support == Unit():
        assert x.min() >= 0 and x.max() <= 1


def test_every_transform_has_a_support():
    split = Split(np.zeros((2, 3, 3, 1), np.uint8))
    for name in set(transforms.__all__) - {"columns", "strokes"}:  # see `test_table.py` and `test_drawings.py`
        assert event_of(Dataset("x", split, split, split, 255), name).shape == (3, 3, 1)
    with pytest.raises(BadOption, match=r"^transform: a table needs 'columns', and other data cannot have it; x is no"):
        event_of(Dataset("x", split, split, split, 255), "columns")
    with pytest.raises(BadOption, match=r"^transform: unknown value 'level'; did you mean 'levels'\? \(allowed: bin"):
        event_of(Dataset("x", split, split, split, 255), "level")


def test_real_numbers_stay_as_they_are():
    split = Split(np.array([[-3.0, 400.0], [0.5, 1e6]]))
    given = pipeline.fixed_split(Dataset("x", split, split, split, 1), "test", transform=transforms.real)
    np.testing.assert_array_equal(given["x"], split.x)
    split.x[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"'real' takes finite numbers, and these reach from nan to nan"):
        pipeline.fixed_split(Dataset("x", split, split, split, 1), "test", transform=transforms.real)


def test_missing_values_stay_missing_under_every_transform():
    x = np.array([[0.0, np.nan, 1.0], [np.nan, 1.0, 0.0]], np.float32)
    split = Split(x)
    data = Dataset("x", split, split, split, 1, missing=True)
    for name in ("binarize", "counts", "levels", "real", "unit"):
        transform = getattr(transforms, name)
        assert event_of(data, name).missing
        test = pipeline.fixed_split(data, "test", transform=transform)["x"]
        np.testing.assert_array_equal(test, x)
        stream = pipeline.stream(split, seed=0, batch_size=2, transform=transform, max_value=1, missing=True)
        batch = stream.batch(stream.feed(0, 1), jnp.int32(0), 0)["x"]
        np.testing.assert_array_equal(np.isnan(batch).sum(axis=1), [1, 1])
    with pytest.raises(ValueError, match="these reach from nan to nan"):
        pipeline.fixed_split(data._replace(missing=False), "test", transform=transforms.real)


def test_counts_are_whole_numbers_without_a_limit():
    split = Split(np.array([[0, 3000], [7, 1]], np.uint16))
    data = Dataset("x", split, split, split, 1)
    assert event_of(data, "counts").support == Counts()
    np.testing.assert_array_equal(pipeline.fixed_split(data, "test", transform=transforms.counts)["x"], split.x)
    for x, words in (
        ([[0.5]], "'counts' takes integers"),
        ([[-1.0]], r"'counts' takes 0, 1, 2, \.\.\., and these reach"),
    ):
        wrong = Split(np.array(x))
        with pytest.raises(ValueError, match=words):
            pipeline.fixed_split(Dataset("x", wrong, wrong, wrong, 1), "test", transform=transforms.counts)


def test_networks_see_zeros_and_a_mask_in_place_of_missing_values():
    x = jnp.array([[3.0, jnp.nan, 4.0], [jnp.nan, 0.0, 1.0]])
    mask = [[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]
    np.testing.assert_array_equal(seen(Real(), x, missing=True), np.concatenate([np.nan_to_num(x), mask], axis=1))
    given = seen(Levels(5), x, missing=True)
    np.testing.assert_array_equal(given[:, :3], [[0.5, 0.0, 1.0], [0.0, -1.0, -0.5]])
    np.testing.assert_array_equal(seen(Levels(5), x[:, 2]), [1.0, -0.5])
    row = Columns(("count", "categorical:3", "real"))
    given = seen(row, jnp.array([3.0, jnp.nan, jnp.nan]), missing=True)
    np.testing.assert_allclose(given, [np.log(4.0), 0, 0, 0, 0, 1, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(seen(row, jnp.array([0.0, 2.0, -0.5])), [0, 0, 0, 1, -0.5])


def test_a_label_is_seen_as_one_of_its_classes():
    label = values.label(10)
    assert (label.shape, label.support) == ((), Levels(10))
    np.testing.assert_array_equal(label.embed(jnp.int32(3)), np.eye(10)[3])


def test_vectors_and_images_keep_their_shape():
    vector, image = values.vector(3), values.image((2, 2, 1), Levels(5))
    np.testing.assert_array_equal(vector.embed(jnp.array([1.0, -2.0, 3.0])), [1, -2, 3])
    x = jnp.arange(4.0).reshape(image.shape)
    np.testing.assert_array_equal(image.embed(x), x / 2 - 1)  # 0 .. 4 on [-1, 1]
    np.testing.assert_array_equal(values.image((2, 2, 1), Unit()).embed(x), x)


def test_a_prefix_is_seen_as_a_vector():
    levels, tokens = values.prefix(3, Levels(256)), values.prefix(3, Tokens(4))
    np.testing.assert_array_equal(levels.embed(jnp.array([0.0, 127.5, 255.0])), [-1, 0, 1])
    seen = jax.eval_shape(tokens.embed, jax.ShapeDtypeStruct(tokens.shape, jnp.int32))
    assert seen.shape == (12,)
    np.testing.assert_array_equal(tokens.embed(jnp.array([2, 0, 3])), np.eye(4)[[2, 0, 3]].ravel())


def test_the_name_of_a_content_knows_its_contexts():
    split = Split(np.zeros((4, 2, 2, 1), np.uint8), np.arange(4, dtype=np.int32))
    plain = Dataset("x", split, split, split, 255, 4)
    with_contexts = plain._replace(train=split._replace(context=np.zeros((4, 3), np.float32)))
    assert len({fingerprint(plain), fingerprint(with_contexts), fingerprint(sources.load("digits"))}) == 3
    assert fingerprint(sources.load("digits")) == "551efb64e6dfbea2"  # as it stands in the checkpoints of earlier runs
