"""Distributions of many examples at once, as functions of one example return them.

Some arrays of a distribution lead with the B examples, others are shared by all, such as the weights of a network. A
`Batch` keeps track of them, so that shared arrays are never copied B times.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

SHARED = -1  # the axis of an array that all examples share


class Batch:
    """A tree of arrays of B = `size` examples: a distribution, a tuple of such, or plain arrays.

    `axes` is a tree like `tree`: 0 for arrays that lead with B, `SHARED` for others.
    """

    def __init__(self, tree: Any, axes: Any, size: int):
        self.tree, self.axes, self.size = tree, axes, size

    def __getitem__(self, place):
        return Batch(self.tree[place], self.axes[place], self.size)

    def part(self, name):
        """Return the attribute `name` of the tree."""
        return Batch(getattr(self.tree, name), getattr(self.axes, name), self.size)


def of(tree, size) -> Batch:
    """Return arrays [B, ...] as a batch of B = `size` examples; None stays None."""
    return Batch(tree, jax.tree.map(lambda _: 0, tree), size)


def lift(function, *arguments, size) -> Batch:
    """Return `function(*arguments)` of every example, in one compiled call.

    Args:
      function: of one example; the same object in every call, since it is compiled once for each.
      *arguments: a `Batch`, or a tree of arrays that all examples share.
      size: B.
    """
    trees = tuple(a.tree if isinstance(a, Batch) else a for a in arguments)
    axes = tuple(a.axes if isinstance(a, Batch) else jax.tree.map(lambda _: SHARED, a) for a in arguments)
    leaves, treedef = jax.tree.flatten(trees)
    axes = tuple(jax.tree.leaves(axes))
    shapes = tuple((jnp.shape(a), jnp.result_type(a)) for a in leaves)
    out_axes, out_treedef = _plan(function, treedef, axes, shapes)
    results = _run(function, treedef, axes, out_axes, size, leaves)
    return Batch(jax.tree.unflatten(out_treedef, results), jax.tree.unflatten(out_treedef, out_axes), size)


def rows(function, *arguments, size):
    """Return `function(*arguments)` of every example as arrays [B, ...], also if all examples share it."""
    batch = lift(function, *arguments, size=size)

    def whole(array, axis):
        return array if axis == 0 else jnp.broadcast_to(array, (size, *jnp.shape(array)))

    return jax.tree.map(whole, batch.tree, batch.axes)


def reads(function, *arguments) -> set:
    """Return the places of the arguments on which any result of `function` depends. Nothing is computed."""
    leaves, treedef = jax.tree.flatten(arguments)
    owners = [place for place, argument in enumerate(arguments) for _ in jax.tree.leaves(argument)]
    sources, _ = _sources(function, treedef, [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in leaves])
    return {owners[leaf] for result in sources for leaf in result}


@functools.lru_cache(maxsize=1024)
def _plan(function, treedef, axes, shapes):
    """Return the axis of every result of one example, and the tree that they make."""
    one = [
        jax.ShapeDtypeStruct(shape[1:] if axis == 0 else shape, dtype)
        for axis, (shape, dtype) in zip(axes, shapes, strict=True)
    ]
    sources, out_treedef = _sources(function, treedef, one)
    mapped = {leaf for leaf, axis in enumerate(axes) if axis == 0}
    return tuple(0 if result & mapped else SHARED for result in sources), out_treedef


def _sources(function, treedef, leaves):
    """Return for every result the set of places of `leaves` on which it depends, and the tree of the results."""
    jaxpr, shape = jax.make_jaxpr(lambda leaves: function(*jax.tree.unflatten(treedef, leaves)), return_shape=True)(
        leaves
    )
    reached = {variable: {place} for place, variable in enumerate(jaxpr.jaxpr.invars)}
    of_atom = lambda atom: reached.get(atom, set()) if not hasattr(atom, "val") else set()  # noqa: E731
    for equation in jaxpr.jaxpr.eqns:
        read = set().union(*map(of_atom, equation.invars))
        reached |= dict.fromkeys(equation.outvars, read)
    return [of_atom(atom) for atom in jaxpr.jaxpr.outvars], jax.tree.structure(shape)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _run(function, treedef, axes, out_axes, size, leaves):
    def one(*leaves):
        return tuple(jax.tree.leaves(function(*jax.tree.unflatten(treedef, leaves))))

    if not any(axis == 0 for axis in axes):
        return one(*leaves)
    none = lambda axes: tuple(None if axis == SHARED else axis for axis in axes)  # noqa: E731
    return jax.vmap(one, in_axes=none(axes), out_axes=none(out_axes), axis_size=size)(*leaves)
