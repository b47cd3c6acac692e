import pathlib

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

from vae_jax.plotting import (
    OKABE_ITO,
    add_caption,
    class_style,
    codes,
    curves,
    examples,
    file_name,
    images,
    latents,
    plain,
    save,
    scores,
    series,
    styled,
    walks,
)
from vae_jax.plotting.tiles import NEUTRAL

RNG = np.random.default_rng(0)


def noise(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def names(figure):
    """All that a reader can read."""
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def centre(axes, row, column, nrows, ncols):
    """The brightness drawn at the middle of one cell of a sheet."""
    sheet = axes.images[0].get_array()
    height, width = sheet.shape[:2]
    return sheet[int((row + 0.5) * height / nrows), int((column + 0.5) * width / ncols)].mean()


# --- tile -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [0, 1, 3])
def test_tile_puts_every_image_at_its_row_and_column(gap):
    x = noise(7, 4, 5, 3)
    sheet = images.tile(x, ncols=3, gap=gap)
    assert sheet.shape == (3 * 4 + 4 * gap, 3 * 5 + 4 * gap, 3)
    left, around = np.ones(sheet.shape[:2], bool), np.zeros(sheet.shape[:2], bool)
    for k in range(7):
        y, x_0 = k // 3 * (4 + gap), k % 3 * (5 + gap)
        rows, columns = slice(y + gap, y + gap + 4), slice(x_0 + gap, x_0 + gap + 5)
        np.testing.assert_array_equal(sheet[rows, columns], x[k])
        around[y : y + 4 + 2 * gap, x_0 : x_0 + 5 + 2 * gap] = True
        left[rows, columns] = False
    assert (sheet[left & around] == NEUTRAL).all()  # the gutter of every image, also at the border
    assert (sheet[~around] == 255).all()  # places without an image


@pytest.mark.parametrize("shade", [0, 255])
def test_gutters_are_seen_between_white_images_and_between_black_ones(shade):
    sheet = images.tile(np.full((4, 3, 3, 1), shade, np.uint8))
    assert np.abs(sheet[4].astype(int) - shade).min() > 80


def test_tile_keeps_a_grid_and_its_type():
    x = RNG.random((2, 5, 4, 4, 1), np.float32)
    sheet = images.tile(x, gap=1)
    assert sheet.dtype == np.float32
    np.testing.assert_array_equal(sheet, images.tile(x.reshape(10, 4, 4, 1), ncols=5, gap=1))
    np.testing.assert_allclose(sheet[5], NEUTRAL / 255)


def test_tile_is_square_where_nothing_is_asked():
    assert images.tile(noise(9, 2, 2, 1), gap=0).shape == (6, 6, 1)


# --- images -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_saved_grid_holds_the_very_pixels(tmp_path, channels):
    x = noise(6, 28, 28, channels)
    figure = images.grid(x, ncols=3, title="Samples from the prior")
    assert len(figure.axes) == 1 and "Samples from the prior" in names(figure)
    save(figure, tmp_path / "grid.png")
    page = np.uint8(imread(tmp_path / "grid.png")[..., :3] * 255 + 0.5)
    sheet = figure.axes[0].images[0].get_array()
    height, width = sheet.shape[:2]
    scale = (width - 8) // (3 * 28)
    np.testing.assert_array_equal(sheet[2::scale, 2::scale][:28, :28], np.broadcast_to(x[0], (28, 28, 3)))
    places = [(i, j) for i in range(page.shape[0] - height + 1) for j in range(page.shape[1] - width + 1)]
    assert any((page[i : i + height, j : j + width] == sheet).all() for i, j in places)


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_other_numbers_of_channels_stand_side_by_side_in_grey(channels):
    x = noise(3, 6, 4, channels)
    shown = images.pixels(x)
    assert shown.shape == (3, 6, channels * 5 - 1, 1)
    for channel in range(channels):
        np.testing.assert_array_equal(shown[:, :, 5 * channel : 5 * channel + 4, 0], x[..., channel])
    assert (shown[:, :, 4::5] == 128).all()
    sheet = images.grid(x, ncols=3).axes[0].images[0].get_array()
    scale = (sheet.shape[1] - 8) // (3 * (channels * 5 - 1))
    np.testing.assert_array_equal(sheet[2::scale, 2::scale, 0][:6, : channels * 5 - 1], shown[0, ..., 0])
    several = images.reconstruction_samples(x, noise(3, 4, 6, 4, channels)), images.reconstructions(x, x)
    several += (images.interpolation(x[0], x[1], x, x, np.ones((3, 2)), np.ones((3, 2))),)
    several += (images.manifold(noise(2, 2, 6, 4, channels), np.arange(2)), images.named_rows({"a": x}))
    assert all(figure.axes for figure in several)


def test_maps_of_codes_stand_below_images_of_any_channels():
    for channels in (1, 3, 4):
        x = np.random.default_rng(0).uniform(size=(2, 8, 8, channels))
        figure = codes.maps(x, {"$k$": np.zeros((2, 4, 4), int)}, {"$k$": 5}, x)
        shown = np.concatenate([np.ravel(image.get_array()) for axis in figure.axes for image in axis.images])
        assert len(figure.axes) and np.isfinite(shown).all() and len(np.unique(shown)) > 100


def test_a_row_of_fewer_images_ends_in_white():
    x = noise(5, 4, 4, 1) // 2
    (axes,) = images.named_rows({"two": x[:2], "five": x}).axes
    cells = np.array([[centre(axes, row, column, 2, 5) for column in range(5)] for row in (0, 1)])
    assert (cells[0, 2:] == 255).all() and (cells[1] < 255).all() and (cells[0, :2] < 255).all()


def test_rows_lower_than_a_line_of_text_have_one_label():
    (axes,) = images.reconstructions(noise(3, 1, 40, 1), noise(3, 1, 40, 1)).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["$x$, $\\hat{x}$"]


def test_floats_and_bytes_draw_the_same():
    x = noise(4, 8, 8, 1)
    drawn = [images.grid(a).axes[0].images[0].get_array() for a in (x, x / 255.0, (x / 255.0).astype(np.float32))]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(drawn[0], drawn[2])


def test_reconstructions_stand_below_their_images():
    x, mean = np.zeros((12, 8, 8, 1)), np.full((12, 8, 8, 1), 0.6)
    (axes,) = images.reconstructions(x, mean).axes
    assert [centre(axes, row, 4, 2, 12) for row in (0, 1)] == [0, 153]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["$x$", "$\\hat{x}$ from the\nposterior mean"]


def test_many_reconstructions_fill_several_pairs_of_rows():
    figure = images.reconstructions(noise(30, 8, 8, 3), RNG.random((30, 8, 8, 3)))
    assert len(figure.axes) == 3


def test_reconstruction_samples_show_where_draws_differ():
    samples = np.zeros((2, 5, 8, 8, 1))
    samples[1, ::2] = 1.0
    figure = images.reconstruction_samples(np.zeros((2, 8, 8, 1)), samples)
    assert len(figure.axes) == 4  # data, draws, deviation, its colours
    dark, light = (centre(figure.axes[2], row, 0, 2, 1) for row in (0, 1))
    assert dark < light
    assert len(images.reconstruction_samples(np.zeros((2, 8, 8, 1)), samples, std=False).axes) == 2


def test_manifold_has_z1_to_the_right_and_z2_upwards():
    values = np.linspace(-2, 2, 5)
    z1, z2 = np.meshgrid(values, values)
    grey = (z1 + 10 * z2 + 22) / 44  # in [0, 1], grows with both
    (axes,) = images.manifold(np.broadcast_to(grey[..., None, None, None], (5, 5, 4, 4, 1)), values).axes
    drawn = np.array([[centre(axes, row, column, 5, 5) for column in range(5)] for row in range(5)])
    np.testing.assert_array_equal(drawn, np.uint8(255 * grey[::-1] + 0.5))
    right, up = axes.get_xticklabels(), axes.get_yticklabels()
    assert [text.get_text() for text in right] == [text.get_text() for text in up] == ["−2", "−1", "0", "1", "2"]
    assert np.all(np.diff([text.get_window_extent().x0 for text in right]) > 0)
    assert np.all(np.diff([text.get_window_extent().y0 for text in up]) > 0)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("$z_1$", "$z_2$")


def paths(num_pairs, steps, dim):
    a, b = RNG.standard_normal((2, num_pairs, 1, dim))
    t = np.linspace(0, 1, steps)[:, None]
    chord = (1 - t) * a + t * b
    return chord, chord * np.linalg.norm(a, axis=-1, keepdims=True) / np.linalg.norm(chord, axis=-1, keepdims=True)


def test_interpolation_shows_images_codes_and_norms():
    chord, arc = paths(2, 5, 6)
    a, b, linear, spherical = noise(2, 8, 8, 1), noise(2, 8, 8, 1), noise(2, 5, 8, 8, 1), noise(2, 5, 8, 8, 1)
    assert len(images.interpolation(a, b, linear, spherical, chord, arc).axes) == 2 * 3 + 2
    figure = images.interpolation(a[0], b[0], linear[0], spherical[0], chord[0], arc[0])
    assert len(figure.axes) == 3 + 2
    plane, norms = figure.axes[-2:]
    drawn = {line.get_label(): line.get_ydata() for line in norms.lines}
    np.testing.assert_allclose(drawn["linear"], np.linalg.norm(chord[0], axis=-1))
    np.testing.assert_allclose(drawn["spherical"], np.linalg.norm(arc[0], axis=-1))
    for line, along in zip(plane.lines, (chord[0], arc[0]), strict=False):  # a true plane: lengths are kept
        np.testing.assert_allclose(np.hypot(*line.get_data()), np.linalg.norm(along, axis=-1))


@pytest.mark.filterwarnings("error")
def test_interpolation_bears_codes_that_span_no_plane():
    for a, b in ((1.0, 1.0), (1.0, -1.0), (0.0, 1.0)):
        codes = np.linspace(a, b, 3)[:, None] * np.ones(4)
        figure = images.interpolation(*noise(2, 8, 8, 1), *noise(2, 3, 8, 8, 1), codes, codes)
        drawn = [line.get_xydata() for axes in figure.axes for line in axes.lines]
        assert drawn and all(np.isfinite(points).all() for points in drawn)


def test_interpolation_without_a_prior_draws_none_and_names_its_pairs():
    chord, arc = paths(2, 5, 6)
    pictures = noise(2, 8, 8, 1), noise(2, 8, 8, 1), noise(2, 5, 8, 8, 1), noise(2, 5, 8, 8, 1)
    figure = images.interpolation(*pictures, chord, arc, names=["class 3", "class 8"], prior=False)
    *blocks, plane, norms = figure.axes
    assert not plane.patches and not norms.patches and len(norms.lines) == 2
    assert not any("prior" in text or "sqrt" in text for text in names(figure))
    assert [block.get_ylabel() for block in blocks] == ["class 3", "", "", "class 8", "", ""]


# --- latents ----------------------------------------------------------------------------------------------------------


def test_scatter_draws_every_code_once_and_the_prior():
    z, label = RNG.standard_normal((300, 2)), np.arange(300) % 12
    figure = latents.scatter(z, label, axes=("PC 1", "PC 2"))
    (axes,) = figure.axes
    drawn = np.concatenate([group.get_offsets() for group in axes.collections])
    np.testing.assert_array_equal(np.sort(drawn, axis=0), np.sort(z, axis=0))
    assert [circle.radius for circle in axes.patches] == [1, 2]
    assert axes.get_aspect() == 1 and (axes.get_xlabel(), axes.get_ylabel()) == ("PC 1", "PC 2")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [str(k) for k in range(12)]
    keys = [(handle.get_color(), handle.get_marker()) for handle in axes.get_legend().legend_handles]
    assert len(set(keys)) == 12


def test_scatter_keeps_the_colour_of_a_class_that_stands_alone():
    z = RNG.standard_normal((4, 2))
    axes = latents.scatter(z, np.full(4, 3), class_names=["a", "b", "c", "d"]).axes[0]
    (handle,) = axes.get_legend().legend_handles
    assert (handle.get_label(), handle.get_color()) == ("d", OKABE_ITO[3])
    assert latents.scatter(z).axes[0].get_legend() is None


def test_planes_are_scatters_side_by_side():
    label = np.arange(40) % 3
    codes = {name: scale * RNG.standard_normal((40, 2)) for name, scale in (("a", 1.0), ("b", 30.0), ("c", 0.1))}
    figure = latents.planes(codes, label, radii=(2,), ncols=2)
    assert [axes.get_title() for axes in figure.axes] == list(codes)
    for axes, z in zip(figure.axes, codes.values(), strict=True):
        np.testing.assert_array_equal(np.sort(axes.collections[0].get_offsets(), axis=0), np.sort(z, axis=0))
        assert axes.get_aspect() == 1 and [circle.radius for circle in axes.patches] == [2]
    assert [axes.get_legend() is not None for axes in figure.axes] == [False, True, False]
    tops = [axes.get_position().y1 for axes in figure.axes]
    assert tops[0] == pytest.approx(tops[1]) and tops[2] < figure.axes[0].get_position().y0


def test_planes_have_the_circles_of_their_own_prior():
    codes = {"vae": RNG.standard_normal((40, 2)), "autoencoder": RNG.standard_normal((40, 2))}
    figure = latents.planes(codes, radii={"vae": (2,), "autoencoder": ()})
    assert [[circle.radius for circle in axes.patches] for axes in figure.axes] == [[2], []]


def test_codes_that_are_not_finite_are_left_out():
    z = RNG.standard_normal((20, 2))
    spoiled = np.where(np.arange(20)[:, None] % 4 == 0, [[np.nan, np.inf]], z)
    for axes in (latents.scatter(spoiled).axes[0], latents.planes({"a": spoiled}).axes[0]):
        drawn = axes.collections[0].get_offsets()
        np.testing.assert_array_equal(np.sort(drawn, axis=0), np.sort(z[np.arange(20) % 4 > 0], axis=0))
        assert np.isfinite([axes.get_xlim(), axes.get_ylim()]).all()
    with pytest.raises(ValueError, match="no code is finite"):
        latents.scatter(np.full((3, 2), np.nan))


def test_more_classes_than_colours_and_markers_have_no_legend():
    axes = latents.scatter(RNG.standard_normal((60, 2)), np.arange(60) + 7).axes[0]
    assert axes.get_legend() is None and axes.get_title(loc="left") == "60 classes: colours repeat"


def test_kl_per_level_keeps_the_order_of_the_levels():
    (panel,) = latents.kl_per_level(np.array([0.5, 2.0, 1.0])).axes
    assert [bar.get_height() for bar in panel.patches] == [0.5, 2.0, 1.0] and "3.5 nats" in panel.texts[0].get_text()


def test_kl_per_dimension_is_sorted_and_counts_active_ones():
    figure = latents.kl_per_dimension(np.array([0.001, 2.0, 0.5]), threshold=0.01)
    (axes,) = figure.axes
    assert [bar.get_height() for bar in axes.patches] == [2.0, 0.5, 0.001]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "2", "0"]
    assert "2 of 3 dimensions above 0.01 nats\n2.5 nats in all" in names(figure)
    assert "nats" in axes.get_ylabel()
    assert len(latents.kl_per_dimension(np.ones(50)).axes[0].lines) == 0


# --- curves -----------------------------------------------------------------------------------------------------------


def test_training_has_a_panel_a_name_and_leaves_out_the_wild_start():
    steps = np.arange(1, 201) * 100
    distortion = 80 + 1e6 * np.exp(-steps / 100.0)
    train = {"bound": (steps, -distortion - 20), "rate": (steps, 0 * steps + 20), "distortion": (steps, distortion)}
    figure = curves.training(train | {"grad_norm": (steps, steps)}, {"bound": (steps[::20], -distortion[::20] - 21)})
    assert [len(axes.lines) for axes in figure.axes] == [2, 1, 1]
    assert all(axes.get_ylabel() == "nats" for axes in figure.axes)
    low, high = figure.axes[2].get_ylim()
    assert low < 80 < high < 1e4
    assert "10k" in names(figure)
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["train", "validation"]


def test_bands_are_means_and_standard_errors_of_the_runs_that_are_left():
    steps = np.array([10.0, 20.0, 30.0])
    values = np.array([[-3.0, -2.0, -1.0], [-5.0, -4.0, np.nan]])  # the second was stopped
    panel = curves.bands({"slow": (steps, values), "fast": (steps, values + 1)}, label="bound").axes[0]
    np.testing.assert_allclose(panel.lines[0].get_ydata(), [-4.0, -3.0, -1.0])
    edge = panel.collections[0].get_paths()[0].vertices
    np.testing.assert_allclose(edge[edge[:, 0] == 10.0][:, 1].max(), -4.0 + 1.0)  # deviation √2, of two runs
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["slow", "fast"]
    once = curves.bands({"slow": (steps[:1], values[:, :1])}, label="bound").axes[0]
    assert once.lines[0].get_marker() == "o" and [text.get_text() for text in once.get_legend().get_texts()] == ["slow"]
    (bar,) = once.containers[0][2][0].get_segments()
    np.testing.assert_allclose(bar, [[10.0, -5.0], [10.0, -3.0]])
    with pytest.raises(ValueError, match="runs is empty"):
        curves.bands({}, label="bound")


def test_variances_are_named_from_the_noisiest_on_and_the_biased_are_dashed():
    figure = curves.variance_curves([0, 10], {"a": [1.0, 0.1], "b": [2.0, 3.0]}, biased=("a",))
    (panel,), (legend,) = figure.axes, figure.legends
    assert [text.get_text() for text in legend.texts] == ["b", "a (biased)"] and panel.get_yscale() == "log"
    assert [line.get_linestyle() for line in panel.lines] == ["--", "-"]
    with pytest.raises(ValueError, match=r"biased contains \['c'\], which are not among the curves \['a'\]"):
        curves.variance_curves([0], {"a": [1.0]}, biased=("c",))


def test_time_to_names_every_curve_at_its_end_without_overlap():
    times = np.array([2.0, 20.0, 200.0])
    runs = {f"model {n}": (times, np.array([300.0, 100.0, 85.0 + 0.01 * n]), n % 2 == 0) for n in range(5)}
    figure = curves.time_to(runs, label="nats", xlabel="seconds")
    (panel,) = figure.axes
    named = {text.get_text(): text.get_position()[1] for text in panel.texts}
    assert list(named) == [f"model {n}  {85 + 0.01 * n:.1f}" for n in range(5)]
    assert np.diff(list(named.values())).min() > 0.99 * curves.LINE_OF_TEXT * np.ptp(panel.get_ylim())
    assert [text.get_text() for text in panel.get_legend().get_texts()] == [r"exact $-\log p(x)$", "bound from above"]
    with pytest.raises(ValueError, match="runs is empty"):
        curves.time_to({}, label="nats", xlabel="seconds")


def test_training_bears_a_run_that_diverged():
    for values in ([-100.0, np.nan, -np.inf], [np.nan, np.nan, np.nan]):
        (panel,) = curves.training({"bound": ([0, 1, 2], values)}).axes
        np.testing.assert_array_equal(panel.lines[0].get_ydata(), values)
        assert np.isfinite(panel.get_ylim()).all()


# --- scores -----------------------------------------------------------------------------------------------------------


def test_histograms_have_area_one_over_the_same_bins():
    inliers, outliers = RNG.normal(90, 5, 1000), RNG.normal(150, 20, 300)
    figure = scores.histograms(inliers, outliers, label="$-\\log p(x)$", names=("mnist", "others"), num_bins=40)
    lines = [patch for patch in figure.axes[0].patches if patch.get_label() in ("mnist", "others")]
    edges = [patch.get_data().edges for patch in lines]
    np.testing.assert_array_equal(*edges)
    assert edges[0][0] == inliers.min() and edges[0][-1] == outliers.max()
    for patch, values in zip(lines, (inliers, outliers), strict=True):
        density = patch.get_data().values
        np.testing.assert_allclose(np.sum(density * np.diff(edges[0])), 1.0)
        np.testing.assert_allclose(
            np.sum(density * np.diff(edges[0]) * (edges[0][1:] + edges[0][:-1]) / 2), values.mean(), 2e-2
        )
    assert {"mnist", "others", "$-\\log p(x)$  (nats)"} <= set(names(figure))


def test_scores_that_are_not_finite_are_left_out():
    spoiled = np.array([np.nan, 1.0, 2.0, np.inf])
    figure = scores.histograms(spoiled, [3.0, -np.inf], label="score", num_bins=4)
    edges = next(patch for patch in figure.axes[0].patches if patch.get_label() == "inliers").get_data().edges
    assert (edges[0], edges[-1]) == (1.0, 3.0)
    with pytest.raises(ValueError, match="no score of the inliers, or of the outliers, is finite"):
        scores.histograms([np.nan], [1.0], label="score")


# --- colours ----------------------------------------------------------------------------------------------------------

# What readers with each deficiency see, in linear RGB (Machado, Oliveira and Fernandes 2009, severity 1).
VISION = {
    "usual": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(rgb, matrix):
    """CIELAB of sRGB colours [N, 3] as a reader with this matrix sees them."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ np.transpose(matrix)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = np.clip(linear, 0, 1) @ to_xyz.T / to_xyz.sum(axis=1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("num_classes", [3, 8, 10])
def test_every_reader_distinguishes_classes(vision, num_classes):
    """Two classes differ by a distance in CIELAB of 10, far above the 2.3 that can just be noticed, or by marker."""
    styles = [class_style(k, num_classes) for k in range(num_classes)]
    colours = lab(np.array([matplotlib.colors.to_rgb(colour) for colour, _ in styles]), VISION[vision])
    white = lab(np.ones((1, 3)), VISION[vision])
    assert np.linalg.norm(colours - white, axis=1).min() > 15
    for i in range(num_classes):
        for j in range(i):
            assert styles[i][1] != styles[j][1] or np.linalg.norm(colours[i] - colours[j]) > 10, (i, j)


def test_no_two_of_fifty_classes_look_alike():
    assert len({class_style(k, 50) for k in range(50)}) == 50


# --- walks, examples, series ------------------------------------------------------------------------------------------


def test_traversals_name_rows_and_values():
    x, rows = noise(8, 8, 1), noise(2, 5, 8, 8, 1)
    figure = walks.traversals(x, rows, [-3.0, -1.5, 0.0, 1.5, 3.0], ["$z_1$", "$z_4$"], unit="σ")
    original, panel = figure.axes
    assert [text.get_text() for text in panel.get_xticklabels()] == ["−3", "−1.5", "0", "1.5", "3"]
    assert [text.get_text() for text in panel.get_yticklabels()] == ["$z_1$", "$z_4$"] and panel.get_xlabel() == "σ"
    assert original.get_title() == "$x$"
    with pytest.raises(ValueError, match=r"values must have shape \[T=5\]"):
        walks.traversals(x, rows, [0.0], ["a", "b"])


def test_class_paths_have_the_classes_at_both_ends():
    figure = walks.class_paths(*noise(2, 2, 8, 8, 3), *noise(2, 2, 4, 8, 8, 3), ["cat", "dog"], ["bird", "cow"])
    labels = [(figure.axes[n].get_ylabel(), figure.axes[n + 2].get_ylabel()) for n in (0, 3)]
    assert labels == [("cat", "bird"), ("dog", "cow")]


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_samples_stand_above_their_nearest_images(channels):
    samples, found = noise(4, 6, 6, channels), noise(4, 3, 6, 6, channels)
    _, below = examples.beside_nearest(samples, found, [0.1, 0.25, 0.0, 1.0]).axes
    assert [text.get_text() for text in below.get_xticklabels()] == ["0.10", "0.25", "0.00", "1.00"]
    width = channels * 7 - 1 if channels == 2 else 6
    for row in range(3):
        for column in range(4):
            height = (below.images[0].get_array().shape[0] - 2) / 3
            scale = int((height - 2) // 6)
            sheet = np.asarray(below.images[0].get_array())
            y, x = int(2 + row * height), 2 + column * (width * scale + 2)
            cell = sheet[y : y + 6 * scale : scale, x : x + 6 * scale : scale]
            first = found[column, row, ..., :1] if channels != 3 else found[column, row]
            np.testing.assert_array_equal(cell[..., : first.shape[-1]], first)


def test_ranked_rows_have_a_number_for_each_image():
    figure = examples.ranked({"best": (noise(3, 4, 4, 1), [-1.0, -2.0, -3.0]), "worst": (noise(1, 4, 4, 1), [-99.5])})
    assert [[t.get_text() for t in axes.get_xticklabels()] for axes in figure.axes] == [
        ["−1.0", "−2.0", "−3.0"],
        ["−99.5"],
    ]


def test_lines_share_one_scale():
    data = {"data": RNG.normal(size=(3, 20)), "model": 9 * RNG.normal(size=(2, 20))}
    panels = series.lines(data).axes
    assert [panel.get_title() for panel in panels] == ["data", "model"]
    assert panels[0].get_ylim() == panels[1].get_ylim()
    for panel, x in zip(panels, data.values(), strict=True):
        np.testing.assert_array_equal([line.get_ydata() for line in panel.lines], x)


def test_overlays_put_a_reconstruction_on_its_example():
    x = RNG.normal(size=(6, 9))
    panels = series.overlays(x, x + 1).axes
    assert len(panels) == 6
    for n, panel in enumerate(panels):
        np.testing.assert_array_equal([line.get_ydata() for line in panel.lines], [x[n], x[n] + 1])


def test_pairs_leave_out_what_is_missing_and_show_at_most_six_columns():
    data, drawn = RNG.normal(size=(40, 8)), RNG.normal(size=(30, 8))
    data[:10, 1] = np.nan
    data[:, 2] = np.nan
    figure = series.pairs(data, drawn, [f"c{d}" for d in range(8)])
    assert len(figure.axes) == 6 * 7 / 2
    panel = figure.axes[1]  # the second column against the first
    points = panel.collections[0].get_offsets()
    assert np.isfinite(np.asarray(points.compressed())).all() and points.shape == (40, 2)
    assert {"c0", "c5"} <= set(names(figure)) and not {"c6", "c7"} & set(names(figure))


def test_a_caption_stands_below_everything_and_is_broken_into_lines(tmp_path):
    figure = images.grid(noise(6, 8, 8, 1), ncols=3, column_names=["a", "b", "c"])
    below = figure.get_tightbbox().y0
    add_caption(figure, "word " * 60 + "$5")
    text = figure.texts[-1]
    assert "\n" in text.get_text() and text.get_text().endswith(r"\$5")
    box = text.get_window_extent().transformed(figure.dpi_scale_trans.inverted())
    assert box.y1 < below
    save(figure, tmp_path / "a.png")
    assert imread(tmp_path / "a.png").shape[0] > figure.get_figheight() * 200


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_equal_figures_are_equal_files(kind, tmp_path):
    files = []
    for n in range(2):
        save(latents.kl_per_dimension(np.ones(3)), tmp_path / f"{n}.{kind}")
        files.append((tmp_path / f"{n}.{kind}").read_bytes())
    assert files[0] == files[1] and {"png": b"PNG", "pdf": b"PDF", "svg": b"<svg"}[kind] in files[0]
    with pytest.raises(ValueError, match=r"a.jpg: a figure is written as one of png, pdf, svg"):
        save(latents.kl_per_dimension(np.ones(3)), tmp_path / "a.jpg")


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: images.grid(noise(4, 8, 8)), r"images must have shape \[N, H, W, C\].*found \[4, 8, 8\]"),
        (lambda: images.grid(noise(0, 8, 8, 1)), r"not be empty; found \[0, 8, 8, 1\]"),
        (lambda: images.grid(noise(4, 8, 8, 1) * 1.0), r"uint8 or floats in \[0, 1\]; found float64"),
        (lambda: images.tile(noise(4, 8, 8, 1), ncols=0), r"ncols must be at least 1; found 0"),
        (
            lambda: images.reconstructions(noise(4, 8, 8, 1), noise(3, 8, 8, 1)),
            r"mean must have shape \[N=4, H=8, W=8, C=1\].*found \[3, 8, 8, 1\]",
        ),
        (
            lambda: images.reconstruction_samples(noise(4, 8, 8, 1), noise(5, 4, 8, 8, 1)),
            r"samples must have shape \[N=4, S, H=8, W=8, C=1\].*found \[5, 4, 8, 8, 1\]",
        ),
        (lambda: images.manifold(noise(3, 4, 8, 8, 1), np.arange(3)), r"\[n, n, H, W, C\].*found \[3, 4, 8, 8, 1\]"),
        (lambda: images.manifold(noise(3, 3, 8, 8, 1), np.arange(4)), r"values must have shape \[n=3\].*found \[4\]"),
        (lambda: images.manifold(noise(2, 2, 8, 8, 1), [1.0, 0.0]), r"values must increase"),
        (lambda: latents.scatter(np.zeros((5, 3))), r"z must have shape \[N, 2\].*found \[5, 3\]"),
        (lambda: latents.planes({"a": np.zeros((5, 3))}), r"z must have shape \[N, 2\].*found \[5, 3\]"),
        (lambda: latents.scatter(np.zeros((5, 2)), np.zeros(4)), r"label must have shape \[N=5\].*found \[4\]"),
        (lambda: latents.scatter(np.zeros((1, 2)), [2], class_names=["a", "b"]), r"label must lie in 0\.\.1"),
        (lambda: latents.kl_per_dimension(np.ones((2, 3))), r"kl must have shape \[D\].*found \[2, 3\]"),
        (lambda: curves.training({"rate": ([0, 1], [1.0])}), r"train rate must have shape \[N=2\].*found \[1\]"),
        (lambda: scores.histograms([[1.0]], [1.0], label=""), r"inliers must have shape \[N\].*found \[1, 1\]"),
        (lambda: curves.training({"loss": ([0], [1.0])}), r"one of \['bound', 'rate', 'distortion'\]; found .*loss"),
    ],
)
def test_wrong_arrays_are_named(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


# --- style and files --------------------------------------------------------------------------------------------------


def test_style_is_worn_and_taken_off():
    before = dict(matplotlib.rcParams)
    figure = latents.kl_per_dimension(np.ones(3))
    assert dict(matplotlib.rcParams) == before
    families = {text.get_fontfamily()[0] for text in figure.findobj(matplotlib.text.Text)}
    assert families == {"STIXGeneral"}
    assert styled(lambda: figure)() is figure


HOSTILE = {
    "text.usetex": True,  # and no LaTeX
    "text.parse_math": False,
    "image.origin": "lower",
    "image.interpolation": "bicubic",
    "axes.grid": True,
    "axes.grid.which": "both",
    "axes.unicode_minus": False,
    "figure.constrained_layout.use": True,
    "figure.autolayout": True,
    "figure.facecolor": "black",
    "savefig.bbox": "tight",
    "savefig.transparent": True,
    "savefig.dpi": 30,
    "xtick.direction": "in",
    "xtick.minor.visible": True,
    "axes.xmargin": 0.4,
    "legend.loc": "lower left",
    "font.size": 40.0,
}


@pytest.mark.parametrize("name", ["images", "latents", "curves", "scores", "interpolation"])
def test_a_users_settings_change_no_figure(name, tmp_path):
    x, z = noise(4, 8, 8, 1), RNG.standard_normal((30, 2))
    chord, arc = paths(1, 5, 6)
    pictures = noise(1, 8, 8, 1), noise(1, 8, 8, 1), noise(1, 5, 8, 8, 1), noise(1, 5, 8, 8, 1)
    draw = {
        "images": lambda: images.grid(x, title="$x$"),
        "latents": lambda: latents.scatter(z, np.arange(30) % 3),
        "curves": lambda: curves.training({"bound": (np.arange(9.0), -np.arange(9.0))}),
        "scores": lambda: scores.histograms(z[:, 0], z[:, 1], label=r"$-\log p(x)$"),
        "interpolation": lambda: images.interpolation(*pictures, chord, arc, names=["class 1"]),
    }[name]
    save(draw(), tmp_path / "usual.png")
    with matplotlib.rc_context(HOSTILE):
        save(draw(), tmp_path / "hostile.png")
    assert (tmp_path / "usual.png").read_bytes() == (tmp_path / "hostile.png").read_bytes()


def test_names_from_data_are_no_formulas_and_no_paths():
    assert set(names(images.named_rows({plain("a$b_{$"): noise(2, 4, 4, 1)}))) == {r"a\$b_{\$"}
    kept = ["vae_digits", "seed=1,learning_rate=0.001", "bits (10)", "Größe", "vae digits-smoke"]
    assert [file_name(name) for name in kept] == kept
    odd = [
        "../up",
        "/root",
        "a/b",
        "a_b",
        "a\\b",
        "",
        ".",
        "..",
        ".hidden",
        "a\0b",
        "x" * 400,
        "x" * 401,
        "ж" * 200,
        "a\nb",
    ]
    given = [file_name(name) for name in odd]
    assert len(set(given)) == len(odd)
    for name in given:
        assert pathlib.PurePath(name).name == name and "\0" not in name and "\n" not in name
        assert not name.startswith(".") and 0 < len(name.encode()) <= 200


def test_save_writes_the_whole_file_again_and_again(tmp_path):
    path = tmp_path / "new" / "kl.png"
    for _ in range(2):
        save(latents.kl_per_dimension(np.ones(3)), path)
        assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 1000
        assert [file.name for file in path.parent.iterdir()] == ["kl.png"]


def test_save_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "kl.png"
    path.mkdir()  # cannot be replaced by a file
    with pytest.raises(OSError):
        save(latents.kl_per_dimension(np.ones(3)), path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_saved_figure_is_cut_at_its_ink_and_not_through_it(tmp_path):
    steps = np.arange(1, 41) * 250.0
    series = {name: (steps, -30 + 5 * np.log(steps / 250)) for name in ("bound", "rate", "distortion")}
    save(curves.training(series, series), tmp_path / "training.png")
    picture = imread(tmp_path / "training.png")[..., :3]
    for border in (picture[:, :4], picture[:, -4:], picture[:4], picture[-4:]):
        assert border.min() == 1.0
