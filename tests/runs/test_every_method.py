"""Every method of a `Run` of every kind of family: a result, or one line that says why there is none."""

import jax
import numpy as np
import pytest
from test_using import begun

import vae_jax
from vae_jax.configs import (
    deep_vae_digits,
    flow_digits,
    gan_digits,
    latent_diffusion_digits,
    pixel_cnn_digits,
    sketch_vae_omniglot,
    text_vae_text,
    vae_counts,
    vae_digits,
    vq_vae_digits,
)
from vae_jax.data import sources
from vae_jax.runs import programs

KINDS = {
    "a VAE": vae_digits,
    "a deep hierarchy": deep_vae_digits,
    "a flow": flow_digits,
    "a GAN": gan_digits,
    "a diffusion of codes": latent_diffusion_digits,
    "pixels in order": pixel_cnn_digits,
    "drawings": sketch_vae_omniglot,
    "sentences": text_vae_text,
    "counts": vae_counts,
    "integer codes": vq_vae_digits,
}
SLOW = ("drawings", "counts", "integer codes")
METHODS = {
    "encode": lambda run, x: run.encode(x[:2]),
    "decode": lambda run, x: run.decode(run.encode(x[:2])),
    "reconstruct": lambda run, x: run.reconstruct(x[:2]),
    "interpolate": lambda run, x: run.interpolate(x[0], x[1], num_steps=3),
    "traverse": lambda run, x: run.traverse(x[0], 0, values=[-1.0, 1.0]),
    "neighbours": lambda run, x: run.neighbours(x[:2], 1, among=x[:3]),
    "sample": lambda run, x: run.sample(2),
    "means": lambda run, x: run.sample(2, mean=True),
    "log_prob": lambda run, x: run.log_prob(x[:2]).log_prob,
    "surprise": lambda run, x: run.score(x[:2], num_samples=2),
    "negative_elbo": lambda run, x: run.score(x[:2], method="negative_elbo", num_samples=2),
    "distortion": lambda run, x: run.score(x[:2], method="distortion"),
    "programs": lambda run, x: [
        jax.eval_shape(program.call, run.params, *(jax.ShapeDtypeStruct(v.shape, v.dtype) for v in program.inputs))
        for program in programs.programs(run.experiment, run.params, num_samples=2).values()
    ],
}


@pytest.fixture(
    scope="module", params=[pytest.param(k, marks=pytest.mark.slow if k in SLOW else pytest.mark.every) for k in KINDS]
)
def begun_run(request, tmp_path_factory):
    run = vae_jax.load(begun(tmp_path_factory.mktemp("begun"), KINDS[request.param]))
    data = run.experiment.config["data"]
    return request.param, run, sources.load(data["name"], data["path"] or None).test.x[:4]


@pytest.mark.parametrize("method", METHODS)
def test_a_result_or_one_line(begun_run, method):
    kind, run, x = begun_run
    if kind == "integer codes" and method in ("interpolate", "traverse", "neighbours"):
        with pytest.raises(ValueError, match="those of this model are integers"):
            METHODS[method](run, x)
        return
    try:
        result = METHODS[method](run, x)
    except ValueError as error:
        assert "\n" not in str(error) and len(str(error)) > 20, error
    else:
        assert jax.tree.leaves(result)
        numbers = [a for a in jax.tree.leaves(result) if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
        assert all(np.isfinite(a).all() for a in numbers)
