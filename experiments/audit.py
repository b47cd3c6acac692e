"""Audit a trained run: can its log p(x) be trusted?  One page, audit.html and audit.md.

    vae-jax audit --workdir=DIR [--num_images=100] [--counts=1,5,50,500,5000] [--num_temperatures=500]

Measures the ELBO, the bound of K importance samples with its effective samples and tails, annealed importance sampling,
and on draws of the model bidirectional Monte Carlo; the KL of each level of a hierarchy. Checks that the KL in closed
form is that of samples, that a small twin of the model is normalised, that an image has the same number whatever its
batch-mates are, and that a file of the images has the bytes of the bound.
"""

from absl import app, flags

from vae_jax.runs import launching

WORKDIR = flags.DEFINE_string("workdir", None, "A folder of a trained model.", required=True)
NUM_IMAGES = flags.DEFINE_integer("num_images", 100, "How many test images, and as many draws.", lower_bound=4)
COUNTS = flags.DEFINE_list("counts", ["1", "5", "50", "500", "5000"], "Numbers of importance samples.")
NUM_TEMPERATURES = flags.DEFINE_integer("num_temperatures", 500, "Of annealed importance sampling; 0: none.", 0)
NUM_CHAINS = flags.DEFINE_integer("num_chains", 4, "Of each image.", lower_bound=1)
NUM_COMPRESSED = flags.DEFINE_integer("num_compressed", 50, "Images that are compressed; 0: none.", lower_bound=0)
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "A step, or best: of the validation bound; default: the last.")


@launching.launched
def main(argv):
    del argv
    from vae_jax.runs import audit

    record = audit.write(
        WORKDIR.value,
        num_images=NUM_IMAGES.value,
        counts=audit.counts_of(COUNTS.value),
        num_temperatures=NUM_TEMPERATURES.value,
        num_chains=NUM_CHAINS.value,
        num_compressed=NUM_COMPRESSED.value,
        checkpoint=CHECKPOINT.value,
    )
    for row in record["checks"]:
        print(f"{row['verdict']:12}{row['name']}: {row['figure']}")
    print(f"{record['seconds']:.0f} s; page in {WORKDIR.value}/audit.html")


if __name__ == "__main__":
    app.run(main, flags_parser=launching.parse_flags)
