"""Degradations of images: linear ones against their matrices, JPEG against Pillow, and wrong options."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image
from sklearn.datasets import load_sample_images

from vae_jax import degradations
from vae_jax.core import Event
from vae_jax.spec import BadOption
from vae_jax.support import Binary, Levels, Real

GREY, COLOUR = Event((8, 6, 1), Levels(256)), Event((16, 24, 3), Levels(256))
KINDS = {
    "noise": degradations.identity(GREY, scale=0.1),
    "half": degradations.half(GREY),
    "noisy square": degradations.square(GREY, size=2, scale=0.1),
    "downsample": degradations.downsample(GREY, size=(4, 3)),
    "noisy downsample": degradations.downsample(COLOUR, size=(4, 6), scale=0.05),
    "blur": degradations.blur(GREY, width=1.0),
    "jpeg": degradations.jpeg(GREY, quality=30),
}


def image(event, seed=0):
    return jnp.asarray(np.random.default_rng(seed).integers(256, size=event.shape), jnp.float32)


@pytest.mark.parametrize("name", KINDS)
def test_what_is_seen_is_linear_in_x(name):
    degradation = KINDS[name]
    x = image(degradation.event)
    matrix = degradations.matrix(degradation)
    np.testing.assert_allclose(matrix @ jnp.ravel(x), degradation.linear.forward(x), rtol=1e-4, atol=0.02)
    y = degradation.sample(jax.random.key(0), x)
    assert degradation.linear.observe(y).shape == (len(matrix),) == degradation.linear.scale.shape
    assert degradation.baseline(y).shape == degradation.event.shape
    degradations.check_observation(degradation, y)
    assert np.isfinite(degradation.log_prob(y, x))
    assert degradation.log_prob(y, image(degradation.event, 1)) < degradation.log_prob(y, x) - 10.0
    assert (
        degradations.misfit(degradation, y, x)
        < 1.5
        < degradations.misfit(degradation, y, image(GREY if degradation.event == GREY else COLOUR, 1))
    )


def test_noise_has_its_scale():
    degradation = degradations.identity(COLOUR, scale=0.1)
    x = image(COLOUR)
    y = jax.vmap(lambda key: degradation.sample(key, x))(jax.random.split(jax.random.key(0), 50))
    np.testing.assert_allclose(jnp.std(y - x[None]), 25.5, rtol=0.01)


def test_the_mean_of_blocks_and_a_blur():
    x = image(COLOUR)
    low = degradations.downsample(COLOUR, size=(4, 6)).apply(x)
    np.testing.assert_allclose(low[1, 2], np.asarray(x)[4:8, 8:12].mean((0, 1)), rtol=1e-5)
    blurred = degradations.blur(COLOUR, width=1.2).apply(x)
    expected = scipy.ndimage.gaussian_filter(np.asarray(x), (1.2, 1.2, 0), mode="nearest", radius=(4, 4, 0))
    np.testing.assert_allclose(blurred, expected, atol=1e-2)


@pytest.mark.parametrize("quality", [5, 30, 75])
@pytest.mark.parametrize("size", [(32, 40), (28, 28)], ids=str)
def test_jpeg_is_that_of_pillow(quality, size):
    """Coders round in different ways: most pixels differ by less than a level, those of a few blocks by one step."""
    photo = load_sample_images().images[0][100 : 100 + size[0], 200 : 200 + size[1]].mean(-1).round().astype(np.uint8)
    degradation = degradations.jpeg(Event((*size, 1), Levels(256)), quality=quality)
    y = degradation.apply(jnp.asarray(photo, jnp.float32)[..., None])
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG", quality=quality)
    theirs = np.asarray(Image.open(file), np.float32)
    ours = np.asarray(degradation.baseline(y))[..., 0]
    difference = np.abs(ours - theirs)
    assert np.median(difference) < 0.5 and difference.mean() < 0.25 * np.abs(photo - theirs).mean()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: degradations.masked(GREY, mask=np.ones((8, 6), bool)), "mask hides nothing"),
        (lambda: degradations.masked(GREY, mask=np.zeros((8, 6), bool)), "mask shows nothing"),
        (lambda: degradations.masked(GREY, mask=np.ones((6, 8), bool)), r"mask must hold True and False, \[8, 6\]"),
        (lambda: degradations.masked(GREY, mask=np.ones((8, 6))), r"mask must hold True and False.*float64"),
        (lambda: degradations.half(GREY, side="up"), "side must be one of bottom, top, right, left"),
        (lambda: degradations.square(GREY, size=8), "size must be between 1 and 5, got 8"),
        (lambda: degradations.downsample(GREY, size=(3, 3)), "where h divides 8 and w divides 6"),
        (lambda: degradations.downsample(GREY, size=(8, 6)), "be smaller"),
        (lambda: degradations.blur(GREY, width=0), "width must be .*above 0"),
        (lambda: degradations.blur(GREY, width=1, scale=0), "scale must be .*above 0"),
        (lambda: degradations.identity(GREY, scale=0.0), "scale must be .*above 0"),
        (lambda: degradations.jpeg(GREY, quality=0), "quality must be .*between 1 and 100"),
        (lambda: degradations.half(Event((5,), Real())), r"images \[H, W, C\]"),
    ],
)
def test_wrong_options_are_refused_in_one_line(make, message):
    with pytest.raises(BadOption, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_a_y_of_another_shape_is_refused():
    degradation = degradations.downsample(Event((4, 4, 1), Binary()), size=(2, 2))
    with pytest.raises(
        ValueError, match=r"'downsample' of images \[4, 4, 1\] has the shape \[2, 2, 1\], got \[4, 4, 1\]"
    ):
        degradations.check_observation(degradation, jnp.zeros((4, 4, 1)))
