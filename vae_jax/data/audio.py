"""Sound as series of levels, and back: `load(path)`, `Encoding`, `write_wav`.

Recordings are mixed to one channel, brought to one sampling rate and cut into windows of so many samples. Of every
sample one of 256 levels is kept, by the µ-law of telephony (ITU-T G.711 without its piecewise lines), which spends
them on the soft sounds, or one of 65,536, all of 16 bits.
"""

import dataclasses
import io
import struct
from math import gcd
from pathlib import Path

import numpy as np
from absl import logging
from scipy.io import wavfile

from vae_jax.data import files, synthetic
from vae_jax.spec import BadOption, integers, one_of

LEVELS = {"mu_law": 256, "linear": 2**16}
SPLIT_SEED = 0
HELD_OUT = 20  # one file (window of an array, stretch of a single recording) of so many is for validation, one for test
SILENT = 2**15 / 1000  # 60 dB below the loudest there can be
SUFFIXES = (".wav", ".flac", ".ogg")
RATES = (100, 768_000)  # samples a second that a file may have: others are damage, and resampling them takes for ever
LOUDEST = 2.0  # a decoder may overshoot full scale a little; beyond, the scale is another one
FINEST = 200_000  # steps of the finer grid to one of the common rate: beyond, resampling takes minutes
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE  # formats of .wav
WAV_FORMATS = {2: "ADPCM", 6: "A-law", 7: "µ-law", 17: "IMA ADPCM"}
UNKNOWN_LENGTH = 2**31 - 2**16  # and more, for a file that is shorter: its writer did not know the length


@dataclasses.dataclass(frozen=True)
class Encoding:
    """s = pcm / 2¹⁵ in [-1, 1) as a level v in 0 .. V-1: v = round((f(s) + 1) / 2 · (V - 1)), where

    f(s) = sign(s) log(1 + µ|s|) / log(1 + µ), µ = 255 ("mu_law", V = 256), or f(s) = s ("linear", V = 65,536: v is pcm
    + 2¹⁵).
    """

    sample_rate: int  # samples a second
    companding: str

    @property
    def num_levels(self):
        return LEVELS[self.companding]

    def encode(self, pcm):
        """int16 -> levels, uint8 or uint16. Exact where nothing is lost: decode(encode(decode(v))) = decode(v)."""
        if self.companding == "linear":
            return (np.asarray(pcm, np.int32) + 2**15).astype(np.uint16)
        s = np.asarray(pcm, np.float32) / 2**15
        f = np.sign(s) * np.log1p(255 * np.abs(s)) / np.log(256)
        return np.round((f + 1) / 2 * 255).astype(np.uint8)

    def decode(self, levels):
        """Levels, of any type -> int16."""
        if self.companding == "linear":
            return (np.asarray(levels, np.int32) - 2**15).astype(np.int16)
        f = np.asarray(levels, np.float32) / 255 * 2 - 1
        s = np.sign(f) * np.expm1(np.abs(f) * np.log(256)) / 255
        return np.clip(np.round(s * 2**15), -(2**15), 2**15 - 1).astype(np.int16)


def load(path=None, *, sample_rate=8000, length=4000, companding="mu_law", label="label"):
    """{split: (levels [N, `length`], label [N] or None)}, the `Encoding`, and the names of the classes.

    `path`: a sound file, whose end is held out; a folder of them, held out by the file, each in a folder that is its
    class, if they lie in more than one; or an .npz with windows `x`, int16 [N, T], at `sample_rate` and perhaps their
    classes under the name `label`. Without a path, sung vowels (`synthetic.vowels`). .wav of PCM and floats is read by
    SciPy; .flac, .ogg and .wav of µ-law, A-law and ADPCM by soundfile (`pip install 'vae_jax[audio]'`). Files of other
    rates are resampled, channels averaged. A file of a folder that is shorter than a window ends in silence, which a
    model is asked to predict like everything else; what is left of a longer one behind its last window is dropped;
    windows that are nothing but silence are left out. The log says how much it is. Raises FileNotFoundError for what is
    not there, `ValueError` for files that are not sound or have lost their end, for options out of range, and where too
    little is left for three splits.
    """
    one_of(LEVELS, companding=companding)
    integers(sample_rate=sample_rate, at_least=RATES[0], at_most=RATES[1])
    integers(length=length)
    if path is None:
        if sample_rate != synthetic.VOWEL_RATE:
            raise BadOption(f"sample_rate must be {synthetic.VOWEL_RATE}, that of the sung vowels, got {sample_rate}")
        _check_length("the vowels", sum(synthetic.VOWEL_SIZES.values()), length)
        parts, classes = {split: synthetic.vowels(split, length) for split in synthetic.VOWEL_SIZES}, synthetic.VOWELS
    else:
        parts, classes = _parts(Path(path).expanduser(), sample_rate, length, label)
    encoding = Encoding(sample_rate, companding)
    return {split: _encoded(encoding, *part, where=(path, split)) for split, part in parts.items()}, encoding, classes


def _check_length(where, number, length):
    """Raise `ValueError` where windows of `length` do not fit into memory: 16 bytes a sample while they are made."""
    remedy = f"lower length, which is {length}"
    files.check_memory(f"{where}: {number} windows of {length} samples", 16 * number * length, remedy)


def write_wav(path, pcm, sample_rate):
    """int16 [T] as a .wav file, at a path or into an open file."""
    wavfile.write(path, sample_rate, np.asarray(pcm, np.int16))


def read(path, sample_rate):
    """The samples of a file, int16 [T], as one channel at `sample_rate`. Raises `ValueError` where it is no sound."""
    path = files.regular(path)
    with files.reading(path, "not a sound file that can be read"):
        rate, x = _read_wav(path) if path.suffix.lower() == ".wav" else _read_other(path)
        if not RATES[0] <= rate <= RATES[1]:
            raise ValueError(f"{rate} samples a second, where {RATES[0]} to {RATES[1]:,} are read")
        if not np.isfinite(x).all():
            raise ValueError("it holds NaN or infinite samples")
    if not len(x):
        raise ValueError(f"{path}: no sample in it")
    if x.ndim == 2:
        logging.info("%s: %d channels averaged", path, x.shape[1])
        x = x.mean(axis=1)
    if (peak := np.abs(x).max()) > LOUDEST:
        raise ValueError(
            f"{path}: its samples reach {peak:g}, and floats must lie in [-1, 1]: scale them, or store integers"
        )
    if peak > 1:
        logging.warning("%s: %d samples above full scale (%g at most) are clipped", path, np.sum(np.abs(x) > 1), peak)
    common = gcd(rate, sample_rate)
    if max(rate, sample_rate) // common > FINEST:
        raise ValueError(f"{path}: {rate} samples a second and {sample_rate} have too small a common part to resample")
    if rate != sample_rate:
        from scipy.signal import resample_poly

        logging.info("%s: resampled from %d to %d a second", path, rate, sample_rate)
        x = resample_poly(x, sample_rate // common, rate // common)
    return np.clip(np.round(x * 2**15), -(2**15), 2**15 - 1).astype(np.int16)


def _read_wav(path):
    """Rate, and samples in [-1, 1]. PCM and floats are read by SciPy, µ-law, A-law and ADPCM by soundfile."""
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
    # The file as its header should be, since SciPy believes what is said of the length.
    chunks = b"fmt " + struct.pack("<I", len(header)) + header + b"data" + struct.pack("<I", len(sound)) + sound
    rate, x = wavfile.read(io.BytesIO(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks))
    if np.issubdtype(x.dtype, np.floating):
        return rate, x.astype(np.float64)
    if x.dtype == np.uint8:
        return rate, (x - 128.0) / 2**7
    return rate, x / -float(np.iinfo(x.dtype).min)


def _wav_parts(path):
    """The chunks `fmt ` and `data` of a .wav file. A length that its writer did not know is the rest of the file.

    Programs that write to a pipe cannot go back to the header: they leave 0 or nearly 2³¹ or 2³² there. Raises
    `ValueError` where a known length is longer than the file, because such a file has lost its end.
    """
    data = path.read_bytes()
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise ValueError(f"it starts with {data[:12]!r} and not with RIFF, a length and WAVE")
    whole = struct.unpack_from("<I", data, 4)[0] == len(data) - 8
    header, start = None, 12
    while start + 8 <= len(data):
        name, size = data[start : start + 4], struct.unpack_from("<I", data, start + 4)[0]
        there = len(data) - start - 8
        if name == b"data" and header is not None:
            if size > there or (size == 0 and there and not whole):
                if 0 < size < UNKNOWN_LENGTH:
                    raise ValueError(f"truncated: its header promises {size:,} bytes of sound, the file has {there:,}")
                logging.warning("%s: its header does not know the length; %d bytes of sound are read", path, there)
                size = there
            return header, data[start + 8 : start + 8 + size]
        if name == b"fmt " and 16 <= size <= there:
            header = data[start + 8 : start + 8 + size]
        start += 8 + size + size % 2
    raise ValueError("it has no header 'fmt ' with sound ('data') behind it; cut short?")


def _read_other(path, what="a file that is no .wav"):
    try:
        import soundfile
    except ImportError:
        raise ValueError(f"{what} is read by soundfile, which is not installed: pip install 'vae_jax[audio]'") from None
    with soundfile.SoundFile(path) as file:
        parts = []
        while len(part := file.read(2**20, dtype="float64")):  # what is there, whatever the header promises
            parts.append(part)
        number = sum(map(len, parts))
        if number < file.frames < UNKNOWN_LENGTH:
            raise ValueError(f"truncated: its header promises {file.frames:,} samples, the file has {number:,}")
        return file.samplerate, np.concatenate(parts) if parts else np.zeros(0)


def _parts(path, sample_rate, length, label):
    """{split: (pcm windows, labels or None)} and the names of the classes."""
    if path.is_dir():
        return _of_folder(path, sample_rate, length)
    if not path.exists():
        raise FileNotFoundError(f"audio: no file and no folder {path}; want {', '.join(SUFFIXES)}, .npz, or a folder")
    files.regular(path)
    if path.suffix.lower() == ".npz":
        return _of_arrays(path, sample_rate, length, label)
    x = read(path, sample_rate)
    if (most := len(x) // HELD_OUT) < length:
        raise ValueError(
            f"{path}: of {len(x)} samples a twentieth, for validation or test, is no window of {length}; "
            + (f"set length to at most {most}" if most else "give a longer recording, or a folder")
        )
    ends = len(x) - 2 * (len(x) // HELD_OUT), len(x) - len(x) // HELD_OUT
    pieces = zip(("train", "valid", "test"), np.split(x, ends), strict=True)
    return {split: (_windows(piece, length), None) for split, piece in pieces}, ()


def _of_folder(path, sample_rate, length):
    recordings = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and not file.is_dir())
    if not recordings:
        raise FileNotFoundError(f"audio: no {', '.join(SUFFIXES)} in {path}")
    _check_length(path, len(recordings), length)
    classes = tuple(sorted({str(file.parent.relative_to(path)) for file in recordings}))
    parts, sizes = {}, []
    for split, chosen in _split(len(recordings), path, "files").items():
        sounds = [read(recordings[i], sample_rate) for i in chosen]
        sizes += map(len, sounds)
        windows = [_windows(x, length) for x in sounds]
        own = [classes.index(str(recordings[i].parent.relative_to(path))) for i in chosen]
        parts[split] = np.concatenate(windows), np.repeat(own, [len(w) for w in windows])
    sizes = np.array(sizes)
    added, left = np.maximum(length - sizes, 0).sum(), np.where(sizes > length, sizes % length, 0).sum()
    logging.info(
        "%s: %d of %d files are shorter than a window: %d samples of silence added to %d; %d left behind last windows",
        *(path, np.sum(sizes < length), len(sizes), added, sizes.sum(), left),
    )
    if len(classes) == 1:
        return {split: (x, None) for split, (x, _) in parts.items()}, ()
    return parts, classes


def _of_arrays(path, sample_rate, length, label):
    arrays = files.load_npz(path, ("x", "sample_rate", label))
    x = arrays.get("x", np.zeros(0))
    if x.ndim != 2 or x.dtype != np.int16:
        raise ValueError(f"{path}: wants an array x, int16 [N, T]; found {x.dtype} {list(x.shape)}")
    rate = arrays.get("sample_rate", np.array(sample_rate))
    if rate.ndim or rate.dtype.kind not in "iuf":
        raise ValueError(f"{path}: sample_rate must be one number, found {rate.dtype} {list(rate.shape)}")
    if rate != sample_rate:
        raise ValueError(f"{path} is at {rate} samples a second; set sample_rate to {rate}")
    if x.shape[1] < length:
        raise ValueError(f"{path}: its windows have {x.shape[1]} samples; set length to at most {x.shape[1]}")
    if label in arrays and arrays[label].shape != (len(x),):
        raise ValueError(f"{path}: {len(x)} windows, but {label!r} has the shape {list(arrays[label].shape)}")
    if label in arrays and arrays[label].dtype.kind not in "biuSU":
        raise ValueError(f"{path}: {label!r} must be integers or strings, found {arrays[label].dtype}")
    classes, labels = np.unique(arrays[label], return_inverse=True) if label in arrays else ((), None)
    parts = {}
    for split, chosen in _split(len(x), path, "windows").items():
        windows = [_windows(x[i], length) for i in chosen]
        own = None if labels is None else np.repeat(labels[chosen], len(windows[0]))
        parts[split] = np.concatenate(windows), own
    return parts, tuple(map(str, classes))


def _split(number, path, things):
    """{split: indices}, by a permutation of seed `SPLIT_SEED`."""
    held_out = number // HELD_OUT
    if not held_out:
        raise ValueError(f"{path}: {number} {things} are too few for three splits: at least {HELD_OUT}")
    order = np.random.default_rng(SPLIT_SEED).permutation(number)
    return {"test": order[:held_out], "valid": order[held_out : 2 * held_out], "train": order[2 * held_out :]}


def _windows(x, length):
    """[N, length]: whole windows, or the one that silence fills up."""
    if len(x) < length:
        x = np.pad(x, (0, length - len(x)))
    return x[: len(x) // length * length].reshape(-1, length)


def _encoded(encoding, x, labels, *, where):
    loud = np.abs(x.astype(np.int32)).max(axis=1) > SILENT
    if not loud.all():
        logging.info("%s, %s: %d of %d windows are silent and left out", *where, np.sum(~loud), len(loud))
    if not loud.any():
        raise ValueError(f"{where[0]}: its {where[1]} split has no sound: {len(loud)} windows, all silent")
    return encoding.encode(x[loud]), None if labels is None else labels[loud].astype(np.int32)
