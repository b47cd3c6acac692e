"""Launchers and configs."""

import sys

if sys.argv[:1] == ["-m"] and {"experiments.train", "experiments.sweep"} & set(sys.orig_argv):  # python -m ...
    # Signals are heard before the long imports.
    from vae_jax.training import signals

    signals.end_on_signals()
