"""Many runs as one compiled program: a vmap of the unchanged learner over seeds and numbers.

    seed=0:8,optimizer.learning_rate=1e-3|3e-4      8 x 2 members

Every member computes what it would compute alone: same keys, same data, the same numbers within rounding.
"""

import ast
import hashlib
import itertools
import math
import re
import urllib.parse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import PartitionSpec as P

from vae_jax.core import Learner
from vae_jax.spec import BadOption
from vae_jax.training import sharding

MOST = 10_000  # members of a sweep
LONGEST = 200  # letters in the name of a folder: file systems allow 255 bytes
CPU_BYTES = 2**26  # of states side by side on a core; up to this size members still gain (benchmarks/sweep.py)
MEMORY_SHARE = 0.2  # of an accelerator's memory for the states: gradients and activations need several times as much


@struct.dataclass
class Members:
    """The states of M runs, every leaf [M, ...], and the values in which they differ."""

    values: dict  # {path: [M]}
    state: Any

    @property
    def step(self):
        return self.state.step

    @property
    def skipped(self):
        return self.state.skipped

    @property
    def skipped_in_row(self):
        return self.state.skipped_in_row


def together(learner_of, values) -> Learner:
    """Return M runs as one learner, which takes keys [M] and batches [M, B, ...].

    Args:
      learner_of: {path: number} -> the learner of one run.
      values: {path: [M]}, the numbers in which the members differ besides their keys; may be empty.
    """

    def init(key, batch):
        return Members(values, jax.vmap(lambda v, k, b: learner_of(v).init(k, b))(values, key, batch))

    def step(members, batch):
        one = lambda v, s, b: learner_of(v).step(s, b)  # noqa: E731
        state, metrics = jax.vmap(one)(members.values, members.state, batch)
        return members.replace(state=state), metrics

    def params(members):
        return jax.vmap(lambda v, s: learner_of(v).params(s))(members.values, members.state)

    return Learner(init, step, params)


def streams_together(streams):
    """Return the streams of M members, which differ only in their seed, as one. Resident data are stored once."""
    one = streams[0]

    def feed(step, length):
        feeds = [stream.feed(step, length) for stream in streams]
        keys = np.stack([feed["key"] for feed in feeds])
        stored = [feed["stored"] for feed in feeds]
        return {"key": keys, "stored": jax.tree.map(lambda *a: np.stack(a), *stored) if one.streamed else stored[0]}

    def batch(feed, step, i):
        axes = {"key": 0, "stored": 0 if one.streamed else None}
        return jax.vmap(one.batch, in_axes=(axes, 0, None))(feed, step, i)

    return one._replace(feed=feed, batch=batch)


def over_members(function, mesh):
    """Return `function`, written for one member, compiled for arguments [M, ...] spread over the devices of `mesh`."""
    spread = jax.shard_map(jax.vmap(function), mesh=mesh, in_specs=P("member"), out_specs=P("member"), check_vma=False)
    return jax.jit(spread)


def parse(text: str) -> dict:
    """Return {path: values} of a text such as "seed=0:8,optimizer.learning_rate=1e-3|3e-4"; a:b is a range of integers.

    Raises `BadOption` that shows the part which cannot be read, or if there are more than `MOST` members.
    """
    axes = {}
    for part in filter(None, (part.strip() for part in _outside_brackets(text))):
        path, _, listed = part.partition("=")
        path = path.strip()
        if not listed or not path:
            raise BadOption(f": {part!r} is not KEY=VALUE|VALUE or KEY=FROM:TO")
        if path in axes:
            raise BadOption(f": {path} is given twice")
        axes[path] = [value for item in listed.split("|") for value in _values(item.strip(), part)]
    if not axes:
        raise BadOption(" is empty; give for example seed=0:8,optimizer.learning_rate=1e-3|3e-4")
    check_distinct(axes)
    if (number := math.prod(map(len, axes.values()))) > MOST:
        raise BadOption(f": {number:,} members are too many for one sweep, at most {MOST:,}; split it")
    return axes


def check_distinct(axes: dict):
    """Raise `BadOption` if an axis has a value twice: its members would be one run, counted as several."""
    for path, values in axes.items():
        seen = set()
        for value in values:
            # The floats of one program are float32: those that are equal as float32 would be one run.
            known = repr(np.float32(value) if isinstance(value, float) and abs(value) < 1e38 else value)
            if known in seen:
                raise BadOption(f": {path} has the value {value!r} twice")
            seen.add(known)


def product(axes: dict) -> list[dict]:
    """Return every member {path: value} of a grid."""
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def programs(axes: dict, traceable, members_per_program: int) -> list[list[dict]]:
    """Return the members {path: value} of the product of `axes`, in groups that one program can run.

    Args:
      axes: {path: values}.
      traceable: the paths in which the members of a group may differ.
      members_per_program: the most members of a group.
    """
    groups = {}
    for member in product(axes):
        groups.setdefault(tuple(repr(v) for path, v in member.items() if path not in traceable), []).append(member)
    return [list(part) for group in groups.values() for part in _evenly(group, members_per_program)]


def name_of(member: dict) -> str:
    """Return the name of a member's folder, such as seed=0,optimizer.learning_rate=0.001, unique to the member.

    Letters that a path cannot contain are written as %XX. A long name ends in a hash of the whole name.
    """
    name = ",".join(f"{path}={_in_path(value)}" for path, value in member.items())
    if len(name) <= LONGEST:
        return name
    return f"{name[: LONGEST - 13]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _in_path(value):
    text = value if isinstance(value, str) else str(value).replace(" ", "")
    return urllib.parse.quote(text, safe="()[]{}:'+,")


def mesh_for(num_members: int, devices: int | None = None):
    """Return the mesh for `num_members` members, and how many more are needed for as many members on each device.

    These are the numbers for so many `devices` (None for those that there are) on any machine. One with fewer takes the
    most among which the members can be divided.
    """
    total = num_members + -num_members % min(devices or jax.device_count(), num_members)
    fitting = [n for n in range(1, 1 + min(devices or total, jax.device_count(), total)) if total % n == 0]
    return sharding.member_mesh(fitting[-1]), total - num_members


def take(fitted, i: int):
    """Return the `loop.Fit` of member `i`, as if it had been trained alone."""

    def pick(leaf):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(jax.random.key_data(leaf)[i])
        return leaf[i]

    member = jax.tree.map(pick, (fitted.state.state, fitted.params))
    state, params = jax.device_put(member, jax.local_devices()[0])
    record = {k: v[i] if isinstance(v, list) else v for k, v in fitted.record.items()}
    return fitted._replace(state=state, params=params, record=record)


def members_that_pay(state) -> int:
    """Return how many members of such a state (shapes) one program should have, to gain most and to fit into memory."""
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    if jax.default_backend() == "cpu":
        return jax.device_count() * max(1, CPU_BYTES // size)
    limit = jax.local_devices()[0].memory_stats()["bytes_limit"]
    return jax.device_count() * max(1, int(limit * MEMORY_SHARE) // size)


def is_traceable(learner_of, path, batch) -> bool:
    """Return True if the number at `path` may be traced: the learner never needs its value in Python.

    Args:
      learner_of: {path: number} -> the learner of one run.
      path: the path of the number.
      batch: a training batch, or its shapes.
    """

    def run(value, key, batch):
        learner = learner_of({path: value})
        return learner.step(learner.init(key, batch), batch)

    try:
        jax.eval_shape(run, jax.ShapeDtypeStruct((), jnp.float32), jax.random.key(0), batch)
    except Exception:  # a shape, a Python branch, a check of its range: such a number needs a program of its own
        return False
    return True


def _evenly(group, most):
    """Cut `group` into as few parts of at most `most` as possible, of nearly equal sizes: few shapes to compile."""
    count = -(-len(group) // most)
    size = -(-len(group) // count)
    return [group[i : i + size] for i in range(0, len(group), size)]


def _outside_brackets(text):
    """Yield the parts of `text` between commas that are not inside brackets."""
    depth, part = 0, ""
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            yield part
            part = ""
        else:
            part += letter
    yield part


def _values(item, part):
    if bounds := re.fullmatch(r"\s*(-?[0-9]{1,30})\s*:\s*(-?[0-9]{1,30})\s*", item):
        first, end = int(bounds[1]), int(bounds[2])
        if end <= first:
            raise BadOption(f": {part!r}: {item} is an empty range")
        if end - first > MOST:
            raise BadOption(f": {part!r} has {end - first:,} values, at most {MOST:,} are allowed; split it")
        return list(range(first, end))
    if not item:
        raise BadOption(f": {part!r} has an empty value")
    try:
        return [ast.literal_eval(item)]
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return [item]  # a word, such as relu
