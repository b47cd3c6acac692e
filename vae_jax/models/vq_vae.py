"""VQ-VAE: an auto-encoder with integer codes, arXiv:1711.00937; with two levels of them VQ-VAE-2, arXiv:1906.00446.

    z = encoder(x) [h, w, D]     k* = argmin_k |z - e_k|²     q(k|x) = 1 at k*     p(x|k) = likelihood(decoder(e_k))

    log p(x) ≥ log p(x|k*) + log p(k*)

q is a point mass, so both terms are exact if p(k) is, such as a PixelCNN. With a temperature τ > 0, q(k|x) ∝
exp(-|z - e_k|² / τ) at each place, and importance samples tighten the bound.

Two levels: the encoder halves its features further to the top map; the bottom map sees these features and the decoded
top codes; the decoder sees both. z = (bottom, top), p(k) = p(top) p(bottom | top).
"""

import types
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vae_jax import networks
from vae_jax.conditionals import code_maps, conditional, heads, tables
from vae_jax.core import Aux, Latent, Model, embedded, learned
from vae_jax.distributions import Codes, PointMass, Sequential
from vae_jax.networks.conv import coarse_shape
from vae_jax.networks.network import compute_in
from vae_jax.objectives import quantization
from vae_jax.objectives.bounds import log_weight, plain_elbo
from vae_jax.spec import BadOption, build, call, numbers, shown, sizes, under
from vae_jax.support import Binary, Levels, Real, Unit, standardize

TAKES = (Real, Unit, Binary, Levels)
QUANTIZERS = types.SimpleNamespace(vq=quantization.vq, fsq=quantization.fsq)
BOTTOM, TOP = "bottom", "top"


class Level(NamedTuple):
    """One map of codes [h, w]."""

    name: str
    shape: tuple  # (h, w)
    quantizer: quantization.Quantizer
    prior: code_maps.CodePrior


def vq_vae(encoders, decoder, levels, *, event, beta=0.25, temperature=0.0) -> Model:
    """Return a VQ-VAE, arXiv:1711.00937, or with two levels VQ-VAE-2, arXiv:1906.00446.

    Training minimises -log p(x|k*) + β |z - sg[e]|² - log p(k*), with a codebook of averages.

    The gradient of the first two terms reaches encoder and decoder: arXiv:1711.00937 eq. (3) without its second term,
    which the averages replace. The gradient of the last term reaches only the prior, on which the codes do not depend.
    params["state"]["encoder"] holds the codebooks; they rest if only the prior learns (`learner.only`).

    Args:
      encoders: {"bottom": x -> z} of `networks.map_encoder`. For two levels "bottom" returns features, "top" turns them
        into z of the top, "down" decodes the top codes, and "joint" turns the features with these into z of the bottom.
      decoder: a `core.Conditional`, e of the bottom, with e of the top as its context -> p(x|k).
      levels: the `Level` of the bottom, then that of the top if there are two.
      event: the `core.Event` x.
      beta: β, the weight of the commitment.
      temperature: τ of q(k|x) in evaluation; 0 for the nearest code. Training uses the nearest code.
    """
    numbers(beta=beta, at_least=0)
    numbers(temperature=temperature, at_least=0)
    bottom, *above = levels
    top = above[0] if above else None

    def codebook(params, level):
        return params["state"]["encoder"][level.name] if level.quantizer.update else None

    def run(params, name, x, context=None):
        return encoders[name].apply(params["encoder"][name], x, context)[0]

    def z_of_bottom(params, features, e_top):
        """Return z [h, w, D] of the bottom map. Without a top, the features are z already."""
        if top is None:
            return features
        return run(params, "joint", features, run(params, "down", e_top))

    def quantized(params, level, z):
        """Return the nearest codes, and their vectors with a gradient with respect to z."""
        book, quantizer = codebook(params, level), level.quantizer
        k = quantizer.nearest(book, jax.lax.stop_gradient(z))
        e = quantizer.embed(book, k)
        return k, quantizer.passed(z, e), quantizer.commitment(z, e)

    def encoded(params, x):
        """Return (z, k, passed e, commitment) of each level, the bottom first."""
        features, results, e_top = run(params, BOTTOM, standardize(event.support, x)), [], None
        if top:
            z = run(params, TOP, features)
            results.append((z, *quantized(params, top, z)))
            e_top = results[0][2]
        z = z_of_bottom(params, features, e_top)
        return [(z, *quantized(params, bottom, z)), *results]

    def joined(values):
        """Return the code z of the model: the map of the bottom, or the maps of both levels."""
        return values[0] if top is None else tuple(values)

    def decoded(params, vectors):
        return decoder.distribution(params["decoder"], vectors[0], vectors[1] if top else None)

    def softened(params, level, z):
        return Codes(-level.quantizer.distances(codebook(params, level), z) / temperature)

    # Built once: the functions of a chain are part of its pytree structure, which must be the same in every call.

    def q_of_bottom(params, features, before):
        e_top = top.quantizer.embed(codebook(params, top), before[0])
        return softened(params, bottom, z_of_bottom(params, features, e_top))

    def p_of_bottom(params, given, before):
        return bottom.prior.distribution(params[BOTTOM], before[0])

    def posterior(params, x, context=None):
        embedded(None, context)
        if not temperature:
            codes = joined([k for _, k, _, _ in encoded(params, x)])
            return PointMass(codes, joined([level.quantizer.num_codes for level in levels]))
        features = run(params, BOTTOM, standardize(event.support, x))
        if top is None:
            return softened(params, bottom, features)
        q_of_top = softened(params, top, run(params, TOP, features))
        of_encoder = {name: params[name] for name in ("encoder", "state") if name in params}
        return Sequential(q_of_top, of_encoder, features, (q_of_bottom,), reverse=True)

    def likelihood(params, z, context=None):
        maps = (z,) if top is None else z
        pairs = zip(levels, maps, strict=True)
        vectors = [level.quantizer.embed(codebook(params, level), jnp.asarray(k, jnp.int32)) for level, k in pairs]
        return decoded(params, vectors)

    def prior(params, context=None):
        embedded(None, context)
        parts = params.get("prior", {})
        if top is None:
            return bottom.prior.distribution(parts.get(BOTTOM))
        of_bottom = {BOTTOM: parts.get(BOTTOM)}
        return Sequential(top.prior.distribution(parts.get(TOP)), of_bottom, None, (p_of_bottom,), reverse=True)

    latent = Latent(prior, posterior, likelihood)

    def init(key, batch):
        embedded(None, batch.get("context"))
        key_encoder, key_decoder, key_prior, key_codes = jax.random.split(key, 4)
        parts, state, vectors = {}, {}, {}

        def add(name, x, context=None):
            parts[name] = encoders[name].init(jax.random.fold_in(key_encoder, len(parts)), x[0], _first(context))
            return jax.vmap(lambda x, c: run({"encoder": parts}, name, x, c))(x, context)

        def start(level, z):
            quantizer = level.quantizer
            with under("quantizer"):
                key_level = jax.random.fold_in(key_codes, len(state))
                state[level.name] = quantizer.init(key_level, z.reshape(-1, quantizer.dim))
            vectors[level.name] = quantizer.embed(state[level.name], quantizer.nearest(state[level.name], z))

        features = add(BOTTOM, standardize(event.support, batch["x"]))
        if top:
            start(top, add(TOP, features))
            features = add("joint", features, add("down", vectors[TOP]))
        start(bottom, features)
        books = {name: book for name, book in state.items() if book is not None}
        priors = {
            level.name: level.prior.init(jax.random.fold_in(key_prior, place)) for place, level in enumerate(levels)
        }
        return learned(
            encoder=parts,
            decoder=decoder.init(key_decoder, vectors[BOTTOM][0], vectors[TOP][0] if top else None),
            prior=learned(**priors) or None,
            state={"encoder": books} if books else None,
        )

    def terms_of(params, x):
        z, k, e, commitment = zip(*encoded(params, x), strict=True)
        log_lik = decoded(params, e).log_prob(x)
        log_prior = prior(params).log_prob(joined(k))
        return z, k, log_lik, log_prior, sum(commitment)

    def loss(params, key, batch, step):
        embedded(None, batch.get("context"))
        z, k, log_lik, log_prior, commitment = jax.vmap(terms_of, (None, 0))(params, batch["x"])
        terms = {"bound": log_lik + log_prior, "distortion": -log_lik, "rate": -log_prior}
        books = {}
        for place, level in enumerate(levels):
            quantizer, book = level.quantizer, codebook(params, level)
            if book is not None:
                rows = jax.lax.stop_gradient(z[place]).reshape(-1, quantizer.dim)
                books[level.name] = quantizer.update(jax.random.fold_in(key, place), book, rows, k[place].reshape(-1))
        if books:
            terms["commitment"] = commitment
        return -log_lik + beta * commitment - log_prior, Aux(terms, {"encoder": books} if books else None)

    def judge(params, key, x, context=None):
        return plain_elbo(latent, params, key, x, context, num_samples=1)[1]

    def sample(params, key, context=None):
        key_k, key_x = jax.random.split(key)
        return likelihood(params, prior(params, context).sample(key_k)).sample(key_x)

    def bound(params, key, x, context=None):
        return log_weight(latent, params, key, x, context)

    return Model(init, loss, judge, sample=sample, latent=latent, bound=bound)


def _first(array):
    return None if array is None else array[0]


def from_config(
    *,
    event,
    encoder,
    decoder,
    quantizer,
    likelihood,
    prior,
    top=None,
    beta=0.25,
    temperature=0.0,
    compute_dtype="float32",
) -> Model:
    """Return a VQ-VAE from plain dicts.

    Args:
      event: the `core.Event` x, an image.
      encoder: options of `networks.map_encoder`; each of its `channels` halves the image.
      decoder: options of `networks.map_decoder`; as many `channels` as the encoder has.
      quantizer: {"name": "vq", "num_codes", "dim", ...} or {"name": "fsq", "levels"}; the same for both levels.
      likelihood: a head of `conditionals.heads` over x.
      prior: {"name": "pixel_cnn", ...} or {"name": "uniform"}, of `conditionals.code_maps`, for p(k), or p(bottom|top).
      top: None for one level; for two, {"channels", "num_blocks", "prior"}: each of `channels` halves the map once
        more, and `prior` is that of the top map.
      beta: weight of the commitment.
      temperature: of q(k|x) in evaluation; 0 for the nearest code.
      compute_dtype: the precision of the networks, "float32" or "bfloat16".

    Raises `BadOption` that names the key.
    """
    if len(event.shape) != 3:
        raise BadOption(f": the family 'vq_vae' models images [H, W, C]; the data have shape {tuple(event.shape)}")
    _halves(encoder, "encoder")
    _halves(decoder, "decoder")
    if len(encoder["channels"]) != len(decoder["channels"]):
        raise BadOption(
            f"decoder.channels: {len(decoder['channels'])} doublings do not undo the {len(encoder['channels'])} "
            "halvings of encoder.channels; give as many entries"
        )
    shape = coarse_shape(tuple(event.shape), encoder["channels"], "encoder.channels")
    coder = build(QUANTIZERS, quantizer, where="quantizer")

    def network(function, options, outputs, where):
        return compute_in(compute_dtype, call(function, options, (outputs,), where=where))

    width = encoder["channels"][-1]
    outputs = (*shape, coder.dim if top is None else width)
    encoders = {BOTTOM: network(networks.map_encoder, encoder, outputs, "encoder")}
    coarse, levels = None, []
    if top is not None:
        with under("top"):
            options, of_top = _of_top(top)
        shape_of_top = coarse_shape((*shape, width), options["channels"], "top.channels")
        with_defaults_ = {"activation": encoder.get("activation", "relu"), **options}
        blocks = {name: value for name, value in with_defaults_.items() if name != "channels"}
        encoders[TOP] = network(networks.map_encoder, with_defaults_, (*shape_of_top, coder.dim), "top")
        down = {**blocks, "channels": options["channels"][::-1]}
        encoders["down"] = network(networks.map_decoder, down, (*shape, width), "top")
        encoders["joint"] = network(networks.map_encoder, {**blocks, "channels": ()}, (*shape, coder.dim), "top")
        coarse = (shape_of_top, coder.num_codes)
        levels = [Level(TOP, shape_of_top, coder, build(code_maps, of_top, *coarse, where="top.prior"))]
    levels = [
        Level(BOTTOM, shape, coder, build(code_maps, prior, shape, coder.num_codes, coarse, where="prior")),
        *levels,
    ]
    p = tables.likelihood(heads, likelihood, event)
    of_x = compute_in(compute_dtype, call(networks.map_decoder, decoder, p.shapes, where="decoder"))
    return vq_vae(encoders, conditional(of_x, p), levels, event=event, beta=beta, temperature=temperature)


def _halves(options, name):
    """Raise `BadOption` unless `options` is a dict with `channels`."""
    with under(name):
        if not isinstance(options, Mapping):
            raise BadOption(f" must be a dict of options, got {shown(options)}")
        if "channels" not in options:
            raise BadOption(": missing key 'channels'")
        sizes(channels=options["channels"], at_least_one=True)


def _of_top(top):
    """Return the options of the networks of the top level, and its prior."""
    if not isinstance(top, Mapping):
        raise BadOption(f" must be None or a dict of options, got {shown(top)}")

    def split(*, channels, prior, num_blocks=1):
        sizes(channels=channels, at_least_one=True)
        return {"channels": tuple(channels), "num_blocks": num_blocks}, prior

    return call(split, dict(top), where="")
