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
