"""Families by the bytes to which they compress the same data, beside their bounds and general coders.

    python -m experiments.benchmarks.compression --workdirs=runs/a,runs/b [--num=1000] [--data=mnist --data_path=DIR]

A row is a run. Its examples are compressed, decompressed and compared. `bytes` is the whole file; `net` is without the
initial bits of bits-back; `bound` is -log2 p(x), or -ELBO of one sample for latent variables. `overhead` is net beyond
the bound. Seconds include compilation. The rows of gzip, bz2 and xz are of the same values, one byte for a level or
eight bits of a binary image, in one piece.

Measured on two busy CPU cores; all came back bit for bit. MNIST, 10,000 test images:

    8 bits, PixelCNN (pixel_cnn_mnist_8bit)   957,629 bytes, 0.977 bits/dim, bound 0.9770, overhead 0.02 %
    8 bits, VQ-VAE with a PixelCNN of codes   1,311,125 bytes, 1.338 bits/dim, bound 1.3377, overhead 0.01 %
    8 bits, VAE (vae_mnist_8bit)              1,326,220 bytes, 1.353 bits/dim, 68 of them initial, bound 1.3532, 0.00 %
    8 bits, gzip, bz2, xz                     1,602,041, 1,386,498, 1,364,348 bytes: 1.635, 1.415, 1.392 bits/dim
    binary, VAE (vae_mnist, 4,000 steps)      184,290 bytes, 0.188 bits/dim, 84 of them initial, overhead 0.16 %
    binary, 500 Bernoullis                    227,414 bytes, 0.232 bits/dim, overhead 0.09 %
    binary, Chow-Liu tree                     243,461 bytes, 0.248 bits/dim, overhead 0.08 %
    binary, independent pixels                371,337 bytes, 0.379 bits/dim, overhead 0.05 %
    binary, gzip, bz2, xz                     321,851, 245,454, 272,636 bytes

A 7-gram of letters needs 10,157 bytes for 400 held-out verses of the King James Bible in lower case, 1.390 bits a
letter; xz 18,148 bytes. A 3-gram of levels (ngram_audio, windows of a second) needs 358,782 bytes for 73 held-out
seconds of speech, 4.915 bits a sample, overhead 0.05 %; bz2 391,982 and xz 395,912 bytes.
"""

from absl import app, flags

from vae_jax.runs import launching

WORKDIRS = flags.DEFINE_list("workdirs", None, "Folders of trained models.", required=True)
NUM = flags.DEFINE_integer("num", 0, "The first so many test examples; 0 for all.", lower_bound=0)
AT_ONCE = flags.DEFINE_integer("at_once", None, "Examples side by side; default: 256, or 64 with bits-back.")
DATA = launching.define_data(split="test")

HEADER = (
    f"{'run':24s}{'family':>18s}{'bytes':>11s}{'bits/dim':>10s}{'net':>11s}{'bits/dim':>10s}{'bound':>9s}"
    f"{'overhead':>10s}{'s to':>8s}{'s back':>8s}"
)


def row(name, m) -> str:
    """Return a line of the table for a `compressed.Measured`."""
    return (
        f"{name[-23:]:24s}{m.family:>18s}{m.total:11,d}{m.bits_per_dim(m.total):10.4f}{m.net:11,.0f}"
        f"{m.bits_per_dim(m.net):10.4f}{m.bound / m.dims:9.4f}{m.overhead:10.2%}{m.seconds[0]:8.0f}{m.seconds[1]:8.0f}"
    )


@launching.launched
def main(argv):
    del argv
    from pathlib import Path

    from vae_jax.runs import compressed

    print(HEADER, flush=True)
    others = {}
    for workdir in WORKDIRS.value:
        try:
            m = compressed.measure(workdir, source=DATA(), num=NUM.value, at_once=AT_ONCE.value)
        except ValueError as error:
            print(f"{Path(workdir).name:24s}  {error}", flush=True)
            continue
        print(row(Path(workdir).name, m), flush=True)
        others[m.others["plain"]] = m
    for m in others.values():
        for name, size in m.others.items():
            print(f"{name:24s}{'':18s}{size:11,d}{m.bits_per_dim(size):10.4f}")


if __name__ == "__main__":
    app.run(main, flags_parser=launching.parse_flags)
