"""Normalising flows: a bijector f from data to a standard normal variable, and an exact density or a bound.

    log p(x) = log N(f(x); 0, I) + log |det ∂f/∂x|                                  real numbers
    log P(x) >= E_q(u|x)[log p(x + u) - log q(u|x)]                                 levels, arXiv:1902.00275 eq. (6)

The layouts are those of RealNVP, arXiv:1605.08803, of Glow, arXiv:1807.03039, a masked autoregressive flow,
arXiv:1705.07057, and nested lattices of pixels. Couplings are affine, rational-quadratic splines, arXiv:1906.04032, or
distribution functions of mixtures, arXiv:1902.00275.
"""

import itertools
import sys

import jax
import jax.numpy as jnp

from vae_jax import core, networks
from vae_jax.bijectors import Flatten, Inverted, Logit, Probability, Rescale, Reverse, Squeeze, monotone
from vae_jax.bijectors.mixture import levels_mixture
from vae_jax.bijectors.squeeze import nested as lattices
from vae_jax.conditionals import bijections
from vae_jax.conditionals.bijections import Part
from vae_jax.core import Aux, Evidence, Latent, Model, embedded
from vae_jax.distributions import Dequantised, Normal, Rounded, Transformed, UniformNoise
from vae_jax.networks.network import compute_in
from vae_jax.objectives.bounds import log_weight
from vae_jax.spec import MANY, BadOption, build, call, integers, name_of, numbers, one_of, sizes, with_defaults
from vae_jax.support import Binary, Levels, Real, Unit, standardize

TAKES = (Binary, Levels, Unit, Real)
LAYOUTS = ("autoregressive", "glow", "nested", "realnvp")


def density(flow: Part, event, *, context=None) -> Model:
    """Return the exact density of real numbers x:  log p(x) = log N(f(x); 0, I) + log |det ∂f/∂x|.

    Args:
      flow: the part f, from x to a vector z.
      event: the `core.Event` x.
      context: the `core.Context` c; None for none.
    """
    size = _size(event.shape)

    def init(key, batch):
        x = batch["x"].astype(jnp.float32)
        return {"flow": flow.init(key, x, _contexts(context, batch))}

    def of_x(params, c=None):
        return Transformed(Normal.standard((size,)), Inverted(flow.bijector(params["flow"], embedded(context, c))))

    return core.tractable(init, of_x)


def of_levels(flow: Part, event, *, noise=None, context=None) -> Model:
    """Return the flow of levels x, whose code z = f(x + u) has u ~ q(u|x) within [0, 1).

    p(z) = N(0, I), q(z|x) is `Dequantised`, and p(x|z) is the point mass at ⌊f⁻¹(z)⌋. One draw gives the bound
    log p(x + u) - log q(u|x), arXiv:1902.00275 eq. (6); K draws give the importance-weighted one. Training maximises
    the first.

    Args:
      flow: the part f, from x + u to a vector z.
      event: the `core.Event` x, levels or bits.
      noise: the part from a standard normal array to u, conditional on an image of x; None for uniform u.
      context: the `core.Context` c; None for none.
    """
    shape, size, num_levels = tuple(event.shape), _size(event.shape), event.support.num_levels

    def init(key, batch):
        key_flow, key_noise, key_u = jax.random.split(key, 3)
        x, c = batch["x"].astype(jnp.float32), _contexts(context, batch)
        u = jax.vmap(UniformNoise(shape).sample)(jax.random.split(key_u, len(x)))
        start = {"flow": flow.init(key_flow, x + u, c)}
        if noise is None:
            return start
        seen = standardize(event.support, x)
        return start | {"noise": noise.init(key_noise, jax.random.normal(jax.random.fold_in(key, 1), x.shape), seen)}

    def bijector(params, c=None):
        return flow.bijector(params["flow"], embedded(context, c))

    def noise_of(params, x, c=None):
        if noise is None:
            return UniformNoise(shape)
        return Transformed(Normal.standard(shape), noise.bijector(params["noise"], standardize(event.support, x)))

    def prior(params, c=None):
        embedded(context, c)
        return Normal.standard((size,))

    def posterior(params, x, c=None):
        return Dequantised(params, x, c, bijector, noise_of)

    def likelihood(params, z, c=None):
        return Rounded(bijector(params, c).inverse_and_log_det(z)[0], num_levels)

    def evidence(params, key, x, c=None):
        z, log_q = posterior(params, x, c).sample_and_log_prob(key)
        return Evidence(z, jnp.zeros(()), prior(params, c).log_prob(z), log_q, kl=None)

    latent = Latent(prior, posterior, likelihood, evidence)

    def bound(params, key, x, c=None):
        return log_weight(latent, params, key, x, c)

    def loss(params, key, batch, step):
        value = core.per_example(bound)(params, key, batch)
        return -value, Aux({"bound": value})

    def sample(params, key, c=None):
        return likelihood(params, prior(params, c).sample(key), c).mean()

    return Model(init, loss, core.by_loss(loss), sample=sample, latent=latent, bound=bound)


def from_config(
    *, event, context, layout, coupling, network, dequantisation=None, margin=0.05, compute_dtype="float32"
) -> Model:
    """Return a flow from plain dicts.

    Args:
      event: the `core.Event` x: images [H, W, C] or vectors [D] of levels, bits, or real numbers.
      context: the `core.Context` c; None for none.
      layout: `name`, a function of this module among `autoregressive`, `glow`, `nested`, `realnvp`, and its options.
      coupling: `name`, one of `affine`, `mixture`, `spline`, and its options.
      network: of the couplings: `name` of `networks`, such as `gated_resnet` for images or `mlp`, and its options.
      dequantisation: `{"name": "uniform"}`, the default for levels, or `{"name": "variational"}` with the options
        `depth`, `coupling` and `network`. Only for levels and bits.
      margin: α of the logit that maps bounded data to the reals; not used by `nested`.
      compute_dtype: the precision of the networks, "float32" or "bfloat16".

    Raises `BadOption` that names the key.
    """
    numbers(margin=margin, above=0, below=0.5)
    num_levels = 1 if isinstance(event.support, Unit) else event.support.num_levels  # None for real numbers
    is_discrete = isinstance(event.support, Binary | Levels)

    def of_outputs(outputs, spec=network, where="network"):
        options = with_defaults(spec, zero_output=True) if name_of(spec) in ("mlp", "gated_resnet") else spec
        if name_of(spec) == "gated_resnet" and len(event.shape) != 3:
            raise BadOption(f"network.name: 'gated_resnet' needs images [H, W, C], got {tuple(event.shape)}; use 'mlp'")
        return compute_in(compute_dtype, build(networks, options, outputs, where=where))

    one_of(LAYOUTS, **{"layout.name": name_of(layout)})
    is_nested = layout["name"] == "nested"
    elementwise = build(monotone, coupling, where="coupling")
    if is_nested and is_discrete and coupling["name"] == "mixture":
        options = {key: value for key, value in coupling.items() if key != "name"}
        elementwise = call(levels_mixture, options, num_levels, where="coupling")
    options = {key: value for key, value in layout.items() if key != "name"}
    if is_nested:
        options["see"] = _centres(num_levels) if is_discrete else None
    make = getattr(sys.modules[__name__], layout["name"])
    parts = call(make, options, tuple(event.shape), elementwise, of_outputs, where="layout")
    if num_levels is not None:
        first = Rescale(float(num_levels)) if is_nested else Logit(float(num_levels), float(margin))
        parts = bijections.chain(bijections.fixed(first), parts)
    if not is_discrete:
        if dequantisation is not None:
            raise BadOption(
                f"dequantisation: only levels and bits are dequantised, and the data are {event.support}; leave it out"
            )
        return density(parts, event, context=context)
    spec = {"name": "uniform"} if dequantisation is None else dequantisation
    one_of(("uniform", "variational"), **{"dequantisation.name": name_of(spec)})
    options = {key: value for key, value in spec.items() if key != "name"}
    make = uniform if spec["name"] == "uniform" else variational
    noise = call(make, options, tuple(event.shape), of_outputs, where="dequantisation")
    return of_levels(parts, event, noise=noise, context=context)


def glow(shape, elementwise, network, *, depth=4, levels=None) -> Part:
    """Return the layout of Glow, arXiv:1807.03039 sec. 3: steps of activation norm, 1x1 convolution and coupling.

    An image is squeezed at each level, and half of its channels leave after each level except the last. A vector has
    one level, and a full matrix in the place of the convolution.

    Args:
      shape: of x.
      elementwise: the map of one entry.
      network: (shapes of outputs) -> the network of a coupling.
      depth: steps of each level.
      levels: how often an image is squeezed, 2 by default; None for vectors.
    """
    integers(depth=depth, at_most=MANY)

    def step(shape):
        coupling = bijections.channel_coupling(shape, shape[-1] // 2, elementwise, network)
        return bijections.chain(bijections.act_norm(), bijections.mixing(), coupling)

    def level(shape):
        return bijections.stacked(step(shape), depth)

    if not _is_image(shape):
        return _of_vector(shape, levels, level)
    return _multiscale(shape, _levels(shape, levels), level, network)


def realnvp(shape, elementwise, network, *, depth=2, levels=None) -> Part:
    """Return the layout of RealNVP, arXiv:1605.08803 sec. 3.4 to 3.6, with activation norms instead of batch norms.

    At each level, pairs of couplings alternate between the colours of a checkerboard. The image is then squeezed, and
    pairs of couplings alternate between halves of the channels. Half of the channels leave. A vector has one level of
    couplings between its halves.

    Args:
      shape: of x.
      elementwise: the map of one entry.
      network: (shapes of outputs) -> the network of a coupling.
      depth: pairs of couplings of each kind and level.
      levels: how often an image is squeezed, 2 by default; None for vectors.
    """
    integers(depth=depth, at_most=MANY)

    def halves(shape):
        one = [
            bijections.act_norm(),
            bijections.channel_coupling(shape, shape[-1] - shape[-1] // 2, elementwise, network),
            bijections.fixed(Reverse()),
        ]
        return bijections.stacked(bijections.chain(*one, *one), depth)

    def colours(shape):
        pair = [bijections.checkerboard_coupling(shape, parity, elementwise, network) for parity in (0, 1)]
        return bijections.stacked(bijections.chain(bijections.act_norm(), *pair), depth)

    if not _is_image(shape):
        return _of_vector(shape, levels, halves)
    return _multiscale(shape, _levels(shape, levels), halves, network, before=colours)


def autoregressive(shape, elementwise, network=None, *, depth=2, hidden=(64,), activation="relu") -> Part:
    """Return a stack of masked autoregressive flows, arXiv:1705.07057; the order is reversed after each of them.

    A density takes one pass of each masked network, and a draw one pass for every dimension. The networks are MADEs:
    the key `network` of the model is not used.

    Args:
      shape: of x; an image is read row by row.
      elementwise: the map of one entry.
      network: not used.
      depth: the number of flows.
      hidden: widths of the hidden layers of each MADE.
      activation: of the MADEs.
    """
    integers(depth=depth, at_most=MANY)
    size = _size(shape)
    step = bijections.chain(
        bijections.act_norm(),
        bijections.masked_autoregressive((size,), elementwise, hidden=hidden, activation=activation),
        bijections.fixed(Reverse()),
    )
    return bijections.chain(bijections.fixed(Flatten(tuple(shape))), bijections.stacked(step, depth))


def nested(shape, elementwise, network, *, block=4, largest=8, coarse=(128, 128), see=None) -> Part:
    """Return the flow over nested lattices of pixels: each coupling maps a finer lattice given the coarser ones.

    log p(x) = Σ_l `log p(x_l | x_<l)`, where x_0 is every `block`-th pixel in each direction. Each later group lies
    between the pixels before it, and has one colour. A group leaves as soon as it is mapped. The pixels of x_0 get a
    masked autoregressive flow. The networks see images of (H / block) x (W / block): a 3x3 convolution reaches far and
    costs little.

    Args:
      shape: of x [H, W, C].
      elementwise: the map of one entry.
      network: (shapes of outputs) -> the network of a coupling.
      block: the side of the squares of pixels that become channels, a power of 2.
      largest: at most so many pixels of a square are mapped by one coupling.
      coarse: widths of the hidden layers of the MADE for x_0.
      see: what the networks see of pixels; None for the pixels themselves.
    """
    integers(block=block, largest=largest, at_most=64)
    sizes(coarse=coarse)
    if not _is_image(shape):
        raise BadOption(f"name: 'nested' needs images [H, W, C], got {tuple(shape)}; use 'autoregressive' or 'glow'")
    height, width, channels = shape
    if block < 2 or block & (block - 1):
        raise BadOption(f"block must be a power of 2, such as 4, got {block}")
    if largest & (largest - 1):
        raise BadOption(f"largest must be a power of 2, such as 8, got {largest}")
    if height % block or width % block:
        raise BadOption(
            f"block: an image of {height}x{width} has no squares of {block}x{block} pixels; use a block that divides "
            f"both sides, or pad the image to {-(-height // block) * block}x{-(-width // block) * block}"
        )
    order, ends = lattices(block, channels, largest)
    of_channels = lambda number: (height // block, width // block, number)  # noqa: E731
    flow = bijections.chain(
        bijections.masked_autoregressive(of_channels(ends[0]), elementwise, hidden=coarse, see=see),
        bijections.fixed(Flatten(of_channels(ends[0]))),
    )
    for before, end in itertools.pairwise(ends):
        coupling = bijections.channel_coupling(of_channels(end), before, elementwise, network, see)
        flow = bijections.split(of_channels(end), before, coupling, flow)
    return bijections.chain(bijections.fixed(Squeeze(block, order)), flow)


def _centres(num_levels):
    """Return the map of dequantised levels in [-1, 1) to the centres of their levels.

    Networks that see them depend neither on the noise within a level, nor on the rounding of an inverse.
    """

    def see(x):
        level = jnp.clip(jnp.floor((x + 1.0) * (num_levels / 2.0)), 0.0, num_levels - 1.0)
        return (level + 0.5) * (2.0 / num_levels) - 1.0

    return see


def uniform(shape, of_outputs) -> None:
    """Return None: u is uniform, without parameters."""


def variational(shape, of_outputs, *, depth=2, coupling=None, network=None) -> Part:
    """Return the flow from N(0, I) to u in (0, 1), conditional on x, arXiv:1902.00275 sec. 3.1.

    Pairs of couplings, between the colours of a checkerboard or the halves of a vector, end in Φ: u begins as uniform.

    Args:
      shape: of x.
      of_outputs: (shapes of outputs) -> the network of a coupling of the flow.
      depth: the number of pairs.
      coupling: the map of one entry, as that of the flow; affine by default.
      network: `name` of `networks` and its options, for other networks than those of the flow.
    """
    integers(depth=depth, at_most=MANY)
    elementwise = build(monotone, coupling or {"name": "affine"}, where="coupling")
    net = of_outputs if network is None else lambda outputs: of_outputs(outputs, network, "network")
    if _is_image(shape):
        pair = [bijections.checkerboard_coupling(shape, parity, elementwise, net) for parity in (0, 1)]
    else:
        half = bijections.channel_coupling(shape, shape[-1] - shape[-1] // 2, elementwise, net)
        pair = [half, bijections.fixed(Reverse())] * 2
    return bijections.chain(bijections.stacked(bijections.chain(*pair), depth), bijections.fixed(Probability()))


def _multiscale(shape, levels, level, network, before=None):
    """Return [before], squeeze, `level`, split, and so on: a part from an image to a vector."""
    height, width, channels = shape
    squeezed = (height // 2, width // 2, 4 * channels)
    parts = [before(shape)] if before else []
    parts += [bijections.fixed(Squeeze()), level(squeezed)]
    if levels == 1:
        return bijections.chain(*parts, bijections.fixed(Flatten(squeezed)))
    kept = squeezed[-1] // 2
    leave = bijections.channel_coupling(squeezed, kept, monotone.affine(), network)
    rest = _multiscale((*squeezed[:2], kept), levels - 1, level, network, before)
    return bijections.chain(*parts, bijections.split(squeezed, kept, leave, rest))


def _levels(shape, levels):
    """Return how often an image is squeezed. Raises `BadOption` if it cannot be squeezed so often."""
    levels = 2 if levels is None else levels
    integers(levels=levels, at_most=16)
    height, width, _ = shape
    possible = next(n for n in range(32) if height % 2 ** (n + 1) or width % 2 ** (n + 1))
    if levels > possible:
        up = [-(-side // 2**levels) * 2**levels for side in (height, width)]
        advice = f"set levels to at most {possible}, or " if possible else ""
        raise BadOption(
            f"levels: an image of {height}x{width} can be squeezed {possible} times, not {levels}; {advice}pad the "
            f"image to {up[0]}x{up[1]}"
        )
    return levels


def _of_vector(shape, levels, level):
    if levels is not None:
        raise BadOption(f"levels: only images [H, W, C] are squeezed, and the data have shape {tuple(shape)}")
    if len(shape) != 1:
        return bijections.chain(bijections.fixed(Flatten(tuple(shape))), level((_size(shape),)))
    return level(shape)


def _is_image(shape):
    return len(shape) == 3


def _size(shape):
    size = 1
    for side in shape:
        size *= side
    return size


def _contexts(context, batch):
    c = batch.get("context")
    if context is None or c is None:
        return embedded(context, c)
    return jax.vmap(context.embed)(c)
