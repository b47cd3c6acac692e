"""Heads for the rows of a table, and for data with missing values."""

import inspect
import types

from vae_jax.conditionals import codes, counts, gaussian, pixels
from vae_jax.conditionals.conditional import NO_LIBRARY, Head, abstract
from vae_jax.distributions import Observed, Rows, is_factorised
from vae_jax.spec import BadOption, build, name_of, under
from vae_jax.support import KINDS, Columns, num_categories

__all__ = ["columns"]

NAMES = {
    "real": "normal, normal_fixed_scale or student_t",
    "binary": "bernoulli",
    "count": "poisson or negative_binomial",
}
SIMPLE = types.SimpleNamespace(
    **{name: getattr(module, name) for module in (codes, counts, gaussian, pixels) for name in module.__all__}
)


def columns(event_shape, *, support, real=None, binary=None, count=None) -> Head:
    """Return the product of one head for the columns of each kind, p(x) = Π_d p(x_d): a table.

    Categorical columns have a softmax over their categories.

    Args:
      event_shape: [D].
      support: `support.Columns`, the kinds of the columns; a model gives it.
      real: the head of real columns; None for {"name": "normal"}.
      binary: the head of binary columns; None for {"name": "bernoulli"}.
      count: the head of counts; None for {"name": "negative_binomial"}.

    Raises `BadOption` for data that are no table, and for a head of another kind of values.
    """
    if not isinstance(support, Columns):
        raise BadOption("name: 'columns' is for tables; take a head for your data, such as 'normal' or 'bernoulli'")
    chosen = {
        "real": {"name": "normal"} if real is None else real,
        "binary": {"name": "bernoulli"} if binary is None else binary,
        "count": {"name": "negative_binomial"} if count is None else count,
    }
    groups = support.groups()
    heads = [_of_kind(kind, len(places), chosen) for kind, places in groups.items()]
    places = tuple(map(tuple, groups.values()))
    ends = [0]
    for head in heads:
        ends.append(ends[-1] + len(head.shapes))

    def init(key):
        return tuple(None if head.init is None else head.init(key) for head in heads)

    def distribution(*arrays):
        *arrays, weights = arrays
        parts = [
            head.distribution(*arrays[start:end], *(() if own is None else (own,)))
            for head, start, end, own in zip(heads, ends[:-1], ends[1:], weights, strict=True)
        ]
        return Rows(tuple(parts), places, support)

    has_weights = any(head.init is not None for head in heads)
    without = lambda *arrays: distribution(*arrays, (None,) * len(heads))  # noqa: E731
    shapes = tuple(shape for head in heads for shape in head.shapes)
    return Head(shapes, distribution, init) if has_weights else Head(shapes, without)


def _of_kind(kind, size, chosen) -> Head:
    """Return the head of `size` columns of one kind."""
    if number := num_categories(kind):
        return pixels.categorical((size,), num_levels=number)
    head = build(SIMPLE, chosen[kind], (size,), where=kind)
    density = abstract(head)
    if density.support != KINDS[kind] or not hasattr(density, "log_probs") or head.context is not None:
        raise BadOption(f"{kind}.name: {chosen[kind]['name']!r} is no head of single {kind} columns; use {NAMES[kind]}")
    return head


def likelihood(namespace, spec, event, context=None, *, where="likelihood") -> Head:
    """Return the head over x that the dict `spec` names; with missing values, over the observed entries of x.

    Args:
      namespace: the module `conditionals.heads`.
      spec: {"name": ..., options}.
      event: the `core.Event` x.
      context: the `core.Context` of the model; None for none.
      where: the path of `spec` in errors.

    Raises `BadOption` for a head that does not fit the columns of a table or needs another context, and for missing
    values with a head whose entries are not independent.
    """
    function = getattr(namespace, str(name_of(spec)), None)
    takes = function is not None and "support" in inspect.signature(function).parameters
    given = {"support": event.support} if takes else {}
    head = build(namespace, spec, tuple(event.shape), where=where, **given)
    density = abstract(head)
    with under(where):
        if head.context is not None and (context is None or context.shape != head.context):
            raise BadOption(NO_LIBRARY)
        if isinstance(event.support, Columns) and density.support not in (event.support, event.support.plain()):
            raise BadOption(
                f"name: {spec['name']!r} is over values that are {density.support}, and the table has columns of the "
                f"kinds {', '.join(sorted(event.support.groups()))}; use 'columns'"
            )
        if not event.missing:
            return head
        if not is_factorised(density):
            raise BadOption(
                f"name: {spec['name']!r} cannot leave out missing values, because its entries depend on one another; "
                "use a head of independent entries, such as 'normal', 'bernoulli' or 'columns'"
            )

    def observed(*arrays, **options):
        return Observed(head.distribution(*arrays, **options))

    return head._replace(distribution=observed)
