"""The world whose generative process is known."""

import jax
import numpy as np
import scipy.stats

from vae_jax.data import sources, synthetic


def test_the_four_by_four_world_as_a_data_set():
    data = sources.load("four_by_four")
    for split, size in synthetic.SIZES.items():
        x, label, _ = getattr(data, split)
        assert x.shape == (size, 4, 4, 1) and x.dtype == np.float32
        assert x.min() > 0 and x.max() < 1  # as float pixels must, and without a clip
        assert label.dtype == np.int32 and set(label) == {0, 1, 2, 3}
        np.testing.assert_array_equal(x, getattr(sources.load("four_by_four"), split).x)
    assert data.max_value == 1 and data.num_classes == 4
    assert not np.array_equal(data.valid.x, data.test.x)


def test_the_noise_and_the_code_are_those_stated():
    z, x, _ = synthetic.four_by_four("train")
    noise = (x - np.stack([synthetic.four_by_four_mean(one) for one in z])) / synthetic.NOISE_SCALE
    assert scipy.stats.kstest(z, "norm").pvalue > 1e-4
    assert scipy.stats.kstest(noise.ravel(), "norm").pvalue > 1e-4


def test_the_bar_stands_alike_in_every_row_at_the_column_of_its_label():
    z, _, label = synthetic.four_by_four("train")
    means = np.stack([synthetic.four_by_four_mean(one) for one in z])
    np.testing.assert_array_equal(means, np.repeat(means[:, :1], 4, axis=1))
    np.testing.assert_array_equal(means[:, 0, :, 0].argmax(axis=1), label)


def test_numpy_and_jax_agree_on_the_mean():
    z = np.linspace(-3, 3, 13, dtype=np.float32)
    given = jax.jit(jax.vmap(synthetic.four_by_four_mean))(z)
    np.testing.assert_allclose(given, [synthetic.four_by_four_mean(one) for one in z], atol=1e-6)


def test_it_takes_no_path(tmp_path):
    with np.testing.assert_raises_regex(ValueError, "takes no path"):
        sources.load("four_by_four", str(tmp_path))


# --------------------------------------------------------------------------------------------------------- dSprites


def test_sprites_have_every_combination_of_factors_once():
    sizes = tuple(synthetic.DSPRITES_FACTORS.values())
    assert sizes == (3, 6, 40, 32, 32) and np.prod(sizes) == 737_280
    factors = synthetic.dsprites_factors(np.arange(737_280))
    np.testing.assert_array_equal(factors.min(axis=0), 0)
    np.testing.assert_array_equal(factors.max(axis=0), np.array(sizes) - 1)
    np.testing.assert_array_equal(np.ravel_multi_index(tuple(factors.T), sizes), np.arange(737_280))


def test_sprites_are_bits_that_grow_with_scale_and_stay_inside():
    masks = synthetic.dsprites_masks()
    assert masks.shape == (3, 6, 40, 33, 33) and set(np.unique(masks)) == {0, 1}
    area = masks.sum(axis=(-2, -1), dtype=int)
    assert (np.diff(area, axis=1) > 0).all() and area.min() > 60
    # Rotation keeps the area, up to pixels of the edge. No sprite is cut: its square of 33 pixels has room for it.
    assert np.all(area.std(axis=-1) < 0.05 * area.mean(axis=-1))
    down, right = np.nonzero(masks.any(axis=(0, 1, 2)))
    assert np.max((down - 16) ** 2 + (right - 16) ** 2) <= 16**2


def test_sprites_turn_like_their_shapes():
    square, ellipse, heart = synthetic.dsprites_masks()[:, 5]
    np.testing.assert_array_equal(square[0], square[10])
    np.testing.assert_array_equal(ellipse[3], ellipse[23])
    np.testing.assert_array_equal(np.rot90(heart[0]), heart[10])  # counter-clockwise
    np.testing.assert_array_equal(heart[0], heart[0, :, ::-1])
    assert len({mask.tobytes() for mask in heart}) == 40
    widths = heart[0].sum(axis=1)
    assert widths[:16].sum() > 1.5 * widths[17:].sum()  # the point of the heart is below


def test_sprites_move_by_whole_pixels():
    base = synthetic.dsprites_images([[2, 3, 7, 0, 0]])[0]
    for x, y in ((1, 0), (0, 1), (31, 31), (5, 20)):
        moved = synthetic.dsprites_images([[2, 3, 7, x, y]])[0]
        np.testing.assert_array_equal(moved, np.roll(base, (y, x), axis=(0, 1)))
        assert moved.sum() == base.sum()


def test_sprites_as_a_data_set():
    data = sources.load("dsprites_by_rule")
    for split, size in synthetic.DSPRITES_SIZES.items():
        x, label, factors = getattr(data, split)
        assert x.shape == (size, 64, 64, 1) and x.dtype == np.uint8 and x.max() == 1
        assert factors.shape == (size, 5) and factors.dtype.kind == "i"
        np.testing.assert_array_equal(label, factors[:, 0])
        np.testing.assert_array_equal(x[-3:], synthetic.dsprites_images(factors[-3:]))
    rows = np.concatenate([getattr(data, split).context for split in synthetic.DSPRITES_SIZES])
    assert len(np.unique(rows, axis=0)) == 50_000  # no test image is trained on
    assert data.max_value == 1 and data.class_names == ("square", "ellipse", "heart")
    np.testing.assert_array_equal(synthetic.dsprites("valid")[0], data.valid.x)
    small = sources.load("dsprites_by_rule", files={"side": 32})
    np.testing.assert_array_equal(small.valid.x, data.valid.x[:, ::2, ::2])
    np.testing.assert_array_equal(small.valid.context, data.valid.context)
    with np.testing.assert_raises_regex(ValueError, "takes no path"):
        sources.load("dsprites_by_rule", "elsewhere")
    with np.testing.assert_raises_regex(ValueError, "files.side must be 64, 32 or 16, got 48"):
        sources.load("dsprites_by_rule", files={"side": 48})
    with np.testing.assert_raises_regex(ValueError, "files: unknown key 'sides'"):
        sources.load("dsprites_by_rule", files={"sides": 48})
