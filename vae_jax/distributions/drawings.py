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
    """A mixture over levels, P(v) = Σ_m π_m [Φ((v + ½ - μ_m)/s_m) - Φ((v - ½ - μ_m)/s_m)] + Σ_k π_k 1[v = k].

    The first and the last level take the tails, so that every component sums to one. `logits`, `locs`, `log_scales`:
    [*event, M], in units of levels; x: levels 0..V-1 of shape [*event], V = `num_levels`. The second sum is over the K
    levels in the middle, and there is none without `atoms` [*event, K]: logits that share a softmax with `logits`.
    """

    logits: jax.Array
    locs: jax.Array
    log_scales: jax.Array
    num_levels: int = struct.field(pytree_node=False)
    atoms: jax.Array | None = None

    @property
    def support(self):
        return Levels(self.num_levels)

    def sample(self, key):
        key_mixture, key_noise = jax.random.split(key)
        component = jax.random.categorical(key_mixture, self._all_logits())[..., None]
        normal = jnp.minimum(component, self.logits.shape[-1] - 1)
        loc, log_scale = (jnp.take_along_axis(a, normal, -1)[..., 0] for a in (self.locs, self.log_scales))
        x = _rounded(key_noise, loc, log_scale, 0, self.num_levels - 1)
        if self.atoms is None:
            return x
        atom = component[..., 0] - self.logits.shape[-1]
        return jnp.where(atom < 0, x, (self._first_atom() + atom).astype(x.dtype))

    def log_prob(self, x):
        return jnp.sum(self.log_probs(x))

    def log_probs(self, x):
        """Return log P(v) of every entry, in nats."""
        return self.log_probs_of(x, self.log_masses(x))

    def log_masses(self, x):
        """Return the log-masses of the normals, [*event, M]."""
        return log_mass_between(x[..., None], x[..., None], self.locs, self.log_scales, 0, self.num_levels - 1)

    def log_probs_of(self, x, log_masses):
        """Return log P(v) from the `log_masses` of v."""
        of_normals = jax.nn.logsumexp(self.logits + log_masses, axis=-1)
        if self.atoms is not None:
            k = x.astype(jnp.int32) - self._first_atom()
            logit = jnp.take_along_axis(self.atoms, jnp.clip(k, 0, self.atoms.shape[-1] - 1)[..., None], -1)[..., 0]
            is_atom = (k >= 0) & (k < self.atoms.shape[-1])
            of_normals = jnp.where(is_atom, jnp.logaddexp(of_normals, logit), of_normals)
        return of_normals - jax.nn.logsumexp(self._all_logits(), axis=-1)

    def between(self, first, last):
        """Return P(first ≤ v ≤ last) of every entry; `first` and `last` are levels of the shape of x."""
        first, last = first[..., None], last[..., None]
        mass = jnp.exp(log_mass_between(first, last, self.locs, self.log_scales, 0, self.num_levels - 1))
        if self.atoms is not None:
            level = self._first_atom() + np.arange(self.atoms.shape[-1]).reshape((1,) * (first.ndim - 1) + (-1,))
            mass = jnp.concatenate([mass, ((first <= level) & (level <= last)).astype(mass.dtype)], axis=-1)
        return jnp.sum(jax.nn.softmax(self._all_logits()) * mass, axis=-1)

    def _all_logits(self):
        return self.logits if self.atoms is None else jnp.concatenate([self.logits, self.atoms], axis=-1)

    def _first_atom(self):
        return (self.num_levels - self.atoms.shape[-1]) // 2


@struct.dataclass
class PenPoints:
    """Independent points (Δx, Δy, pen), with Δ a mixture of M correlated normals on the lattice {-R, ..., R}²:

        P(Δx, Δy, pen) = P(pen) Σ_m π_m P_m(Δx) P_m(Δy | Δx)

    The normals are those of arXiv:1308.0850 eq. (24), the three states of the pen those of arXiv:1704.03477. There p is
    a density, which has no limit on a lattice. Here P_m(Δx) is the mass of N(μ_x, s_x²) between Δx - ½ and Δx + ½, and
    P_m(Δy | Δx) that of N(μ_y + ρ s_y/s_x (Δx - μ_x), s_y² (1 - ρ²)). The first and the last lattice point of each axis
    take the tails, so that both factors sum to one.

    Offsets of drawings that were enlarged and then rounded have a comb: some values are frequent and their neighbours
    never occur, which no normal can say. With `atoms` the K = 2L + 1 smallest offsets also have masses of their own,
    `DiscretizedNormalMixture`. Their logits, beside 0 for all normals, are `atoms` for Δx. For Δy given Δx they are
    relu(f + E[Δx]) W + w with the features f of the point: all points share the weights E, W and w.

    `logits` [*points, M]; `locs`, `log_scales` [*points, M, 2], in lattice units; `correlations` [*points, M], inside
    (-1, 1); `pen_logits` [*points, 3]; R = `limit`; with atoms, `atoms` [*points, K], `features` [*points, F] and
    `weights`: {"offsets": E [K + 2, F] of -L - 1, ..., L + 1, the two ends for all beyond, "kernel": W [F, K], "bias":
    w [K]}. x: integers [*points, 3].
    """

    logits: jax.Array
    locs: jax.Array
    log_scales: jax.Array
    correlations: jax.Array
    pen_logits: jax.Array
    limit: int = struct.field(pytree_node=False)
    atoms: jax.Array | None = None
    features: jax.Array | None = None
    weights: dict | None = None

    @property
    def support(self):
        return Strokes(self.limit)

    def over_places(self, function):
        """Return the points with `function` of the arrays that have an entry for each point."""
        return jax.tree.map(function, self.replace(weights=None)).replace(weights=self.weights)

    def at_temperature(self, temperature):
        """Return the points with logits divided by τ and variances multiplied by τ, arXiv:1704.03477 sec. 3.3.

        All normals together keep the logit 0 beside the atoms.
        """
        colder = self.replace(
            logits=self.logits / temperature,
            pen_logits=self.pen_logits / temperature,
            log_scales=self.log_scales + 0.5 * jnp.log(temperature),
        )
        if self.atoms is None:
            return colder
        kernel, bias = (self.weights[name] / temperature for name in ("kernel", "bias"))
        return colder.replace(atoms=self.atoms / temperature, weights={**self.weights, "kernel": kernel, "bias": bias})

    def sample(self, key):
        """Draw Δx, then Δy given Δx, and the pen; int32 [*points, 3]."""
        key_x, key_y, key_pen = jax.random.split(key, 3)
        x = self.part(()).sample(key_x) - self.limit
        y = self.part((x,)).sample(key_y) - self.limit
        pen = self.part((x, y)).sample(key_pen)
        return jnp.stack([x, y, pen], axis=-1).astype(jnp.int32)

    def log_prob(self, x):
        return jnp.sum(self.log_probs(x))

    def log_probs(self, x):
        """Return log P(Δx, Δy, pen) of every point, in nats."""
        x = jnp.asarray(x)
        level_x, level_y = (x[..., n] + self.limit for n in range(2))
        of_x = self.part(())
        log_masses = of_x.log_masses(level_x)
        of_y = self._given(x[..., 0], log_masses)
        pen = jnp.take_along_axis(jax.nn.log_softmax(self.pen_logits), x[..., 2, None].astype(jnp.int32), axis=-1)
        return of_x.log_probs_of(level_x, log_masses) + of_y.log_probs(level_y) + pen[..., 0]

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
        of_x = DiscretizedNormalMixture(
            jax.nn.log_softmax(self.logits),
            self.locs[..., 0] + self.limit,
            self.log_scales[..., 0],
            2 * self.limit + 1,
            self.atoms,
        )
        return self._given(earlier[0], of_x.log_masses(earlier[0] + self.limit)) if earlier else of_x

    def _given(self, x, log_masses):
        """Return P(Δy | Δx) for Δx = `x` [*points] with the masses of the normals `log_masses` [*points, M]."""
        loc, log_scale = self.y_given(x.astype(self.locs.dtype)[..., None])
        atoms = None
        if self.atoms is not None:
            weights, end = as_jax(self.weights), self.atoms.shape[-1] // 2 + 1
            offset = weights["offsets"][jnp.clip(x.astype(jnp.int32), -end, end) + end]
            to_all = lambda a: a.reshape(*[1] * x.ndim, -1)  # noqa: E731
            atoms = jax.nn.relu(self.features + offset) @ weights["kernel"] + to_all(weights["bias"])
        weights = jax.nn.log_softmax(self.logits + log_masses)
        return DiscretizedNormalMixture(weights, loc + self.limit, log_scale, 2 * self.limit + 1, atoms)


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
            return (row, t + 1), as_jax(self.conditionals(params, row)).over_places(lambda a: a[t])

        return self.replace(start=start, step=step)

    def sample(self, key, temperature=1.0):
        """Draw a row in one scan; the point at t uses the key fold_in(key, t). See `PenPoints.at_temperature`.

        Raises `ValueError` for a temperature that is not positive.
        """
        if not isinstance(temperature, jax.core.Tracer) and not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}; for the likeliest points give 0.01")
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
