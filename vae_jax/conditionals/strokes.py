"""Drawings from networks: the head of one point, and the chain of all points."""

import functools
import math

import jax
import jax.numpy as jnp

from vae_jax.conditionals.chains import parts_of, weights_of
from vae_jax.conditionals.conditional import Head
from vae_jax.core import Conditional
from vae_jax.distributions.drawings import Drawing, PenPoints, points_before
from vae_jax.numerics import soft_clip
from vae_jax.spec import MANY, integers, numbers

LEAST_SCALE = 0.25  # lattice units: below, a normal has one lattice point or two
LARGEST_CORRELATION = 0.95
FEATURES = 128  # F, of Δy given Δx
GOLDEN_ANGLE = math.pi * (3.0 - math.sqrt(5.0))


def pen_points(limit, *, num_components=20, scale=10.0, atoms=0) -> Head:
    """Return the head of a point (Δx, Δy, pen): a mixture of correlated normals on the lattice, and a categorical.

    At outputs of zero the means lie on a spiral of radius 2 `scale`, so that the components differ, and the scales are
    `scale`. Scales stay between 0.25 and 2 `limit` lattice units, correlations between -0.95 and 0.95.

    Args:
      limit: R, the largest offset.
      num_components: M.
      scale: the usual size of an offset, in lattice units.
      atoms: L, so that offsets from -L to L also have masses of their own; 0 for none. More than R is R.

    Raises `BadOption` for fewer than one component, for a scale outside (0.25, 2 R), and for negative atoms.
    """
    integers(num_components=num_components, at_most=MANY)
    integers(atoms=atoms, at_least=0)
    numbers(scale=scale, above=LEAST_SCALE, below=2 * limit)
    return _pen_points(limit, num_components, scale, min(atoms, limit))


@functools.cache
def _pen_points(limit, num_components, scale, atoms) -> Head:
    m = jnp.arange(num_components)
    radius, angle = 2.0 * jnp.sqrt((m + 0.5) / num_components), m * GOLDEN_ANGLE
    spiral = scale * radius[:, None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)
    low, high = math.log(LEAST_SCALE), math.log(2 * limit)
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    at_zero = half * math.atanh((math.log(scale) - middle) / half)

    log_number = math.log(2 * atoms + 1)  # at first all atoms weigh as one normal

    def distribution(logits, locs, raw_scales, raw_correlations, pen_logits, *of_atoms):
        points = PenPoints(
            logits,
            spiral.reshape((1,) * (locs.ndim - 2) + spiral.shape) + scale * locs,
            middle + soft_clip(at_zero + raw_scales, half),
            LARGEST_CORRELATION * jnp.tanh(raw_correlations),
            pen_logits,
            limit,
        )
        if not atoms:
            return points
        atom_logits, features, weights = of_atoms
        weights = {**weights, "bias": weights["bias"] - log_number}
        return points.replace(atoms=atom_logits - log_number, features=features, weights=weights)

    def init(key):
        end = atoms + 1
        offsets = jnp.arcsinh(jnp.arange(-end, end + 1) / scale)[:, None] * jax.random.normal(key, (1, FEATURES))
        return {  # neighbouring offsets begin alike
            "offsets": offsets,
            "kernel": jnp.zeros((FEATURES, 2 * atoms + 1)),
            "bias": jnp.zeros(2 * atoms + 1),
        }

    pair = (num_components, 2)
    shapes = ((num_components,), pair, pair, (num_components,), (3,))
    return Head((*shapes, (2 * atoms + 1,), (FEATURES,)), distribution, init) if atoms else Head(shapes, distribution)


@functools.cache
def drawing(network, head, length, limit):
    """Return (variables, context, dropout_key=None) -> `Drawing` of at most `length` points.

    The network (`networks.pen_lstm`) returns the parameters of `head` at every place, computed from the points before
    it and the context. With a `dropout_key`, log_prob uses dropout; draws never do.
    """

    def conditionals(params, x):
        variables, weights = parts_of(head, params["variables"])
        inputs = (points_before(x), params["context"])
        return head.distribution(*network.apply(variables, *inputs, dropout_key=params["dropout_key"]), *weights)

    def start(params):
        return network.start(parts_of(head, params["variables"])[0], params["context"])

    def step(params, carry, previous):
        variables, weights = parts_of(head, params["variables"])
        carry, outputs = network.step(variables, carry, previous, params["context"])
        return carry, head.distribution(*outputs, *weights)

    def distribution(variables, context, dropout_key=None):
        params = {"variables": variables, "context": context, "dropout_key": dropout_key}
        return Drawing(params, conditionals, start, step, length, limit)

    return distribution


def drawing_conditional(network, head, length, limit) -> Conditional:
    """Return p(x|z) over drawings: `drawing` whose context is z."""
    chain = drawing(network, head, length, limit)

    def init(key, z, context=None):
        return weights_of(network, head, key, jnp.zeros((length, 3), jnp.int32), z)

    def distribution(params, z, context=None, dropout_key=None):
        return chain(params, z, dropout_key)

    return Conditional(init, distribution, abstract=None)
