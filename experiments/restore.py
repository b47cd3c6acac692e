"""Restore degraded test images with a trained model, and score the restorations beside plain baselines.

    vae-jax restore --workdir=DIR --degradation=half [--options="{'side': 'top'}"] [--method=ordered]
    vae-jax restore --workdir=DIR                    a run that is conditional on a degraded image

Degradations: half, square (inpainting), downsample (super-resolution), blur, jpeg, identity (noise). Methods are those
of `vae_jax.tasks.restore` and `vae_jax.tasks.denoise`: exact, enumerated, ordered, importance, annealed, conditional,
replaced, guided, twisted; by default the first that the model allows. Prints a Markdown table of PSNR, SSIM, log-score,
CRPS, coverage of 50 and 90 % intervals and the misfit to y; writes restored.json, .npz and .png.
"""

from absl import app, flags

from vae_jax.runs import launching

WORKDIR = flags.DEFINE_string("workdir", None, "A folder of a trained model.", required=True)
DEGRADATION = flags.DEFINE_string("degradation", None, "half, square, downsample ...; default: that of the run.")
OPTIONS = flags.DEFINE_string("options", "{}", "Options of the degradation, such as \"{'size': (7, 7)}\".")
METHOD = flags.DEFINE_string("method", None, "exact, importance, guided ...; default: what the model allows.")
METHOD_OPTIONS = flags.DEFINE_string("method_options", "{}", "Options of the method, such as \"{'num_samples': 500}\".")
NUM_IMAGES = flags.DEFINE_integer("num_images", 50, "How many test images.", lower_bound=1)
NUM_DRAWS = flags.DEFINE_integer("num_draws", 19, "How many draws of each.", lower_bound=2)
SEED = flags.DEFINE_integer("seed", 0, "Another seed gives other noise and other draws.", lower_bound=0)
OUT = flags.DEFINE_string("out", None, "The folder to write; default: restored in the workdir.")
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "A step, or best: of the validation bound; default: the last.")


@launching.launched
def main(argv):
    del argv
    from vae_jax.runs import restoring

    degradation = launching.options("options", OPTIONS.value)
    if degradation and not DEGRADATION.value:
        raise ValueError("--options are those of a degradation; give --degradation, too")
    degradation = {"name": DEGRADATION.value, **degradation} if DEGRADATION.value else None
    results = restoring.measure(
        WORKDIR.value,
        degradation,
        METHOD.value,
        out=OUT.value,
        num_images=NUM_IMAGES.value,
        num_draws=NUM_DRAWS.value,
        seed=SEED.value,
        options=launching.options("method_options", METHOD_OPTIONS.value),
        checkpoint=CHECKPOINT.value,
    )
    print(f"{restoring.table(results)}\n\n{results['seconds']:.0f} s")


if __name__ == "__main__":
    app.run(main, flags_parser=launching.parse_flags)
