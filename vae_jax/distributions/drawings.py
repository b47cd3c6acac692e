"""Pen drawings: points (Δx, Δy, pen) on the integer lattice, one after the other, up to an end."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from vae_jax.distributions.discrete import Categorical
from vae_jax.distributions.sentence import up_to_first
from vae_jax.numerics import LOG_2PI, as_jax, log1mexp
from vae_jax.support import END, Levels, Strokes

BEFORE = (0, 0, END)  # what a network sees before the first point
NODES, WEIGHTS = np.polynomial.legendre.leggauss(6)


@struct.dataclass
class DiscretizedNormalMixture:
    """A mixture of normals over levels, P(v) = Σ_m π_m [Φ((v + ½ - μ_m)/s_m) - Φ((v - ½ - μ_m)/s_m)].

    The first and the last level take the tails, so that every component sums to one. `logits`, `locs`, `log_scales`:
    [*event, M], in units of levels; x: levels 0..V-1 of shape [*event], V = `num_levels`.
    """

    logits: jax.Array
    locs: jax.Array
    log_scales: jax.Array
    num_levels: int = struct.field(pytree_node=False)

    @property
    def support(self):
        return Levels(self.num_levels)

    def sample(self, key):
        key_mixture, key_noise = jax.random.split(key)
        component = jax.random.categorical(key_mixture, self.logits)[..., None]
        loc, log_scale = (jnp.take_along_axis(a, component, -1)[..., 0] for a in (self.locs, self.log_scales))
        return _rounded(key_noise, loc, log_scale, 0, self.num_levels - 1)

    def log_prob(self, x):
        return jnp.sum(self.log_probs(x))

    def log_probs(self, x):
        """Return log P(v) of every entry, in nats."""
        log_mass = log_mass_between(x[..., None], x[..., None], self.locs, self.log_scales, 0, self.num_levels - 1)
        return jax.nn.logsumexp(jax.nn.log_softmax(self.logits) + log_mass, axis=-1)

    def between(self, first, last):
        """Return P(first ≤ v ≤ last) of every entry; `first` and `last` are levels of the shape of x."""
        first, last = first[..., None], last[..., None]
        log_mass = log_mass_between(first, last, self.locs, self.log_scales, 0, self.num_levels - 1)
        return jnp.sum(jax.nn.softmax(self.logits) * jnp.exp(log_mass), axis=-1)


@struct.dataclass
class PenPoints:
    """Independent points (Δx, Δy, pen), with Δ a mixture of M correlated normals on the lattice {-R, ..., R}²:

        P(Δx, Δy, pen) = P(pen) Σ_m π_m P_m(Δx) P_m(Δy | Δx)

    The normals are those of arXiv:1308.0850 eq. (24), the three states of the pen those of arXiv:1704.03477. There p is
    a density, which has no limit on a lattice. Here P_m(Δx) is the mass of N(μ_x, s_x²) between Δx - ½ and Δx + ½, and
    P_m(Δy | Δx) that of N(μ_y + ρ s_y/s_x (Δx - μ_x), s_y² (1 - ρ²)). The first and the last lattice point of each axis
    take the tails, so that both factors sum to one.

    `logits` [*points, M]; `locs`, `log_scales` [*points, M, 2], in lattice units; `correlations` [*points, M], inside
    (-1, 1); `pen_logits` [*points, 3]; R = `limit`. x: integers [*points, 3].
    """

    logits: jax.Array
    locs: jax.Array
    log_scales: jax.Array
    correlations: jax.Array
    pen_logits: jax.Array
    limit: int = struct.field(pytree_node=False)

    @property
    def support(self):
        return Strokes(self.limit)

    def at_temperature(self, temperature):
        """Return the points with logits divided by τ and variances multiplied by τ, arXiv:1704.03477 sec. 3.3."""
        return self.replace(
            logits=self.logits / temperature,
            pen_logits=self.pen_logits / temperature,
            log_scales=self.log_scales + 0.5 * jnp.log(temperature),
        )

    def sample(self, key):
        """Draw the component, then Δx, then Δy given the rounded Δx, and the pen; int32 [*points, 3]."""
        key_mixture, key_x, key_y, key_pen = jax.random.split(key, 4)
        component = jax.random.categorical(key_mixture, self.logits)[..., None]
        chosen = self.replace(
            locs=jnp.take_along_axis(self.locs, component[..., None], -2),
            log_scales=jnp.take_along_axis(self.log_scales, component[..., None], -2),
            correlations=jnp.take_along_axis(self.correlations, component, -1),
        )
        x = _rounded(key_x, chosen.locs[..., 0], chosen.log_scales[..., 0], -self.limit, self.limit)
        y = _rounded(key_y, *chosen.y_given(x), -self.limit, self.limit)
        pen = jax.random.categorical(key_pen, self.pen_logits)
        return jnp.stack([x[..., 0], y[..., 0], pen], axis=-1).astype(jnp.int32)

    def log_prob(self, x):
        return jnp.sum(self.log_probs(x))

    def log_probs(self, x):
        """Return log P(Δx, Δy, pen) of every point, in nats."""
        x = jnp.asarray(x)
        loc_y, log_scale_y = self.y_given(x[..., 0, None])
        locs = jnp.stack([self.locs[..., 0], loc_y], axis=-1)
        log_scales = jnp.stack([self.log_scales[..., 0], log_scale_y], axis=-1)
        both = jnp.sum(self._log_masses(x[..., None, :2], locs, log_scales), axis=-1)
        pen = jnp.take_along_axis(jax.nn.log_softmax(self.pen_logits), x[..., 2, None].astype(jnp.int32), axis=-1)
        return jax.nn.logsumexp(jax.nn.log_softmax(self.logits) + both, axis=-1) + pen[..., 0]

    def _log_masses(self, offsets, locs, log_scales):
        return log_mass_between(offsets, offsets, locs, log_scales, -self.limit, self.limit)

    def y_given(self, x):
        """Return the mean and the log-scale of Δy given Δx, [*points, M], for x [*points, 1]."""
        (loc_x, loc_y), (log_x, log_y) = (jnp.moveaxis(a, -1, 0) for a in (self.locs, self.log_scales))
        slope = self.correlations * jnp.exp(log_y - log_x)
        return loc_y + slope * (x - loc_x), log_y + 0.5 * jnp.log1p(-jnp.square(self.correlations))

    def part(self, earlier):
        """Return P(Δx), P(Δy | Δx) or P(pen), after the values `earlier` of the same point, each [*points].

        An offset is given as a level 0..2R, so that Δ = 0 is the level R. The pen is a `Categorical`.
        """
        if len(earlier) == 2:
            return Categorical(self.pen_logits)
        logits, locs, log_scales = jax.nn.log_softmax(self.logits), self.locs[..., 0], self.log_scales[..., 0]
        if earlier:
            x = earlier[0].astype(locs.dtype)[..., None]
            logits = logits + self._log_masses(x, locs, log_scales)
            locs, log_scales = self.y_given(x)
        return DiscretizedNormalMixture(logits, locs + self.limit, log_scales, 2 * self.limit + 1)


@struct.dataclass
class Drawing:
    """The distribution p(x_1, ..., x_N) = Π_t `p(x_t | x_<t)` of drawings; x_t = (Δx, Δy, pen), the last pen is `END`.

    A drawing is a row of T points, integers [T, 3]. Points after the end have probability one and are not read, so that
    padding changes no likelihood. A row without an end is an event too, so that the masses of all rows sum to one.

    `conditionals(params, x)` are the `PenPoints` of all places [T]. `start(params)` and `step(params, carry, x_{t-1})`
    -> (carry, `p(x_t | x_<t)`) go point by point, with `BEFORE` before the first.
    """

    params: Any
    conditionals: Callable = struct.field(pytree_node=False)
    start: Callable = struct.field(pytree_node=False)
    step: Callable = struct.field(pytree_node=False)
    length: int = struct.field(pytree_node=False)  # T
    limit: int = struct.field(pytree_node=False)  # R

    @property
    def support(self):
        return Strokes(self.limit)

    def uncached(self):
        """Return the same drawing without a cache, for tests: every point is drawn by a pass over the whole row."""

        def start(params):
            return jnp.zeros((self.length, 3), jnp.int32), 0

        def step(params, carry, previous):
            row, t = carry
            row = jnp.where(t > 0, row.at[t - 1].set(previous), row)
            return (row, t + 1), jax.tree.map(lambda a: a[t], as_jax(self.conditionals(params, row)))

        return self.replace(start=start, step=step)

    def sample(self, key, temperature=1.0):
        """Draw a row in one scan; the point at t uses the key fold_in(key, t). See `PenPoints.at_temperature`."""
        params = as_jax(self.params)

        def extend(state, t):
            carry, previous, ended = state
            carry, conditional = self.step(params, carry, previous)
            point = conditional.at_temperature(temperature).sample(jax.random.fold_in(key, t))
            point = jnp.where(ended, 0, point)
            return (carry, point, ended | (point[2] == END)), point

        begin = (self.start(params), jnp.asarray(BEFORE, jnp.int32), jnp.asarray(False))
        return jax.lax.scan(extend, begin, jnp.arange(self.length))[1]

    def log_prob(self, x):
        """Return Σ_t `log p(x_t | x_<t)` up to the end, in nats."""
        x = jnp.asarray(x)
        return jnp.sum(jnp.where(predicted(x), self.conditionals(as_jax(self.params), x).log_probs(x), 0.0))


def predicted(x):
    """Return which points of a row [T, 3] have no end before them."""
    return up_to_first(x[:, 2] == END)


def points_before(x):
    """Return x_{t-1} at every place t of a row [T, 3]: `BEFORE`, x_1, ..., x_{T-1}."""
    return jnp.concatenate([jnp.asarray([BEFORE], x.dtype), x[:-1]])


@functools.partial(jax.custom_jvp, nondiff_argnums=(4, 5))
def log_mass_between(first, last, locs, log_scales, low, high):
    """Return the log-mass of the integers first, ..., last under each normal on {low, ..., high}, in nats.

    The two ends take the tails. The value and its gradient are finite for |first - μ| / s up to 1e15.
    """
    return _log_mass_and_slopes(first, last, locs, log_scales, low, high)[0]


@log_mass_between.defjvp
def _(low, high, primals, tangents):
    """Derivatives in closed form: those of each operation take six times as long."""
    log_mass, of_loc, of_log_scale = _log_mass_and_slopes(*primals, low, high)
    return log_mass, of_loc * tangents[2] + of_log_scale * tangents[3]


def _log_mass_and_slopes(first, last, locs, log_scales, low, high):
    """Return log P = log [Φ(b) - Φ(a)], and its derivatives with respect to μ and to log s.

        ∂ log P / ∂μ = (φ(a) - φ(b)) / (s P)        ∂ log P / ∂ log s = (a φ(a) - b φ(b)) / P

    a, b = m -/+ w/2 are the edges in units of s. The farther edge has φ(m + w/2) = φ(m - w/2) exp(-m w), m > 0.
    """
    first, last = (jnp.asarray(a).astype(locs.dtype) for a in (first, last))
    inverse_scale = jnp.exp(-log_scales)
    width = (last - first + 1.0) * inverse_scale
    middle = (0.5 * (first + last) - locs) * inverse_scale
    far = jnp.abs(middle)
    narrow = (width <= 1.0) & (far * width <= 2.0)
    # Where the density changes little, a difference of two close values of Φ would have few digits.
    m, w = jnp.where(narrow, far, 0.0), jnp.where(narrow, width, 1.0)
    area = _integral(m, w)
    integrated, edge_narrow = jnp.log(area) - 0.5 * (m * m + LOG_2PI), jnp.exp(0.5 * m * w - 0.125 * w * w) / area
    m, w = jnp.where(narrow, -3.0, -far), jnp.where(narrow, 1.0, width)  # by symmetry, below the mean
    upper, lower = m + 0.5 * w, m - 0.5 * w
    tail = jnp.where(last >= high, locs - first + 0.5, last + 0.5 - locs) * inverse_scale
    z = jnp.stack([upper, lower, tail])
    scaled = jax.lax.map(_scaled_log_cdf, z)  # a loop: XLA would compute it again for every use
    log_cdf = scaled - 0.5 * jnp.square(jnp.minimum(z, 0.0))
    log_edge = -0.5 * (LOG_2PI + jnp.square(jnp.maximum(z, 0.0))) - scaled  # log φ(z)/Φ(z)
    log_ratio = jnp.where(upper < 0.0, -w * m, 0.5 * lower * lower) + scaled[0] - scaled[1]
    log_share = log1mexp(log_ratio)
    log_mass = jnp.where(narrow, integrated, log_cdf[0] + log_share)
    edge = jnp.where(narrow, edge_narrow, jnp.exp(log_edge[0] - log_share))  # φ / P at the edge next to the mean
    change = -jnp.expm1(-far * width)
    of_loc = jnp.sign(middle) * inverse_scale * edge * change
    of_log_scale = edge * (far * change - 0.5 * width * (2.0 - change))
    at_end, whole = (first <= low) | (last >= high), (first <= low) & (last >= high)
    edge = jnp.exp(log_edge[2])
    ends = log_cdf[2], jnp.where(last >= high, inverse_scale, -inverse_scale) * edge, -tail * edge
    inner = log_mass, of_loc, of_log_scale
    return tuple(jnp.where(whole, 0.0, jnp.where(at_end, e, i)) for e, i in zip(ends, inner, strict=True))


def _integral(m, w):
    """Return ∫ exp(-m t - t²/2) dt over |t| < w/2, by Gauss and Legendre's rule: [Φ(m + w/2) - Φ(m - w/2)] / φ(m)."""
    half = 0.5 * w
    nodes, weights = (a.astype(m.dtype).reshape((1,) * m.ndim + (-1,)) for a in (NODES, WEIGHTS))
    t = half[..., None] * nodes
    return half * jnp.sum(jnp.exp(-m[..., None] * t - 0.5 * t * t) * weights, axis=-1)


def _scaled_log_cdf(z):
    """Return log Φ(z) + min(z, 0)²/2, which varies slowly below 0: by the asymptotic series where z < -10."""
    near, far = jnp.minimum(jnp.abs(z), 10.0), jnp.maximum(-z, 10.0)
    tail = 0.5 * jax.lax.erfc(near * np.float32(math.sqrt(0.5)))
    s = jnp.square(1.0 / far)
    series = jnp.log1p(-s * (1.0 - s * (3.0 - s * 15.0))) - jnp.log(far) - 0.5 * LOG_2PI
    below = jnp.where(z > -10.0, jnp.log(tail) + 0.5 * near * near, series)
    return jnp.where(z > 0.0, jnp.log1p(-tail), below)


def _rounded(key, loc, log_scale, low, high):
    """Draw a normal, rounded to an integer from `low` to `high`, as a float."""
    drawn = loc + jnp.exp(log_scale) * jax.random.normal(key, loc.shape, loc.dtype)
    return jnp.clip(jnp.round(drawn), low, high)
