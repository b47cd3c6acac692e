"""Write the codes q(z|x) of a trained model: of the run's own data, or of files.

    vae-jax encode --workdir=DIR --out=codes.npz [--split=test|all]
    vae-jax encode --workdir=DIR --out=codes.csv --data=images --data_path=FOLDER

An .npz has the arrays mean [N, D], scale [N, D] if q(z|x) is a diagonal Gaussian, label, class and row. A .csv has the
same as columns. A hierarchy has a mean for each level.
"""

from absl import app, flags

from vae_jax.runs import launching

WORKDIR = flags.DEFINE_string("workdir", None, "The folder of a trained model.", required=True)
OUT = flags.DEFINE_string("out", None, "The file to write, .npz or .csv.", required=True)
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "A step, or best: of the validation bound; default: the last.")
DATA = launching.define_data(split="all")


@launching.launched
def main(argv):
    del argv
    from vae_jax.runs import using

    print(using.encode_files(WORKDIR.value, OUT.value, checkpoint=CHECKPOINT.value, **DATA()))


if __name__ == "__main__":
    app.run(main, flags_parser=launching.parse_flags)
