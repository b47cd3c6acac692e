"""Estimates of log p(x) of a GAN and of a VAE under the same Gaussian noise, by annealed importance sampling.

    python -m experiments.benchmarks.gan_likelihood [--gan=DIR --vae=DIR] [--scales=0.1,0.2] [--num_images=50]

arXiv:1611.04273. Both decoders have noise of the same scale s: p(x|z) = N(G(z), s² I), x in [0, 1]. Without workdirs,
`gan_digits` and a VAE of the same data, codes and layers are trained first; the VAE's own noise is fitted. A row is a
model and a scale: the mean of AIS over test and training images ± its standard error, and on as many draws of the model
the gap between the bounds of bidirectional Monte Carlo, which limits the error of AIS there. Numbers are nats of the
dequantised levels: bounds of log P(levels), and bits/dim of them. Writes gan_likelihood.json.

Result (seed 0, 10,000 steps each, 50 images of each kind; 3.3 minutes of CPU time without training), nats:

    model   s     AIS, test          AIS, training      AIS, drawn         BDMC gap
    gan     0.1   -141.28 ± 1.63     -135.91 ± 1.44     -144.79 ± 0.67      1.07 ± 0.24
    gan     0.2   -159.19 ± 0.54     -157.38 ± 0.57     -181.37 ± 0.70      0.24 ± 0.10
    vae     0.1   -188.51 ± 4.02     -185.36 ± 5.30     -133.05 ± 0.79      0.17 ± 0.09
    vae     0.2   -166.47 ± 1.03     -165.71 ± 1.33     -174.62 ± 0.80     -0.05 ± 0.06

The VAE was trained with a noise for each pixel: its ELBO is then -134.6 (validation), and 6 of 16 codes are active. One
noise for all pixels costs it more than the GAN. The gaps are those of draws; AIS of test images may be less tight.
"""

import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from absl import app, flags

from vae_jax import files
from vae_jax.runs import build, configs, launching, observation, train
from vae_jax.spec import numbers

GAN = flags.DEFINE_string("gan", "", "A workdir of a GAN; empty to train one.")
VAE = flags.DEFINE_string("vae", "", "A workdir of a VAE of the same data; empty to train one.")
SCALES = flags.DEFINE_list("scales", ["0.1", "0.2"], "Standard deviations s of the noise, pixels in [0, 1].")
NUM_IMAGES = flags.DEFINE_integer("num_images", 50, "Test, training and drawn images, as many each.", lower_bound=2)
NUM_TEMPERATURES = flags.DEFINE_integer("num_temperatures", 300, "Of annealing.", lower_bound=1)
NUM_CHAINS = flags.DEFINE_integer("num_chains", 8, "For an image.", lower_bound=1)
NUM_STEPS = flags.DEFINE_integer("num_steps", 0, "Of training; 0 for those of the configs.", lower_bound=0)
OUT = flags.DEFINE_string("out", "gan_likelihood.json", "The file of the numbers.")


def vae_config():
    """Return the config of a VAE of the data of `gan_digits`, with as many codes and layers as its generator."""
    config, gan = configs.find("vae_digits"), configs.find("gan_digits")
    config.data.transform = gan.data.transform
    config.model.latent_dim = gan.model.latent_dim
    config.model.encoder.hidden = config.model.decoder.hidden = gan.model.generator.hidden
    config.model.likelihood = {"name": "normal_shared_scale"}
    return config


def measure(folder, scales, *, num_images, **path) -> list:
    """Return a row, a dict, for each scale of the run in `folder`."""
    experiment = build.build_trained(folder)
    params = build.restore(folder, experiment).params
    if experiment.context is not None:
        raise ValueError(f"{folder}: conditional models are not compared here; give unconditional ones")
    splits = {name: jax.tree.map(lambda a: a[:num_images], experiment.split(name)) for name in ("test", "train")}
    dim, rows = np.prod(experiment.event.shape), []
    for scale in scales:
        began, model = time.perf_counter(), observation.observed(experiment, scale)
        row = {"family": experiment.config["family"], "scale": scale}
        for name, data in splits.items():
            values = observation.of_data(experiment, model, params, data, **path)
            row |= {name: report_mean(values["log_prob"]), f"{name}_acceptance": float(values["acceptance"].mean())}
        both = observation.gap(experiment, model, params, num_images=num_images, **path)
        row |= {"drawn": report_mean(both["lower"]), "gap": report_mean(both["upper"] - both["lower"])}
        row |= {"bits_per_dim": -row["test"][0] / (dim * np.log(2)), "seconds": time.perf_counter() - began}
        rows.append(row)
    return rows


def report_mean(values):
    values = np.asarray(values, np.float64)
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def table(rows) -> str:
    lines = [
        "| model | s | AIS, test | AIS, training | bits/dim, test | drawn | BDMC gap |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        test, training, drawn, gap = (
            f"{m:.2f} ± {e:.2f}" for m, e in (row[n] for n in ("test", "train", "drawn", "gap"))
        )
        cells = (row["family"], f"{row['scale']:g}", test, training, f"{row['bits_per_dim']:.3f}", drawn, gap)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def trained(config, folder):
    """Train `config` in `folder`, and return the folder."""
    config = config.to_dict()
    config["train"]["num_steps"] = NUM_STEPS.value or config["train"]["num_steps"]
    config["eval"] |= {"num_samples": 50, "num_test": 50}  # which are not used here
    train.complete(config, folder, figures=False)
    return folder


@launching.launched
def main(argv):
    del argv
    scales = [float(scale) for scale in SCALES.value]
    for scale in scales:
        numbers(scales=scale, above=0)
    path = {"num_temperatures": NUM_TEMPERATURES.value, "num_chains": NUM_CHAINS.value}
    with tempfile.TemporaryDirectory() as folder:
        gan = GAN.value or trained(configs.find("gan_digits"), Path(folder) / "gan")
        vae = VAE.value or trained(vae_config(), Path(folder) / "vae")
        rows = [row for run in (gan, vae) for row in measure(run, scales, num_images=NUM_IMAGES.value, **path)]
    print(table(rows))
    files.write_json(Path(OUT.value), {"rows": rows, "path": path, "num_images": NUM_IMAGES.value})
    print(f"\n{path}; numbers in {OUT.value}")


if __name__ == "__main__":
    app.run(main, flags_parser=launching.parse_flags)
