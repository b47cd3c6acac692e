"""Distributions on the unit sphere S^{D-1} = {x in R^D: |x| = 1}; densities are with respect to its surface measure."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from vae_jax.support import Sphere

_NODES, _WEIGHTS = (a.astype(np.float32) for a in np.polynomial.legendre.leggauss(4))
_EDGES = np.linspace(-4.0, 4.0, 65, dtype=np.float32)  # the ends of the cells of the latitude's coordinate s
_HALVES = 24  # bisections of a cell


@struct.dataclass
class UniformSphere:
    """The uniform distribution p(x) = Γ(D/2) / (2 π^{D/2}), `dim` = D."""

    dim: int = struct.field(pytree_node=False)

    support = Sphere()

    def sample(self, key):
        return _unit(jax.random.normal(key, (self.dim,)))

    def log_prob(self, x):
        return jnp.asarray(-log_area(self.dim))

    def mean(self):
        return jnp.zeros(self.dim)


@struct.dataclass
class VonMisesFisher:
    """The density p(x) ∝ exp(κ μ·x), μ = `direction` [D], |μ| = 1, κ = `concentration` ≥ 0; D ≥ 2.  arXiv:1804.00891.

    The latitude t = μ·x has the density ∝ (1 - t²)^{(D-3)/2} e^{κt}. In y = artanh t that is sech^m(y) e^{κ tanh y}, m
    = D - 1. It has one mode, at `t* = 2κ / (m + √(m² + 4κ²))`, a deviation of about `σ = (m (1 + t*²))^{-1/2}` for any
    κ, and tails no heavier than e^{-m|y|}. With y = artanh t* + σ sinh s, all but 10⁻⁸ of it lies in s in [-4, 4]. A
    Gauss rule of four nodes in each of 64 cells gives the integral usually written by Bessel functions, its derivative
    and the quantiles. They are precise to float32 for D up to some hundreds and κ up to 10⁵.
    """

    direction: jax.Array
    concentration: jax.Array

    support = Sphere()

    def sample(self, key):
        return self.sample_and_log_prob(key)[0]

    def sample_and_log_prob(self, key):
        """Return a draw x and log p(x), reparameterised: t from its quantile, the rest uniform, then a reflection to μ.

        No draw is rejected. The rejection loop of the paper needs a gradient of its own (app. D); this is a plain
        function.
        """
        key_latitude, key_around = jax.random.split(key)
        _, drop, radius = self._at(self._quantile(jax.random.uniform(key_latitude)))
        around = radius * _unit(jax.random.normal(key_around, (self.direction.size - 1,)))
        # Reflect from the pole, +e_1 or -e_1, that is farther from μ: the reflection is smooth there.
        direction = jnp.asarray(self.direction)
        pole = jnp.where(direction[0] > 0, -1.0, 1.0)
        point = jnp.concatenate([(pole * (1.0 - drop))[None], around])
        mirror = (-direction).at[0].add(pole)
        x = point - mirror * (mirror @ point / (1.0 + jnp.abs(direction[0])))
        return x, -self.concentration * drop - self.log_normalizer()

    def log_prob(self, x):
        """Return -κ |x - μ|² / 2 - log ∫ exp(κ (μ·x - 1)) dx, which loses no digits if κ is large."""
        return -0.5 * self.concentration * jnp.sum(jnp.square(x - self.direction)) - self.log_normalizer()

    def log_normalizer(self):
        """Return log ∫ exp(κ (μ·x - 1)) dx."""
        return log_area(self.direction.size - 1) + self.log_latitudes()

    def log_latitudes(self):
        """Return log ∫ (1 - t²)^{(D-3)/2} e^{κ(t-1)} dt over [-1, 1]."""
        m = self.direction.size - 1
        t, rest = self._mode()
        return m * (0.5 * jnp.log(rest) - t / (1.0 + t)) + jnp.log(jnp.sum(self._masses()))

    def mean_drop(self):
        """Return E[1 - μ·x] = 1 - A(κ), A the ratio of Bessel functions I_{D/2}(κ) / I_{D/2-1}(κ)."""
        s, weights = _rule(_EDGES[:-1], _EDGES[1:])
        log_f, drop, _ = self._at(s)
        mass = jnp.exp(log_f) * weights
        return jnp.sum(mass * drop) / jnp.sum(mass)

    def mean(self):
        return (1.0 - self.mean_drop()) * self.direction

    def _mode(self):
        """Return `t*` and `1 - t*²`."""
        m = self.direction.size - 1.0
        scale = m + jnp.sqrt(m**2 + 4.0 * jnp.square(self.concentration))
        return 2.0 * self.concentration / scale, 2.0 * m / scale

    def _at(self, s):
        """Return at the coordinate s: the latitude's log-density relative to that of y at the mode; 1 - t; √(1 - t²).

        All follow from the mode by addition theorems, with c = cosh(y) / cosh(y*), so that no large numbers cancel.
        """
        m = self.direction.size - 1.0
        t, rest = self._mode()
        sigma = jax.lax.stop_gradient(
            1.0 / jnp.sqrt(m * (1.0 + t**2))
        )  # it only scales a coordinate, so that it needs no gradient
        step = sigma * jnp.sinh(s)
        c = 0.5 * ((1.0 + t) * jnp.exp(step) + rest / (1.0 + t) * jnp.exp(-step))
        log_f = m * (t * jnp.sinh(step) / c - jnp.log(c)) + jnp.log(sigma * jnp.cosh(s))
        return log_f, rest / (1.0 + t) * jnp.exp(-step) / c, jnp.sqrt(rest) / c

    def _masses(self):
        """Return the integral of the latitude's density over every cell [64]."""
        s, weights = _rule(_EDGES[:-1], _EDGES[1:])
        return jnp.sum(jnp.exp(self._at(s)[0]) * weights, axis=-1)

    def _quantile(self, u):
        """Return the s below which the mass u lies.

        A search without gradients is followed by one step of Newton with gradients. They are then those of the implicit
        function, ds = -dF / p(s).
        """
        s, cell = jax.lax.stop_gradient(self)._search(u)
        masses = self._masses()
        density = jax.lax.stop_gradient(jnp.exp(self._at(s)[0]))
        return s - self._excess(masses, cell, s, u) / jnp.maximum(density, 1e-6)

    def _search(self, u):
        """Return that s, by bisection of its cell, and the cell."""
        masses = self._masses()
        sums = jnp.cumsum(masses)
        cell = jnp.sum(sums[:-1] < u * sums[-1])

        def halve(_, bracket):
            low, high = bracket
            middle = 0.5 * (low + high)
            below = self._excess(masses, cell, middle, u) < 0
            return jnp.where(below, middle, low), jnp.where(below, high, middle)

        edges = jnp.asarray(_EDGES)
        low, high = jax.lax.fori_loop(0, _HALVES, halve, (edges[cell], edges[cell + 1]))
        return 0.5 * (low + high), cell

    def _excess(self, masses, cell, s, u):
        """Return (F(s) - u) Σ masses for s in `cell`."""
        nodes, weights = _rule(jnp.asarray(_EDGES)[cell], s)
        below = jnp.sum(jnp.where(jnp.arange(masses.size) < cell, masses, 0.0))
        return below + jnp.exp(self._at(nodes)[0]) @ weights - u * jnp.sum(masses)


def log_area(dim):
    """Return the logarithm of the area of S^{D-1}, 2 π^{D/2} / Γ(D/2), D = `dim`."""
    return math.log(2.0) + 0.5 * dim * math.log(math.pi) - math.lgamma(0.5 * dim)


def _unit(x):
    return x / jnp.maximum(jnp.linalg.norm(x), 1e-30)


def _rule(left, right):
    """Return nodes [..., 4] and weights [..., 4] of the Gauss rule on every [left, right]."""
    half = 0.5 * (right - left)
    return left[..., None] + half[..., None] * (1.0 + _NODES), half[..., None] * _WEIGHTS
