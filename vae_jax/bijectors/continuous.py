"""The flow of an ordinary differential equation, solved with adaptive steps by Diffrax (extra `ode`)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

EXACT_LIMIT = 64  # dimensions up to which the trace of a Jacobian is computed as it is


@struct.dataclass
class Continuous:
    """The map f: z(t_0) -> z(t_1) along dz/dt = v(z, t), for one array z of any shape.  arXiv:1806.07366 eq. (8).

        log |det ∂f/∂z| = ∫ tr(∂v/∂z) dt     from t_0 to t_1

    Without `probes` the trace is exact, and takes a product with the Jacobian for each dimension. With probes ε_n [N,
    *shape], it is the estimate (1/N) Σ_n ε_nᵀ (∂v/∂z) ε_n, arXiv:1810.01367 sec. 3.1. It is unbiased if E[ε εᵀ] = I, as
    for `rademacher`: the probes are the same along the path, and the path does not depend on them.

    The result is NaN if the solver takes more than `max_steps` steps. Raises `ImportError` without the extra `ode`.

    Attributes:
      params: the parameters of the velocity.
      velocity: (params, z, t) -> dz/dt.
      probes: [N, *shape]; None for the exact trace.
      start: t_0.
      end: t_1, which may be smaller than t_0.
      rtol: the relative error of z in a step; with the exact trace also that of log |det|.
      atol: the absolute error in a step.
      max_steps: the most steps, taken or refused.
    """

    params: Any
    velocity: Callable = struct.field(pytree_node=False)
    probes: Any = None
    start: Any = 0.0
    end: Any = 1.0
    rtol: float = struct.field(pytree_node=False, default=1e-5)
    atol: float = struct.field(pytree_node=False, default=1e-5)
    max_steps: int = struct.field(pytree_node=False, default=4096)

    def forward_and_log_det(self, x):
        return self._solve(x, self.start, self.end)

    def inverse_and_log_det(self, y):
        return self._solve(y, self.end, self.start)

    def _solve(self, z, start, end):
        diffrax = _diffrax()
        z = jnp.asarray(z)
        dtype = jnp.promote_types(z.dtype, jnp.float32)
        # A solver takes every array that is not one of JAX for a constant of the program.
        args = jax.tree.map(jnp.asarray, (self.params, self.probes))
        start, end = jnp.asarray(start, dtype), jnp.asarray(end, dtype)
        span, exact = end - start, self.probes is None

        def field(time, state, args):
            """Return dz/ds and d log|det|/ds at t = t_0 + s (t_1 - t_0), so that a solver always goes from 0 to 1."""
            params, probes = args
            v = lambda z: self.velocity(params, z, start + time * span)  # noqa: E731
            value, trace = value_and_divergence(v, state[0], probes)
            return (span * value).astype(dtype), (span * trace).astype(dtype)

        def norm(error):
            """Return the error of z, and of an exact log |det|; an estimate of it must not change the steps."""
            size = jnp.sqrt(jnp.mean(jnp.square(error[0])))
            return jnp.maximum(size, jnp.abs(error[1])) if exact else size

        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            diffrax.Tsit5(),
            t0=jnp.zeros((), dtype),
            t1=jnp.ones((), dtype),
            dt0=None,
            y0=(z.astype(dtype), jnp.zeros((), dtype)),
            args=args,
            stepsize_controller=diffrax.PIDController(rtol=self.rtol, atol=self.atol, norm=norm),
            saveat=diffrax.SaveAt(t1=True),
            max_steps=self.max_steps,
            throw=False,
        )
        reached = solution.result == diffrax.RESULTS.successful
        z, log_det = jax.tree.map(lambda a: a[0], solution.ys)
        return jnp.where(reached, z, jnp.nan), jnp.where(reached, log_det, jnp.nan)


def value_and_divergence(function, z, probes=None):
    """Return v(z) and tr(∂v/∂z), exact, or its estimate by probes [N, *shape].  arXiv:1810.01367 sec. 3.1.

    Only products from the left are needed, since convolutions on CPU have no derivative in forward mode.
    """
    value, pull = jax.vjp(function, z)
    exact = probes is None
    vectors = jnp.eye(z.size, dtype=value.dtype).reshape(z.size, *z.shape) if exact else probes.astype(value.dtype)
    each = jax.vmap(lambda e: jnp.sum(pull(e)[0] * e))(vectors)
    return value, jnp.sum(each) if exact else jnp.mean(each)


def rademacher(key, shape, num_probes=1):
    """Return probes of a trace, [N, *shape], whose entries are -1 or 1 with probability ½."""
    return jax.random.rademacher(key, (num_probes, *shape), jnp.float32)


def _diffrax():
    try:
        import diffrax  # imported here, since the import takes seconds and few models need it
    except ImportError as error:
        raise ImportError("the likelihood of a flow of an ODE needs Diffrax: pip install 'vae_jax[ode]'") from error
    return diffrax
