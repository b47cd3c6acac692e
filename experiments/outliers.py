"""Measure how well a trained model separates images that are unlike its data from those that are like them.

    vae-jax outliers --workdir=DIR --outliers=fashion_mnist [--outliers_path=DIR] [--num_images=1000]
    vae-jax outliers --workdir=DIR --outliers=left_out

Inliers are test images of the run's data. Outliers are test images of another data set, transformed in the same way, or
all images of the classes in `config.data.leave_out`. The scores are those of `tasks.outliers`; a score that the model
does not allow is named with the reason. Prints a Markdown table; writes outliers.json and figures/outliers.png, a
histogram of -log p(x), into the workdir.
"""

from absl import app, flags

from vae_jax.runs import launching

WORKDIR = flags.DEFINE_string("workdir", None, "A folder of a trained model.", required=True)
OUTLIERS = flags.DEFINE_string("outliers", None, "A data set, or left_out: the run's own classes.", required=True)
OUTLIERS_PATH = flags.DEFINE_string("outliers_path", None, "Where its files are; default: where usually found.")
NUM_IMAGES = flags.DEFINE_integer("num_images", 1000, "The most inliers, and the most outliers.", lower_bound=2)
NUM_SAMPLES = flags.DEFINE_integer("num_samples", 200, "K of -log p(x), if it is not exact.", lower_bound=1)
NUM_STEPS = flags.DEFINE_integer("num_steps", 100, "Steps of the likelihood regret's fit of q(z|x).", lower_bound=1)
LEARNING_RATE = flags.DEFINE_float("learning_rate", 0.05, "Of that fit (Adam) at first; it falls to 0 as a cosine.")
CODER = flags.DEFINE_enum("coder", "zlib", ["bz2", "lzma", "zlib"], "Measures the complexity of an image.")


@launching.launched
def main(argv):
    del argv
    from vae_jax.runs import outliers

    results = outliers.measure(
        WORKDIR.value,
        OUTLIERS.value,
        OUTLIERS_PATH.value,
        num_images=NUM_IMAGES.value,
        num_samples=NUM_SAMPLES.value,
        num_steps=NUM_STEPS.value,
        learning_rate=LEARNING_RATE.value,
        coder=CODER.value,
    )
    print(f"{outliers.table(results)}\n\n{results['seconds']:.0f} s; outliers.json and the figure in {WORKDIR.value}")


if __name__ == "__main__":
    app.run(main, flags_parser=launching.parse_flags)
