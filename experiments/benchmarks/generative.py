"""Training steps of a flow, a diffusion model, a GAN and a deep VAE against the same networks in PyTorch; and draws.

    python -m experiments.benchmarks.generative [--jobs=flow,diffusion,gan,deep_vae] [--peer_python=PYTHON] [--rounds=3]
    python -m experiments.benchmarks.generative --jobs=draws

`flow` is the config `flow_mnist:glow`, with uniform noise. `diffusion` is the U-Net of the config
`diffusion_mnist:epsilon` with a fixed linear schedule, `gan` the players of `gan_mnist` with R1 and R2 at every fourth
step. `deep_vae` is the family of `deep_vae_digits` on binarised 28x28 pixels: widths (32, 48), (2, 3) blocks of latents
of 4 channels. All have batches of 64 images, Adam, and the pixels of `--data`, or
random ones. Our step also measures the other terms of the bound. The twin of PyTorch gets our initial parameters, and
must return our outputs for one batch: the networks are the same (benchmarks/generative_peers.py). Its environment is
that of benchmarks/peers.py. It is compiled if there is a C++ compiler, except the penalties: PyTorch does not compile a
gradient of a gradient.

Every run is a process of its own, and all take turns, `--rounds` times. A row has the median of steps/s, of CPU seconds
of all cores for a step, and of the ratios of the two in the same round. Threads of PyTorch wait for each other in a
loop that takes CPU time. If another process holds a core, this multiplies its time, and both ratios then flatter us.
Therefore `torch_one_thread` runs on one core, not compiled. On a busy machine only its ratio of CPU time has a meaning.
`draws` is one program: 64 images of the U-Net by 1,000 ancestral steps.

Measured on two busy cores, load 4, in CPU seconds a step: U-Net 0.52 (PyTorch on one thread 0.28, ratio 0.55, one
round), GAN 0.077 (0.066, ratio 0.86, median of three). So PyTorch needs less CPU time for both networks. Its runs with
threads on all cores took 3.2 to 4.1 and 0.37 to 0.45, in which waiting counts: no comparison. Draws: 185 ms of CPU a
step, 237 s in all, after 16 s of compilation.

`deep_vae`, seed 0, PyTorch 2.14 (`--peers=torch_one_thread --rounds=1 --seconds=3`, three times), both on one busy
core: 0.335 CPU seconds a step (PyTorch 0.295), ratio 0.90, medians of three (0.92, 0.84, 0.90). The convolutions of a
step, forward and backward (18 GFLOP), took 245 ms when each was timed by itself; the rest is mostly pointwise.
Products of their shapes reach 110 to 150 GFLOP/s, the convolutions 74: moving patches takes the rest. Tried:

* To multiply first and move the few outputs then, where a convolution has more than twice as many inputs as outputs:
  24.5 to 18.6 ms for 64 to 24 channels, 5.5 to 2.9 ms for 96 to 24. It is used now (`networks.conv`). The ratio was
  0.83 before, in one round. Where outputs are as many as inputs or more, this order is twice as slow.
* To add the pieces in place, or first over rows and then over columns: no gain (2.2 ms, as the sum of padded pieces).
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import app, flags

from experiments.benchmarks.generative_peers import BATCH, Clock
from vae_jax.runs.launching import launched, parse_flags

JOBS = flags.DEFINE_list(
    "jobs", ["flow", "diffusion", "gan", "deep_vae"], "What to run: flow, diffusion, gan, deep_vae, draws."
)
PEER_PYTHON = flags.DEFINE_string("peer_python", None, "The Python of an environment with torch; none: only ours.")
PEERS = flags.DEFINE_list("peers", ["torch", "torch_eager", "torch_one_thread"], "Ways in which PyTorch runs.")
DATA_PATH = flags.DEFINE_string("path", None, "The folder of MNIST; none: random pixels, which take the same time.")
SECONDS = flags.DEFINE_float("seconds", 20.0, "Of steady training in each run.")
ROUNDS = flags.DEFINE_integer("rounds", 3, "How often everybody takes a turn.")
STEPS = flags.DEFINE_integer("steps", 1000, "Of ancestral sampling.")
WORKER = flags.DEFINE_string("worker", None, "Internal: run the job in this folder and print one JSON line.")
CONFIGS = {
    "flow": "flow_mnist:glow",
    "diffusion": "diffusion_mnist:epsilon",
    "gan": "gan_mnist",
    "deep_vae": "deep_vae_digits",
}
A_CALL = 10  # steps of one compiled program


def built(job):
    """Return the config of a job, and its model for images of 28x28 pixels."""
    from vae_jax import models
    from vae_jax.core import Event
    from vae_jax.runs import configs
    from vae_jax.support import Binary, Levels

    config = configs.find(CONFIGS[job]).to_dict()
    if job == "diffusion":
        schedule = {"name": "linear", "gamma_min": -13.3, "gamma_max": 5.0, "learned_ends": False}
        config["model"]["schedule"] = schedule
    if job == "deep_vae":
        config["model"] |= {"widths": (32, 48), "blocks": (2, 3), "latent_dim": 4}
    event = Event((28, 28, 1), Binary() if job == "deep_vae" else Levels(256))
    return config, models.from_config(config["family"], config["model"], event=event)


def train(job, folder):
    """Run our side: the loop's compiled chunk. With `first.npz` missing, write it for the twin."""
    import jax

    from vae_jax.data import pipeline, transforms, values
    from vae_jax.training import gradient, loop

    config, model = built(job)
    images = np.load(folder / "images.npy")
    options = config["optimizer"].get("default", config["optimizer"])
    adam = {name: options[name] for name in ("b1", "b2") if name in options}
    learner = gradient.gradient(model, gradient.optimizer(name="adam", learning_rate=options["learning_rate"], **adam))
    transform = transforms.binarize if job == "deep_vae" else transforms.levels
    stream = pipeline.stream(values.Split(images, None), seed=0, batch_size=BATCH, transform=transform, max_value=255)
    state, _, _ = loop.start(learner, stream, jax.random.key(0))
    if not (folder / "first.npz").exists():
        np.savez(folder / "first.npz", **first_outputs(job, config, model, jax.device_get(learner.params(state))))
    feed = loop.feed_of(stream, 0, A_CALL)
    chunk = loop.compile_chunk(learner, stream, state, feed, A_CALL)
    clock = Clock(SECONDS.value)
    while not clock.done:
        state, metrics = chunk(state, feed)
        jax.block_until_ready(metrics)
        clock.tick(A_CALL)
    return clock.report()


def first_outputs(job, config, model, params):
    """Return parameters by name, inputs, and our outputs of both networks, as arrays."""
    import jax

    from vae_jax import networks
    from vae_jax.distributions.hierarchy import noise

    rng, shape = np.random.default_rng(0), (28, 28, 1)
    # Last layers are zero at first, and would hide any difference.
    params = jax.tree.map(lambda a: (a + 0.05 * rng.normal(size=a.shape)).astype(a.dtype), params)
    x = rng.normal(size=(4, *shape)).astype(np.float32)
    if job == "flow":
        x = rng.uniform(0, 256, (4, *shape)).astype(np.float32)

        def log_prob(x):
            z, log_det = model.latent.posterior(params, x, None).flow(params, None).forward_and_log_det(x)
            return model.latent.prior(params).log_prob(z) + log_det

        arrays = {"x": x, "y": jax.jit(jax.vmap(log_prob))(x)}
    elif job == "diffusion":
        t = np.linspace(0, 1, 4, dtype=np.float32)
        network = networks.unet((shape,), **without_name(config["model"]["network"]))
        apply = jax.jit(jax.vmap(lambda v, x, t: network.apply(v, x, t, None)[0], (None, 0, 0)))
        arrays = {"x": x, "t": t, "y": apply(params["network"], x, t)}
    elif job == "deep_vae":
        x, keys = (x > 0).astype(np.float32), jax.random.split(jax.random.key(0), len(x))
        given = jax.vmap(lambda key: noise(key, model.latent.prior(params).shapes))(keys)
        of = jax.jit(jax.vmap(model.latent.evidence, (None, 0, 0)))(params, keys, x)
        y = np.concatenate([np.asarray(of.log_lik)[:, None], of.kl], axis=1)
        arrays = {"x": x, "y": y, "noise_0": given[0], "noise_1": given[1]}
    else:
        z = rng.normal(size=(4, config["model"]["latent_dim"])).astype(np.float32)
        arrays = {"x": x, "z": z}
        for player, outputs, given in (("generator", (shape,), z), ("critic", ((),), x)):
            options = config["model"][player]
            network = getattr(networks, options["name"])(outputs, **without_name(options))
            arrays[f"y_{player}"] = jax.jit(jax.vmap(network.apply, (None, 0)))(params[player], given)[0]
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return arrays | {
        "/".join(str(getattr(key, "key", getattr(key, "idx", ""))) for key in path): leaf for path, leaf in leaves
    }


def without_name(options):
    return {name: option for name, option in options.items() if name != "name"}


def draws():
    """Print the seconds of compilation and of one call: 64 images by `--steps` ancestral steps of the U-Net."""
    import jax

    from vae_jax.distributions.diffusion import reverse

    _, model = built("diffusion")
    params = jax.jit(model.init)(jax.random.key(0), {"x": np.zeros((1, 28, 28, 1), np.float32)})
    one = lambda key: reverse(model.denoiser, params, key, num_steps=STEPS.value, eta=1.0)  # noqa: E731
    keys = jax.random.split(jax.random.key(1), 64)
    began = time.perf_counter(), time.process_time()
    program = jax.jit(jax.vmap(one)).lower(keys).compile()
    compiled = time.perf_counter(), time.process_time()
    x = jax.block_until_ready(program(keys))
    wall, cpu = time.perf_counter() - compiled[0], time.process_time() - compiled[1]
    print(f"draws: {x.shape[0]} images, {STEPS.value} ancestral steps, one program")
    print(f"  compilation {compiled[0] - began[0]:.1f} s ({compiled[1] - began[1]:.1f} s of CPU)")
    print(
        f"  draws       {wall:.1f} s ({cpu:.1f} s of CPU), {1e3 * cpu / STEPS.value:.0f} ms of CPU a step", flush=True
    )


def in_turn(job, folder):
    """Run all in turn, `--rounds` times, and return {name: [report, ...]}."""
    ours = [sys.executable, "-m", "experiments.benchmarks.generative", f"--worker={folder}", f"--jobs={job}"]
    commands = {"vae_jax": [*ours, f"--seconds={SECONDS.value}"]}
    if PEER_PYTHON.value:
        script = str(Path(__file__).with_name("generative_peers.py"))
        config = built(job)[0]
        (Path(folder) / "config.json").write_text(json.dumps(config["model"] | {"optimizer": config["optimizer"]}))
        options = [f"--job={job}", f"--folder={folder}", f"--seconds={SECONDS.value}"]
        modes = {"torch": [], "torch_eager": ["--eager"], "torch_one_thread": ["--eager", "--threads=1"]}
        commands |= {peer: [PEER_PYTHON.value, script, *options, *modes[peer]] for peer in PEERS.value}
    reports = {name: [] for name in commands}
    for _ in range(ROUNDS.value):
        for name, command in commands.items():
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise ValueError(f"{name} failed: {done.stderr.strip()[-800:]}")
            reports[name].append(json.loads(done.stdout.strip().splitlines()[-1]))
    return reports


def print_table(job, reports):
    print(f"\n{job:12s} {'steps/s':>9s} {'CPU s/step':>11s} {'us/them':>9s} {'by CPU':>8s}")
    for name, runs in reports.items():
        steps, cpu = ([run[field] for run in runs] for field in ("steps_per_s", "cpu_s"))
        pairs = list(zip(reports["vae_jax"], runs, strict=True))
        by_wall = statistics.median(us["steps_per_s"] / them["steps_per_s"] for us, them in pairs)
        by_cpu = statistics.median(them["cpu_s"] / us["cpu_s"] for us, them in pairs)
        print(
            f"{name:12s} {statistics.median(steps):9.3f} {statistics.median(cpu):11.3f} {by_wall:9.2f} {by_cpu:8.2f}",
            flush=True,
        )


@launched
def main(argv):
    del argv
    if WORKER.value:
        print(json.dumps(train(JOBS.value[0], Path(WORKER.value))))
        return
    for job in JOBS.value:
        if job == "draws":
            draws()
            continue
        with tempfile.TemporaryDirectory() as folder:
            np.save(Path(folder) / "images.npy", pixels())
            print_table(job, in_turn(job, folder))


def pixels():
    """Return uint8 images [N, 28, 28, 1]."""
    if DATA_PATH.value:
        from vae_jax.data import sources

        return sources.load("mnist", DATA_PATH.value).train.x
    return np.random.default_rng(0).integers(0, 256, (64 * BATCH, 28, 28, 1), dtype=np.uint8)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
