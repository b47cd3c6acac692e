"""The VAE with a hierarchy of stochastic layers z = (z_1, ..., z_L), z_1 next to x; c is an optional context.

    p(z|c) = p(z_L) Π_l p(z_l | z_>l, c)      p(x|z, c) = likelihood(decoder_1(z, c))

    bottom_up   q(z|x, c) = q(z_1 | x, c) Π_l q(z_l | z_{l-1}, c)       arXiv:1509.00519 sec. 2 (there h_1, h_2)
    top_down    q(z|x, c) = q(z_L | x, c) Π_l q(z_l | x, z_>l, c)       arXiv:1705.07120 sec. 4

encoder_l returns q of z_l. decoder_l sees z_l and returns p of the level below, which is x for z_1. z_>l is only
z_{l+1}, or all levels above with `skip`.
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from vae_jax import networks, objectives, spec
from vae_jax.conditionals import conditional as build_conditional
from vae_jax.conditionals import heads, priors, tables
from vae_jax.core import Latent, Model, embedded, first_example, learned
from vae_jax.distributions import Sequential
from vae_jax.networks.network import compute_in
from vae_jax.objectives import objective as objective_of
from vae_jax.spec import BadOption, build
from vae_jax.support import seen

TABLES = True  # takes the columns of a table, and missing values
INFERENCE = ("bottom_up", "top_down")


def hierarchical_vae(
    encoders,
    decoders,
    *,
    event,
    latent_dims,
    inference,
    skip,
    prior=None,
    objective=objectives.elbo_sampled_kl,
    context=None,
    **options,
) -> Model:
    """Return a VAE of L levels. Params are {"encoder": {"z1": ...}, "decoder": {"z1": ...}} and those of `vae`.

    Args:
      encoders: a `core.Conditional` for q of every level, the lowest first.
      decoders: a `core.Conditional` for p below every level: p(x|z), p(z_1|z_>1), ...
      event: the `core.Event` x.
      latent_dims: the sizes of z_1, ..., z_L.
      inference: "bottom_up" or "top_down".
      skip: True if z_>l means all levels above, False if it means only the next one.
      prior: one of `conditionals.priors` for the top level; None for N(0, I).
      objective: an equation of `objectives`, which training maximises.
      context: the `core.Context` c; None for none.
      **options: options of the objective.

    Raises `BadOption` if p and q have different supports, and for a prior made of q(z_L|x) with "bottom_up".
    """
    depth, top_down = len(latent_dims), inference == "top_down"
    names = [f"z{level + 1}" for level in range(depth)]
    prior = prior or priors.standard((latent_dims[-1],))
    priors.check_density(prior)
    if prior.support is None and not top_down and depth > 1:
        raise BadOption(
            f"prior: it is a mixture of q({names[-1]}|x), which inference 'bottom_up' has only as an integral over the "
            "levels below; use inference 'top_down'"
        )
    priors.check_support(prior, encoders[-1].abstract)
    for q, p in zip(encoders[:-1], decoders[1:], strict=True):
        if q.abstract.support != p.abstract.support:
            raise BadOption(
                f"conditional: it is over values that are {p.abstract.support}, and the posterior, a "
                f"{type(q.abstract).__name__}, is over {q.abstract.support}; use the same head for both"
            )
    see = functools.partial(seen, event.support, missing=event.missing)
    objective = objective_of.of(objective, see=see, **options)
    downwards = range(depth)[::-1]
    q_order = downwards if top_down else range(depth)

    # The input of a network, and its context. `drawn` are the levels drawn so far; the last one is the neighbour.

    def encoder_input(seen, drawn):
        x, c = seen
        if not drawn:
            return x, c
        return (x, _joined(drawn if skip else drawn[-1:], c)) if top_down else (drawn[-1], c)

    def decoder_input(c, drawn):
        return drawn[-1], _joined(drawn[:-1] if skip else (), c)

    def part(conditionals, inputs, level):
        def distribution(params, seen, drawn):
            return conditionals[level].distribution(params[names[level]], *inputs(seen, drawn))

        return distribution

    # Built once: the functions of a chain are part of its pytree structure, which must be the same in every call.
    q_first, *q_later = [part(encoders, encoder_input, level) for level in q_order]
    *p_later, p_of_x = [part(decoders, decoder_input, level) for level in downwards]

    def encode(params, x, c=None):
        seen, params = (see(x), embedded(context, c)), params["encoder"]
        return Sequential(q_first(params, seen, ()), params, seen, tuple(q_later), reverse=top_down)

    def decode(params, z, c=None):
        return p_of_x(params["decoder"], embedded(context, c), z[::-1])

    def prior_of(params, c=None):
        q_of_top = lambda x: q_first(params["encoder"], (see(x), embedded(context, c)), ())  # noqa: E731
        top = prior.distribution(params.get("prior"), q_of_top)
        return Sequential(top, params["decoder"], embedded(context, c), tuple(p_later), reverse=True)

    def init(key, batch):
        key_encoders, key_decoders = jax.random.split(key)
        x, c = first_example(batch)
        seen = x, c = see(x), embedded(context, c)

        def variables(key, conditionals, order, inputs, seen, include_self):
            drawn = [jnp.zeros(latent_dims[level]) for level in order]
            each = {level: inputs(seen, drawn[: place + include_self]) for place, level in enumerate(order)}
            return {names[n]: conditionals[n].init(jax.random.fold_in(key, n), *each[n]) for n in range(depth)}

        return learned(
            encoder=variables(key_encoders, encoders, q_order, encoder_input, seen, 0),
            decoder=variables(key_decoders, decoders, downwards, decoder_input, c, 1),
            prior=prior.init(jax.random.fold_in(key, 2), objective_of.filled(batch, event)),
            # All levels as one vector: an equation with a network of z is one of a single code, and its loss refuses z.
            **objective.init(jax.random.fold_in(key, 3), {"x": x, "z": jnp.zeros(sum(latent_dims))}),
        )

    latent = Latent(prior_of, encode, decode)
    return objective_of.model(init, lambda dropout_key=None: latent, objective)


def _joined(vectors, c):
    """Return the vectors, the last one first, and c as one vector; None if all are empty."""
    present = [*vectors[::-1], *([] if c is None else [jnp.ravel(c)])]
    return jnp.concatenate(present) if present else None


def from_config(
    *,
    event,
    context,
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
    """Return a hierarchy from plain dicts: each has the `name` of a network, head, prior or objective, and its options.

    Args:
      event: the `core.Event` x.
      context: the `core.Context` c; None for none.
      levels: {"z1": level, ..., "zL": level}, z1 next to x. Each level has `latent_dim`, the network `encoder` of
        q(z_l|...), and the network `decoder` of p of the level below.
      inference: "bottom_up" or "top_down".
      skip: True if z_>l means all levels above.
      posterior: the head of q at every level.
      conditional: the head of p(z_l|z_>l) at every level.
      likelihood: a head of `conditionals.heads` over x.
      objective: an equation of `objectives`, as in `models.vae`.
      prior: one of `conditionals.priors`, for the top level.
      compute_dtype: the precision of the networks, "float32" or "bfloat16".

    Raises `BadOption` that names the key.
    """
    spec.one_of(INFERENCE, inference=inference)
    spec.flags(skip=skip)
    levels = _levels(levels)
    dims = tuple(level["latent_dim"] for level in levels.values())
    q_heads = [build(heads, posterior, (dim,), where="posterior") for dim in dims]
    z_heads = [build(heads, conditional, (dim,), where="conditional") for dim in dims[:-1]]
    x_head = tables.likelihood(heads, likelihood, event, context)

    def network(spec, outputs, *, where):
        return compute_in(compute_dtype, build(networks, spec, outputs, where=where))

    def each(part, parts_heads):
        return [
            build_conditional(network(level[part], head.shapes, where=f"levels.{name}.{part}"), head)
            for (name, level), head in zip(levels.items(), parts_heads, strict=True)
        ]

    decoders = each("decoder", [x_head, *z_heads])
    equation, options = objective_of.from_config(objective, build_network=network)
    return hierarchical_vae(
        each("encoder", q_heads),
        decoders,
        event=event,
        latent_dims=dims,
        inference=inference,
        skip=skip,
        prior=build(priors, prior, dims[-1:], decoders[0].abstract.support, where="prior"),
        objective=equation,
        context=context,
        **options,
    )


def _levels(levels) -> dict:
    """Return the levels from z1 to zL. Raises `BadOption` for wrong names, keys or sizes."""
    if not isinstance(levels, Mapping):
        raise BadOption(f"levels must be a dict with the keys z1, z2, ..., got {spec.shown(levels)}")
    names = [f"z{n}" for n in range(1, len(levels) + 1)]
    if sorted(levels) != sorted(names) or not levels:
        raise BadOption(f"levels must have the keys z1 (next to x), z2, ..., got {', '.join(levels) or 'none'}")
    for name in names:
        with spec.under(f"levels.{name}"):
            spec.check_options(lambda *, latent_dim, encoder, decoder: None, levels[name])
            spec.integers(latent_dim=levels[name]["latent_dim"])
    return {name: levels[name] for name in names}
