"""The sketch VAE, arXiv:1704.03477: a model of pen drawings with a latent code for the whole drawing.

p(z) = prior     q(z|x) = posterior(encoder(x_1, ..., x_N))     p(x|z) = Π_t `p(x_t | x_<t, z)`

The encoder reads the drawing in both directions. x_t = (Δx, Δy, pen) is a point on the integer lattice, as in
`models.strokes`; there the paper has a density. Its loss divides by the greatest length, this one is per drawing.
"""

import functools

from vae_jax import networks, objectives
from vae_jax.conditionals import conditional, heads, priors
from vae_jax.conditionals import strokes as pens
from vae_jax.core import Model
from vae_jax.objectives import objective as objective_of
from vae_jax.spec import BadOption, build, call, integers, name_of
from vae_jax.support import Strokes

TAKES = (Strokes,)


def sketch_vae(
    encoder, decoder, *, event, latent_dim, prior=None, objective=objectives.elbo, drops=False, **options
) -> Model:
    """Return a sketch VAE, whose decoder is a model of drawings with the context z.

    Args:
      encoder: a `core.Conditional`, x -> q(z|x).
      decoder: a `core.Conditional`, z -> p(x|z).
      event: the `core.Event` x, [T, 3].
      latent_dim: D, the size of z.
      prior: one of `conditionals.priors`; None for N(0, I).
      objective: an equation of `objectives`, which training maximises.
      drops: True if training drops units, at the rates of the networks. The bound, draws and evaluation never drop.
      **options: options of the objective.

    Raises `BadOption` if p(z) and q(z|x) have different supports.
    """
    prior = prior or priors.standard((latent_dim,))
    priors.check_density(prior)
    priors.check_support(prior, encoder.abstract)
    return objective_of.latent_variable_model(
        encoder,
        decoder,
        prior,
        event=event,
        latent_shape=(latent_dim,),
        objective=objective_of.of(objective, **options),
        drops=drops,
    )


def from_config(
    *,
    event,
    latent_dim,
    encoder,
    decoder,
    posterior,
    objective,
    num_components=20,
    scale=10.0,
    atoms=0,
    prior=priors.STANDARD,
) -> Model:
    """Return a sketch VAE from plain dicts.

    Args:
      event: the `core.Event` x, [T, 3].
      latent_dim: D, the size of z.
      encoder: options of `networks.pen_reader`, except the scale.
      decoder: options of `networks.pen_lstm`, except the scale.
      posterior: a head of `conditionals.heads` over z.
      objective: an equation of `objectives`, as in `models.vae`.
      num_components: M, the number of normals in the mixture of a point.
      scale: the usual size of an offset, in lattice units: about the median.
      atoms: L, so that offsets from -L to L also have masses of their own (`distributions.PenPoints`); 0 for none.
      prior: one of `conditionals.priors`.

    Raises `BadOption` that names the key, and for the prior `vamp`, whose pseudo-inputs need a gradient that points on
    a lattice do not have.
    """
    integers(latent_dim=latent_dim)
    if name_of(prior) == "vamp":
        raise BadOption("prior: 'vamp' learns pseudo-inputs, and points on a lattice have no gradient; use 'mixture'")
    q = build(heads, posterior, (latent_dim,), where="posterior")
    head = call(
        pens.pen_points,
        {"num_components": num_components, "scale": scale, "atoms": atoms},
        event.support.limit,
        where="",
    )
    reader = call(networks.pen_reader, encoder, q.shapes, scale=scale, where="encoder")
    writer = call(networks.pen_lstm, decoder, head.shapes, scale=scale, atoms=atoms, where="decoder")
    equation, options = objective_of.from_config(objective, build_network=functools.partial(build, networks))
    return sketch_vae(
        conditional(reader, q),
        pens.drawing_conditional(writer, head, event.shape[0], event.support.limit),
        event=event,
        latent_dim=latent_dim,
        prior=build(priors, prior, (latent_dim,), where="prior"),
        objective=equation,
        drops=reader.drops or writer.drops,
        **options,
    )
