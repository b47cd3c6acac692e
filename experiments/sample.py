"""Draw from a trained model into files.

    vae-jax sample --workdir=DIR [--num=100] [--seed=0] [--context=3,5] [--temperature=0.7] [--out=FOLDER]

The folder gets samples.npz, its draws `x` on the scale of the data, and for a person samples.png (images), samples.txt
(text), samples.csv (a table) or .wav files (sound).
"""

from absl import app, flags

from vae_jax.runs import launching

WORKDIR = flags.DEFINE_string("workdir", None, "The folder of a trained model.", required=True)
OUT = flags.DEFINE_string("out", None, "The folder to write; default: samples in the workdir.")
NUM = flags.DEFINE_integer("num", 100, "How many draws.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "Another seed gives other draws.", lower_bound=0)
CONTEXT = flags.DEFINE_string("context", None, "Classes (3,5 or names) or a .npy of contexts, in turn; default: all.")
TEMPERATURE = flags.DEFINE_float("temperature", 1.0, "Of text and drawings: below 1 likelier, above 1 more variety.")
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "A step, or best: of the validation bound; default: the last.")


@launching.launched
def main(argv):
    del argv
    from vae_jax.runs import using

    options = {"num": NUM.value, "seed": SEED.value, "context": CONTEXT.value, "temperature": TEMPERATURE.value}
    print(using.sample_files(WORKDIR.value, OUT.value, checkpoint=CHECKPOINT.value, **options))


if __name__ == "__main__":
    app.run(main, flags_parser=launching.parse_flags)
