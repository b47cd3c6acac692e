"""Deterministic auto-encoders: bottleneck, sparse, denoising, contractive, regularised.

z = f(x) = code(encoder(x))     p(x|z) = likelihood(decoder(z))     loss = -log p(x | f(x̃)) + Σ_j λ_j Ω_j

x̃ is x, or x with noise (`objectives.corruptions`); the Ω_j are `objectives.penalties`. There is no p(z), hence no p(x),
no bound of it and no draw, until a density is fitted to the codes (`core.with_code_density`).
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from vae_jax import core, networks, spec
from vae_jax.core import Latent, Model, per_example
from vae_jax.distributions import deterministic, heads
from vae_jax.networks import tied as tied_weights
from vae_jax.networks.precision import compute_in
from vae_jax.objectives import corruptions
from vae_jax.objectives import penalties as penalty_functions
from vae_jax.objectives.objective import is_coupled
from vae_jax.spec import build


def autoencoder(
    encoder, decoder, *, code, likelihood, corruption=None, penalties=None, tied=False, num_classes=0
) -> Model:
    """An auto-encoder from two networks, the head `code` (`distributions.deterministic`) and a likelihood head.

    `penalties` maps a name to (weight, function of `objectives.penalties`), `corruption` is one of
    `objectives.corruptions`. Of the terms `distortion` = -log p(x | f(x̃)) is in nats, against the clean x; each
    penalty is reported under its name, without its weight, at the x̃ that the encoder saw. `tied`: the kernels of the
    decoder, an MLP as the encoder is, are the encoder's transposed (`networks.tied`).
    Raises `ValueError` where a conditional model meets no context.
    """
    corruption, penalties = corruption or corruptions.none(), penalties or {}
    one_hot = functools.partial(core.one_hot, num_classes=num_classes)

    def encode(params, x, context=None):
        return code.distribution(*encoder.apply(params["encoder"], likelihood.standardize(x), one_hot(context)))

    def decode(params, z, context=None):
        variables = tied_weights.transposed(params["decoder"], params["encoder"]) if tied else params["decoder"]
        return likelihood.distribution(*decoder.apply(variables, z, one_hot(context)))

    latent = Latent(prior=None, posterior=encode, likelihood=decode)

    def init(key, batch):
        key_encoder, key_decoder = jax.random.split(key)
        x, context = jax.tree.map(lambda a: a[0], (batch["x"], batch.get("context")))
        params = {
            "encoder": encoder.init(key_encoder, likelihood.standardize(x), one_hot(context)),
            "decoder": decoder.init(key_decoder, jnp.zeros(code.shapes[0]), one_hot(context)),
        }
        return {**params, "decoder": tied_weights.biases(**params)} if tied else params

    def distortion(params, x, seen, context):
        return -decode(params, encode(params, seen, context).mean(), context).log_prob(x)

    def loss(params, key, batch, step):
        x, context = batch["x"], batch.get("context")
        corrupt = lambda params, key, x, context: corruption(key, x)  # noqa: E731
        seen = {**batch, "x": per_example(corrupt)(params, key, batch)}
        terms = {"distortion": jax.vmap(distortion, (None, 0, 0, 0))(params, x, seen["x"], context)}
        for name, (_, penalty) in penalties.items():
            if is_coupled(penalty):
                terms[name] = jnp.broadcast_to(penalty(latent, params, seen), (len(x),))
            else:
                terms[name] = jax.vmap(lambda x, c, f=penalty: f(latent, params, x, c))(seen["x"], context)
        return terms["distortion"] + sum(weight * terms[name] for name, (weight, _) in penalties.items()), terms

    coupled = any(is_coupled(penalty) for _, penalty in penalties.values())
    return Model(init, loss, sample=None, latent=latent, coupled=coupled)


def from_config(
    *,
    event_shape,
    num_classes,
    latent_dim,
    encoder,
    decoder,
    code,
    likelihood,
    corruption,
    penalties,
    tied=False,
    compute_dtype="float32",
) -> Model:
    """An auto-encoder from plain dicts: each has the `name` of a network, head or corruption and its keyword arguments;
    `penalties` maps names of penalties to their `weight` and keyword arguments, {"l1": {"weight": 0.1}}, {} for none.

    Raises `ValueError` that names the key, also for a target activation of codes outside (0, 1), and for `tied` weights
    of networks other than MLPs, or with `weight_decay`, which would miss the kernels of the decoder.
    """
    spec.integers(latent_dim=latent_dim)
    spec.flags(tied=tied)
    if not isinstance(penalties, Mapping):
        raise spec.BadOption(f"penalties must be a dict of dicts, each with a 'weight', got {spec.shown(penalties)}")
    if "target_activation" in penalties and spec.name_of(code) != "sigmoid":
        raise spec.BadOption(f"code.name: 'target_activation' wants codes in (0, 1): 'sigmoid', got {code!r}")
    if tied and (kinds := {str(spec.name_of(encoder)), str(spec.name_of(decoder))}) != {"mlp"}:
        raise spec.BadOption(f"tied wants encoder and decoder 'mlp', got {', '.join(sorted(kinds))}")
    if tied and "weight_decay" in penalties:
        raise spec.BadOption("tied: 'weight_decay' is of the decoder's own parameters, and its kernels are none")
    likelihood = build(heads, likelihood, tuple(event_shape), where="likelihood")
    code = build(deterministic, code, (latent_dim,), where="code")

    def network(spec, outputs, where):
        return compute_in(compute_dtype, build(networks, spec, outputs, where=where))

    def weighted(name, spec):
        where = f"penalties.{name}"
        if not isinstance(spec, Mapping):
            raise ValueError(f"{where} must be a dict with a 'weight', got {spec.shown(spec)}")
        options = dict(spec)
        if "weight" not in options:
            raise ValueError(f"{where}: missing key 'weight'")
        weight = options.pop("weight")
        spec.numbers(**{f"penalties.{name}.weight": weight}, at_least=0)
        return weight, build(penalty_functions, {"name": name, **options}, where=where)

    return autoencoder(
        network(encoder, code.shapes, "encoder"),
        network(decoder, likelihood.shapes, "decoder"),
        code=code,
        likelihood=likelihood,
        corruption=build(corruptions, corruption, where="corruption"),
        penalties={name: weighted(name, spec) for name, spec in penalties.items()},
        tied=tied,
        num_classes=num_classes,
    )
