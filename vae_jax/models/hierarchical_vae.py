"""The VAE with a hierarchy of stochastic layers z = (z_1, ..., z_L), z_1 next to x; c as in `vae`.

    p(z|c) = p(z_L) Π_l p(z_l | z_>l, c)      p(x|z, c) = likelihood(decoder_1(z, c))

    bottom_up   q(z|x, c) = q(z_1 | x, c) Π_l q(z_l | z_{l-1}, c)       arXiv:1509.00519 sec. 2 (there h_1, h_2)
    top_down    q(z|x, c) = q(z_L | x, c) Π_l q(z_l | x, z_>l, c)       arXiv:1705.07120 sec. 4

encoder_l puts out what q of z_l takes; decoder_l sees z_l and puts out what p of the level beneath takes, x beneath
z_1. z_>l is z_{l+1} alone, or with `skip` all levels above: where p is such a chain, nothing is lost to its posterior
by q being one.
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from vae_jax import core, likelihoods, networks, objectives, priors, spec
from vae_jax.core import Latent, Model
from vae_jax.distributions import Sequential, heads
from vae_jax.networks.precision import compute_in
from vae_jax.networks.weights import with_weights
from vae_jax.objectives import objective as objective_of
from vae_jax.spec import build, check_options

INFERENCE = ("bottom_up", "top_down")


def hierarchical_vae(
    encoders,
    decoders,
    *,
    latent_dims,
    posteriors,
    conditionals,
    likelihood,
    inference,
    skip,
    prior=None,
    objective=objectives.elbo_sampled_kl,
    num_classes=0,
    **options,
):
    """A VAE of L levels, from tuples with an entry for each, the lowest first: networks, `posteriors` q(z_l|...) and
    `conditionals` p(z_l|z_>l), of all levels but the top, as heads; `prior` is that of the top, None for N(0, I);
    `objective` is maximised with `options` (`objectives.objective.of`).

    Params are {"encoder": {"z1": ...}, "decoder": {"z1": ...}} and what prior and objective learn, as in `vae`.
    Raises `ValueError` where a conditional model meets no context, or a prior made of posteriors a q that has none.
    """
    depth = len(latent_dims)
    names = [f"z{level + 1}" for level in range(depth)]
    prior = prior or priors.standard((latent_dims[-1],))
    objective = objective_of.of(objective, standardize=likelihood.standardize, **options)
    one_hot = functools.partial(core.one_hot, num_classes=num_classes)
    downwards = range(depth)[::-1]
    q_order = range(depth) if inference == "bottom_up" else downwards

    def seen(x, context):
        return likelihood.standardize(x), one_hot(context)

    # What a network sees, and what it sees beside it. `before` are the levels drawn so far: the neighbour is the last.

    def encoder_input(given, before):
        x, c = given
        if not before:
            return x, c
        return (before[-1], c) if inference == "bottom_up" else (x, _joined(before if skip else before[-1:], c))

    def decoder_input(c, before):
        return before[-1], _joined(before[:-1] if skip else (), c)

    def part(networks, heads, inputs, level):
        def distribution(params, given, before):
            return heads[level].distribution(*networks[level].apply(params[names[level]], *inputs(given, before)))

        return distribution

    # Made once: a chain's functions are part of its type, which must not change from call to call.
    q_first, *q_later = [part(encoders, posteriors, encoder_input, level) for level in q_order]
    *p_later, p_of_x = [part(decoders, [likelihood, *conditionals], decoder_input, level) for level in downwards]

    def encode(params, x, context=None):
        given, params = seen(x, context), params["encoder"]
        return Sequential(q_first(params, given, ()), params, given, tuple(q_later), reverse=inference == "top_down")

    def decode(params, z, context=None):
        return p_of_x(params["decoder"], one_hot(context), z[::-1])

    def prior_of(params, context=None):
        top = prior.distribution(params.get("prior"), lambda x: encode_top(params, x, context))
        return Sequential(top, params["decoder"], one_hot(context), tuple(p_later), reverse=True)

    def encode_top(params, x, context):
        if q_order[0] != downwards[0]:
            raise spec.BadOption(
                f"prior: it is made of q({names[-1]}|x), which inference 'bottom_up' has only as an "
                "integral over the levels beneath; use inference 'top_down'"
            )
        return q_first(params["encoder"], seen(x, context), ())

    latent = Latent(prior=prior_of, posterior=encode, likelihood=decode)

    def init(key, batch):
        key_encoders, key_decoders = jax.random.split(key)
        x, c = seen(*jax.tree.map(lambda a: a[0], (batch["x"], batch.get("context"))))

        def variables(key, networks, order, inputs, given, own):
            """Of every level's network, as it meets the levels drawn before it and, with `own`, its own."""
            drawn = [jnp.zeros(latent_dims[level]) for level in order]
            each = {level: inputs(given, drawn[: place + own]) for place, level in enumerate(order)}
            return {names[n]: networks[n].init(jax.random.fold_in(key, n), *each[n]) for n in range(depth)}

        return core.learned(
            encoder=variables(key_encoders, encoders, q_order, encoder_input, (x, c), own=0),
            decoder=variables(key_decoders, decoders, downwards, decoder_input, c, own=1),
            prior=prior.init(jax.random.fold_in(key, 2), batch),
            objective=objective.init(jax.random.fold_in(key, 3), {"x": x, "z": tuple(map(jnp.zeros, latent_dims))}),
        )

    return objective_of.model(init, latent, objective)


def _joined(vectors, c):
    """The vectors, the last first, and c in one, or None where there is nothing."""
    present = [*vectors[::-1], *([] if c is None else [c])]
    return jnp.concatenate(present) if present else None


def from_config(
    *,
    event_shape,
    num_classes,
    levels,
    inference,
    skip,
    posterior,
    conditional,
    likelihood,
    objective,
    prior=priors.STANDARD,
    compute_dtype="float32",
) -> Model:
    """A hierarchy from plain dicts. `levels` is {"z1": level, ..., "zL": level}, z1 next to x, of which each has
    `latent_dim`, the network `encoder` of q(z_l|...) and the network `decoder` of what is beneath; `inference` is
    "bottom_up" or "top_down"; `posterior` and `conditional` are the heads of q and of p(z_l|z_>l) at every level,
    `prior` is that of the top. The rest is as in `vae`.

    Raises `ValueError` that names the key, also where the objective cannot be used with this posterior and prior.
    """
    spec.one_of(INFERENCE, inference=inference)
    spec.flags(skip=skip)
    if not isinstance(levels, Mapping):
        raise spec.BadOption(f"levels must be a dict with the keys z1, z2, ..., got {spec.shown(levels)}")
    if sorted(levels) != sorted(f"z{level + 1}" for level in range(len(levels))) or not levels:
        raise spec.BadOption(f"levels: want the keys z1 (next to x), z2, ..., got {', '.join(levels) or 'none'}")
    levels = {f"levels.z{n}": levels[f"z{n}"] for n in range(1, len(levels) + 1)}
    dims = tuple(_latent_dim(where, level) for where, level in levels.items())
    posteriors = [build(heads, posterior, (dim,), where="posterior") for dim in dims]
    conditionals = [build(heads, conditional, (dim,), where="conditional") for dim in dims[:-1]]
    likelihood = build(likelihoods, likelihood, tuple(event_shape), where="likelihood")
    prior = build(priors, prior, dims[-1:], heads.abstract(likelihood).support, where="prior")

    def network(spec, outputs, *, where):
        return compute_in(compute_dtype, build(networks, spec, outputs, where=where))

    def each(part, outputs):
        pairs = zip(levels.items(), outputs, strict=True)
        return [
            with_weights(network(level[part], head.shapes, where=f"{where}.{part}"), head)
            for (where, level), head in pairs
        ]

    family = functools.partial(
        hierarchical_vae,
        each("encoder", posteriors),
        each("decoder", [likelihood, *conditionals]),
        latent_dims=dims,
        posteriors=posteriors,
        conditionals=conditionals,
        likelihood=likelihood,
        inference=inference,
        skip=skip,
        prior=prior,
        num_classes=num_classes,
    )
    pair = _abstract_pair(family(), event_shape, num_classes)
    equation, options = objective_of.from_config(objective, *pair, build_network=network)
    return family(objective=equation, **options)


def _latent_dim(where, level):
    """The size of a level whose keys are those that every level has."""
    with spec.under(where):
        check_options(lambda *, latent_dim, encoder, decoder: None, level)
        spec.integers(latent_dim=level["latent_dim"])
    return level["latent_dim"]


def _abstract_pair(model, event_shape, num_classes):
    """q(z|x) and p(z) with shapes in place of arrays."""

    def pair(key):
        batch = {"x": jnp.zeros((1, *event_shape)), **({"context": jnp.zeros(1, jnp.int32)} if num_classes else {})}
        params = model.init(key, batch)
        x, context = jax.tree.map(lambda a: a[0], (batch["x"], batch.get("context")))
        return model.latent.posterior(params, x, context), model.latent.prior(params, context)

    return jax.eval_shape(pair, jax.random.key(0))
