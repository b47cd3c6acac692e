"""What a model of sound leaves behind: the levels of its draws, .wav files, and what is said of its bits."""

import jax
import numpy as np
import pytest
from scipy.io import wavfile

from vae_jax.configs import linear_predictor_audio
from vae_jax.runs import build, pictures, report, sounds


@pytest.fixture(scope="module")
def predictor():
    experiment = build.build(linear_predictor_audio.get_config("smoke").to_dict())
    batch = jax.tree.map(lambda a: a[:50], experiment.split("valid"))
    return experiment, jax.device_get(experiment.model.init(jax.random.key(0), batch))


def with_transform(experiment, name):
    return experiment._replace(config={"data": {"transform": name}})


def test_draws_are_levels_again(predictor):
    experiment, _ = predictor
    levels = np.array([0, 1, 128, 255])
    for name, x in (("levels", levels), ("unit", levels / 255), ("dequantize", (levels + 0.999) / 256)):
        np.testing.assert_array_equal(sounds.to_levels(with_transform(experiment, name), x.astype(np.float32)), levels)
    wild = np.array([-3.0, 4.0], np.float32)  # a density of reals may be drawn outside
    np.testing.assert_array_equal(sounds.to_levels(with_transform(experiment, "dequantize"), wild), [0, 255])


def test_draws_and_test_sounds_are_wav_files_of_their_rate(predictor, tmp_path):
    experiment, params = predictor
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "train/bound": -1.0}\n')
    folder = pictures.figures(experiment, params, tmp_path)
    assert {p.name for p in folder.iterdir()} == {"sounds", "sounds.png", "training.png"}
    heard = {p.stem: wavfile.read(p) for p in (folder / "sounds").iterdir()}
    assert set(heard) == {f"{kind}_{n}" for kind in ("test", "draw") for n in range(sounds.NUMBER)}
    assert all(rate == 8000 and x.shape == (64,) and x.dtype == np.int16 for rate, x in heard.values())
    encoding, test = experiment.dataset.encoding, experiment.dataset.test.x
    np.testing.assert_array_equal(heard["test_3"][1], encoding.decode(test[3]))
    assert np.any(heard["draw_0"][1] != heard["draw_1"][1])


def test_bits_of_dequantised_samples_are_said_to_be_a_bound(predictor):
    experiment, params = predictor
    results = report.evaluate(experiment, params, num_samples=1, num_test=20)
    bits, told = results["test/bits_per_dim"], report.table(results)
    assert f"{bits:.4f} bits a sample, {bits * 8:.1f} kbit/s, at most" in " ".join(told.split())
    exact = {key: value for key, value in results.items() if key != "test/dequantized"}
    assert "kbit/s\n" in report.table(exact) + "\n"


def test_a_density_of_points_on_a_grid_is_refused(predictor):
    experiment, _ = predictor
    config = {**experiment.config, "data": {**experiment.config["data"], "transform": "unit"}}
    with pytest.raises(ValueError, match=r"occur more than once.*dequantize"):
        build.build(config)


def test_em_that_would_end_before_its_first_pass_is_refused(predictor):
    experiment, _ = predictor
    config = {**experiment.config, "train": {**experiment.config["train"], "num_steps": 5}}
    with pytest.raises(ValueError, match=r"num_steps 5 ends before the first pass, of 6 batches of 50"):
        build.build(config)
    config = {**experiment.config, "model": {**experiment.config["model"], "order": 64}}
    with pytest.raises(ValueError, match=r"config\.model\.order must be below the length of a window, 64"):
        build.build(config)
