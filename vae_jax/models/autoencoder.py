"""Deterministic auto-encoders: bottleneck, sparse, denoising, contractive, regularised.

z = f(x) = code(encoder(x))     p(x|z) = likelihood(decoder(z))     loss = -log p(x | f(x̃)) + Σ_j λ_j Ω_j

x̃ is x, or x with noise (`objectives.corruptions`); the Ω_j are `objectives.penalties`. There is no p(z). The model has
no p(x), no bound and no draws, until a density is fitted to the codes (`tasks.generate.with_code_density`).
"""

import jax
import jax.numpy as jnp

from vae_jax import core, networks
from vae_jax.conditionals import conditional, deterministic, heads, tables
from vae_jax.core import Aux, Latent, Model, by_loss, embedded
from vae_jax.networks import tied as tied_weights
from vae_jax.networks.network import compute_in
from vae_jax.objectives import corruptions
from vae_jax.objectives import penalties as penalty_functions
from vae_jax.objectives.bounds import reconstruction
from vae_jax.spec import BadOption, build, flags, integers, name_of
from vae_jax.support import standardize


def autoencoder(
    encoder, decoder, *, event, latent_dim, corruption=None, penalties=None, tied=False, context=None
) -> Model:
    """Return an auto-encoder. `distortion` = -log p(x | f(x̃)) compares with the clean x; penalties are computed at x̃.

    Args:
      encoder: a `core.Conditional`, x and c -> the code, a `distributions.Deterministic`.
      decoder: a `core.Conditional`, z and c -> p(x|z, c).
      event: the `core.Event` x.
      latent_dim: D, the size of z.
      corruption: one of `objectives.corruptions`; None for none.
      penalties: {name: (weight, one of `objectives.penalties`)}; the terms of the loss are reported without weights.
      tied: True if the kernels of the decoder are the transposed ones of the encoder (`networks.tied`); both are MLPs.
      context: the `core.Context` c; None for none.
    """
    corruption, penalties = corruption or corruptions.none(), penalties or {}

    def encode(params, x, c=None):
        return encoder.distribution(params["encoder"], standardize(event.support, x), embedded(context, c))

    def decode(params, z, c=None):
        variables = tied_weights.transposed(params["decoder"], params["encoder"]) if tied else params["decoder"]
        return decoder.distribution(variables, z, embedded(context, c))

    latent = Latent(prior=None, posterior=encode, likelihood=decode)

    def init(key, batch):
        key_encoder, key_decoder = jax.random.split(key)
        x, c = core.first_example(batch)
        c = embedded(context, c)
        params = {
            "encoder": encoder.init(key_encoder, standardize(event.support, x), c),
            "decoder": decoder.init(key_decoder, jnp.zeros(latent_dim), c),
        }
        return {**params, "decoder": tied_weights.biases(**params)} if tied else params

    def distortion(params, x, noisy, c):
        return -decode(params, encode(params, noisy, c).mean(), c).log_prob(x)

    def loss(params, key, batch, step):
        x, c = batch["x"], batch.get("context")
        corrupt = core.per_example(lambda params, key, x, c: corruption(key, x))
        noisy = {**batch, "x": corrupt(params, key, batch)}
        terms = {"distortion": jax.vmap(distortion, (None, 0, 0, 0))(params, x, noisy["x"], c)}
        for name, (_, penalty) in penalties.items():
            if penalty.of_batch:
                terms[name] = jnp.broadcast_to(penalty.value(latent, params, noisy), (len(x),))
            else:
                terms[name] = jax.vmap(lambda x, c, f=penalty.value: f(latent, params, x, c))(noisy["x"], c)
        return terms["distortion"] + sum(weight * terms[name] for name, (weight, _) in penalties.items()), Aux(terms)

    def judge(params, key, x, c=None):
        return reconstruction(latent, params, x, c)

    of_batch = any(penalty.of_batch for _, penalty in penalties.values())
    return Model(init, loss, judge if of_batch else by_loss(loss), latent=latent)


def from_config(
    *,
    event,
    context,
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
    """Return an auto-encoder from plain dicts: each has the `name` of a network, head or corruption, and its options.

    Args:
      event: the `core.Event` x.
      context: the `core.Context` c; None for none.
      latent_dim: D, the size of z.
      encoder: a network of `networks`, whose outputs parametrise `code`.
      decoder: a network of `networks`, whose outputs parametrise `likelihood`.
      code: a head of `conditionals.deterministic`.
      likelihood: a head of `conditionals.heads` over x.
      corruption: one of `objectives.corruptions`.
      penalties: names of `objectives.penalties` with a `weight` and options, {"l1": {"weight": 0.1}}; {} for none.
      tied: True if the decoder uses the transposed kernels of the encoder.
      compute_dtype: the precision of the networks, "float32" or "bfloat16".

    Raises `BadOption` that names the key, also for `target_activation` with codes outside (0, 1), for `tied` networks
    other than MLPs, and for `tied` with `weight_decay`, which would miss the kernels of the decoder.
    """
    integers(latent_dim=latent_dim)
    flags(tied=tied)
    weighted = penalty_functions.from_config(penalties)
    if "target_activation" in penalties and name_of(code) != "sigmoid":
        raise BadOption(
            f"code.name: the penalty 'target_activation' requires codes in (0, 1): use 'sigmoid', got {code!r}"
        )
    if tied and (kinds := {str(name_of(encoder)), str(name_of(decoder))}) != {"mlp"}:
        raise BadOption(f"tied requires encoder and decoder 'mlp', got {', '.join(sorted(kinds))}")
    if tied and "weight_decay" in penalties:
        raise BadOption(
            "tied cannot be used with the penalty 'weight_decay', which sums over the decoder's kernels: a tied one "
            "has none; use one of the two"
        )

    def network(spec, outputs, where):
        return compute_in(compute_dtype, build(networks, spec, outputs, where=where))

    p = tables.likelihood(heads, likelihood, event, context)
    f = build(deterministic, code, (latent_dim,), where="code")
    return autoencoder(
        conditional(network(encoder, f.shapes, "encoder"), f),
        conditional(network(decoder, p.shapes, "decoder"), p),
        event=event,
        latent_dim=latent_dim,
        corruption=build(corruptions, corruption, where="corruption"),
        penalties=weighted,
        tied=tied,
        context=context,
    )
