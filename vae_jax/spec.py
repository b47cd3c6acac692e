"""From plain dicts to functions: the keys of a dict are keyword arguments, and an error names the key.

One rule puts the path of a config in front of an error. A function raises `BadOption` about its own argument, such as
"hidden must be ...". `call`, `build` and `under` put the path of the dict in front: "config.model.encoder.hidden must
be ...". Library code therefore never mentions a config.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.errors import BadOption, first_line, nearest, shown, under

INT_MAX = 2**31 - 1  # steps, sizes and indices are int32
FLOAT_MAX = float(np.finfo(np.float32).max)
PROBED = np.unique([0, *np.geomspace(1, INT_MAX, 80).astype(np.int32)]).astype(np.int32)  # steps
MANY = 10_000  # most layers, maps or steps that a program writes out one by one: more would never be compiled


def numbers(*, above=None, at_least=None, below=None, at_most=None, **options):
    """Raise `BadOption` unless every option is a finite number within the bounds. A traced number (a sweep) passes."""
    bounds = _Bounds(above, at_least, below, at_most)
    for name, value in options.items():
        if isinstance(value, jax.core.Tracer):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float | np.number | np.ndarray | jax.Array):
            raise BadOption(f"{name} must be a number{bounds.more()}, got {shown(value)}")
        if np.ndim(value) or not -FLOAT_MAX <= value <= FLOAT_MAX:
            raise BadOption(f"{name} must be one finite number{bounds.more()}, got {shown(value)}")
        bounds.check(name, value)
        if isinstance(value, int) and abs(value) > INT_MAX:  # which an array could not hold
            raise BadOption(f"{name}: beyond {INT_MAX} write a number with a point, such as 1.0e12, got {shown(value)}")


def integers(*, at_least=1, at_most=INT_MAX, **options):
    """Raise `BadOption` unless every option is a whole number within the bounds. 3.0 and True are not."""
    lower, both = _Bounds(at_least=at_least), _Bounds(at_least=at_least, at_most=at_most)
    bounds = both if at_most < MANY else lower  # a bound of int32 helps nobody who gave a small number
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise BadOption(f"{name} must be a whole number{bounds.more()}, got {shown(value)}")
        bounds.check(name, value)
        both.check(name, value)


def sizes(*, at_least_one=False, at_most=INT_MAX, **options):
    """Raise `BadOption` unless every option is a tuple of whole numbers that are at least 1, such as widths."""
    for name, values in options.items():
        if not isinstance(values, tuple | list):
            raise BadOption(f"{name} must be a tuple of whole numbers, such as (64, 32), got {shown(values)}")
        if at_least_one and not values:
            raise BadOption(f"{name} must have at least one entry, got ()")
        for value in values:
            integers(at_most=at_most, **{f"{name}: each entry": value})


def schedules(**options):
    """Raise `BadOption` unless every option is a function of the step that returns one number of at least 0."""
    for name, schedule in options.items():
        try:
            values = probe(schedule)
        except (TypeError, ValueError) as error:
            raise BadOption(f"{name} is no schedule that can be computed: {first_line(error)}") from error
        if wrong := [(step, value) for step, value in values if not value >= 0]:
            raise BadOption(f"{name} must be at least 0 at every step, got {wrong[0][1]:g} at step {wrong[0][0]}")


def probe(schedule) -> list:
    """Return pairs (step, value) of a schedule, from step 0 to the last possible one.

    The list is empty if the numbers are traced, as in a sweep. Raises `TypeError` if the schedule is no function of the
    step that returns one number.
    """
    with jax.ensure_compile_time_eval():  # also while a model is traced
        values = jax.vmap(schedule)(PROBED)  # operation by operation: each is compiled once for all schedules
    if jnp.shape(values) != PROBED.shape:
        raise TypeError(f"it must return one number at every step, got {jax.tree.map(jnp.shape, values)}")
    if isinstance(values, jax.core.Tracer):
        return []
    return list(zip(PROBED.tolist(), np.asarray(values).tolist(), strict=True))


def names(**options):
    """Raise `BadOption` unless every option is a tuple of names."""
    for name, value in options.items():
        if not isinstance(value, tuple | list) or not all(isinstance(part, str) for part in value):
            raise BadOption(f"{name} must be a tuple of names, such as ('prior',), got {shown(value)}")


def flags(**options):
    """Raise `BadOption` unless every option is True or False."""
    for name, value in options.items():
        if not isinstance(value, bool):
            raise BadOption(f"{name} must be True or False, got {shown(value)}")


def one_of(allowed, **options):
    """Raise `BadOption` unless every option is a name among `allowed`."""
    for name, value in options.items():
        if not isinstance(value, str) or value not in allowed:
            raise BadOption(f"{name}: unknown value {shown(value)}{nearest(str(value), allowed)}")


class _Bounds(NamedTuple):
    """The bounds of a number; None for no bound."""

    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None

    def check(self, name, value):
        if (
            (self.above is not None and not value > self.above)
            or (self.at_least is not None and not value >= self.at_least)
            or (self.below is not None and not value < self.below)
            or (self.at_most is not None and not value <= self.at_most)
        ):
            raise BadOption(f"{name} must be {self}, got {shown(value)}")

    def more(self):
        return f", {self}" if any(bound is not None for bound in self) else ""

    def __str__(self):
        if self.at_least is not None and self.at_most is not None:
            return f"between {_short(self.at_least)} and {_short(self.at_most)}"
        words = {field.replace("_", " "): bound for field, bound in self._asdict().items() if bound is not None}
        return " and ".join(f"{word} {_short(bound)}" for word, bound in words.items())


def _short(bound):
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


def call(function: Callable, options: dict[str, Any], *args, where: str, **given):
    """Return `function(*args, **given, **options)`, where the keys of the dict `options` are keyword arguments.

    Args:
      function: what is called.
      options: a dict from a config.
      *args: the first arguments, which do not come from `options`.
      where: the path of `options`, put in front of every error.
      **given: keyword arguments that do not come from `options`.

    Raises `BadOption` that names an unknown key and the nearest allowed one, a missing key, or the path of a key whose
    value the function refuses.
    """
    with under(where):
        check_options(function, options, num_args=len(args), given=given)
        return function(*args, **given, **options)


def check_options(function: Callable, options: dict[str, Any], *, num_args=0, given=()):
    """Raise `BadOption` if `options` has a key that `function` does not take, or lacks one that it needs.

    Args:
      function: the function whose signature decides.
      options: the dict that is checked.
      num_args: how many of the first arguments come from elsewhere.
      given: names of keyword arguments that come from elsewhere.
    """
    if not isinstance(options, Mapping):
        raise BadOption(f" must be a dict of options, got {shown(options)}")
    parameters = list(inspect.signature(function).parameters.values())[num_args:]
    named = [p for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    allowed = {p.name for p in named}.difference(given)
    any_key = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for key in options:
        if not isinstance(key, str) or not (any_key or key in allowed):
            raise BadOption(f": unknown key {shown(key)}{nearest(str(key), allowed)}")
    missing = [p.name for p in named if p.default is p.empty and p.name not in (*options, *given)]
    if missing:
        raise BadOption(f": missing key {', '.join(map(repr, missing))}")


def build(namespace, spec: dict[str, Any], *args, where: str, **given):
    """Call the function of `namespace` (a module) that `spec["name"]` names; the other keys of `spec` are its options.

    The other arguments, and the errors, are those of `call`.
    """
    with under(where):
        if not isinstance(spec, Mapping):
            raise BadOption(f" must be a dict with a 'name' and its options, got {shown(spec)}")
        names = public_functions(namespace)
        if (name := spec.get("name")) not in names:
            raise BadOption(f"name: unknown value {shown(name)}{nearest(str(name), names)}")
    options = {key: value for key, value in spec.items() if key != "name"}
    return call(getattr(namespace, name), options, *args, where=where, **given)


def with_defaults(options, **defaults):
    """Return `options` with `defaults` for missing keys; unchanged if it is no dict, which `check_options` refuses."""
    return {**defaults, **options} if isinstance(options, Mapping) else options


def name_of(spec):
    """Return the name in a dict for `build`; None if there is none."""
    return spec.get("name") if isinstance(spec, Mapping) else None


def public_functions(module) -> list[str]:
    """Return the names of the public functions and classes of a module."""
    listed = getattr(module, "__all__", None)
    return sorted(listed or [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")])
