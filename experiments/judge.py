"""Compare the codes of trained models with judges of the images: what does a latent mean?

    vae-jax judge --workdirs='runs/frey/members/*' --judges=yaw,smile --out=DIR [--block=50]

A judge is a function images [N, H, W, C] -> numbers [N] that does not know the codes: `smile` and `yaw` are rules for
Frey's film of one face, `label` is the class as a number, and MODULE:FUNCTION is your own. The table has Spearman's
rank correlation of the best latent with each judge, and the p-value of a permutation test in which blocks of --block
successive images stay together, as in a film neighbours are alike. Axes are turned to follow the judges on training
images, and tested on test images. With two judges each run has a figure of the turned plane; the first is to the right.
"""

from absl import app, flags

from vae_jax.runs import launching

WORKDIRS = flags.DEFINE_multi_string(  # the name of a member may contain a comma
    "workdirs", None, "Folders of trained models, as a pattern of a shell; may be repeated.", required=True
)
JUDGES = flags.DEFINE_list("judges", ["yaw", "smile"], "smile, yaw, label, or MODULE:FUNCTION.")
BLOCK = flags.DEFINE_integer("block", 50, "Successive images that stay together.", lower_bound=1)
PERMUTATIONS = flags.DEFINE_integer("permutations", 999, "Permutations of the blocks.", lower_bound=1)
OUT = flags.DEFINE_string("out", None, "A folder for tables and figures.", required=True)


@launching.launched
def main(argv):
    del argv
    from vae_jax.runs import judged

    options = {"names": JUDGES.value, "block": BLOCK.value, "num_permutations": PERMUTATIONS.value}
    print(f"\n{judged.table(WORKDIRS.value, OUT.value, **options)}\ntables and figures in {OUT.value}")


if __name__ == "__main__":
    app.run(main, flags_parser=launching.parse_flags)
