"""Where a run's arrays live. Model code does not know: XLA follows the shardings of the state and of the batch.

A mesh has the axes `data` (the examples of a batch) and `model` (the pieces of large parameters), or, for a sweep, the
one axis `member`. It spans the devices of every process that trains together.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from vae_jax.spec import BadOption, integers

LARGE = 2**16  # elements from which a parameter is worth cutting: below it, the exchange costs more than the memory


def make_mesh(*, data=-1, model=1, batch_size) -> Mesh:
    """A mesh of `data` x `model` devices. `data` = -1: as many of the remaining devices as divide the batch.

    Raises `ValueError` where there are too few devices, or where the batch cannot be cut evenly.
    """
    available = jax.device_count()
    integers(data=data, at_least=-1)
    integers(model=model)
    if data == 0:
        raise BadOption("data must be at least 1, or -1 for as many devices as there are, got 0")
    if model < 1 or model > available:
        raise ValueError(f"config.mesh.model must be between 1 and the {available} devices, got {model}")
    if data == -1:
        data = max(d for d in range(1, available // model + 1) if batch_size % d == 0)
        if jax.process_count() > 1:
            data = available // model  # every process must hold a part of the mesh
    if data < 1 or data * model > available:
        raise ValueError(f"config.mesh: data x model = {data} x {model}, and there are {available} devices")
    if batch_size % data:
        raise ValueError(f"config.data.batch_size = {batch_size} cannot be cut over config.mesh.data = {data} devices")
    if jax.process_count() > 1 and data * model != available:
        raise ValueError(f"config.mesh: {data} x {model} leaves some of the {available} devices of all processes out")
    return _mesh((data, model), ("data", "model"))


def single() -> Mesh:
    """One device of this process."""
    return Mesh(np.array(jax.local_devices()[:1]).reshape(1, 1), ("data", "model"), axis_types=(AxisType.Auto,) * 2)


def member_mesh(num_devices) -> Mesh:
    """The members of a sweep, spread over `num_devices` devices."""
    return _mesh((num_devices,), ("member",))


def _mesh(shape, names):
    devices = jax.devices()[: int(np.prod(shape))]
    return jax.make_mesh(shape, names, axis_types=(AxisType.Auto,) * len(shape), devices=devices)


def state_shardings(mesh, tree):
    """How each array of a state is laid out: whole on every device, or, where it is LARGE, cut over `model` along its
    longest axis that divides evenly. A rule on shapes alone, so optimiser moments lie with their parameters.
    """

    def place(leaf):
        if members(mesh):
            return NamedSharding(mesh, P("member"))
        pieces = mesh.shape["model"]
        axes = [axis for axis, size in enumerate(leaf.shape) if size % pieces == 0]
        if pieces == 1 or leaf.size < LARGE or not axes:
            return NamedSharding(mesh, P())
        longest = max(axes, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, P(*(None,) * longest, "model"))

    return jax.tree.map(place, tree)


def replicated(mesh) -> NamedSharding:
    return NamedSharding(mesh, P())


def place_feed(mesh, feed, *, streamed):
    """A feed (`data.pipeline`) on the mesh's devices: what is read batch by batch is cut over `data`, from the rows
    that this process has read; all else is whole on every device. Of a sweep, what leads with the member is cut so.
    """
    specs = feed_specs(mesh, feed, streamed=streamed)

    def put(leaf, spec):
        return jax.make_array_from_process_local_data(NamedSharding(mesh, spec), np.asarray(leaf))

    return jax.tree.map(put, feed, specs)


def feed_specs(mesh, feed, *, streamed):
    """The `PartitionSpec` of every array of a feed."""
    if members(mesh):
        stored = P("member") if streamed else P()
        return {"key": P("member"), "stored": jax.tree.map(lambda _: stored, feed["stored"])}
    stored = P(None, "data") if streamed else P()
    return {"key": P(), "stored": jax.tree.map(lambda _: stored, feed["stored"])}


def cut_batch(mesh, batch):
    """The batch as it stands in the compiled step: its examples cut over `data`."""
    if members(mesh):
        return batch  # every member's batch is whole
    return jax.lax.with_sharding_constraint(batch, NamedSharding(mesh, P("data")))


def on_host(tree):
    """The whole arrays in this process's memory, wherever their pieces lie; every process must ask."""

    def fetch(leaf):
        if isinstance(leaf, jax.Array) and not leaf.is_fully_replicated and not leaf.is_fully_addressable:
            leaf = jax.jit(jnp.copy, out_shardings=NamedSharding(leaf.sharding.mesh, P()))(leaf)
        return np.asarray(leaf)

    return jax.tree.map(fetch, tree)


def members(mesh) -> bool:
    """True where the mesh spreads the members of a sweep."""
    return "member" in mesh.axis_names


def place_members(mesh, values) -> tuple:
    """(one value of each member, on the devices of `mesh`,), or () for a lone run."""
    return (jax.device_put(values, NamedSharding(mesh, P("member"))),) if members(mesh) else ()
