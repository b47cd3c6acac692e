"""The commands, as `vae_jax.commands.train`: `experiments/*.py` of a checkout, which a wheel has in their place.

`vae_jax.runs.commands` runs them by name.
"""

from pathlib import Path

__all__ = []  # a reader imports one command at a time: each defines its flags
__path__ = [str(Path(__file__).parents[1] / "experiments")]  # pyproject.toml puts them at vae_jax/commands in a wheel
