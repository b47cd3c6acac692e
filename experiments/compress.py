"""Compress data to a file with a trained model, without loss, and back.

    vae-jax compress --workdir=DIR --out=FILE.vjc [--split=test|all] [--num=1000]
    vae-jax compress --workdir=DIR --out=FILE.vjc --data=text --data_path=LINES.txt
    vae-jax compress --workdir=DIR --restore=FILE.vjc --out=FILE.npz

Prints bytes, bits for each dimension and seconds, beside gzip, bz2 and xz of the same values. The file is decompressed
and compared before it is written. It can be read with the same checkpoint, versions and kind of device only; anything
else is refused. Restored data are an array `x` in an .npz, on the scale of the stored data, or lines in a .txt.
"""

from absl import app, flags

from vae_jax.runs import launching

WORKDIR = flags.DEFINE_string("workdir", None, "The folder of a trained model.", required=True)
OUT = flags.DEFINE_string("out", None, "The file to write.", required=True)
RESTORE = flags.DEFINE_string("restore", None, "A compressed file, to restore its data.")
NUM = flags.DEFINE_integer("num", 0, "The first so many examples; 0 for all.", lower_bound=0)
AT_ONCE = flags.DEFINE_integer("at_once", None, "Examples side by side; default: 256, or 64 with bits-back.")
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "A step, or best: of the validation bound; default: the last.")
DATA = launching.define_data(split="test")
OF_COMPRESSION = ("num", "at_once", "data", "data_path", "data_files", "split")


@launching.launched
def main(argv):
    del argv
    from vae_jax.runs import compressed

    if RESTORE.value:
        if given := [f"--{name}" for name in OF_COMPRESSION if flags.FLAGS[name].present]:
            raise ValueError(f"{' and '.join(given)}: the file decides this; leave it out with --restore")
        print(compressed.read(WORKDIR.value, RESTORE.value, OUT.value, checkpoint=CHECKPOINT.value))
        return
    options = {"num": NUM.value, "at_once": AT_ONCE.value, "checkpoint": CHECKPOINT.value}
    print(compressed.write(WORKDIR.value, OUT.value, source=DATA(), **options))


if __name__ == "__main__":
    app.run(main, flags_parser=launching.parse_flags)
