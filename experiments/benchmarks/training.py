"""Images per second of one training job, also as a fraction of the machine's matrix products.

    python -m experiments.benchmarks.training [--job=mlp|conv|evaluate] [--data=NAME] [--path=DIR]
    python -m experiments.benchmarks.training --peers=torch,flax --peer_python=PYTHON   (see benchmarks/peers.py)
    python -m experiments.benchmarks.training --input   (reading, and the job with images resident or streamed)

`mlp` is 784-500-20-500-784, `conv` two strided convolutions each way (32-64 channels, 32 latents), both at batch 128
with dynamic binarisation and Adam; `evaluate` is an importance-weighted bound with 5000 samples of a 784-200-200-50
model. Every run is a process of its own and the peers take turns with us, `--rounds` times, so that a drift of the
machine's speed meets all alike; medians are printed, and the ELBO each has when it stops: after `--seconds`, or
after `--max_steps` steps.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import app, flags

from experiments.benchmarks.peers import BATCH, EVERY, HELD_OUT, Stopwatch
from vae_jax.runs.build import process_start
from vae_jax.runs.launching import launched, parse_flags

JOB = flags.DEFINE_enum("job", "mlp", ["mlp", "conv", "evaluate"], "What to run.")
DATA = flags.DEFINE_string("data", "fashion_mnist", "A 28x28 data set: its pixels, not its name, matter to speed.")
DATA_PATH = flags.DEFINE_string("path", None, "Where the data set is.")
PEERS = flags.DEFINE_list("peers", [], "Peers to run in turn with us.")
PEER_PYTHON = flags.DEFINE_string("peer_python", sys.executable, "The Python of the peers' environment.")
SECONDS = flags.DEFINE_float("seconds", 10.0, "Of steady training to measure in each run.")
ROUNDS = flags.DEFINE_integer("rounds", 3, "How often everybody takes a turn.")
MAX_STEPS = flags.DEFINE_float("max_steps", float("inf"), "Stop here: to compare ELBOs at equal work.")
INPUT = flags.DEFINE_bool("input", False, "Measure the input pipeline, by threads and by 1, 2 and 4 processes.")
WORKER = flags.DEFINE_string("worker", None, "Internal: run the job on this file of images and print one JSON line.")

NETWORKS = {
    "mlp": (20, {"name": "mlp", "hidden": (500,)}, {"name": "mlp", "hidden": (500,)}),
    "conv": (32, {"name": "conv_encoder", "channels": (32, 64)}, {"name": "conv_decoder", "channels": (64, 32)}),
    "evaluate": (50, *[{"name": "mlp", "hidden": (200, 200), "activation": "tanh"}] * 2),
}


def model_of(job):
    from vae_jax import models
    from vae_jax.core import Event
    from vae_jax.support import Binary

    latent_dim, encoder, decoder = NETWORKS[job]
    config = {
        "latent_dim": latent_dim,
        "encoder": encoder,
        "decoder": decoder,
        "posterior": {"name": "normal"},
        "likelihood": {"name": "bernoulli"},
        "objective": {"name": "elbo"},
    }
    return models.from_config("vae", config, event=Event((28, 28, 1), Binary()))


def train(job, images):
    """Run our side of the training jobs: the loop's compiled chunk, timed as often as a peer."""
    import jax

    from vae_jax.data import pipeline, transforms, values
    from vae_jax.evaluation import likelihood
    from vae_jax.training import cost, gradient, loop

    model = model_of(job)
    learner = gradient.gradient(model, gradient.optimizer(name="adam", learning_rate=1e-3))
    split = values.Split(images[:-HELD_OUT], None)
    stream = pipeline.stream(split, seed=0, batch_size=BATCH, transform=transforms.binarize, max_value=255)
    state, _, _ = loop.start(learner, stream, jax.random.key(0))
    feed = loop.feed_of(stream, 0, EVERY)
    chunk = loop.compile_chunk(learner, stream, state, feed, EVERY)
    watch = Stopwatch(SECONDS.value, MAX_STEPS.value)
    begun, first_chunk, done = time.time(), None, False
    while not done:
        state, metrics = chunk(state, feed)
        jax.block_until_ready(metrics)
        first_chunk = first_chunk or time.time() - begun
        done = watch(EVERY)
    held_out = np.random.default_rng(1).binomial(1, images[-HELD_OUT:] / 255).astype(np.float32)
    elbo = likelihood.elbo_terms(model, learner.params(state), jax.random.key(1), {"x": held_out})["bound"].mean()
    shapes = {"x": jax.ShapeDtypeStruct((BATCH, *images.shape[1:]), np.float32)}
    flop = cost.step_flop(learner, jax.eval_shape(lambda: state), shapes)
    return {
        "images_per_s": statistics.median(watch.rates) if watch.rates else None,
        "first_step_s": begun + first_chunk / EVERY - process_start(),
        "elbo": float(elbo),
        "steps": watch.steps,
        "flop_per_image": flop / BATCH if flop and job == "mlp" else None,
    }


def inputs(file, chunk=100):
    """Print images/s of reading and of training, in turn, and the share of training that waits for data."""
    import jax

    from vae_jax.data import pipeline, transforms, values
    from vae_jax.training import gradient, loop

    learner = gradient.gradient(model_of("mlp"), gradient.optimizer(name="adam", learning_rate=1e-3))
    images = values.Split(np.load(file, mmap_mode="r"), None)

    def stream(**options):
        return pipeline.stream(
            images, seed=0, batch_size=BATCH, transform=transforms.binarize, max_value=255, **options
        )

    def take_turns(stream, compiled=None, state=None):
        step, resident = 0, None if stream.streamed else loop.feed_of(stream, 0, chunk)
        while True:
            done, waited, began = 0, 0.0, time.perf_counter()
            while time.perf_counter() < began + SECONDS.value:
                asked = time.perf_counter()
                feed = resident or loop.feed_of(stream, step, chunk)
                waited += time.perf_counter() - asked
                if compiled:
                    state, metrics = compiled(state, feed)
                    jax.block_until_ready(metrics)
                step, done = step + chunk, done + chunk
            seconds = time.perf_counter() - began
            yield BATCH * done / seconds, waited / seconds

    def training(stream):
        state, _, _ = loop.start(learner, stream, jax.random.key(0))
        compiled = loop.compile_chunk(learner, stream, state, loop.feed_of(stream, 0, chunk), chunk)
        return take_turns(stream, compiled, state)

    ways = {"threads": 0} | {f"{n} process{'es' if n > 1 else ''}": n for n in (1, 2, 4)}
    turns = {f"reading, {way}": take_turns(stream(memory_limit=0, num_workers=n)) for way, n in ways.items()}
    turns["training, resident"] = training(stream())
    turns |= {f"training, {way}": training(stream(memory_limit=0, num_workers=n)) for way, n in list(ways.items())[:3]}
    measured = {name: [] for name in turns}
    for number in range(ROUNDS.value + 1):
        for name, turn in turns.items():
            result = next(turn)
            if number:  # the first turn fills what is read ahead
                measured[name].append(result)
    for name, results in measured.items():
        rates, waits = zip(*results, strict=True)
        spread = f"({min(rates) / 1e3:.1f} .. {max(rates) / 1e3:.1f})"
        print(f"{name:22s} {statistics.median(rates) / 1e3:8.1f}k images/s  {spread:20s}", end="")
        print("" if "reading" in name else f" waiting for data {statistics.median(waits):.1%}")


def evaluate(images, num_images=200, num_samples=5000):
    """Run our side of the evaluation job, and compare it with the matrix products that it needs."""
    import jax

    from vae_jax.evaluation import likelihood

    model = model_of("evaluate")
    data = {"x": np.random.default_rng(1).binomial(1, images[:num_images] / 255).astype(np.float32)}
    params = model.init(jax.random.key(0), data)
    run = lambda: likelihood.log_likelihood(model, params, jax.random.key(1), data, num_samples=num_samples)  # noqa: E731
    run()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    seconds = statistics.median(times) / num_images
    return {"images_per_s": 1 / seconds, "times_the_products": seconds / decoder_products(num_samples)}


def decoder_products(num_samples, chunk=1250):
    """Return the seconds of the decoder's three matrix products for `num_samples` codes."""
    import jax.numpy as jnp

    from vae_jax.training.cost import seconds_of

    weights = [jnp.ones((i, o)) for i, o in ((50, 200), (200, 200), (200, 784))]
    seconds = seconds_of(lambda z: z @ weights[0] @ weights[1] @ weights[2], jnp.ones((chunk, 50)))
    return seconds * num_samples / chunk


def work(job, file):
    """Run one job in this process and print a JSON line."""
    from vae_jax.training.cost import matmul_rate

    images = np.load(file)
    report = evaluate(images) if job == "evaluate" else train(job, images)
    report["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    report["matmul_gflop_per_s"] = matmul_rate(tries=9, repeats=20) / 1e9
    if report.get("flop_per_image") and report["images_per_s"]:
        report["fraction_of_peak"] = (
            report["flop_per_image"] * report["images_per_s"] / (report["matmul_gflop_per_s"] * 1e9)
        )
    print(json.dumps({"peer": "vae_jax", "job": job, **report}))


def in_turn(job, file):
    """Run all in turn, `--rounds` times, and return {name: [report, ...]}."""
    limits = [f"--seconds={SECONDS.value}", f"--max_steps={MAX_STEPS.value}"]
    commands = {
        "vae_jax": [
            sys.executable,
            "-m",
            "experiments.benchmarks.training",
            f"--worker={file}",
            f"--job={job}",
            *limits,
        ]
    }
    script = str(Path(__file__).with_name("peers.py"))
    for peer in PEERS.value:
        options = [f"--peer={peer}", f"--job={job}", f"--data={file}"]
        peer_limits = [limit.replace("max_steps", "max-steps") for limit in limits]
        commands[peer] = [PEER_PYTHON.value, script, *options, *peer_limits]
    reports = {name: [] for name in commands}
    for _ in range(ROUNDS.value):
        for name, command in commands.items():
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise ValueError(f"{name} failed (see experiments/benchmarks/peers.py): {done.stderr.strip()[-400:]}")
            reports[name].append(json.loads(done.stdout.strip().splitlines()[-1]))
            print(".", end="", flush=True, file=sys.stderr)
    return reports


def print_table(reports):
    print(f"\n{'':12s} images/s  (min .. max)        us/them  first step    ELBO")
    median = {name: statistics.median(r["images_per_s"] for r in runs) for name, runs in reports.items()}
    for name, runs in reports.items():
        rates = [r["images_per_s"] for r in runs]
        first = statistics.median(r.get("first_step_s") or np.nan for r in runs)
        elbo = statistics.median(r.get("elbo") or np.nan for r in runs)
        spread, ratio = f"({min(rates):.0f} .. {max(rates):.0f})", median["vae_jax"] / median[name]
        print(f"{name:12s} {median[name]:8.0f}  {spread:19s} {ratio:6.2f} {first:9.1f} s  {elbo:9.2f}")
    ours = reports["vae_jax"]
    peak = statistics.median(r["matmul_gflop_per_s"] for r in ours)
    line = f"matrix products {peak:.0f} GFLOP/s, peak memory {max(r['peak_memory_mb'] for r in ours):.0f} MB"
    if "times_the_products" in ours[0]:
        line += f", {statistics.median(r['times_the_products'] for r in ours):.2f} x the decoder's own matrix products"
    if "fraction_of_peak" in ours[0]:
        line += f", fraction of the matrix-product rate {statistics.median(r['fraction_of_peak'] for r in ours):.2f}"
    print(line)


@launched
def main(argv):
    del argv
    if WORKER.value:
        work(JOB.value, WORKER.value)
        return
    from vae_jax.data import sources

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "images.npy"
        np.save(file, sources.load(DATA.value, DATA_PATH.value).train.x)
        if INPUT.value:
            inputs(file)
            return
        print_table(in_turn(JOB.value, file))


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
