"""Vector quantisation: codes e_k for vectors z, their gradients, and codebooks that follow the data by averages.

    k*(z) = argmin_k |z - e_k|²          arXiv:1711.00937 eq. (1), (2)

A quantiser (`vq`, `fsq`) turns a map of vectors z [h, w, D] into a map of codes k [h, w] and back.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vae_jax.numerics import straight_through
from vae_jax.spec import BadOption, integers, numbers, one_of, sizes

GRADIENTS = ("straight_through", "rotation")
K_MEANS_STEPS = 10
TINY = 1e-6  # a vector that is shorter has no direction


class Quantizer(NamedTuple):
    """A quantiser of K = `num_codes` codes for vectors of `dim` numbers. `state` is its codebook, or None."""

    num_codes: int
    dim: int
    init: Callable  # (key, z [N, D]) -> state
    nearest: Callable  # (state, z [..., D]) -> k [...]
    embed: Callable  # (state, k [...]) -> e [..., D]
    passed: Callable  # (z, e) -> e with a gradient with respect to z
    commitment: Callable  # (z, e) -> the sum that ties z to its codes
    distances: Callable  # (state, z [..., D]) -> squared distances [..., K]
    update: Callable | None  # (key, state, z [N, D], k [N]) -> state; None if there is no state


# ------------------------------------------------------------------------------------------------ vectors and codes


def squared_distances(z, codes):
    """Return |z - e_k|² [..., K] of vectors z [..., D] and codes [K, D]."""
    flat = z.reshape(-1, z.shape[-1])
    cross = jnp.matmul(flat, codes.T, precision="highest")
    squares = jnp.sum(jnp.square(flat), axis=-1, keepdims=True) + jnp.sum(jnp.square(codes), axis=-1)[None]
    return (squares - 2.0 * cross).reshape(*z.shape[:-1], len(codes))


def nearest_code(z, codes):
    """Return k*(z) = argmin_k |z - e_k|², int32 [...], for z [..., D] and codes [K, D].  arXiv:1711.00937 eq. (1)."""
    return jnp.argmin(squared_distances(z, codes), axis=-1).astype(jnp.int32)


def rotated(z, e):
    """Return e with the gradient of a rotation and rescaling that takes z to e: the rotation trick, arXiv:2410.06424.

    z̃ = sg[(|e| / |z|) (I - 2 r rᵀ + 2 ê ẑᵀ)] z with ẑ = z / |z|, ê = e / |e|, r = (ẑ + ê) / |ẑ + ê|. sg stops
    gradients. The value is exactly e. A vector z without a direction keeps the gradient of the identity.
    """
    length_z, length_e = _length(z), _length(e)
    has_direction = (length_z > TINY) & (length_e > TINY)
    unit_z, unit_e = z / jnp.maximum(length_z, TINY), e / jnp.maximum(length_e, TINY)
    between = unit_z + unit_e
    r = between / jnp.maximum(_length(between), TINY)
    scale = length_e / jnp.maximum(length_z, TINY)
    scale, unit_z, unit_e, r, has_direction = jax.lax.stop_gradient((scale, unit_z, unit_e, r, has_direction))
    along = lambda direction: jnp.sum(direction * z, axis=-1, keepdims=True)  # noqa: E731
    turned = scale * (z - 2.0 * r * along(r) + 2.0 * unit_e * along(unit_z))
    return straight_through(e, jnp.where(has_direction, turned, z))


def commitment_loss(z, e):
    """Return |z - sg[e]|² summed over all vectors, the third term of arXiv:1711.00937 eq. (3), without its weight β."""
    return jnp.sum(jnp.square(z - jax.lax.stop_gradient(e)))


def _length(vector):
    return jnp.sqrt(jnp.sum(jnp.square(vector), axis=-1, keepdims=True) + TINY**4)


# ------------------------------------------------------------------------------- a codebook by exponential averages


def codebook(codes):
    """Return the first state of a codebook [K, D]: no vector has been counted.

    `count` [K] and `total` [K, D] are averages with a bias towards zero; `steps` is their number of updates.
    """
    size = len(codes)
    return {"codes": codes, "count": jnp.zeros(size), "total": jnp.zeros_like(codes), "steps": jnp.zeros(())}


def follow(state, z, k, *, decay, epsilon=1e-5):
    """Return the codebook after an update by the vectors z [N, D] with the codes k [N].  arXiv:1711.00937 app. A.1.

    N_k ← γ N_k + (1-γ) n_k,  m_k ← γ m_k + (1-γ) Σ_{i: k_i = k} z_i,  e_k = m_k / Ñ_k,
    Ñ_k = N (N_k + ε) / (N + K ε),  N = Σ_k N_k, where N_k and m_k are divided by 1 - γ^t first (zero-debiased). A code
    that no vector has had stays where it is.

    Args:
      state: made by `codebook`.
      z: the vectors.
      k: their codes.
      decay: γ.
      epsilon: ε of the Laplace smoothing.
    """
    chosen = jax.nn.one_hot(k, len(state["codes"]), dtype=z.dtype)
    steps = state["steps"] + 1.0
    count = decay * state["count"] + (1.0 - decay) * jnp.sum(chosen, axis=0)
    total = decay * state["total"] + (1.0 - decay) * jnp.matmul(chosen.T, z, precision="highest")
    weight = 1.0 - jnp.power(jnp.asarray(decay, jnp.float32), steps)
    size, average = jnp.sum(count) / weight, count / weight
    smooth = (average + epsilon) / (size + len(count) * epsilon) * size
    codes = jnp.where(count[:, None] > 0, total / weight / smooth[:, None], state["codes"])
    return {"codes": codes, "count": count, "total": total, "steps": steps}


def revived(key, state, z, *, below):
    """Return the codebook with each dead code replaced by a random vector of z [N, D].

    A code is dead if its average count is less than `below` times that of a uniform use, N / K. A new code starts at
    twice this limit, so that it has time to attract vectors.
    """
    num_codes = len(state["codes"])
    limit = below * jnp.sum(state["count"]) / num_codes
    dead = state["count"] < limit
    new = z[jax.random.randint(key, (num_codes,), 0, len(z))]
    # A small count with the old total would take the code back to where it was: both are replaced.
    return {
        "codes": jnp.where(dead[:, None], new, state["codes"]),
        "count": jnp.where(dead, 2.0 * limit, state["count"]),
        "total": jnp.where(dead[:, None], 2.0 * limit * new, state["total"]),
        "steps": state["steps"],
    }


def k_means(key, z, num_codes, *, num_steps=K_MEANS_STEPS):
    """Return the centres [K, D] of vectors z [N, D] by Lloyd's iterations from random rows.

    doi:10.1109/TIT.1982.1056489. A centre without vectors stays where it is. Raises `BadOption` for more centres than
    vectors.
    """
    if num_codes > len(z):
        raise BadOption(
            f"num_codes: a codebook of {num_codes} codes cannot start from {len(z)} vectors, those that the encoder "
            "returns for the first batch (images x places); take fewer codes, or a larger batch"
        )
    rows = jax.random.permutation(key, len(z))[:num_codes]

    def step(codes, _):
        chosen = jax.nn.one_hot(nearest_code(z, codes), num_codes, dtype=z.dtype)
        count = jnp.sum(chosen, axis=0)[:, None]
        mean = jnp.matmul(chosen.T, z, precision="highest") / jnp.maximum(count, 1.0)
        return jnp.where(count > 0, mean, codes), None

    return jax.lax.scan(step, z[rows], None, length=num_steps)[0]


def perplexity(counts):
    """Return exp(-Σ_k f_k log f_k) of the shares f_k = n_k / n of `counts` [K]: how many codes are in use, 1 to K.

    Count over a whole data set: the perplexity of a batch depends on its size.
    """
    shares = counts / jnp.maximum(jnp.sum(counts), 1.0)
    return jnp.exp(-jnp.sum(jax.scipy.special.xlogy(shares, shares)))


# ------------------------------------------------------------------------------------- finite scalar quantisation


def fsq_coordinates(z, levels):
    """Return the position u_c = ½ L_c (1 + tanh z_c) - ½ of each channel among its L_c levels 0, ..., L_c - 1.

    arXiv:2309.15505 sec. 3.1: bounded by tanh. Each level has the same length in tanh z. z [..., D], `levels` [D].
    """
    sizes_ = jnp.asarray(levels, z.dtype).reshape(*[1] * (z.ndim - 1), -1)
    return 0.5 * sizes_ * (1.0 + jnp.tanh(z)) - 0.5


def fsq_code(z, levels):
    """Return the code k = `Σ_c i_c Π_{b<c} L_b` [...], int32, where i_c is `fsq_coordinates` rounded."""
    top = (jnp.asarray(levels, jnp.int32) - 1).reshape(*[1] * (z.ndim - 1), -1)
    index = jnp.clip(jnp.round(fsq_coordinates(z, levels)).astype(jnp.int32), 0, top)
    return jnp.sum(index * _radix(levels, z.ndim - 1), axis=-1)


def fsq_values(k, levels):
    """Return the values 2 i_c / (L_c - 1) - 1 in [-1, 1] of the codes k [...], an array [..., D]."""
    sizes_ = jnp.asarray(levels, jnp.int32).reshape(*[1] * jnp.ndim(k), -1)
    index = (k[..., None] // _radix(levels, jnp.ndim(k))) % sizes_
    return 2.0 * index / (sizes_ - 1) - 1.0


def _radix(levels, ndim):
    products = [math.prod(levels[:place]) for place in range(len(levels))]
    return jnp.asarray(products, jnp.int32).reshape(*[1] * ndim, -1)


# --------------------------------------------------------------------------------------------------- the quantisers


def vq(*, num_codes, dim, decay=0.99, gradient="rotation", revive_below=0.05, epsilon=1e-5) -> Quantizer:
    """Return a learned codebook of `num_codes` vectors [dim], moved by exponential averages.  arXiv:1711.00937.

    It starts from k-means of the encoder's outputs for the first batch.

    Args:
      num_codes: K.
      dim: D, the size of a code.
      decay: γ of the averages.
      gradient: "straight_through" (the gradient at e is that at z), or "rotation" (`rotated`).
      revive_below: a code whose average use is below this share of a uniform use is replaced by a random output of the
        encoder; 0 for never.
      epsilon: of the smoothing of the counts.

    Raises `BadOption` for a value out of range.
    """
    integers(num_codes=num_codes, at_least=2)
    integers(dim=dim)
    numbers(decay=decay, at_least=0, below=1)
    numbers(revive_below=revive_below, at_least=0, below=0.5)
    numbers(epsilon=epsilon, above=0)
    one_of(GRADIENTS, gradient=gradient)

    def init(key, z):
        return codebook(k_means(key, z, num_codes))

    def update(key, state, z, k):
        state = follow(state, z, k, decay=decay, epsilon=epsilon)
        return revived(key, state, z, below=revive_below) if revive_below else state

    return Quantizer(
        num_codes,
        dim,
        init,
        nearest=lambda state, z: nearest_code(z, state["codes"]),
        embed=lambda state, k: jnp.asarray(state["codes"])[k],
        passed=rotated if gradient == "rotation" else lambda z, e: straight_through(e, z),
        commitment=commitment_loss,
        distances=lambda state, z: squared_distances(z, state["codes"]),
        update=update,
    )


def fsq(*, levels) -> Quantizer:
    """Return finite scalar quantisation, arXiv:2309.15505: each channel is rounded to one of its levels.

    K = Π_c L_c codes without a codebook: nothing is learned, no code dies, and there is no commitment.

    Args:
      levels: (L_1, ..., L_D), such as (8, 5, 5, 5).

    Raises `BadOption` for a channel with fewer than two levels.
    """
    sizes(levels=levels, at_least_one=True)
    for size in levels:
        integers(**{"levels: each entry": size}, at_least=2)
    levels = tuple(levels)
    num_codes = math.prod(levels)
    integers(**{"levels: their product": num_codes}, at_most=2**20)

    def bounded(z):
        top = (jnp.asarray(levels, z.dtype) - 1.0).reshape(*[1] * (z.ndim - 1), -1)
        return 2.0 * fsq_coordinates(z, levels) / top - 1.0

    def distances(state, z):
        return squared_distances(bounded(z), fsq_values(jnp.arange(num_codes), levels))

    return Quantizer(
        num_codes,
        len(levels),
        init=lambda key, z: None,
        nearest=lambda state, z: fsq_code(z, levels),
        embed=lambda state, k: fsq_values(k, levels),
        passed=lambda z, e: straight_through(e, bounded(z)),
        commitment=lambda z, e: jnp.zeros(()),
        distances=distances,
        update=None,
    )
