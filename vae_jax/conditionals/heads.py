"""Every head by its name in a config: distributions as functions of what a network returns."""

from vae_jax.conditionals import chains, codes, flows, gaussian, pixels
from vae_jax.conditionals.chains import *  # noqa: F403
from vae_jax.conditionals.codes import *  # noqa: F403
from vae_jax.conditionals.flows import *  # noqa: F403
from vae_jax.conditionals.gaussian import *  # noqa: F403
from vae_jax.conditionals.pixels import *  # noqa: F403

__all__ = sorted(name for module in (chains, codes, flows, gaussian, pixels) for name in module.__all__)
