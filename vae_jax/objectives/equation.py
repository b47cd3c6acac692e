"""The declaration of an equation: the values of its options, and what it learns or averages beside the model."""

import functools
from collections.abc import Callable
from typing import NamedTuple

from vae_jax.distributions import Hierarchy, Mixture, Normal, Sequential, Series, has_discrete_part, order_of
from vae_jax.distributions.sequential import parts_at_mean
from vae_jax.distributions.support import supports
from vae_jax.spec import BadOption, flags, integers, numbers, one_of
from vae_jax.support import is_discrete


class OwnNetwork(NamedTuple):
    """A network that belongs to an equation and learns with the model."""

    input: str  # "x", on the scale that networks see, or "z"
    outputs: tuple  # shapes


class Declaration(NamedTuple):
    """The properties of an equation that `equation` declares."""

    of_batch: bool
    networks: dict[str, OwnNetwork]
    means: tuple[str, ...]
    options: dict[str, Callable]

    def check(self, name, value, place=""):
        """Raise `BadOption` if the option called `name` cannot take `value`. Traced numbers pass."""
        if name in self.options:
            self.options[name](f"{name}{place}", value)


def equation(*, of_batch=False, networks=None, means=(), **options) -> Callable:
    """Declare an equation of this package; the result is a decorator.

    Args:
      of_batch: True for `(latent, params, key, batch) -> value [B], terms`, in which the examples of a batch depend on
        one another; False for `(latent, params, key, x, context) -> value, terms` of one example.
      networks: {option: `OwnNetwork`}, networks that the equation learns. The equation receives the function.
      means: options that are running means. A config sets the decay. The equation receives the present mean and returns
        the value to follow as a term of the same name.
      **options: {option: check(name, value)}, the values that an option may take.
    """

    def declare(function):
        declaration = Declaration(of_batch, networks or {}, tuple(means), options)

        @functools.wraps(function)
        def checked(*args, **values):
            for name, value in values.items():
                if name not in declaration.means:
                    declaration.check(name, value)
            return function(*args, **values)

        checked.declaration = declaration
        return checked

    return declare


def number(**bounds) -> Callable:
    """Return the check of a finite number within `bounds` (`spec.numbers`)."""
    return lambda name, value: numbers(**{name: value}, **bounds)


def count(at_least=1) -> Callable:
    """Return the check of a whole number."""
    return lambda name, value: integers(**{name: value}, at_least=at_least)


def choice(allowed) -> Callable:
    """Return the check of a name among `allowed`."""
    return lambda name, value: one_of(tuple(allowed), **{name: value})


def flag(name, value):
    """Raise `BadOption` unless `value` is True or False."""
    flags(**{name: value})


def scales(name, value):
    """Raise `BadOption` unless `value` is a tuple of numbers above 0."""
    if not isinstance(value, tuple | list) or not value:
        raise BadOption(f"{name} must be a tuple of numbers above 0, such as (0.5, 1.0), got {value!r}")
    for scale in value:
        numbers(**{f"{name}: each entry": scale}, above=0)


# ------------------------------------------------------------------- what an equation requires of q(z|x) and p(z)


def refuse(name, q, why, use, prior=None):
    """Raise `BadOption`: the equation `name` cannot be used with the posterior `q` (and `prior`)."""
    pair = f"a {type(q).__name__} posterior" + ("" if prior is None else f" and a {type(prior).__name__} prior")
    raise BadOption(f"name: {name!r} cannot be used with {pair}: {why}; use {use}")


def check_pathwise(name, q, *, sums_components=False):
    """Raise `BadOption` if the gradient of draws z ~ q does not reach q: z is discrete, or chosen from a mixture."""
    chain = isinstance(q, Sequential)
    if has_discrete_part(q):
        support = next(support for support in supports(q) if is_discrete(support))
        remedy = "'rloo' or 'vimco'" if chain else "'rloo', 'vimco' or 'gumbel_softmax'"
        refuse(name, q, f"no gradient passes through draws of {support}", remedy)
    if any(isinstance(part, Mixture) for part in parts_at_mean(q)) and (chain or not sums_components):
        remedy = "'rloo'" if chain else "'stratified_elbo'"
        refuse(name, q, "no gradient passes through the choice of a component", remedy)


def check_single(name, q):
    """Raise `BadOption` if q is a chain of several variables."""
    if isinstance(q, Sequential | Hierarchy):
        refuse(name, q, "it is an equation of a single code", "'elbo_sampled_kl'")


def check_mean(name, likelihood):
    """Raise `BadOption` if the gradient of E[x|z] does not reach z: the values of x depend on each other."""
    if order_of(likelihood) is not None or isinstance(likelihood, Series) or not hasattr(likelihood, "mean"):
        raise BadOption(
            f"name: {name!r} cannot be used with the likelihood {type(likelihood).__name__}, whose values depend on "
            "each other: no gradient passes through its mean; use 'elbo', or another likelihood"
        )


def check_by_dimension(name, q):
    """Raise `BadOption` unless q is a diagonal Gaussian."""
    if not isinstance(q, Normal):
        refuse(name, q, "it does not split by dimension", "'info_vae', or the posterior 'normal'")


def check_independent(name, q, prior):
    """Raise `BadOption` unless the dimensions of the prior are independent Gaussians."""
    if not isinstance(prior, Normal):
        refuse(name, q, "its dimensions are not independent", "'info_vae', or the prior 'standard'", prior)
