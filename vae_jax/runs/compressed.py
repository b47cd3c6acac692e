"""Compressed files of a trained run: its data, or the data of a user, as bytes and back."""

import bz2
import gzip
import io
import lzma
import math
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from absl import logging

from vae_jax.data import drawings, text
from vae_jax.files import write_bytes, write_text
from vae_jax.runs import build, own_data, report, workdir
from vae_jax.support import Binary
from vae_jax.tasks import compress

OWN_TEST = {"name": None, "path": None, "files": None, "split": "test"}
CODERS = {
    "gzip": lambda b: gzip.compress(b, 9, mtime=0),
    "bz2": bz2.compress,
    "xz": lambda b: lzma.compress(b, preset=9),
}


class Measured(NamedTuple):
    """The compression of a data set by a run."""

    family: str
    number: int  # of examples
    dims: int  # of all examples together; for text, the number of characters, for drawings that of points
    total: int  # bytes of the file
    initial_bits: int
    bound: float | None  # bits by which the model bounds the data: -log₂ p(x), or -ELBO; None if not measured
    seconds: tuple  # of compression and of decompression, with compilation
    others: dict  # {name of a coder: bytes} of the same values

    @property
    def net(self) -> float:
        """The bytes without the initial bits."""
        return self.total - self.initial_bits / 8

    @property
    def overhead(self) -> float:
        """The net bytes beyond the bound, as a share of it."""
        return 8 * self.net / self.bound - 1.0

    def bits_per_dim(self, num_bytes) -> float:
        """Return the bits for each dimension; of text, for each character."""
        return 8 * num_bytes / self.dims


def write(folder, out, *, source, num=0, checkpoint=None, at_once=None) -> str:
    """Compress data with a run into a file. They are decompressed and compared before the file is written.

    Args:
      folder: the workdir of the run.
      out: the file to write.
      source: the options of `own_data.on`: the data of the run or of one's own, and the split.
      num: the first so many examples; 0 for all.
      checkpoint: a step, "best", or None for the last.
      at_once: how many examples are coded side by side; None for a default.

    Returns lines about the file. Raises `ValueError` for a model that cannot compress, for data that do not fit, and
    for a text whose lines the tokens of the model do not restore.
    """
    out = workdir.output_file(out, ".vjc", run=folder, inputs=(source["path"],))
    if not (Path(folder).expanduser() / "results.json").exists():
        logging.warning(
            "%s is not finished. If training goes on, it removes the checkpoint that compresses, and the file can then "
            "not be restored. Compress with a copy in which you do not train (`Run.save`)",
            folder,
        )
    experiment, params = _opened(folder, source, checkpoint)
    test = _examples(experiment, num)
    if experiment.dataset.vocabulary and source["path"]:
        _check_lines(experiment, source["path"], test["x"])
    data, measured = round_trip(experiment, params, test, at_once=at_once)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, data)
    return f"{described(measured)}\n{out}: {len(data):,} bytes"


def read(folder, file, out, *, checkpoint=None) -> str:
    """Decompress a file that `write` wrote with the same run: lines of text (.txt), or an array `x` (.npz).

    Args:
      folder: the workdir of the run.
      file: the compressed file.
      out: the file to write.
      checkpoint: a step, "best", or None for the last: the one that compressed.

    Returns a line about the file. Raises `ValueError` for a damaged file and for another model.
    """
    file = Path(file).expanduser()
    experiment = build.build_trained(folder, with_data=False)
    if experiment.model.fit is not None:  # tables of counts, whose sizes depend on the data
        experiment = build.build_trained(folder)
    suffix = ".txt" if experiment.dataset.vocabulary else ".npz"
    out = workdir.output_file(out, suffix, run=folder, inputs=(file,))
    if not file.is_file():
        raise ValueError(f"--restore={file}: there is no such file")
    params = build.restore(folder, experiment, step=checkpoint).params
    start = time.perf_counter()
    x = compress.decompress(experiment.model, params, file.read_bytes())
    seconds = time.perf_counter() - start
    drawn = experiment.to_stored(x, drawn=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    if experiment.dataset.vocabulary:
        write_text(out, "".join(f"{line}\n" for line in drawn))
    else:
        arrays, buffer = drawn if isinstance(drawn, dict) else {"x": np.asarray(drawn)}, io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        write_bytes(out, buffer.getvalue())
    return f"{len(x)} examples in {out}, {seconds:.1f} s"


def measure(folder, *, source=None, num=0, checkpoint=None, bound=True, at_once=None) -> Measured:
    """Compress and decompress examples with a run, and return the sizes beside those of general coders.

    Args:
      folder: the workdir of the run.
      source: the options of `own_data.on`; None for the test split of the run.
      num: the first so many examples; 0 for all.
      checkpoint: a step, "best", or None for the last.
      bound: False to leave out the bound, which takes a further pass.
      at_once: how many examples are coded side by side.

    Raises `ValueError` if the decompressed data are not equal.
    """
    experiment, params = _opened(folder, source or OWN_TEST, checkpoint)
    test = _examples(experiment, num)
    return round_trip(experiment, params, test, bound=bound, at_once=at_once)[1]


def round_trip(experiment, params, test, *, bound=False, at_once=None) -> tuple:
    """Return the bytes of a batch of examples, and a `Measured`. Raises `ValueError` if they do not come back equal."""
    if experiment.context is not None:
        raise ValueError(
            "this model is conditional, and a file holds no contexts; take a run without config.data.context"
        )
    x, model = np.asarray(test["x"]), experiment.model
    start = time.perf_counter()
    compressed = compress.measured(model, params, x, at_once=at_once)
    middle = time.perf_counter()
    if not np.array_equal(compress.decompress(model, params, compressed.data), x):
        raise ValueError("the decompressed data are not equal to the data; nothing was written")
    seconds = (middle - start, time.perf_counter() - middle)
    plain = plain_bytes(experiment, x)
    return compressed.data, Measured(
        experiment.config["family"],
        len(x),
        _num_symbols(experiment, x, plain),
        len(compressed.data),
        compressed.initial_bits,
        bound_in_bits(experiment, params, test) if bound else None,
        seconds,
        {"plain": len(plain)} | {name: len(coder(plain)) for name, coder in CODERS.items()},
    )


def bound_in_bits(experiment, params, test) -> float:
    """Return -log₂ p(x) of all examples, or the number of bits of a bound with one sample: -ELBO / log 2."""
    measured = report.measure(experiment, params, jax.tree.map(np.asarray, test), num_samples=1)
    log_prob = measured.terms.get("elbo", measured.log_prob)
    return float(-np.sum(log_prob, dtype=np.float64) / math.log(2))


def _num_symbols(experiment, x, plain) -> int:
    """Return the number of characters of a text, of points of drawings, or of entries of other data."""
    if experiment.dataset.vocabulary:
        return len(plain.decode())
    return int(drawings.lengths_of(x).sum()) if experiment.dataset.strokes else math.prod(x.shape)


def plain_bytes(experiment, x) -> bytes:
    """Return the same values as general coders get them: text in UTF-8, bits eight to a byte, levels a byte or two.

    The points of drawings are three numbers of two bytes, without padding.
    """
    if experiment.dataset.vocabulary:
        return "".join(f"{line}\n" for line in experiment.to_stored(x, drawn=True)).encode()
    if experiment.dataset.strokes:
        return x[np.arange(x.shape[1]) < drawings.lengths_of(x)[:, None]].astype("<i2").tobytes()
    if experiment.event.support == Binary():
        return np.packbits(x.astype(np.uint8)).tobytes()
    return x.astype(np.uint8 if x.max() < 256 else "<u2").tobytes()


def described(measured: Measured) -> str:
    """Return lines for a person: sizes, rates and times."""
    m, net = measured, measured.net
    lines = [
        f"{m.number:,} examples, {m.total:,} bytes, {m.bits_per_dim(m.total):.4f} bits/dim: "
        f"{m.others['plain'] / m.total:.2f} times smaller",
        f"without {m.initial_bits:,} initial bits: {net:,.0f} bytes, {m.bits_per_dim(net):.4f} bits/dim",
        "of the same values " + ", ".join(f"{n} {size:,}" for n, size in m.others.items() if n != "plain") + " bytes",
        f"{m.seconds[0]:.1f} s to compress, {m.seconds[1]:.1f} s to decompress and compare",
    ]
    return "\n".join(lines)


def _opened(folder, source, checkpoint) -> tuple:
    """Return the experiment of a run with the data of `source` as its test split, and the parameters."""
    experiment = build.build_trained(folder, with_data=source["name"] is None)
    other = own_data.on(experiment, **source)
    return other, build.restore(folder, experiment, step=checkpoint).params


def _examples(experiment, num) -> dict:
    test = experiment.split("test")
    return jax.tree.map(lambda a: a[:num], test) if num else test


def _check_lines(experiment, path, x):
    """Raise `ValueError` unless the lines of a file come back as they are from the tokens x of all of them."""
    lines, restored = text.read_lines(path), iter(experiment.to_stored(x, drawn=True))
    for number, line in enumerate(lines[: len(x)], 1):
        if line != next(restored, None):
            raise ValueError(
                f"{path}, line {number}: the tokens of this model do not restore it; it is too long, has capitals, "
                "or has characters that the model does not know. Take a lower-case text, and a model of characters "
                "(data.tokens.level=character)"
            )
