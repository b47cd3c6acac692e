"""Measure and draw a trained model again, with other numbers of samples or on other data if wished.

    vae-jax evaluate --workdir=DIR [--checkpoint=best] [--num_samples=5000] [--num_test=0]
    vae-jax evaluate --workdir=DIR --quality
    vae-jax evaluate --workdir=DIR --ladder
    vae-jax evaluate --workdir=DIR --data=images --data_path=FOLDER [--split=all]

The first writes evaluation.json (the flat keys of results.json) and the figures into the workdir. The second adds how
near samples are to test images: Fréchet and kernel distance, precision, recall, density and coverage. The third
measures all bounds of log p(x) that a diffusion model or a continuous flow has. The fourth measures the model on data
of your own and writes evaluation-NAME.json; results.json and the figures stay as they are.
"""

from absl import app, flags

from vae_jax.runs import launching

WORKDIR = flags.DEFINE_string("workdir", None, "The folder of a trained model.", required=True)
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "A step, or best: of the validation bound; default: the last.")
NUM_SAMPLES = flags.DEFINE_integer("num_samples", None, "K of the importance-weighted bound; default: the config's.")
NUM_TEST = flags.DEFINE_integer("num_test", None, "Test examples, 0 for all; default: the config's, all of --data.")
FIGURES = flags.DEFINE_bool("figures", True, "Draw the figures as well.")
FORMATS = flags.DEFINE_list("formats", ["png"], "What figures are written as: png, pdf, svg; several with commas.")
QUALITY = flags.DEFINE_bool("quality", False, "Measure the samples too, on features of images.")
LADDER = flags.DEFINE_bool("ladder", False, "Measure all bounds of log p(x) that the model has.")
DATA = launching.define_data(split="test")


@launching.launched
def main(argv):
    del argv
    from vae_jax.runs import evaluate

    options = {"num_samples": NUM_SAMPLES.value, "num_test": NUM_TEST.value}
    options |= {"figures": FIGURES.value, "formats": FORMATS.value}
    options |= {"samples_quality": QUALITY.value, "all_bounds": LADDER.value}
    print(f"\n{evaluate.again(WORKDIR.value, checkpoint=CHECKPOINT.value, source=DATA(), **options)}")


if __name__ == "__main__":
    app.run(main, flags_parser=launching.parse_flags)
