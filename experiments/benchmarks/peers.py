"""One training job, done the way other libraries do it: the peers of the speed benchmark.

The peers live in an environment of their own, so that nothing of theirs becomes a dependency here:

    python -m venv peers
    peers/bin/pip install torch pythae numpyro flax optax keras jax
    peers/bin/python experiments/benchmarks/peers.py --peer=torch --job=mlp --data=images.npy --seconds=20

On a machine without an accelerator a CPU build of torch is enough. `images.npy` holds uint8 images [N, 28, 28, 1]; the
last thousand are held out. One line of JSON goes to standard output.

Both jobs maximise the ELBO of a VAE with Bernoulli pixels, drawn anew from x / 255 at every visit: analytic KL, one
sample, Adam 1e-3, shuffled batches of 128.

    mlp    784-500-20-500-784, ReLU
    conv   convolutions to 32 and 64 channels, dense to 32 latents, dense to 3136, transposed convolutions back;
           kernel 4, stride 2, padding 1, ReLU

Peers: `torch` (tuned: data in one tensor, fused Adam, channels last, and the loss compiled, for which it needs a C++
compiler), `torch_eager` (the same, not compiled), `pythae` (its trainer), `numpyro` (SVI in `lax.scan`), `flax` (one
jitted step called from Python) and `keras` (`fit`, on its JAX backend).
"""

import argparse
import functools
import itertools
import json
import math
import os
import statistics
import tempfile
import time
from importlib.metadata import version

import numpy as np

STARTED = time.perf_counter() - time.process_time()  # the interpreter's start and the imports above count
BATCH = 128
HELD_OUT = 1000
EVERY = 50  # steps between two looks at the clock, where looking means waiting for the device
WARM_UP = 2.0  # seconds after the first step
WINDOWS = 10


class Stopwatch:
    """A function of the number of steps since the last call, which returns True when it is time to stop."""

    def __init__(self, seconds, max_steps):
        self.seconds, self.max_steps = seconds, max_steps
        self.steps, self.first_step_s, self.opened = 0, None, None
        self.rates = []  # images/s, one per window

    def __call__(self, steps):
        now = time.perf_counter() - STARTED
        self.steps += steps
        self.first_step_s = self.first_step_s or now
        if self.opened is None:
            if now > self.first_step_s + WARM_UP:
                self.opened = now, self.steps
        elif now > self.opened[0] + self.seconds / WINDOWS:
            self.rates.append(BATCH * (self.steps - self.opened[1]) / (now - self.opened[0]))
            self.opened = now, self.steps
        return len(self.rates) == WINDOWS or self.steps >= self.max_steps


def batches(count):
    """Yield shuffled epochs of indices [BATCH] without end; `count` is a multiple of BATCH."""
    rng = np.random.default_rng(0)
    while True:
        yield from rng.permutation(count).reshape(-1, BATCH)


def train(step, wait, count, watch):
    """Call `step(indices)` until the watch says stop, and `wait(its result)` only before reading the clock."""
    for number, index in enumerate(batches(count)):
        result = step(index)
        if number % EVERY == 0:
            wait(result)
            if watch(EVERY if number else 1):
                return


def torch_networks(job):
    """Return the encoder to (mean, log scale) [B, 2D] and the decoder to logits [B, 1, 28, 28]."""
    from torch import nn

    if job == "mlp":
        encoder = [nn.Flatten(), nn.Linear(784, 500), nn.ReLU(), nn.Linear(500, 40)]
        decoder = [nn.Linear(20, 500), nn.ReLU(), nn.Linear(500, 784), nn.Unflatten(1, (1, 28, 28))]
    else:
        encoder = [nn.Conv2d(1, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU()]
        encoder += [nn.Flatten(), nn.Linear(3136, 64)]
        decoder = [nn.Linear(32, 3136), nn.ReLU(), nn.Unflatten(1, (64, 7, 7))]
        decoder += [nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(32, 1, 4, 2, 1)]
    return nn.Sequential(*encoder), nn.Sequential(*decoder)


def torch_tuned(job, images, held_out, watch, compiled=True):
    import torch
    from torch.nn import functional as F

    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count())
    torch.set_flush_denormal(True)  # Adam's moments of dead units decay into denormals
    device = "cuda" if torch.cuda.is_available() else "cpu"
    layout = torch.channels_last if job == "conv" else torch.contiguous_format
    networks = torch.nn.ModuleList(torch_networks(job)).to(device, memory_format=layout)
    encoder, decoder = networks
    adam = torch.optim.Adam(networks.parameters(), lr=1e-3, fused=True)
    images, held_out = (torch.from_numpy(x).reshape(-1, 1, 28, 28).to(device) for x in (images, held_out))

    def negative_elbo(pixels):
        x = torch.bernoulli(pixels / 255).contiguous(memory_format=layout)
        mean, log_scale = encoder(x).chunk(2, dim=1)
        logits = decoder(mean + log_scale.exp() * torch.randn_like(mean))
        kl = 0.5 * (mean**2 + (2 * log_scale).exp() - 1 - 2 * log_scale).sum()
        return (F.binary_cross_entropy_with_logits(logits, x, reduction="sum") + kl) / len(x)

    def step(index, loss_of=negative_elbo):
        adam.zero_grad()
        loss = loss_of(images[torch.from_numpy(index).to(device)])
        loss.backward()
        adam.step()
        return loss

    if compiled:
        step = functools.partial(step, loss_of=torch.compile(negative_elbo))
    train(step, torch.Tensor.item, len(images), watch)
    with torch.no_grad():
        return -negative_elbo(held_out).item()


def torch_eager(*arguments):
    return torch_tuned(*arguments, compiled=False)


def pythae(job, images, held_out, watch):
    import logging

    os.environ["TQDM_DISABLE"] = "1"
    import torch
    from pythae.data.datasets import BaseDataset, DatasetOutput
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    logging.disable(logging.WARNING)
    encoder, decoder = torch_networks(job)

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.network = encoder

        def forward(self, x):
            mean, log_variance = self.network(x).chunk(2, dim=1)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.network = decoder

        def forward(self, z):
            return ModelOutput(reconstruction=self.network(z).sigmoid())

    class DynamicallyBinarised(BaseDataset):
        def __getitem__(self, index):
            return DatasetOutput(data=torch.bernoulli(self.data[index]))

    class TimeIsUp(Exception):
        pass

    class Watch(TrainingCallback):
        def on_train_step_end(self, training_config, **kwargs):
            if watch(1):
                raise TimeIsUp

    model = VAE(VAEConfig(input_dim=(1, 28, 28), latent_dim=20, reconstruction_loss="bce"), Encoder(), Decoder())
    data = torch.from_numpy(images).reshape(-1, 1, 28, 28) / 255
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder, per_device_train_batch_size=BATCH, learning_rate=1e-3, num_epochs=10**6
        )
        trainer = BaseTrainer(
            model, DynamicallyBinarised(data, torch.zeros(len(data))), training_config=config, callbacks=[Watch()]
        )
        try:
            trainer.train()
        except TimeIsUp:
            pass
    with torch.no_grad():
        x = torch.from_numpy(held_out).reshape(-1, 1, 28, 28).to(trainer.device) / 255
        return -model.eval()({"data": x}).loss.item()


def flax_networks(job):
    """Return the encoder to (mean, log scale) [B, 2D], the decoder to logits [B, 28, 28, 1], and D."""
    from flax import linen as nn

    def flatten(x):
        return x.reshape(len(x), -1)

    if job == "mlp":
        encoder = [flatten, nn.Dense(500), nn.relu, nn.Dense(40)]
        decoder = [nn.Dense(500), nn.relu, nn.Dense(784), lambda x: x.reshape(-1, 28, 28, 1)]
        return nn.Sequential(encoder), nn.Sequential(decoder), 20
    window = {"kernel_size": (4, 4), "strides": (2, 2)}  # "SAME" pads by one here
    encoder = [nn.Conv(32, **window), nn.relu, nn.Conv(64, **window), nn.relu, flatten, nn.Dense(64)]
    decoder = [nn.Dense(3136), nn.relu, lambda x: x.reshape(-1, 7, 7, 64)]
    decoder += [nn.ConvTranspose(32, **window), nn.relu, nn.ConvTranspose(1, **window)]
    return nn.Sequential(encoder), nn.Sequential(decoder), 32


def flax(job, images, held_out, watch):
    import jax
    import jax.numpy as jnp
    import optax
    from flax.training.train_state import TrainState

    encoder, decoder, latents = flax_networks(job)
    images = jnp.asarray(images)

    def negative_elbo(params, pixels, key):
        pixels_key, latent_key = jax.random.split(key)
        x = jax.random.bernoulli(pixels_key, pixels / 255).astype(jnp.float32)
        mean, log_scale = jnp.split(encoder.apply(params["encoder"], x), 2, axis=-1)
        z = mean + jnp.exp(log_scale) * jax.random.normal(latent_key, mean.shape)
        logits = decoder.apply(params["decoder"], z)
        kl = 0.5 * jnp.sum(mean**2 + jnp.exp(2 * log_scale) - 1 - 2 * log_scale)
        return ((jax.nn.softplus(logits) - x * logits).sum() + kl) / len(x)

    @functools.partial(jax.jit, donate_argnums=0)
    def train_step(state, images, index, key):
        loss, gradient = jax.value_and_grad(negative_elbo)(
            state.params, images[index], jax.random.fold_in(key, state.step)
        )
        return state.apply_gradients(grads=gradient), loss

    encoder_key, decoder_key, key = jax.random.split(jax.random.key(0), 3)
    params = {
        "encoder": encoder.init(encoder_key, jnp.zeros((1, 28, 28, 1))),
        "decoder": decoder.init(decoder_key, jnp.zeros((1, latents))),
    }
    state = TrainState.create(apply_fn=None, params=params, tx=optax.adam(1e-3))

    def step(index):
        nonlocal state
        state, loss = train_step(state, images, index, key)
        return loss

    train(step, jax.block_until_ready, len(images), watch)
    return -float(jax.jit(negative_elbo)(state.params, held_out, key))


def numpyro(job, images, held_out, watch):
    import jax
    import jax.numpy as jnp
    from numpyro import distributions as dist
    from numpyro import optim, plate, sample
    from numpyro.contrib.module import flax_module
    from numpyro.infer import SVI, TraceMeanField_ELBO

    encoder, decoder, latents = flax_networks(job)
    images = jnp.asarray(images)

    def model(x):
        decode = flax_module("decoder", decoder, input_shape=(1, latents))
        with plate("images", len(x)):
            z = sample("z", dist.Normal(jnp.zeros(latents), 1).to_event(1))
            sample("x", dist.Bernoulli(logits=decode(z)).to_event(3), obs=x)

    def guide(x):
        encode = flax_module("encoder", encoder, input_shape=(1, 28, 28, 1))
        with plate("images", len(x)):
            mean, log_scale = jnp.split(encode(x), 2, axis=-1)
            sample("z", dist.Normal(mean, jnp.exp(log_scale)).to_event(1))

    # The sum over the batch where the other peers take the mean: Adam does not see the factor.
    svi = SVI(model, guide, optim.Adam(1e-3), TraceMeanField_ELBO())

    @functools.partial(jax.jit, donate_argnums=0)
    def steps(state, images, indices, key):
        def step(state, index_and_key):
            index, key = index_and_key
            x = jax.random.bernoulli(key, images[index] / 255).astype(jnp.float32)
            return svi.update(state, x)

        return jax.lax.scan(step, state, (indices, jax.random.split(key, len(indices))))

    held_out = jnp.asarray(held_out, jnp.float32) / 255
    key = jax.random.key(0)
    state = svi.init(key, held_out[:BATCH])
    stream = batches(len(images))
    for number in itertools.count():
        indices = np.stack(list(itertools.islice(stream, EVERY)))
        state, loss = steps(state, images, indices, jax.random.fold_in(key, number))
        loss.block_until_ready()
        if watch(EVERY):
            return -float(jax.jit(svi.evaluate)(state, held_out)) / len(held_out)


def keras(job, images, held_out, watch):
    os.environ["KERAS_BACKEND"] = "jax"
    import keras
    from keras import layers, ops

    class VAE(keras.Model):
        def __init__(self):
            super().__init__()
            self.encoder = keras.Sequential([layers.Flatten(), layers.Dense(500, "relu"), layers.Dense(40)])
            self.decoder = keras.Sequential([layers.Dense(500, "relu"), layers.Dense(784)])
            self.seed = keras.random.SeedGenerator(0)

        def call(self, pixels):
            probability = ops.cast(pixels, "float32") / 255
            x = ops.cast(keras.random.uniform(ops.shape(pixels), seed=self.seed) < probability, "float32")
            mean, log_scale = ops.split(self.encoder(x), 2, axis=-1)
            logits = self.decoder(mean + ops.exp(log_scale) * keras.random.normal(ops.shape(mean), seed=self.seed))
            kl = 0.5 * ops.sum(mean**2 + ops.exp(2 * log_scale) - 1 - 2 * log_scale, axis=-1)
            x = ops.reshape(x, ops.shape(logits))
            cross_entropy = ops.sum(ops.binary_crossentropy(x, logits, from_logits=True), axis=-1)
            self.add_loss(ops.mean(cross_entropy + kl))
            return logits

    class Watch(keras.callbacks.Callback):
        unseen = 0

        def on_train_batch_end(self, batch, logs=None):
            self.unseen += 1
            if batch % EVERY == 0:
                float(logs["loss"])  # waits for the step
                self.model.stop_training = watch(self.unseen)
                self.unseen = 0

    model = VAE()
    model.compile(optimizer=keras.optimizers.Adam(1e-3, epsilon=1e-8))
    model.fit(images, batch_size=BATCH, epochs=10**6, shuffle=True, verbose=0, callbacks=[Watch()])
    return -model.evaluate(held_out, batch_size=len(held_out), verbose=0)


MLP, BOTH = ("mlp",), ("mlp", "conv")
PEERS = {  # name: (function, jobs, the packages whose versions matter)
    "torch": (torch_tuned, BOTH, ["torch"]),
    "torch_eager": (torch_eager, BOTH, ["torch"]),
    "pythae": (pythae, MLP, ["pythae", "torch"]),
    "numpyro": (numpyro, MLP, ["numpyro", "flax", "jax", "jaxlib"]),
    "flax": (flax, BOTH, ["flax", "optax", "jax", "jaxlib"]),
    "keras": (keras, MLP, ["keras", "jax", "jaxlib"]),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", choices=PEERS, required=True)
    parser.add_argument("--job", choices=BOTH, default="mlp")
    parser.add_argument("--data", required=True, help="uint8 images [N, 28, 28, 1], a .npy file")
    parser.add_argument("--seconds", type=float, default=20.0, help="of steady training to measure")
    parser.add_argument("--max-steps", type=float, default=math.inf, help="stop here first, for equal work")
    options = parser.parse_args()
    train_with, jobs, packages = PEERS[options.peer]
    if options.job not in jobs:
        parser.error(f"--peer={options.peer} does --job={'|'.join(jobs)}, not {options.job}")

    # Where another process holds a core, GNU OpenMP's default spinning at barriers costs torch a factor of forty.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    images = np.load(options.data)
    # Black and white pixels stay as they are wherever a peer binarises them again.
    held_out = 255 * np.random.default_rng(1).binomial(1, images[-HELD_OUT:] / 255).astype(np.uint8)
    images = images[: (len(images) - HELD_OUT) // BATCH * BATCH]
    watch = Stopwatch(options.seconds, options.max_steps)
    elbo = train_with(options.job, images, held_out, watch)
    report = {
        "peer": options.peer,
        "job": options.job,
        "images_per_s": statistics.median(watch.rates) if watch.rates else None,
        "images_per_s_range": [min(watch.rates), max(watch.rates)] if watch.rates else None,
        "first_step_s": watch.first_step_s,
        "elbo": elbo,
        "steps": watch.steps,
        "versions": {package: version(package) for package in packages},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
