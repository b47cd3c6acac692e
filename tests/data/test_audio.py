"""Sound to levels and back, what is mixed, resampled and left out, what is refused."""

import os
import struct
import sys

import numpy as np
import pytest
from scipy.io import wavfile

from vae_jax.data import audio, recordings, sources, synthetic
from vae_jax.data.audio import Encoding

RATE = 8000


def noise(size, scale=3000):
    return np.round(scale * np.random.default_rng(size).normal(size=size)).astype(np.int16)


def test_the_levels_of_the_mu_law_are_the_nearest_and_finest_where_it_is_soft():
    encoding, pcm = Encoding(RATE, "mu_law"), np.arange(-(2**15), 2**15)
    levels = encoding.encode(pcm)
    np.testing.assert_array_equal(encoding.encode(encoding.decode(np.arange(256))), np.arange(256))
    assert np.all(np.diff(levels.astype(int)) >= 0) and levels[0] == 0 and levels[-1] == 255
    error = np.abs(encoding.decode(levels).astype(int) - pcm)
    s = np.abs(pcm) / 2**15
    # half a step, d f / d v divided by d f / d s, at the outer edge of the bin; and rounding to integers
    assert np.all(error <= (1 + 255 * s) * np.log(256) / 255 * 2**15 / 255 * 1.03 + 1)
    assert error[np.abs(pcm) < 100].max() <= 5 < 300 < error.max()


def test_linear_levels_lose_nothing():
    encoding, pcm = Encoding(RATE, "linear"), np.arange(-(2**15), 2**15).astype(np.int16)
    np.testing.assert_array_equal(encoding.encode(pcm), np.arange(2**16))
    np.testing.assert_array_equal(encoding.decode(encoding.encode(pcm)), pcm)


def test_a_recording_is_cut_into_windows_whose_end_is_held_out(tmp_path):
    pcm = noise(RATE * 4)
    recordings.write_wav(tmp_path / "one.wav", pcm, RATE)
    parts, encoding, classes = audio.load(tmp_path / "one.wav", length=100, companding="linear")
    assert {split: len(x) for split, (x, _) in parts.items()} == {"train": 288, "valid": 16, "test": 16}
    assert classes == () and all(label is None for _, label in parts.values())
    whole = np.concatenate([parts[split][0] for split in ("train", "valid", "test")]).ravel()
    np.testing.assert_array_equal(encoding.decode(whole), pcm)


def test_a_folder_is_split_by_the_file_and_its_folders_are_classes(tmp_path):
    for n in range(40):
        folder = tmp_path / ("low" if n % 2 else "high")
        folder.mkdir(exist_ok=True)
        x = np.full(250, 100 * (n + 1), np.int16)
        x[0] = 0
        recordings.write_wav(folder / f"{n:02d}.{'wav' if n % 3 else 'WAV'}", x, RATE)
    parts, encoding, classes = audio.load(tmp_path, length=100, companding="linear")
    assert classes == ("high", "low")
    owners = {}
    for split, (x, label) in parts.items():
        own = encoding.decode(x).max(axis=1) // 100 - 1
        np.testing.assert_array_equal(label, own % 2)
        owners[split] = set(own.tolist())
        assert len(x) == 2 * len(owners[split])  # 250 samples are two windows and a rest
    assert {split: len(own) for split, own in owners.items()} == {"train": 36, "valid": 2, "test": 2}
    assert not owners["train"] & owners["test"]


def test_an_array_of_windows_keeps_its_classes(tmp_path):
    x, voice = np.stack([noise(120) + n for n in range(60)]), np.array(["b", "a", "c"] * 20)
    np.savez(tmp_path / "words.npz", x=x, voice=voice, sample_rate=RATE)
    data = sources.load("audio", str(tmp_path / "words.npz"), audio={"length": 120, "label": "voice"})
    assert data.num_classes == 3 and data.max_value == 255 and data.train.x.dtype == np.uint8
    assert len(data.train.x) == 54 and len(data.test.x) == len(data.valid.x) == 3
    rows = {tuple(row): "abc".index(v) for row, v in zip(data.encoding.encode(x).tolist(), voice, strict=True)}
    assert [rows[tuple(row)] for row in data.test.x.tolist()] == data.test.label.tolist()
    with pytest.raises(ValueError, match=r"8000 samples per second; set sample_rate to 8000"):
        audio.load(tmp_path / "words.npz", sample_rate=16000, length=120)
    with pytest.raises(ValueError, match=r"windows have 120 samples; set length to at most 120"):
        audio.load(tmp_path / "words.npz", length=121)


def test_channels_are_averaged_and_rates_changed(tmp_path):
    t = np.arange(4 * RATE) / RATE
    tone = 8000 * np.sin(2 * np.pi * 300 * t)
    wavfile.write(tmp_path / "stereo.wav", RATE, np.stack([tone + 1000, tone - 1000], axis=1).astype(np.int16))
    np.testing.assert_allclose(recordings.read(tmp_path / "stereo.wav", RATE), tone, atol=2)
    wavfile.write(tmp_path / "fast.wav", 2 * RATE, np.repeat(tone, 2).astype(np.float32) / 2**15)
    halved = recordings.read(tmp_path / "fast.wav", RATE)
    assert len(halved) == len(tone)
    np.testing.assert_allclose(halved[100:-100], tone[100:-100], atol=600)
    spectrum = np.abs(np.fft.rfft(halved))
    assert np.argmax(spectrum) == 300 * 4 and np.sum(spectrum[1190:1211] ** 2) > 0.999 * np.sum(spectrum**2)
    wavfile.write(tmp_path / "bytes.wav", RATE, (tone / 256 + 128).astype(np.uint8))
    np.testing.assert_allclose(recordings.read(tmp_path / "bytes.wav", RATE), tone, atol=257)


def test_flac_is_read_by_soundfile(tmp_path):
    soundfile, pcm = pytest.importorskip("soundfile"), noise(3000)
    soundfile.write(tmp_path / "one.flac", pcm, RATE)
    np.testing.assert_array_equal(recordings.read(tmp_path / "one.flac", RATE), pcm)


ENCODINGS = [("ULAW", "µ-law"), ("ALAW", "A-law"), ("IMA_ADPCM", "IMA ADPCM"), ("MS_ADPCM", "ADPCM")]


@pytest.mark.parametrize(("subtype", "name"), ENCODINGS)
def test_wav_of_telephony_is_read_by_soundfile(tmp_path, subtype, name, monkeypatch):
    soundfile = pytest.importorskip("soundfile")
    tone = (8000 * np.sin(np.arange(4000) / 5)).astype(np.int16)
    soundfile.write(tmp_path / "one.wav", tone, RATE, subtype=subtype)
    samples = recordings.read(tmp_path / "one.wav", RATE)[: len(tone)]  # ADPCM is of whole blocks
    assert np.abs(samples.astype(int) - tone).mean() < 300
    monkeypatch.setitem(sys.modules, "soundfile", None)  # as where it is not installed
    with pytest.raises(
        ValueError, match=rf"one\.wav: .*the format {name} of \.wav is read by soundfile, .*pip install"
    ):
        recordings.read(tmp_path / "one.wav", RATE)


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFF - 36])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "ULAW"])
def test_a_wav_whose_writer_did_not_know_its_length(tmp_path, size, subtype, caplog):
    soundfile = pytest.importorskip("soundfile")
    sound = noise(1000) / 2.0**15 if subtype == "FLOAT" else noise(1000)
    soundfile.write(tmp_path / "whole.wav", sound, RATE, subtype=subtype)
    data = bytearray((tmp_path / "whole.wav").read_bytes())
    at = data.index(b"data") + 4
    data[4:8] = struct.pack("<I", min(size + at - 4, 2**32 - 1))
    data[at : at + 4] = struct.pack("<I", size)
    (tmp_path / "piped.wav").write_bytes(data)
    whole = recordings.read(tmp_path / "whole.wav", RATE)
    assert len(whole) == 1000 and "length" not in caplog.text
    if subtype != "ULAW":  # libsndfile takes 0 as it is
        np.testing.assert_array_equal(recordings.read(tmp_path / "piped.wav", RATE), whole)
    elif size:
        np.testing.assert_array_equal(recordings.read(tmp_path / "piped.wav", RATE), whole)
    if size or subtype != "ULAW":
        assert "piped.wav: the length is not in its header; " in caplog.text


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "ULAW", "FLAC"])
def test_a_recording_that_has_lost_its_end_is_refused(tmp_path, subtype):
    soundfile = pytest.importorskip("soundfile")
    name = "one.flac" if subtype == "FLAC" else "one.wav"
    soundfile.write(tmp_path / name, noise(20_000), RATE, **({} if subtype == "FLAC" else {"subtype": subtype}))
    data = (tmp_path / name).read_bytes()
    for left in (len(data) - 1, len(data) // 2, 100, 44, 30, 10, 1, 0):
        (tmp_path / name).write_bytes(data[:left])
        with pytest.raises(ValueError, match=rf"{name}: (not a sound file|it holds no samples)") as error:
            recordings.read(tmp_path / name, RATE)
        assert "\n" not in str(error.value)
        if subtype == "PCM_16" and left > 44:
            assert f"truncated: its header promises 40,000 bytes of sound, the file has {left - 44:,}" in str(
                error.value
            )


def test_pcm_of_every_width_is_read_as_scipy_reads_it(tmp_path):
    x = noise(500).astype(np.int32)
    for dtype, scale in ((np.int16, 1), (np.int32, 2**16)):
        wavfile.write(tmp_path / "one.wav", RATE, (x * scale).astype(dtype))
        np.testing.assert_array_equal(recordings.read(tmp_path / "one.wav", RATE), x)
    for dtype in (np.float32, np.float64):
        wavfile.write(tmp_path / "one.wav", RATE, (x / 2**15).astype(dtype))
        np.testing.assert_array_equal(recordings.read(tmp_path / "one.wav", RATE), x)


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.npz")
    for path in (tmp_path / "pipe.wav", tmp_path / "pipe.npz", tmp_path):  # the folder holds the pipe
        with pytest.raises(ValueError, match=r"pipe\.\w+: this is a pipe \(FIFO\)|files are too few"):
            audio.load(path)


@pytest.mark.parametrize("rate", [0, 1, 99, 768_001, 2**31 - 1])
def test_rates_that_no_recording_has(tmp_path, rate):
    recordings.write_wav(tmp_path / "one.wav", noise(100), RATE)
    data = bytearray((tmp_path / "one.wav").read_bytes())
    data[24:32] = struct.pack("<2I", rate, 2 * rate % 2**32)
    (tmp_path / "one.wav").write_bytes(data)
    with pytest.raises(ValueError, match=rf"one\.wav: .*{rate} samples per second; 100 to 768,000 are allowed"):
        recordings.read(tmp_path / "one.wav", RATE)


def test_arrays_that_are_no_windows_or_classes(tmp_path):
    x, path = np.zeros((30, 10), np.int16), tmp_path / "x.npz"
    for arrays, words in (
        ({"x": x.astype(object)}, r"not an \.npz of arrays \(x\.npy: an array of Python objects"),
        ({"x": x, "label": np.array([None] * 30)}, r"not an \.npz of arrays \(label\.npy: an array of Python objects"),
        ({"x": x, "label": np.zeros(30)}, r"'label' must be integers or strings, got float64"),
        ({"x": x, "sample_rate": np.zeros(3)}, r"sample_rate must be one number, got float64 \[3\]"),
        ({"x": x, "sample_rate": np.array("8k")}, r"sample_rate must be one number, got <U2"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(ValueError, match=rf"x\.npz: {words}") as error:
            audio.load(path, length=5)
        assert "\n" not in str(error.value)


def test_silence_is_left_out(tmp_path):
    pcm = noise(RATE * 4)
    pcm[1000:2000] = 3
    recordings.write_wav(tmp_path / "one.wav", pcm, RATE)
    parts, _, _ = audio.load(tmp_path / "one.wav", length=100)
    assert len(parts["train"][0]) == 278
    recordings.write_wav(tmp_path / "none.wav", 0 * pcm, RATE)
    with pytest.raises(ValueError, match="train split has no sound: all of its 288 windows are silent"):
        audio.load(tmp_path / "none.wav", length=100)


def test_what_is_no_sound_is_refused(tmp_path):
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(ValueError, match=r"text\.wav: not a sound file that can be read"):
        audio.load(tmp_path / "text.wav")
    (tmp_path / "header.WAV").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"header\.WAV: not a sound file that can be read"):
        audio.load(tmp_path / "header.WAV")
    wavfile.write(tmp_path / "nan.wav", RATE, np.full(1000, np.nan, np.float32))
    with pytest.raises(ValueError, match="NaN or infinite"):
        audio.load(tmp_path / "nan.wav")
    wavfile.write(tmp_path / "empty.wav", RATE, np.zeros(0, np.int16))
    with pytest.raises(ValueError, match="it holds no samples"):
        audio.load(tmp_path / "empty.wav")
    np.savez(tmp_path / "floats.npz", x=np.zeros((30, 10)))
    with pytest.raises(ValueError, match=r"an array x, int16 \[N, T\], is required; got float64 \[30, 10\]"):
        audio.load(tmp_path / "floats.npz", length=5)
    np.savez(tmp_path / "labels.npz", x=np.zeros((30, 10), np.int16), label=np.zeros(31, int))
    with pytest.raises(ValueError, match=r"30 windows, but 'label' has the shape \[31\]"):
        audio.load(tmp_path / "labels.npz", length=5)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "labels.npz").read_bytes()[:300])
    np.save(tmp_path / "array.npy", np.zeros((30, 10), np.int16))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    for name in ("cut", "array"):
        with pytest.raises(ValueError, match=rf"{name}\.npz: not an \.npz of arrays"):
            audio.load(tmp_path / f"{name}.npz", length=5)
    recordings.write_wav(tmp_path / "short.wav", noise(1990), RATE)
    with pytest.raises(ValueError, match=r"a twentieth of .*, is no window of 100.*set length to at most 99"):
        audio.load(tmp_path / "short.wav", length=100)
    recordings.write_wav(tmp_path / "shorter.wav", noise(19), RATE)
    with pytest.raises(ValueError, match=r"of its 19 samples.* is no window of 1; give a longer recording"):
        audio.load(tmp_path / "shorter.wav", length=1)
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        audio.load(tmp_path / "nowhere")
    (tmp_path / "bare").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no \.wav, \.flac, \.ogg in"):
        audio.load(tmp_path / "bare")
    for n in range(5):
        recordings.write_wav(tmp_path / "bare" / f"{n}.wav", noise(200), RATE)
    with pytest.raises(ValueError, match="5 files are too few for three splits; give at least 20"):
        audio.load(tmp_path / "bare", length=100)
    for options, message in (
        ({"companding": "a_law"}, "companding: unknown value 'a_law'"),
        ({"length": 0}, "length must be at least 1"),
        ({"sample_rate": 16000}, "sample_rate must be 8000, that of the sung vowels, got 16000"),
    ):
        with pytest.raises(ValueError, match=message):
            audio.load(**options)
    with pytest.raises(ValueError, match="audio must be empty for digits"):
        sources.load("digits", audio={"length": 10})


def test_vowels_resound_at_their_formants():
    pcm, label = synthetic.vowels("test", 4000)
    again, _ = synthetic.vowels("test", 4000)
    np.testing.assert_array_equal(pcm, again)
    assert pcm.shape == (60, 4000) and np.all(np.abs(pcm).max(axis=1) == 2**14)
    power = np.abs(np.fft.rfft(pcm, axis=1)) ** 2
    share = power[:, 1000:1400].sum(1) / power[:, 100:1400].sum(1)  # of 2,000 to 2,800 Hz: the second formant of i
    assert share[label == 1].min() > 3 * share[label == 2].max()


@pytest.mark.parametrize("scale", [1.2, 2**15, 1e30])
def test_floats_beyond_full_scale_are_said_or_refused(tmp_path, scale, caplog):
    """A decoder may overshoot a little; integers stored as floats, which clipping makes a square wave, are refused."""
    wave = np.sin(np.arange(1000) / 5).astype(np.float32)
    wavfile.write(tmp_path / "x.wav", RATE, wave * np.float32(scale))
    if scale < 2:
        assert abs(recordings.read(tmp_path / "x.wav", RATE)).max() >= 2**15 - 1 and "above full scale" in caplog.text
        return
    with pytest.raises(ValueError, match=r"x\.wav: its samples reach .*floats must lie in \[-1, 1\]"):
        recordings.read(tmp_path / "x.wav", RATE)


@pytest.mark.parametrize("rate", [1, 99, 768_001, 10**9])
def test_a_rate_that_no_recording_has_is_not_asked_for(tmp_path, rate):
    with pytest.raises(ValueError, match=r"sample_rate must be (at least 100|between 100 and 768000), got"):
        audio.load(tmp_path / "x.wav", sample_rate=rate)
