"""Distributions are values: frozen pytrees with `sample(key)`, `log_prob(x)` (a scalar, nats) and `mean()`.

A reparameterised one may also have `sample_and_log_prob(key)`, which is exact where log_prob(sample(key)) would round.
`support` is the set of values, a value of `vae_jax.support`; for a chain it is a tuple of them.
"""

from vae_jax.distributions.autoregressive import Autoregressive, Cached, RasterScan, Series
from vae_jax.distributions.averaged import Averaged, averaged, order_of
from vae_jax.distributions.bounded import Beta, ContinuousBernoulli
from vae_jax.distributions.codes import CodeMap, Codes, PointMass
from vae_jax.distributions.counts import NegativeBinomial, Poisson, ZeroInflated
from vae_jax.distributions.dequantised import Dequantised, Rounded, UniformNoise
from vae_jax.distributions.deterministic import Deterministic
from vae_jax.distributions.discrete import Bernoulli, Categorical, OneHot
from vae_jax.distributions.drawings import DiscretizedNormalMixture, Drawing, PenPoints
from vae_jax.distributions.hierarchy import Hierarchy
from vae_jax.distributions.kl import has_closed_form, kl_divergence, kl_per_dim
from vae_jax.distributions.linear_gaussian import GivenLinear, given_linear
from vae_jax.distributions.mixture import Mixture
from vae_jax.distributions.ngram import BackedOff
from vae_jax.distributions.normal import LowRankNormal, MultivariateNormal, Normal, is_standard_normal
from vae_jax.distributions.observed import Observed, Rows, is_factorised
from vae_jax.distributions.pixels import (
    DiscretizedLogisticMixture,
    LinearLogisticMixture,
    NormalMixtures,
    OrderedCategorical,
)
from vae_jax.distributions.relaxed import RelaxedBernoulli, RelaxedOneHot, relax
from vae_jax.distributions.reshaped import Reshaped, Squares
from vae_jax.distributions.sentence import Sentence
from vae_jax.distributions.sequential import Sequential, draw
from vae_jax.distributions.spherical import UniformSphere, VonMisesFisher
from vae_jax.distributions.student import StudentT
from vae_jax.distributions.support import check_continuous, check_support, has_discrete_part
from vae_jax.distributions.transformed import Transformed
from vae_jax.distributions.tree import Tree

__all__ = [
    "Autoregressive",
    "Averaged",
    "BackedOff",
    "Bernoulli",
    "Beta",
    "Cached",
    "Categorical",
    "CodeMap",
    "Codes",
    "ContinuousBernoulli",
    "Dequantised",
    "Deterministic",
    "DiscretizedLogisticMixture",
    "DiscretizedNormalMixture",
    "Drawing",
    "GivenLinear",
    "Hierarchy",
    "LinearLogisticMixture",
    "LowRankNormal",
    "Mixture",
    "MultivariateNormal",
    "NegativeBinomial",
    "Normal",
    "NormalMixtures",
    "Observed",
    "OneHot",
    "OrderedCategorical",
    "PenPoints",
    "PointMass",
    "Poisson",
    "RasterScan",
    "RelaxedBernoulli",
    "RelaxedOneHot",
    "Reshaped",
    "Rounded",
    "Rows",
    "Sentence",
    "Sequential",
    "Series",
    "Squares",
    "StudentT",
    "Transformed",
    "Tree",
    "UniformNoise",
    "UniformSphere",
    "VonMisesFisher",
    "ZeroInflated",
    "averaged",
    "check_continuous",
    "check_support",
    "draw",
    "given_linear",
    "has_closed_form",
    "has_discrete_part",
    "is_factorised",
    "is_standard_normal",
    "kl_divergence",
    "kl_per_dim",
    "order_of",
    "relax",
]
