"""Every head by its name in a config: distributions as functions of what a network returns."""

from vae_jax.conditionals import bounded, chains, codes, counts, flows, gaussian, pixels, tables
from vae_jax.conditionals.bounded import *  # noqa: F403
from vae_jax.conditionals.chains import *  # noqa: F403
from vae_jax.conditionals.codes import *  # noqa: F403
from vae_jax.conditionals.counts import *  # noqa: F403
from vae_jax.conditionals.flows import *  # noqa: F403
from vae_jax.conditionals.gaussian import *  # noqa: F403
from vae_jax.conditionals.pixels import *  # noqa: F403
from vae_jax.conditionals.tables import *  # noqa: F403

_MODULES = (bounded, chains, codes, counts, flows, gaussian, pixels, tables)
__all__ = sorted(name for module in _MODULES for name in module.__all__)
