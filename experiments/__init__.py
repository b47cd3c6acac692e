"""Launchers and configs."""

import sys

if sys.argv[:1] == ["-m"]:  # python -m experiments.NAME: signals are heard before the long imports
    from vae_jax.training import signals

    signals.end_on_signals()
