"""Many seeds in one program against one run after another: seconds per member, with compilation.

    python -m experiments.benchmarks.sweep [--job=small|mlp] [--members=1,2,4,8,16] [--steps=N] [--rounds=3]

`small` is 64-64-8-64-64 on scikit-learn's digits, batch 64; `mlp` 784-500-20-500-784 on 28x28 images, batch 128; both
with dynamic binarisation and Adam. `one device` is a plain vmap, `a core each` the members spread over one host device
a core. Every measurement is a process of its own; all take turns, `--rounds` times; medians.
"""

import json
import os
import statistics
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
from absl import app, flags

from vae_jax.runs.launching import launched, parse_flags

JOB = flags.DEFINE_enum("job", "small", ["small", "mlp"], "Which model.")
MEMBERS = flags.DEFINE_list("members", ["1", "2", "4", "8", "16"], "Numbers of members.")
STEPS = flags.DEFINE_integer("steps", 0, "Training steps; default: 10,000 small, 1,000 mlp.")
CHUNK = flags.DEFINE_integer("chunk", 250, "Steps a compiled call.")
ROUNDS = flags.DEFINE_integer("rounds", 3, "How often every measurement takes its turn.")
WORKER = flags.DEFINE_string("worker", None, "Internal: MEMBERS,DEVICES to measure here; 0 members: a lone run.")


def work(job, members, devices, steps):
    """Return the seconds to compile and to run."""
    from vae_jax import models
    from vae_jax.configs import vae_digits
    from vae_jax.data import pipeline, sources, transforms
    from vae_jax.data.values import event_of
    from vae_jax.training import gradient, loop, sharding, sweep

    dataset = sources.load("digits" if job == "small" else "fashion_mnist", None)
    config = vae_digits.get_config().model
    config.latent_dim, config.encoder.hidden = (8, (64,)) if job == "small" else (20, (500,))
    config.decoder.hidden = config.encoder.hidden
    model = models.from_config("vae", config.to_dict(), event=event_of(dataset, "binarize"))
    learner = gradient.gradient(model, gradient.optimizer(name="adam", learning_rate=1e-3))

    def stream_of(seed):
        options = {"batch_size": 64 if job == "small" else 128, "transform": transforms.binarize}
        return pipeline.stream(dataset.train, seed=seed, max_value=dataset.max_value, **options)

    if members:
        learner = sweep.together(lambda values, one=learner: one, {})
        stream = sweep.streams_together([stream_of(seed) for seed in range(members)])
        key, mesh = jnp.stack([jax.random.key(seed) for seed in range(members)]), sharding.member_mesh(devices)
    else:
        stream, key, mesh = stream_of(0), jax.random.key(0), sharding.single()
    began = time.perf_counter()
    state, _, record = loop.start(learner, stream, key, mesh=mesh)
    feed = loop.feed_of(stream, 0, CHUNK.value, mesh)
    chunk = loop.compile_chunk(learner, stream, state, feed, CHUNK.value, mesh)
    compiled = time.perf_counter()
    frozen = sharding.place_members(mesh, record["diverged"])
    for _ in range(steps // CHUNK.value):
        state, metrics = chunk(state, feed, *frozen)
        jax.block_until_ready(metrics)
    bytes_of_one = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) / max(members, 1)
    return {"compile": compiled - began, "run": time.perf_counter() - compiled, "bytes": bytes_of_one}


@launched
def main(argv):
    del argv
    steps = STEPS.value or (10_000 if JOB.value == "small" else 1_000)
    if WORKER.value:
        members, devices = map(int, WORKER.value.split(","))
        print(json.dumps(work(JOB.value, members, devices, steps)))
        return
    cores = os.cpu_count()
    cases = [(0, 1)] + [(int(m), d) for m in MEMBERS.value for d in {1, cores} if int(m) % d == 0]
    measured = {case: [] for case in cases}
    for _ in range(ROUNDS.value):
        for members, devices in cases:
            command = [sys.executable, "-m", "experiments.benchmarks.sweep", f"--worker={members},{devices}"]
            command += [f"--job={JOB.value}", f"--steps={steps}", f"--chunk={CHUNK.value}"]
            devices_flag = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
            done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"XLA_FLAGS": devices_flag})
            if done.returncode:
                raise ValueError(done.stderr.strip()[-400:])
            measured[members, devices].append(json.loads(done.stdout.strip().splitlines()[-1]))
            print(".", end="", flush=True, file=sys.stderr)
    median = {
        case: {name: statistics.median(r[name] for r in reports) for name in reports[0]}
        for case, reports in measured.items()
    }
    alone = median[0, 1]["compile"] + median[0, 1]["run"]
    compiled, ran, size = (median[0, 1][name] for name in ("compile", "run", "bytes"))
    print(f"\n{JOB.value}, {steps} steps; alone {compiled:.1f} s compiling, {ran:.1f} s running, {size / 2**10:.0f} kB")
    print("members  one after another  one device: all, a member, x a run   a core each: all, a member, x a run")
    for members in map(int, MEMBERS.value):
        cells = []
        for devices in (1, cores):
            if (members, devices) in median:
                total = median[members, devices]["compile"] + median[members, devices]["run"]
                cells.append(f"{total:8.1f} s {total / members:6.2f} s {total / alone:6.2f}")
        print(f"{members:7d}  {members * alone:15.1f} s  " + "          ".join(cells))


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
