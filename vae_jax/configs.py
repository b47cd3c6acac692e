"""The configs, as `from vae_jax.configs import vae_digits`: `experiments/configs` of a checkout, also in a wheel."""

from pathlib import Path

_INSTALLED = Path(__file__).with_suffix("")  # pyproject.toml puts experiments/configs there in a wheel
_CHECKOUT = Path(__file__).parents[1] / "experiments" / "configs"
__path__ = [str(_INSTALLED if _INSTALLED.is_dir() else _CHECKOUT)]
