"""The cost of a training step, and the speed of the machine."""

import functools
import resource
import statistics
import time

import jax


def step_flop(learner, state, batch) -> float | None:
    """Return the floating-point operations of one step, as XLA counts them before it optimises the program.

    The number is the same on every machine: the program is lowered for the CPU, because plugins of accelerators do
    not count. None where JAX was told to use no CPU. Nothing is compiled; `state` and `batch` may be shapes.
    """
    try:
        cpu = jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS=cuda
        return None
    with jax.default_device(cpu):
        analysis = jax.jit(learner.step).lower(state, batch).cost_analysis()
    return float(analysis["flops"]) if analysis else None


@functools.cache
def matmul_rate(size=None, tries=3, repeats=3) -> float:
    """Return the float32 FLOP/s of a square matrix product on one device, the peak that one can reach.

    The product has JAX's default precision. The arguments are its size, and those of `seconds_of`.
    """
    size = size or (1024 if jax.default_backend() == "cpu" else 8192)
    a = jax.random.normal(jax.random.key(0), (size, size))
    return 2 * size**3 / seconds_of(lambda a: a @ a, a, tries=tries, repeats=repeats)


def seconds_of(function, x, *, tries=9, repeats=20) -> float:
    """Return the seconds of a compiled call `function(x)`: the median of `tries`, each the mean of `repeats` calls."""
    compiled = jax.jit(function)
    compiled(x).block_until_ready()
    times = []
    for _ in range(tries):
        start = time.perf_counter()
        for _ in range(repeats):
            out = compiled(x)
        out.block_until_ready()
        times.append((time.perf_counter() - start) / repeats)
    return statistics.median(times)


def peak_memory() -> int:
    """Return the peak memory in bytes: of the fullest accelerator of this process, or of the process itself on CPU."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    on_devices = max(s.get("peak_bytes_in_use", 0) for s in stats)
    return on_devices or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
