"""The devices on which a run's arrays lie. Model code does not know them: XLA follows the shardings of state and batch.

A mesh has the axes `data` (the examples of a batch) and `model` (the pieces of large parameters). The mesh of a sweep
has the one axis `member`. A mesh spans the devices of all processes that train together.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from vae_jax.spec import BadOption, integers

LARGE = 2**16  # elements; to cut a smaller parameter costs more exchange than it saves memory


def make_mesh(*, data=-1, model=1, batch_size) -> Mesh:
    """Return a mesh of `data` x `model` devices.

    Args:
      data: devices over which a batch is cut; -1 for as many of the remaining ones as divide the batch.
      model: devices over which large parameters are cut.
      batch_size: the number of examples in a batch.

    Raises `BadOption` if there are too few devices, or if the batch cannot be cut evenly.
    """
    available = jax.device_count()
    integers(data=data, at_least=-1)
    integers(model=model)
    if data == 0:
        raise BadOption("data must be at least 1, or -1 for as many devices as there are, got 0")
    if model < 1 or model > available:
        raise BadOption(f"model must be between 1 and {available}, the number of devices, got {model}")
    if data == -1:
        data = max(d for d in range(1, available // model + 1) if batch_size % d == 0)
        if jax.process_count() > 1:
            data = available // model  # every process must hold a part of the mesh
    if data < 1 or data * model > available:
        raise BadOption(f": data x model is {data} x {model}, and there are only {available} devices")
    if batch_size % data:
        raise BadOption(f"data: {data} devices do not divide the batch_size {batch_size}")
    if jax.process_count() > 1 and data * model != available:
        raise BadOption(f": data x model is {data} x {model}, and must use all {available} devices of all processes")
    return _mesh((data, model), ("data", "model"))


def single() -> Mesh:
    """Return a mesh of one device of this process."""
    return Mesh(np.array(jax.local_devices()[:1]).reshape(1, 1), ("data", "model"), axis_types=(AxisType.Auto,) * 2)


def member_mesh(num_devices) -> Mesh:
    """Return a mesh that spreads the members of a sweep over `num_devices` devices."""
    return _mesh((num_devices,), ("member",))


def _mesh(shape, names):
    devices = jax.devices()[: int(np.prod(shape))]
    return jax.make_mesh(shape, names, axis_types=(AxisType.Auto,) * len(shape), devices=devices)


def state_shardings(mesh, tree):
    """Return how each array of a state is laid out.

    An array is whole on every device; a LARGE one is cut over `model` along its longest axis that divides evenly. The
    rule depends only on shapes, so optimiser moments lie with their parameters.
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
    """Return the layout of an array that is whole on every device."""
    return NamedSharding(mesh, P())


def place_feed(mesh, feed, *, streamed):
    """Place a feed (`data.pipeline`) on the mesh's devices.

    Batches that are streamed are cut over `data`, from the rows that this process has read. Everything else is whole on
    every device. In a sweep, arrays whose first axis is the member are cut along it.
    """
    specs = feed_specs(mesh, feed, streamed=streamed)

    def put(leaf, spec):
        return jax.make_array_from_process_local_data(NamedSharding(mesh, spec), np.asarray(leaf))

    return jax.tree.map(put, feed, specs)


def feed_specs(mesh, feed, *, streamed):
    """Return the `PartitionSpec` of every array of a feed."""
    if members(mesh):
        stored = P("member") if streamed else P()
        return {"key": P("member"), "stored": jax.tree.map(lambda _: stored, feed["stored"])}
    stored = P(None, "data") if streamed else P()
    return {"key": P(), "stored": jax.tree.map(lambda _: stored, feed["stored"])}


def cut_batch(mesh, batch):
    """Return the batch of a compiled step, with its examples cut over `data`."""
    if members(mesh):
        return batch  # the batch of a member is whole
    return jax.lax.with_sharding_constraint(batch, NamedSharding(mesh, P("data")))


def on_host(tree):
    """Return the whole arrays in the memory of this process. All processes of a run must call this together."""

    def fetch(leaf):
        if isinstance(leaf, jax.Array) and not leaf.is_fully_replicated and not leaf.is_fully_addressable:
            leaf = jax.jit(jnp.copy, out_shardings=NamedSharding(leaf.sharding.mesh, P()))(leaf)
        return np.asarray(leaf)

    return jax.tree.map(fetch, tree)


def members(mesh) -> bool:
    """Return True if the mesh spreads the members of a sweep."""
    return "member" in mesh.axis_names


def place_members(mesh, values) -> tuple:
    """Return (values,), one value for each member, on the devices of `mesh`; () for a single run."""
    return (jax.device_put(values, NamedSharding(mesh, P("member"))),) if members(mesh) else ()
