"""The twins in PyTorch of the networks of benchmarks/generative.py, which starts this file.

A twin reads our parameters from a file, must return our outputs for one batch, and then trains on its own. Nothing of
JAX is imported here.
"""

import argparse
import json
import math
import os
import statistics
import time
from pathlib import Path

import numpy as np

BATCH = 64
WARM_UP = 3.0  # seconds after the first call
WINDOWS = 5


class Clock:
    """Steps/s and CPU seconds for a step, medians over the windows of a run."""

    def __init__(self, seconds):
        self.seconds, self.first, self.opened, self.steps = seconds, None, None, 0
        self.rates, self.cpu = [], []

    @property
    def done(self):
        return len(self.rates) == WINDOWS

    def tick(self, steps):
        """Count `steps` that were done since the last call; the first call is compilation."""
        now, cpu = time.perf_counter(), time.process_time()
        self.first = self.first or now
        self.steps += steps
        if self.opened is None:
            if now >= self.first + WARM_UP:
                self.opened = now, cpu, self.steps
        elif now > self.opened[0] + self.seconds / WINDOWS:
            before, cpu_before, steps_before = self.opened
            self.rates.append((self.steps - steps_before) / (now - before))
            self.cpu.append((cpu - cpu_before) / (self.steps - steps_before))
            self.opened = now, cpu, self.steps

    def report(self):
        return {"steps_per_s": statistics.median(self.rates), "cpu_s": statistics.median(self.cpu)}


def parameters(file):
    """Return {name: tensor} in the layout of PyTorch, and the other arrays of the file."""
    import torch

    weights, others = {}, {}
    for name, array in np.load(file).items():
        if "/" not in name:
            others[name] = torch.from_numpy(array)
            continue
        if name.endswith("kernel") and array.ndim > 3:  # [..., k, k, C, F]; transposed ones have C first in PyTorch
            axes = (-2, -1, -4, -3) if "ConvTranspose" in name else (-1, -2, -4, -3)
            array = np.transpose(array, (*range(array.ndim - 4), *(array.ndim + axis for axis in axes)))
        weights[name] = torch.from_numpy(np.ascontiguousarray(array)).requires_grad_()
    return weights, others


class UNet:
    """The twin of `networks.unet`, as a function of its parameters: x [B, C, H, W] and t [B] -> [B, C, H, W]."""

    def __init__(self, weights, options):
        import torch
        from torch.nn import functional

        self.torch, self.f, self.w, self.options = torch, functional, weights, options

    def layer(self, name, n=None):
        """Return the weights and biases of a layer; of block n, if there are several."""
        pair = [self.w.get(f"{name}/{part}") for part in ("kernel", "bias")]
        return pair if n is None else [None if p is None else p[n] for p in pair]

    def dense(self, x, name, n=None):
        kernel, bias = self.layer(name, n)
        y = x @ kernel
        return y if bias is None else y + bias

    def conv(self, x, name, n=None, stride=1):
        kernel, bias = self.layer(name, n)
        return self.f.conv2d(x, kernel, bias, stride, (kernel.shape[-1] - stride) // 2)

    def up(self, x, name, stride=2):
        kernel, bias = self.layer(name)
        return self.f.conv_transpose2d(x, kernel, bias, stride, (kernel.shape[-1] - stride) // 2)

    def norm(self, x, name=None, n=None):
        weight = bias = None
        if name is not None:
            weight, bias = self.w[f"{name}/scale"][n], self.w[f"{name}/bias"][n]
        channels = x.shape[1]
        return self.f.group_norm(x, channels // 8 if channels % 8 == 0 else 1, weight, bias)

    def __call__(self, x, t):
        torch, options, act, root = self.torch, self.options, self.f.silu, "network/params"
        channels = [options["width"] * m for m in options["multipliers"]]
        half = 4 * options["width"] // 4
        frequencies = torch.from_numpy(np.geomspace(0.5, 100.0, half).astype(np.float32))
        angles = t[:, None] * frequencies
        h = self.dense(torch.cat([angles.sin(), angles.cos()], 1), f"{root}/Embedding_0/Dense_0")
        embedding = act(self.dense(act(h), f"{root}/Embedding_0/Dense_1"))
        waves = [f(2.0**n * np.pi * x) for n in options.get("fourier", ()) for f in (torch.sin, torch.cos)]
        h, place, skips = self.conv(torch.cat([x, *waves], 1), f"{root}/Conv_0", stride=options["patch"]), 0, []
        levels, convs, ups = len(channels), 1, 0
        first = levels - options["attention"]  # level with attention
        for level in range(levels):
            if level:
                h, convs = self.conv(h, f"{root}/Conv_{convs}", stride=2), convs + 1
            for n in range(options["num_blocks"]):
                h = self.block(h, None, embedding, f"{root}/ScanBlock_{place}", n, level >= first)
                skips.append(h)
            place += 1
        for level in reversed(range(levels)):
            for n in range(options["num_blocks"]):
                h = self.block(h, skips.pop(), embedding, f"{root}/ScanBlock_{place}", n, level >= first)
            place += 1
            if level:
                h, ups = self.up(h, f"{root}/ConvTranspose_{ups}"), ups + 1
        return self.up(act(self.norm(h)), f"{root}/ConvTranspose_{ups}", options["patch"])

    def block(self, h, skip, embedding, name, n, attends):
        act = self.f.silu
        joined = h if skip is None else self.torch.cat([h, skip], 1)
        y = self.conv(act(self.norm(joined, f"{name}/Norm_0", n)), f"{name}/Conv_0", n)
        scale, shift = self.dense(embedding, f"{name}/Dense_0", n)[:, :, None, None].chunk(2, 1)
        y = self.conv(act((1 + scale) * self.norm(y) + shift), f"{name}/Conv_1", n)
        h = h + y
        if skip is not None:
            h = h + self.dense(skip.permute(0, 2, 3, 1), f"{name}/Dense_1", n).permute(0, 3, 1, 2)
        if not attends:
            return h
        batch, features, height, width = h.shape
        places = self.norm(h, f"{name}/Norm_1", n).flatten(2).transpose(1, 2)
        heads = self.dense(places, f"{name}/Attention_0/Dense_0", n)
        heads = heads.reshape(batch, height * width, self.options["num_heads"], 3, -1)
        query, key, value = heads.permute(3, 0, 2, 1, 4)
        mixed = self.f.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        mixed = self.dense(mixed, f"{name}/Attention_0/Dense_1", n)
        return h + mixed.transpose(1, 2).reshape(batch, features, height, width)


class Hierarchy(UNet):
    """The twin of `networks.bottom_up` and `networks.top_down`: x [B, C, H, W] and noise -> logits, KL of every level.

    `noise` are two arrays [B, N, D, H, W], the finest resolution first, and the KLs are [B, L], the top one last.
    """

    def gated(self, h, name, n):
        y = self.conv(self.f.elu(h), f"{name}/Conv_0", n)
        value, gate = self.conv(self.f.elu(y), f"{name}/Conv_1", n).chunk(2, 1)
        return h + value * gate.sigmoid()

    def head(self, h, name, n, sizes):
        return self.conv(self.f.elu(self.conv(self.f.elu(h), f"{name}_hidden", n)), name, n).split(sizes, 1)

    def scale(self, raw):
        least = self.options["least_scale"]
        return least + (1 - least) * self.f.softplus(raw + math.log(math.e - 1))

    def block(self, h, noise, feature, name, n):
        dim = noise.shape[1]
        mean, raw, more = self.head(h, f"{name}/p", n, (dim, dim, h.shape[1]))
        scale = self.scale(raw)
        shift, ratio = self.head(self.torch.cat([h, feature], 1), f"{name}/q", n, (dim, dim))
        shift, ratio = shift / scale, self.scale(ratio)  # of q relative to p
        kl = (0.5 * (ratio.square() + shift.square() - 1) - ratio.log()).sum((1, 2, 3))
        z = mean + scale * (shift + ratio * noise)
        h = h + more + self.dense(z.permute(0, 2, 3, 1), f"{name}/of_z", n).permute(0, 3, 1, 2)
        return self.gated(h, f"{name}/cell", n), kl

    def __call__(self, x, noise):
        features, kls, h = [], [], x
        for level in range(len(self.options["widths"])):
            h = self.conv(h, f"encoder/params/Conv_{level}", stride=2)
            for n in range(self.options["encoder_blocks"]):
                h = self.gated(h, f"encoder/params/ScanCell_{level}", n)
            features.append(h)
        h, ups = self.w["decoder/params/top"].permute(2, 0, 1).expand(h.shape), 0
        for level in reversed(range(len(features))):
            for n in reversed(range(self.options["blocks"][level])):
                h, kl = self.block(h, noise[level][:, n], features[level], f"decoder/params/blocks_{level}", n)
                kls.insert(0, kl)
            if level:
                h, ups = self.up(h, f"decoder/params/ConvTranspose_{ups}"), ups + 1
        return self.up(self.f.elu(h), f"decoder/params/ConvTranspose_{ups}"), self.torch.stack(kls, 1)

    def terms(self, x, noise):
        """Return log p(x|z) and the KLs of every level, [B, 1 + L]."""
        logits, kl = self(x, noise)
        log_lik = -self.f.binary_cross_entropy_with_logits(logits, x, reduction="none").sum((1, 2, 3))
        return self.torch.cat([log_lik[:, None], kl], 1)


class Players(UNet):
    """The twins of `networks.conv_decoder` and `networks.conv_encoder`, with leaky ReLU."""

    def act(self, x):
        return self.f.leaky_relu(x, 0.01)

    def generator(self, z):
        root, channels = "generator/params", self.options["generator"]["channels"]
        side = 28 // 2 ** len(channels)
        h = self.act(self.dense(z, f"{root}/Dense_0")).reshape(len(z), side, side, -1).permute(0, 3, 1, 2)
        for n in range(len(channels)):
            h = self.up(h if n == 0 else self.act(h), f"{root}/ConvTranspose_{n}")
        return h

    def critic(self, x):
        root, h = "critic/params", x
        for n in range(len(self.options["critic"]["channels"])):
            h = self.act(self.conv(h, f"{root}/Conv_{n}", stride=2))
        h = h.permute(0, 2, 3, 1).flatten(1)
        for n in range(len(self.options["critic"]["hidden"])):
            h = self.act(self.dense(h, f"{root}/MLP_0/Dense_{n}"))
        return self.dense(h, f"{root}/MLP_0/DenseHead_0/Dense_0")[:, 0]


class Glow(UNet):
    """The twin of the flow `flow_mnist:glow`: dequantised levels x + u [B, C, H, W] -> log p(x + u) [B]."""

    def __call__(self, y):
        torch = self.torch
        share = 0.05 + 0.9 * y / 256.0
        h = share.log() - (-share).log1p()
        slopes = self.f.softplus(h) + self.f.softplus(-h) + math.log(0.9 / 256.0)
        log_det = slopes.sum((1, 2, 3))
        h, log_det, left = self.level(h, log_det, "flow/1", [])
        left.append(h)
        z = torch.cat([part.flatten(1) for part in left], 1)
        return log_det - 0.5 * (z.square() + math.log(2 * math.pi)).sum(1)

    def level(self, h, log_det, name, left):
        """Squeeze, take the steps of a level, and split, as long as there is a level below."""
        batch, channels, height, width = h.shape
        h = h.reshape(batch, channels, height // 2, 2, width // 2, 2).permute(0, 3, 5, 1, 2, 4)
        h = h.reshape(batch, 4 * channels, height // 2, width // 2)
        for n in range(self.options["layout"]["depth"]):
            h, log_det = self.step(h, log_det, f"{name}/1", n)
        if f"{name}/2/rest/1/0/loc" not in self.w:
            return h, log_det, left
        h, log_det = self.coupling(h, log_det, f"{name}/2/leave/params")
        left.append(h[:, h.shape[1] // 2 :])
        return self.level(h[:, : h.shape[1] // 2], log_det, f"{name}/2/rest", left)

    def step(self, h, log_det, name, n):
        torch, pixels = self.torch, h.shape[2] * h.shape[3]
        loc, raw = self.w[f"{name}/0/loc"][n], self.w[f"{name}/0/log_scale"][n]
        log_scale = 4.0 * (raw / 4.0).tanh()
        h = (h - loc[:, None, None]) * (-log_scale).exp()[:, None, None]
        lower, upper, raw = (self.w[f"{name}/1/{part}"][n] for part in ("lower", "upper", "log_diagonal"))
        log_diagonal = 2.0 * (raw / 2.0).tanh()
        lower = lower.tanh().tril(-1) + torch.eye(len(raw))
        matrix = (lower @ (upper.tanh().triu(1) + log_diagonal.exp().diag())).flip(0)
        h = self.f.conv2d(h, matrix[:, :, None, None])
        log_det = log_det + pixels * (log_diagonal.sum() - log_scale.sum())
        return self.coupling(h, log_det, f"{name}/2/params", n)

    def coupling(self, h, log_det, name, n=None):
        a, b = h.chunk(2, 1)
        raw = self.gated_resnet(a, name, n)
        shift, raw = raw.reshape(*raw.shape[:3], -1, 2).permute(4, 0, 3, 1, 2)
        log_scale = 2.0 * (raw / 2.0).tanh()
        return self.torch.cat([a, b * log_scale.exp() + shift], 1), log_det + log_scale.sum((1, 2, 3))

    def gated_resnet(self, x, name, n):
        """Return [B, H, W, outputs] of an image [B, C, H, W]."""
        act, last, first = self.f.elu, (0, 2, 3, 1), (0, 3, 1, 2)

        def at(part):
            return self.w[f"{name}/{part}"] if n is None else self.w[f"{name}/{part}"][n]

        def norm(h, k):
            layer = f"LayerNorm_{k}"
            return self.f.layer_norm(h, h.shape[-1:], at(f"{layer}/scale"), at(f"{layer}/bias"), 1e-6)

        h, num_blocks = self.conv(x, f"{name}/Conv_0", n).permute(last) + at("places"), self.options["num_blocks"]
        for k in range(num_blocks):
            y = self.conv(act(norm(h, k)).permute(first), f"{name}/Conv_{k + 1}", n).permute(last)
            value, gate = self.dense(act(y), f"{name}/Dense_{k}", n).chunk(2, -1)
            h = h + value * gate.sigmoid()
        return self.dense(act(norm(h, num_blocks)), f"{name}/Dense_{num_blocks}", n) + at("output_places")


def flow(weights, given, options, compiled):
    """Return the step: -log p(x + u) of a batch of levels x, u uniform."""
    import torch

    network = Glow(weights, options | {"num_blocks": options["network"]["num_blocks"]})
    check(network(channels_first(given["x"])), given["y"])
    adam = torch.optim.Adam(weights.values(), lr=options["optimizer"]["learning_rate"], fused=True)

    def loss_of(x):
        return -network(x + torch.rand_like(x)).mean()

    if compiled:
        loss_of = torch.compile(loss_of)

    def step(x, number):
        adam.zero_grad()
        loss = loss_of((x + 1) * 127.5)
        loss.backward()
        adam.step()
        return loss

    return step


def diffusion(weights, given, options, compiled):
    """Return the step: ½ γ' |ε - ε̂|² of a batch, at times that cover [0, 1)."""
    import torch

    network = UNet(weights, options["network"])
    check(network(channels_first(given["x"]), given["t"]), channels_first(given["y"]))
    adam = torch.optim.Adam(weights.values(), lr=options["optimizer"]["learning_rate"], fused=True)
    low, high = options["schedule"]["gamma_min"], options["schedule"]["gamma_max"]

    def loss_of(x):
        t = (torch.rand(()) + torch.arange(len(x)) / len(x)) % 1.0
        gamma, epsilon = (low + (high - low) * t)[:, None, None, None], torch.randn_like(x)
        z = torch.sigmoid(-gamma).sqrt() * x + torch.sigmoid(gamma).sqrt() * epsilon
        return 0.5 * (high - low) * (epsilon - network(z, t)).square().sum() / len(x)

    if compiled:
        loss_of = torch.compile(loss_of)

    def step(x, number):
        adam.zero_grad()
        loss = loss_of(x)
        loss.backward()
        adam.step()
        return loss

    return step


def gan(weights, given, options, compiled):
    """Return the step of both players: the relativistic losses, and R1 and R2 at every fourth step."""
    import torch
    from torch.nn import functional

    players = Players(weights, options)
    check(players.generator(given["z"]), channels_first(given["y_generator"]))
    check(players.critic(channels_first(given["x"])), given["y_critic"])
    parts = {part: [w for name, w in weights.items() if name.startswith(part)] for part in ("generator", "critic")}
    adam_options = options["optimizer"]["default"]
    rates = {"lr": adam_options["learning_rate"], "betas": (adam_options["b1"], adam_options["b2"]), "fused": True}
    adam = torch.optim.Adam(weights.values(), **rates)

    def losses_of(x, z):
        fake = players.generator(z).tanh()
        real_score, fake_score = players.critic(x), players.critic(fake)
        apart = real_score - fake_score
        return functional.softplus(-apart).mean(), functional.softplus(apart).mean(), fake.detach()

    def penalty(x, weight):
        x = x.requires_grad_()
        (slope,) = torch.autograd.grad(players.critic(x).sum(), x, create_graph=True)
        return 0.5 * weight * slope.square().sum() / len(x)

    if compiled:
        losses_of = torch.compile(losses_of)

    def step(x, number):
        critic, generator, fake = losses_of(x, torch.randn(len(x), options["latent_dim"]))
        of_generator = torch.autograd.grad(generator, parts["generator"], retain_graph=True)
        of_critic = torch.autograd.grad(critic, parts["critic"])
        every = options["penalty_every"]
        if number % every == 0:
            total = every * (penalty(x.clone(), options["r1"]) + penalty(fake.clone(), options["r2"]))
            more = torch.autograd.grad(total, parts["critic"], allow_unused=True)
            of_critic = [a if b is None else a + b for a, b in zip(of_critic, more, strict=True)]
        for part, slopes in (("generator", of_generator), ("critic", of_critic)):
            for weight, slope in zip(parts[part], slopes, strict=True):
                weight.grad = slope
        adam.step()
        return critic.detach()

    return step


def deep_vae(weights, given, options, compiled):
    """Return the step: the ELBO of a batch of pixels that are drawn anew."""
    import torch

    network = Hierarchy(weights, options)
    noise = [given[name].permute(0, 1, 4, 2, 3) for name in ("noise_0", "noise_1")]
    size = given["y"].abs().amax(0)  # terms differ in it
    check(network.terms(channels_first(given["x"]), noise) / size, given["y"] / size)
    adam = torch.optim.Adam(weights.values(), lr=options["optimizer"]["learning_rate"], fused=True)
    shapes = [values.shape[1:] for values in noise]

    def loss_of(x):
        terms = network.terms(torch.bernoulli((x + 1) / 2), [torch.randn(len(x), *shape) for shape in shapes])
        return (terms[:, 1:].sum() - terms[:, 0].sum()) / len(x)

    if compiled:
        loss_of = torch.compile(loss_of)

    def step(x, number):
        adam.zero_grad()
        loss = loss_of(x)
        loss.backward()
        adam.step()
        return loss

    return step


def channels_first(x):
    return x.permute(0, 3, 1, 2).contiguous()


def check(outputs, expected):
    """Raise `ValueError` unless a twin returns what our network returned."""
    error = (outputs - expected).abs().max().item() / expected.abs().max().item()
    if not error < 1e-3:
        raise ValueError(f"the twin is not the same network: the largest error is {error:.2g} of the largest output")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", choices=("deep_vae", "diffusion", "flow", "gan"), required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--eager", action="store_true")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    images = torch.from_numpy(np.load(options.folder / "images.npy")).permute(0, 3, 1, 2).contiguous()
    build = {"deep_vae": deep_vae, "diffusion": diffusion, "flow": flow, "gan": gan}[options.job]
    config = json.loads((options.folder / "config.json").read_text())
    step = build(*parameters(options.folder / "first.npz"), config, not options.eager)
    clock, rng, number = Clock(options.seconds), np.random.default_rng(0), 0
    while not clock.done:
        index = torch.from_numpy(rng.integers(len(images), size=BATCH))
        loss = step(images[index].float() * (2 / 255) - 1, number)
        number += 1
        if number % 4 == 0:  # a cycle of steps with and without penalties
            loss.item()
            clock.tick(4)
    print(json.dumps(clock.report()))


if __name__ == "__main__":
    main()
