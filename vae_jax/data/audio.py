"""Sound as series of levels, and back: `load(path)`, `Encoding`.

Recordings are mixed to one channel, resampled to one rate and cut into windows of equal length. Each sample becomes one
of 256 levels by the µ-law of telephony (ITU-T G.711 without its piecewise lines), which is finer for soft sounds, or
one of 65,536, which keeps all 16 bits.
"""

import dataclasses
from pathlib import Path

import numpy as np
from absl import logging

from vae_jax.data import files, recordings, synthetic
from vae_jax.spec import BadOption, integers, one_of

LEVELS = {"mu_law": 256, "linear": 2**16}
SPLIT_SEED = 0
HELD_OUT = 20  # one of so many files (windows of an array) is for validation, one for test
SILENT = 2**15 / 1000  # 60 dB below full scale


@dataclasses.dataclass(frozen=True)
class Encoding:
    """The encoding of a sample s = pcm / 2¹⁵ in [-1, 1) as a level v in 0 .. V-1: v = round((f(s) + 1) / 2 · (V - 1)).

    "mu_law": f(s) = sign(s) log(1 + µ|s|) / log(1 + µ), µ = 255, V = 256. "linear": f(s) = s, V = 65,536, so that v is
    pcm + 2¹⁵.
    """

    sample_rate: int  # samples per second
    companding: str

    @property
    def num_levels(self):
        """The number V of levels."""
        return LEVELS[self.companding]

    def encode(self, pcm):
        """Return the levels of int16 samples, uint8 or uint16. decode(encode(decode(v))) = decode(v)."""
        if self.companding == "linear":
            return (np.asarray(pcm, np.int32) + 2**15).astype(np.uint16)
        s = np.asarray(pcm, np.float32) / 2**15
        f = np.sign(s) * np.log1p(255 * np.abs(s)) / np.log(256)
        return np.round((f + 1) / 2 * 255).astype(np.uint8)

    def decode(self, levels):
        """Return the int16 samples of levels of any type."""
        if self.companding == "linear":
            return (np.asarray(levels, np.int32) - 2**15).astype(np.int16)
        f = np.asarray(levels, np.float32) / 255 * 2 - 1
        s = np.sign(f) * np.expm1(np.abs(f) * np.log(256)) / 255
        return np.clip(np.round(s * 2**15), -(2**15), 2**15 - 1).astype(np.int16)


def load(path=None, *, sample_rate=8000, length=4000, companding="mu_law", label="label"):
    """Return {split: (levels [N, length], label [N] or None)}, the `Encoding`, and the names of the classes.

    A file of a folder that is shorter than a window is filled up with silence, which a model predicts like everything
    else. The samples of a longer file after its last whole window are dropped. Silent windows are left out. The log
    gives these numbers.

    Args:
      path: a sound file, whose end is held out; a folder of them, split by file, where folders within it are classes;
        or an .npz with windows `x`, int16 [N, T], at `sample_rate`. None for sung vowels (`synthetic.vowels`).
      sample_rate: samples per second. Sound files of other rates are resampled.
      length: samples per window.
      companding: "mu_law" for 256 levels, "linear" for 65,536.
      label: the name of the classes in the .npz.

    Raises FileNotFoundError for missing files, `BadOption` for options out of range, and `ValueError` for files that
    are not sound or have lost their end and for too little sound for three splits.
    """
    one_of(LEVELS, companding=companding)
    integers(sample_rate=sample_rate, at_least=recordings.RATES[0], at_most=recordings.RATES[1])
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
    """Raise `ValueError` if windows of `length` do not fit into memory: they take 16 bytes per sample while made."""
    remedy = f"lower length, which is {length}"
    files.check_memory(f"{where}: {number} windows of {length} samples", 16 * number * length, remedy)


def _parts(path, sample_rate, length, label):
    """Return {split: (pcm windows, labels or None)} and the names of the classes."""
    if path.is_dir():
        return _of_folder(path, sample_rate, length)
    if not path.exists():
        allowed = ", ".join(recordings.SUFFIXES)
        raise FileNotFoundError(f"audio: no file or folder {path}; give {allowed}, .npz, or a folder of sound files")
    files.regular(path)
    if path.suffix.lower() == ".npz":
        return _of_arrays(path, sample_rate, length, label)
    return _of_file(path, sample_rate, length)


def _of_file(path, sample_rate, length):
    x = recordings.read(path, sample_rate)
    if (most := len(x) // HELD_OUT) < length:
        raise ValueError(
            f"{path}: a twentieth of its {len(x)} samples, for validation or test, is no window of {length}; "
            + (f"set length to at most {most}" if most else "give a longer recording, or a folder")
        )
    ends = len(x) - 2 * (len(x) // HELD_OUT), len(x) - len(x) // HELD_OUT
    pieces = zip(("train", "valid", "test"), np.split(x, ends), strict=True)
    return {split: (_windows(piece, length), None) for split, piece in pieces}, ()


def _of_folder(path, sample_rate, length):
    sounds = (file for file in path.rglob("*") if file.suffix.lower() in recordings.SUFFIXES and not file.is_dir())
    sounds = sorted(sounds)
    if not sounds:
        raise FileNotFoundError(f"audio: no {', '.join(recordings.SUFFIXES)} in {path}")
    _check_length(path, len(sounds), length)
    classes = tuple(sorted({str(file.parent.relative_to(path)) for file in sounds}))
    parts, sizes = {}, []
    for split, chosen in _split(len(sounds), path, "files").items():
        samples = [recordings.read(sounds[i], sample_rate) for i in chosen]
        sizes += map(len, samples)
        windows = [_windows(x, length) for x in samples]
        labels = [classes.index(str(sounds[i].parent.relative_to(path))) for i in chosen]
        parts[split] = np.concatenate(windows), np.repeat(labels, [len(w) for w in windows])
    _log_sizes(path, np.array(sizes), length)
    if len(classes) == 1:
        return {split: (x, None) for split, (x, _) in parts.items()}, ()
    return parts, classes


def _log_sizes(path, sizes, length):
    added, dropped = np.maximum(length - sizes, 0).sum(), np.where(sizes > length, sizes % length, 0).sum()
    logging.info(
        "%s: %d of %d files are shorter than a window: %d samples of silence added to %d; %d dropped at the ends",
        *(path, np.sum(sizes < length), len(sizes), added, sizes.sum(), dropped),
    )


def _of_arrays(path, sample_rate, length, label):
    arrays = files.load_npz(path, ("x", "sample_rate", label))
    _check_arrays(path, arrays, sample_rate, length, label)
    x = arrays["x"]
    classes, labels = np.unique(arrays[label], return_inverse=True) if label in arrays else ((), None)
    parts = {}
    for split, chosen in _split(len(x), path, "windows").items():
        windows = [_windows(x[i], length) for i in chosen]
        repeated = None if labels is None else np.repeat(labels[chosen], len(windows[0]))
        parts[split] = np.concatenate(windows), repeated
    return parts, tuple(map(str, classes))


def _check_arrays(path, arrays, sample_rate, length, label):
    x = arrays.get("x", np.zeros(0))
    if x.ndim != 2 or x.dtype != np.int16:
        raise ValueError(f"{path}: an array x, int16 [N, T], is required; got {x.dtype} {list(x.shape)}")
    rate = arrays.get("sample_rate", np.array(sample_rate))
    if rate.ndim or rate.dtype.kind not in "iuf":
        raise ValueError(f"{path}: sample_rate must be one number, got {rate.dtype} {list(rate.shape)}")
    if rate != sample_rate:
        raise ValueError(f"{path}: it has {rate} samples per second; set sample_rate to {rate}")
    if x.shape[1] < length:
        raise ValueError(f"{path}: its windows have {x.shape[1]} samples; set length to at most {x.shape[1]}")
    if label in arrays and arrays[label].shape != (len(x),):
        raise ValueError(f"{path}: {len(x)} windows, but {label!r} has the shape {list(arrays[label].shape)}")
    if label in arrays and arrays[label].dtype.kind not in "biuSU":
        raise ValueError(f"{path}: {label!r} must be integers or strings, got {arrays[label].dtype}")


def _split(number, path, things):
    """Return {split: indices}, by a permutation of seed `SPLIT_SEED`."""
    held_out = number // HELD_OUT
    if not held_out:
        raise ValueError(f"{path}: {number} {things} are too few for three splits; give at least {HELD_OUT}")
    order = np.random.default_rng(SPLIT_SEED).permutation(number)
    return {"test": order[:held_out], "valid": order[held_out : 2 * held_out], "train": order[2 * held_out :]}


def _windows(x, length):
    """Return [N, length]: whole windows, or one that is filled up with silence."""
    if len(x) < length:
        x = np.pad(x, (0, length - len(x)))
    return x[: len(x) // length * length].reshape(-1, length)


def _encoded(encoding, x, labels, *, where):
    loud = np.abs(x.astype(np.int32)).max(axis=1) > SILENT
    if not loud.all():
        logging.info("%s, %s: %d of %d windows are silent and left out", *where, np.sum(~loud), len(loud))
    if not loud.any():
        raise ValueError(f"{where[0]}: its {where[1]} split has no sound: all of its {len(loud)} windows are silent")
    return encoding.encode(x[loud]), None if labels is None else labels[loud].astype(np.int32)
