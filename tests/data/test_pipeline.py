"""Which example stands in which batch: a permutation, a pure function of (seed, step), the same on either path."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from vae_jax.data import pipeline, sources, transforms
from vae_jax.data.sources import Dataset, Images

SIZE, BATCH = 23, 5  # 4 steps an epoch, 3 examples left out


def numbered(size=SIZE):
    """Images that carry their own number, and a label made of it."""
    x = np.arange(size, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 1), np.uint8)
    return Images(x, (np.arange(size) * 3 % 10).astype(np.int32))


def stream(**options):
    given = {"seed": 0, "batch_size": BATCH, "transform": transforms.levels, "max_value": 255, **options}
    return pipeline.stream(numbered(), **given)


def batches(stream, start, length):
    """The batches of steps [start, start + length), as a compiled chunk makes them."""
    feed = stream.feed(start, length)
    make = jax.jit(stream.batch)
    return [jax.tree.map(np.asarray, make(feed, jnp.int32(start + i), i)) for i in range(length)]


def numbers(batch):
    return batch["x"][:, 0, 0, 0].astype(int).tolist()


# ---------------------------------------------------------------------------------------------------- the permutation


@functools.partial(jax.jit, static_argnums=1)
def permutations(keys, size):
    return jax.vmap(lambda key: pipeline.shuffled(key, jnp.arange(size), size))(keys)


@pytest.mark.parametrize("size", [1, 2, 3, 10, 1197, 1198, 50_000])
def test_shuffled_is_a_permutation(size):
    for order in np.asarray(permutations(jax.random.split(jax.random.key(0), 3), size)):
        np.testing.assert_array_equal(np.sort(order), np.arange(size))


@pytest.mark.parametrize("size", [2, 7, 40])
def test_every_element_is_equally_often_at_every_position(size):
    draws = 4000
    order = np.asarray(permutations(jax.random.split(jax.random.key(1), draws), size))
    for position in range(size):
        assert scipy.stats.chisquare(np.bincount(order[:, position], minlength=size)).pvalue > 1e-6


def test_neighbours_are_equally_often_any_pair():
    size, draws = 7, 8000
    order = np.asarray(permutations(jax.random.split(jax.random.key(2), draws), size))
    pairs = np.bincount(order[:, 2] * size + order[:, 3], minlength=size**2).reshape(size, size)
    assert np.all(np.diag(pairs) == 0)
    assert scipy.stats.chisquare(pairs[~np.eye(size, dtype=bool)]).pvalue > 1e-6


def test_a_long_order_is_not_correlated_with_the_place():
    order = np.asarray(permutations(jax.random.split(jax.random.key(0), 1), 50_000))[0]
    for other in (np.arange(50_000), np.roll(order, 1)):
        assert abs(np.corrcoef(order, other)[0, 1]) < 5 / np.sqrt(50_000)


# ------------------------------------------------------------------------------------------------------------ batches


def test_an_epoch_covers_each_example_at_most_once():
    given = stream()
    assert (given.steps_per_epoch, given.batch_size) == (4, BATCH)
    epochs = [[n for b in batches(given, 4 * epoch, 4) for n in numbers(b)] for epoch in range(12)]
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch) == 20 and set(epoch) <= set(range(SIZE))
    assert len({tuple(epoch) for epoch in epochs}) == 12
    assert set().union(*epochs) == set(range(SIZE))  # what is left out changes


def test_a_batch_is_a_function_of_seed_and_step():
    one, same, other = (batches(stream(seed=seed), 0, 8) for seed in (0, 0, 1))
    assert [numbers(b) for b in one] == [numbers(b) for b in same] != [numbers(b) for b in other]
    late = batches(stream(seed=0), 5, 2)
    assert [numbers(b) for b in late] == [numbers(b) for b in one[5:7]]


def test_labels_travel_with_their_images():
    for memory_limit in (2**30, 0):
        for batch in batches(stream(context=True, memory_limit=memory_limit), 0, 5):
            np.testing.assert_array_equal(batch["context"], numbered().label[numbers(batch)])


@pytest.mark.parametrize("transform", [transforms.levels, transforms.binarize, transforms.dequantize])
def test_data_read_from_disk_are_the_resident_ones_bit_for_bit(transform, tmp_path):
    resident = stream(transform=transform, context=True)
    assert resident.feed(0, 1)["stored"]["x"].shape[0] == SIZE
    np.save(tmp_path / "x.npy", numbered().x)
    images = numbered()._replace(x=np.load(tmp_path / "x.npy", mmap_mode="r"))
    streamed = pipeline.stream(
        images, seed=0, batch_size=BATCH, transform=transform, max_value=255, context=True, memory_limit=0
    )
    assert streamed.feed(0, 1)["stored"]["x"].shape == (1, BATCH, 2, 3, 1)
    # From the start, on, from the middle of an epoch (a resumed run), and back.
    for start, length in ((0, 3), (3, 4), (6, 2), (101, 3), (0, 1)):
        for a, b in zip(batches(resident, start, length), batches(streamed, start, length), strict=True):
            jax.tree.map(np.testing.assert_array_equal, a, b)


def test_the_transform_draws_anew_at_every_step():
    images = Images(np.full((10, 8, 8, 1), 8, np.uint8), None)
    given = pipeline.stream(images, seed=0, batch_size=10, transform=transforms.binarize, max_value=16)
    first, second = (b["x"] for b in batches(given, 0, 2))
    assert set(np.unique(first)) == {0.0, 1.0}
    assert abs(np.mean(first == second) - 0.5) < 5 * 0.5 / np.sqrt(640)
    assert len({image.tobytes() for image in first}) == 10  # and for every example


@pytest.mark.parametrize("batch_size", [0, -1, SIZE + 1])
def test_batches_larger_than_the_data_are_refused(batch_size):
    with pytest.raises(ValueError, match=f"config.data.batch_size must be between 1 and the 23 .* got {batch_size}"):
        stream(batch_size=batch_size)


def test_a_batch_may_be_all_of_the_data():
    given = stream(batch_size=SIZE)
    assert given.steps_per_epoch == 1
    assert sorted(numbers(batches(given, 0, 1)[0])) == list(range(SIZE))


def test_a_context_wants_labels():
    with pytest.raises(ValueError, match=r"config.data.context is set, and this data set has no labels"):
        pipeline.stream(
            numbered()._replace(label=None),
            seed=0,
            batch_size=2,
            transform=transforms.levels,
            max_value=255,
            context=True,
        )


# -------------------------------------------------------------------------------------------------------- whole splits


@pytest.fixture(scope="module")
def digits():
    return sources.load("digits")


@pytest.mark.parametrize("name", transforms.__all__)
def test_a_fixed_split_is_the_same_twice(digits, name):
    one, same = (
        pipeline.fixed_split(digits, "test", transform=getattr(transforms, name), context=True) for _ in range(2)
    )
    np.testing.assert_array_equal(one["x"], same["x"])
    np.testing.assert_array_equal(one["context"], digits.test.label)
    assert one["x"].shape == digits.test.x.shape and one["x"].dtype == np.float32


@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_binarised_split_is_the_fixed_draw(digits, split):
    given = pipeline.fixed_split(digits, split, transform=transforms.binarize)
    assert set(given) == {"x"}
    np.testing.assert_array_equal(given["x"], sources.fixed_draw(getattr(digits, split).x, 16, split))


def test_bits_stay_as_they_are():
    bits = Images(np.random.default_rng(0).integers(2, size=(9, 4, 4, 1), dtype=np.uint8), None)
    dataset = Dataset("bits", bits, bits, bits, 1, None)
    given = pipeline.fixed_split(dataset, "test", transform=transforms.binarize)["x"]
    np.testing.assert_array_equal(given, bits.x)
