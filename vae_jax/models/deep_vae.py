"""Deep hierarchical VAEs of images, whose latents z_1, ..., z_L are maps, z_1 next to x.

    p(z) = Π_l p(z_l | z_>l)     q(z|x) = Π_l q(z_l | z_>l, x)     p(x|z) = likelihood(h_1(z))

    log p(x) >= E_q[log p(x|z)] - Σ_l E_q[KL(q(z_l | z_>l, x) || p(z_l | z_>l))]

One path from the top down computes q and p of all levels, as in the ladder VAE, arXiv:1602.02282, in VDVAE,
arXiv:2011.10650, and in NVAE, arXiv:2007.03898: q of a level sees the path, and features of x from the bottom up.
"""

import jax
import jax.numpy as jnp

from vae_jax import networks, objectives
from vae_jax.conditionals import heads, tables
from vae_jax.core import Evidence, Latent, Model, embedded, first_example, learned
from vae_jax.distributions import Hierarchy
from vae_jax.distributions.hierarchy import noise
from vae_jax.networks.conv import coarse_shape
from vae_jax.networks.network import compute_in
from vae_jax.networks.top_down import shapes_of_latents
from vae_jax.objectives import objective as objective_of
from vae_jax.objectives.bounds import closed_elbo
from vae_jax.spec import BadOption, shown, sizes
from vae_jax.support import Binary, Levels, Real, Unit, standardize

TAKES = (Real, Unit, Binary, Levels)


def deep_vae(bottom_up, top_down, shapes, head, *, event, objective=objectives.elbo, **options) -> Model:
    """Return a deep hierarchical VAE. Params have the parts "encoder" and "decoder"; q and p of z are in the latter.

    Args:
      bottom_up: the network x -> features at each resolution.
      top_down: the network (features or None, noise or None, z or None) -> outputs, z, then log p(z), log q(z) and
        KL(q || p) of every level, [L] each, and the (μ, σ) of the levels (`networks.top_down`).
      shapes: the shapes of the arrays of z.
      head: a `conditionals.conditional.Head` of x.
      event: the `core.Event` x.
      objective: an equation of `objectives`, which training maximises.
      **options: options of the objective.
    """

    def features_of(params, x):
        return bottom_up.apply(params["encoder"], standardize(event.support, x), None)

    def walk_p(params, features, noise, z):
        _, z, log_p, _, _, normals = top_down.apply(params, None, noise, z)
        return z, log_p, normals

    def walk_q(params, features, noise, z):
        _, z, _, log_q, _, normals = top_down.apply(params, features, noise, z)
        return z, log_q, normals

    def prior(params, context=None):
        embedded(None, context)
        return Hierarchy(params["decoder"], None, walk_p, shapes)

    def posterior(params, x, context=None):
        embedded(None, context)
        return Hierarchy(params["decoder"], features_of(params, x), walk_q, shapes)

    def p_of_x(params, outputs):
        weights = () if head.init is None else (params["weights"],)
        return head.distribution(*outputs, *weights)

    def likelihood(params, z, context=None):
        embedded(None, context)
        return p_of_x(params, top_down.apply(params["decoder"], None, None, z)[0])

    def evidence(params, key, x, context=None):
        embedded(None, context)
        outputs, z, log_p, log_q, kl, _ = top_down.apply(
            params["decoder"], features_of(params, x), noise(key, shapes), None
        )
        log_lik = p_of_x(params, outputs).log_prob(x)
        return Evidence(z, log_lik, jnp.sum(log_p), jnp.sum(log_q), kl)

    def init(key, batch):
        x, context = first_example(batch)
        embedded(None, context)
        key_encoder, key_decoder, key_weights, key_noise = jax.random.split(key, 4)
        encoder = bottom_up.init(key_encoder, standardize(event.support, x), None)
        features = features_of({"encoder": encoder}, x)
        decoder = top_down.init(key_decoder, features, noise(key_noise, shapes), None)
        weights = None if head.init is None else head.init(key_weights)
        return learned(encoder=encoder, decoder=decoder, weights=weights)

    latent = Latent(prior, posterior, likelihood, evidence)
    model = objective_of.model(init, lambda dropout_key=None: latent, objective_of.of(objective, **options))

    def judge(params, key, x, context=None):
        one = evidence(params, key, x, context)
        levels = {f"rate_{level}": nats for level, nats in enumerate(one.kl, 1)}
        return closed_elbo(one.log_lik, jnp.sum(one.kl))[1] | levels

    return model._replace(judge=judge)


def from_config(
    *,
    event,
    widths,
    blocks,
    latent_dim,
    likelihood,
    objective,
    encoder_blocks=1,
    activation="elu",
    cell="gated",
    inference="residual",
    least_scale=1e-2,
    remat=False,
    compute_dtype="float32",
) -> Model:
    """Return a deep hierarchy from plain values.

    Args:
      event: the `core.Event` x, an image.
      widths: the number of channels at each resolution, the finest first; each halves the image once more.
      blocks: the number of blocks of latents at each resolution, the finest first; 0 for none.
      latent_dim: D, the number of channels of z.
      likelihood: a head of `conditionals.heads` over x.
      objective: an equation of `objectives`, such as `elbo`, or `free_bits` with nats for each level.
      encoder_blocks: the number of residual blocks from the bottom up, at each resolution.
      activation: of all convolutions.
      cell: the kind of the residual blocks, "gated" as in ladder VAEs, "bottleneck" as in VDVAE, or "separable" as in
        NVAE (`networks.top_down`).
      inference: "residual" for q relative to p, as in NVAE; "weighted" for the product of p and a normal of x, as in
        the ladder VAE; "plain" for neither, as in VDVAE.
      least_scale: the smallest standard deviation of p and q.
      remat: True to compute the blocks again in the backward pass: memory does not grow with their number.
      compute_dtype: the precision of the networks, "float32" or "bfloat16"; z and densities are always float32.

    Raises `BadOption` that names the key.
    """
    if len(event.shape) != 3:
        raise BadOption(f": the family 'deep_vae' models images [H, W, C]; the data have shape {tuple(event.shape)}")
    sizes(widths=widths, at_least_one=True)
    if not isinstance(blocks, tuple | list):
        raise BadOption(f"blocks must be a tuple with an entry for each of the widths, got {shown(blocks)}")
    coarse_shape(tuple(event.shape), widths, "widths")
    head = tables.likelihood(heads, likelihood, event)
    height, width = event.shape[:2]
    outputs = tuple((height >> n, width >> n, features) for n, features in enumerate(widths, 1))
    options = {"num_blocks": encoder_blocks, "activation": activation, "cell": cell}
    bottom_up = compute_in(compute_dtype, networks.bottom_up(outputs, **options))
    path = {"widths": tuple(widths), "blocks": tuple(blocks), "latent_dim": latent_dim, "activation": activation}
    path |= {"cell": cell, "inference": inference, "least_scale": least_scale, "remat": remat}
    top_down = networks.top_down(head.shapes, **path)
    shapes = shapes_of_latents(head.shapes, tuple(widths), tuple(blocks), latent_dim)
    equation, options = objective_of.from_config(objective, build_network=_no_network)
    top_down = compute_in(compute_dtype, top_down, keep=(1, 2))
    return deep_vae(bottom_up, top_down, shapes, head, event=event, objective=equation, **options)


def _no_network(spec, outputs, *, where):
    raise BadOption(f"{where}: a deep hierarchy takes objectives without networks, such as 'elbo' or 'free_bits'")
