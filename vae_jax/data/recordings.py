"""Sound files: `read(path, sample_rate) -> int16 [T]`, `write_wav`.

.wav files of PCM and of floats are read by SciPy. Other formats are read by soundfile (`pip install 'vae_jax[audio]'`):
.flac, .ogg, and .wav files of µ-law, A-law and ADPCM. A file that has lost its end is refused.
"""

import io
import struct
from math import gcd

import numpy as np
from absl import logging

from vae_jax.data import files

SUFFIXES = (".wav", ".flac", ".ogg")
RATES = (100, 768_000)  # samples per second; other rates mean damage, and resampling them would take for ever
LOUDEST = 2.0  # a decoder may overshoot full scale a little; larger values mean another scale
FINEST = 200_000  # steps of the finer grid per step of the common rate; beyond, resampling takes minutes
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE  # formats of .wav
WAV_FORMATS = {2: "ADPCM", 6: "A-law", 7: "µ-law", 17: "IMA ADPCM"}
UNKNOWN_LENGTH = 2**31 - 2**16  # a longer length in a shorter file: its writer did not know the length


def write_wav(path, pcm, sample_rate):
    """Write int16 [T] as a .wav file, to a path or into an open file."""
    from scipy.io import wavfile  # a quarter of a second: not before there is sound

    wavfile.write(path, sample_rate, np.asarray(pcm, np.int16))


def read(path, sample_rate):
    """Return the samples of a file, int16 [T], as one channel at `sample_rate` (samples per second).

    Channels are averaged, other rates are resampled. Raises `ValueError` if the file is not sound.
    """
    path = files.regular(path)
    with files.reading(path, "not a sound file that can be read"):
        rate, x = _read_wav(path) if path.suffix.lower() == ".wav" else _read_other(path)
        if not RATES[0] <= rate <= RATES[1]:
            raise ValueError(f"{rate} samples per second; {RATES[0]} to {RATES[1]:,} are allowed")
        if not np.isfinite(x).all():
            raise ValueError("it holds NaN or infinite samples")
    if not len(x):
        raise ValueError(f"{path}: it holds no samples")
    if x.ndim == 2:
        logging.info("%s: %d channels averaged", path, x.shape[1])
        x = x.mean(axis=1)
    if (peak := np.abs(x).max()) > LOUDEST:
        raise ValueError(
            f"{path}: its samples reach {peak:g}, and floats must lie in [-1, 1]: scale them, or store integers"
        )
    if peak > 1:
        logging.warning("%s: %d samples above full scale (%g at most) are clipped", path, np.sum(np.abs(x) > 1), peak)
    x = _resampled(path, x, rate, sample_rate)
    return np.clip(np.round(x * 2**15), -(2**15), 2**15 - 1).astype(np.int16)


def _resampled(path, x, rate, sample_rate):
    common = gcd(rate, sample_rate)
    if max(rate, sample_rate) // common > FINEST:
        raise ValueError(f"{path}: resampling from {rate} to {sample_rate} samples per second would take too long")
    if rate == sample_rate:
        return x
    from scipy.signal import resample_poly

    logging.info("%s: resampled from %d to %d samples per second", path, rate, sample_rate)
    return resample_poly(x, sample_rate // common, rate // common)


def _read_wav(path):
    """Return the rate, and samples in [-1, 1]."""
    with path.open("rb") as file:
        if (start := file.read(4)) in (b"RIFX", b"RF64"):
            return _read_other(path, f"the format {start.decode()} of .wav")
    header, sound = _wav_parts(path)
    tag, channels, rate, _, frame_bytes, bits = struct.unpack_from("<HHIIHH", header)
    if tag == EXTENSIBLE and len(header) >= 26:
        tag = struct.unpack_from("<H", header, 24)[0]
    if tag not in (PCM, FLOAT):
        return _read_other(path, f"the format {WAV_FORMATS.get(tag, hex(tag))} of .wav")
    allowed = (32, 64) if tag == FLOAT else (8, 12, 16, 20, 24, 32, 64)
    if not channels or bits not in allowed or frame_bytes != channels * -(-bits // 8):
        raise ValueError(f"damaged header: {channels} channels of {bits} bits in {frame_bytes} bytes")
    sound = sound[: len(sound) // frame_bytes * frame_bytes]
    # The file as its header should be, because SciPy trusts the length in the header.
    chunks = b"fmt " + struct.pack("<I", len(header)) + header + b"data" + struct.pack("<I", len(sound)) + sound
    from scipy.io import wavfile

    rate, x = wavfile.read(io.BytesIO(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks))
    if np.issubdtype(x.dtype, np.floating):
        return rate, x.astype(np.float64)
    if x.dtype == np.uint8:
        return rate, (x - 128.0) / 2**7
    return rate, x / -float(np.iinfo(x.dtype).min)


def _wav_parts(path):
    """Return the chunks `fmt ` and `data` of a .wav file.

    Programs that write to a pipe cannot go back to the header: they leave 0, or nearly 2³¹ or 2³², as the length. The
    sound is then the rest of the file. Raises `ValueError` if a known length is longer than the file.
    """
    data = path.read_bytes()
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise ValueError(f"it starts with {data[:12]!r} and not with RIFF, a length and WAVE")
    complete = struct.unpack_from("<I", data, 4)[0] == len(data) - 8
    header, start = None, 12
    while start + 8 <= len(data):
        name, size = data[start : start + 4], struct.unpack_from("<I", data, start + 4)[0]
        available = len(data) - start - 8
        if name == b"data" and header is not None:
            if size > available or (size == 0 and available and not complete):
                if 0 < size < UNKNOWN_LENGTH:
                    raise ValueError(
                        f"truncated: its header promises {size:,} bytes of sound, the file has {available:,}"
                    )
                logging.warning("%s: the length is not in its header; %d bytes of sound are read", path, available)
                size = available
            return header, data[start + 8 : start + 8 + size]
        if name == b"fmt " and 16 <= size <= available:
            header = data[start + 8 : start + 8 + size]
        start += 8 + size + size % 2
    raise ValueError("it has no header 'fmt ' followed by sound ('data'); is it cut short?")


def _read_other(path, kind="a file that is no .wav"):
    try:
        import soundfile
    except ImportError:
        raise ValueError(f"{kind} is read by soundfile, which is not installed: pip install 'vae_jax[audio]'") from None
    with soundfile.SoundFile(path) as file:
        parts = []
        while len(part := file.read(2**20, dtype="float64")):  # whatever length the header promises
            parts.append(part)
        number = sum(map(len, parts))
        if number < file.frames < UNKNOWN_LENGTH:
            raise ValueError(f"truncated: its header promises {file.frames:,} samples, the file has {number:,}")
        return file.samplerate, np.concatenate(parts) if parts else np.zeros(0)
