"""The figures, the report and the bytes of models of pen drawings."""

import jax
import numpy as np
import pytest

from vae_jax.configs import sketch_vae_omniglot, strokes_kanji, strokes_omniglot
from vae_jax.data import drawings, svg
from vae_jax.runs import build, compressed, embedded, report, stroke_figures
from vae_jax.runs.scene import Scene


def untrained(config):
    experiment = build.build(config.to_dict())
    batch = jax.tree.map(lambda a: a[:4], experiment.split("train"))
    return experiment, experiment.model.init(experiment.key, batch)


@pytest.fixture(scope="module")
def of_classes():
    config = strokes_omniglot.get_config("smoke")
    config.data.context.name = "label"
    return untrained(config)


def test_draws_are_a_figure_and_svg_files(of_classes, tmp_path):
    makers = stroke_figures.makers(Scene(*of_classes), tmp_path)
    assert set(makers) == {"drawings"}
    figure = makers["drawings"]()
    assert [text.get_text() for text in figure.axes[0].texts] == ["test data", "τ = 0.4", "τ = 0.7", "τ = 1"]
    files = sorted((tmp_path / "drawings").glob("*.svg"))
    assert len(files) == stroke_figures.NUMBER and all(svg.strokes(file) for file in files)
    (part,), left_out = embedded.figures(tmp_path, 10**6)
    assert (part.kind, part.name, left_out) == ("image", "drawings_in_time", 0) and "temperature 0.5" in part.caption
    assert part.content.startswith("data:image/svg+xml;base64,")
    assert embedded.figures(tmp_path, 100) == ([], 1)  # no room


def test_the_report_is_in_bits_a_point(of_classes):
    experiment, params = of_classes
    found = report.evaluate(experiment, params, num_samples=1, num_test=16, progress=False)
    test = report.test_examples(experiment, 16)["x"]
    assert found["test/num_points"] == drawings.lengths_of(test).sum()
    bits = -16 * found["test/log_prob"] / np.log(2) / found["test/num_points"]
    assert found["test/bits_per_point"] == pytest.approx(bits)
    lines = report.table(found)
    assert "bits a point" in lines and "16 test drawings" in lines and "bits/dim" not in lines
    assert len(compressed.plain_bytes(experiment, test)) == 6 * found["test/num_points"]


def test_codes_are_drawn():
    experiment, params = untrained(sketch_vae_omniglot.get_config("smoke"))
    scene = Scene(experiment, params)
    scene.x, scene.test = scene.x[:14], jax.tree.map(lambda a: a[:14], scene.test)
    for make in (stroke_figures.reconstructions, stroke_figures.interpolations):
        assert make(scene).axes[0].collections[0].get_segments()


def test_other_configs_are_built():
    config = strokes_kanji.get_config()
    assert config.model.scale == 40.0 and build.build(config.to_dict()).event.shape[1:] == (3,)
    config.data.transform = "levels"
    with pytest.raises(ValueError, match=r"config.data.transform: pen drawings need 'strokes'"):
        build.build(config.to_dict())
