"""Evaluation over the devices on which the parameters lie: each computes a part of the examples."""

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P


def mesh_of(params):
    """Return the mesh on which training has placed `params` if its axis `data` has several devices, else None."""
    sharding = getattr(jax.tree.leaves(params)[0], "sharding", None)
    several = isinstance(sharding, NamedSharding) and sharding.mesh.shape.get("data", 1) > 1
    return sharding.mesh if several else None


def over_devices(function, mesh, params, examples):
    """Return `function(params, examples)`, arrays [N, ...], for `examples` of arrays [N, ...].

    Each device of the axis `data` of `mesh` computes its part. Without a mesh it is one call. Every process gets the
    whole result.
    """
    if mesh is None:
        return function(params, examples)
    size = len(jax.tree.leaves(examples)[0])
    missing = -size % mesh.shape["data"]  # filled with copies of the last example, which are dropped at the end
    index = jnp.minimum(jnp.arange(size + missing), size - 1)

    def part(params, examples):
        gather = lambda a: jax.lax.all_gather(a, "data", tiled=True)  # noqa: E731
        return jax.tree.map(gather, function(params, examples))

    spread = jax.shard_map(part, mesh=mesh, in_specs=(P(), P("data")), out_specs=P(), check_vma=False)
    results = spread(params, jax.tree.map(lambda a: jnp.asarray(a)[index], examples))
    return jax.tree.map(lambda a: a[:size], results)
