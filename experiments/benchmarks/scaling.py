"""Speed against batch, width and number of members, from the 784-500-20-500-784 job outwards.

Speed is images per second, and the fraction of this machine's matrix products.

    python -m experiments.benchmarks.scaling [--batch=32,128,512] [--width=250,500,2000] [--members=1,2,4] [--seconds=3]

One axis grows at a time; the others stay at batch 128, width 500, one member. A larger batch needs fewer steps for the
same images, but also learns less from each image: more images per second are not more nats per second.
"""

import time

import jax
import jax.numpy as jnp
from absl import app, flags

from vae_jax import models
from vae_jax.configs import vae_digits
from vae_jax.data import pipeline, sources, transforms
from vae_jax.data.values import event_of
from vae_jax.runs.launching import launched, parse_flags
from vae_jax.training import cost, gradient, loop, sharding, sweep

BATCH = flags.DEFINE_list("batch", ["32", "128", "512", "2048"], "Batch sizes.")
WIDTH = flags.DEFINE_list("width", ["125", "500", "2000"], "Widths of the two hidden layers.")
MEMBERS = flags.DEFINE_list("members", ["1", "2", "4"], "Members of one program.")
DTYPE = flags.DEFINE_string("compute_dtype", "float32", "What the networks compute in.")
SECONDS = flags.DEFINE_float("seconds", 3.0, "Of training for each measurement.")
CHUNK = 20


def measure(dataset, batch_size, width, members):
    """Return (images/s of all members, FLOP/s, state in bytes) of one setting."""
    config = vae_digits.get_config().model
    config.latent_dim, config.encoder.hidden, config.decoder.hidden = 20, (width,), (width,)
    config.compute_dtype = DTYPE.value
    model = models.from_config("vae", config.to_dict(), event=event_of(dataset, "binarize"))
    one = gradient.gradient(model, gradient.optimizer(name="adam", learning_rate=1e-4))

    def stream_of(seed):
        options = {"transform": transforms.binarize, "max_value": dataset.max_value}
        return pipeline.stream(dataset.train, seed=seed, batch_size=batch_size, **options)

    lone = stream_of(0)
    batch = {"x": jax.ShapeDtypeStruct((batch_size, *dataset.train.x.shape[1:]), jnp.float32)}
    shapes = loop.state_shapes(one, lone)
    flop, size = cost.step_flop(one, shapes, batch), sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(shapes))
    learner, stream, key, mesh = one, lone, jax.random.key(0), sharding.single()
    if members > 1:
        learner, mesh = sweep.together(lambda values: one, {}), sharding.member_mesh(1)
        stream = sweep.streams_together([stream_of(seed) for seed in range(members)])
        key = jnp.stack([jax.random.key(seed) for seed in range(members)])
    state, _, record = loop.start(learner, stream, key, mesh=mesh)
    feed = loop.feed_of(stream, 0, CHUNK, mesh)
    chunk = loop.compile_chunk(learner, stream, state, feed, CHUNK, mesh)
    frozen, rates, began = sharding.place_members(mesh, record["diverged"]), [], time.perf_counter()
    while time.perf_counter() - began < SECONDS.value or len(rates) < 3:
        start = time.perf_counter()
        state, metrics = chunk(state, feed, *frozen)
        jax.block_until_ready(metrics)
        rates.append(CHUNK / (time.perf_counter() - start))
    steps_per_s = sorted(rates)[len(rates) // 2] * members
    return steps_per_s * batch_size, steps_per_s * flop, size * members


@launched
def main(argv):
    del argv
    dataset = sources.load("fashion_mnist", None)
    start = (128, 500, 1)
    settings = [start] + [(int(b), *start[1:]) for b in BATCH.value] + [(start[0], int(w), 1) for w in WIDTH.value]
    settings += [(*start[:2], int(m)) for m in MEMBERS.value]
    peak = cost.matmul_rate()
    print(f"{jax.devices()[0].device_kind}: matrix products {peak / 1e9:.0f} GFLOP/s in float32; {DTYPE.value}\n")
    print("batch  width  members  images/s   GFLOP/s  of peak  state, MB")
    for setting in dict.fromkeys(settings):
        images, flops, size = measure(dataset, *setting)
        shown = f"{images:9.0f} {flops / 1e9:9.0f} {flops / peak:8.2f} {size / 2**20:10.1f}"
        print("{:5d} {:6d} {:8d} ".format(*setting) + shown, flush=True)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
