"""The average of chains over one event: the mean of their conditionals at every place is a conditional again."""

import math

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.distributions.autoregressive import Autoregressive, Cached, RasterScan, over_places
from vae_jax.distributions.reshaped import Reshaped, Squares
from vae_jax.numerics import as_jax


@struct.dataclass
class Averaged:
    """The conditionals `p(x_i | x_<i)` = (1/K) Σ_k `p_k(x_i | x_<i)` of independent places, from those of K `members`.

    Arrays of a member lead with its places. The event of one place has `place_ndim` axes, which are the last of x.
    """

    members: tuple
    place_ndim: int = struct.field(pytree_node=False)

    @property
    def support(self):
        return self.members[0].support

    def over_places(self, function):
        return self.replace(members=tuple(over_places(function, member) for member in self.members))

    def sample(self, key):
        """Draw x at one place: of a member that is chosen at random."""
        key_choice, *keys = jax.random.split(key, 1 + len(self.members))
        drawn = [member.sample(key) for member, key in zip(self.members, keys, strict=True)]
        return jnp.stack(drawn)[jax.random.randint(key_choice, (), 0, len(self.members))]

    def log_prob(self, x):
        """Return Σ_i log (1/K) Σ_k `p_k(x_i | x_<i)`, in nats."""
        places = x.ndim - self.place_ndim
        if places:
            x = x.reshape(-1, *x.shape[places:])
            flat = self.over_places(lambda a: a.reshape(-1, *a.shape[places:]))
            return jnp.sum(jax.vmap(lambda i: flat.over_places(lambda a: a[i]).log_prob(x[i]))(jnp.arange(len(x))))
        return jax.nn.logsumexp(jnp.stack([m.log_prob(x) for m in self.members])) - math.log(len(self.members))


def order_of(p):
    """Return what chains must have in common to be averaged; None for a distribution that is no chain."""
    if isinstance(p, Reshaped):
        base = order_of(p.base)
        return base and (type(p).__name__, p.event_shape, getattr(p, "block", 1), getattr(p, "turns", 0), base)
    return (type(p).__name__, p.event_shape) if isinstance(p, RasterScan | Autoregressive) else None


def averaged(members):
    """Return p(x) = Π_i (1/K) Σ_k `p_k(x_i | x_<i)` from K chains over the same places in the same order.

    Its -log p(x) is at most the mean of those of its members, by Jensen's inequality at every place. The members are
    `RasterScan` or `Autoregressive`, perhaps `Reshaped` or in `Squares`, and networks may differ. Raises `ValueError`
    for other distributions, and for chains of other orders (`order_of`), which only have a mixture.
    """
    first, *_ = members = tuple(members)
    if None in (orders := [order_of(p) for p in members]) or len(set(orders)) > 1:
        shown = ", ".join(_shown(p) for p in members)
        raise ValueError(
            f"averages are of conditionals, so models must draw pixel by pixel and in the same order (such as "
            f"pixel_cnn, or a belief network); got {shown}"
        )
    if isinstance(first, Reshaped):
        return first.replace(base=averaged([p.base for p in members]))
    params = tuple(p.params for p in members)
    place_ndim = 1 if isinstance(first, RasterScan) else len(first.event_shape) - 1

    def together(distributions):
        return Averaged(tuple(distributions), place_ndim)

    def conditionals(params, x):
        return together(as_jax(p.conditionals(q, x)) for p, q in zip(members, params, strict=True))

    if isinstance(first, Autoregressive):
        return Autoregressive(params, conditionals, first.event_shape, first.support)

    def start(params):
        starts = [p.cached.start(q) for p, q in zip(members, params, strict=True)]
        return tuple(zip(*starts, strict=True))

    def row(params, cache, above, i):
        rows = [p.cached.row(q, c, above, i) for p, q, c in zip(members, params, cache, strict=True)]
        return tuple(zip(*rows, strict=True))

    def pixel(params, cache, left, i, j, features):
        each = zip(members, params, cache, features, strict=True)
        cache, distributions = zip(*(p.cached.pixel(q, c, left, i, j, f) for p, q, c, f in each), strict=True)
        return cache, together(distributions)

    return RasterScan(params, conditionals, Cached(start, row, pixel), first.event_shape, first.support)


def _shown(p):
    of_squares = f" of {p.block}x{p.block} after {p.turns} quarter turns" if isinstance(p, Squares) else ""
    return f"{type(p).__name__}{of_squares} over {list(getattr(p, 'event_shape', '?'))}"
