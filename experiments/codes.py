"""Measure the codes of trained models: classes, clusters, normality, samples.

    vae-jax codes --workdirs='runs/ae_*/members/*' --out=DIR [--num_train=10000] [--num_test=10000]

The workdirs are those of `train` and `sweep`; codes are means of q(z|x). Workdirs that differ only in their seed are
one row of codes.md and codes.csv: means ± standard errors over seeds. planes.png shows the test codes of the first seed
of each row. If the factors of the data are known, as those of dsprites_by_rule, the table has scores of disentanglement
too. DCI takes minutes a run; --trees=0 leaves it out. samples/ has draws from a mixture of --draw=10 Gaussians fitted
to its training codes.
"""

from absl import app, flags

from vae_jax.runs import launching

WORKDIRS = flags.DEFINE_multi_string(  # the name of a member may contain a comma
    "workdirs", None, "Folders of trained models, as a pattern of a shell; may be repeated.", required=True
)
NUM_TRAIN = flags.DEFINE_integer("num_train", 10_000, "Training images that probes learn from.", lower_bound=1)
NUM_TEST = flags.DEFINE_integer("num_test", 10_000, "Test images; normality depends on their number.", lower_bound=1)
DRAW = flags.DEFINE_integer("draw", 10, "Gaussians fitted to the codes for samples; 0: draw none.", lower_bound=0)
TREES = flags.DEFINE_integer("trees", 100, "For each value of a known factor in DCI; 0: no DCI.", lower_bound=0)
OUT = flags.DEFINE_string("out", None, "A folder for tables and figures.", required=True)


@launching.launched
def main(argv):
    del argv
    from vae_jax.runs import codes

    options = {"num_train": NUM_TRAIN.value, "num_test": NUM_TEST.value, "num_components": DRAW.value}
    options["num_trees"] = TREES.value
    print(f"\n{codes.table(WORKDIRS.value, OUT.value, **options)}\ntables and figures in {OUT.value}")


if __name__ == "__main__":
    app.run(main, flags_parser=launching.parse_flags)
