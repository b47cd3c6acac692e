"""Launchers and configs."""

import sys

if sys.argv[:1] == ["-m"] and any(
    n.startswith("experiments.") and n.count(".") == 1 for n in sys.orig_argv
):  # python -m ...
    from vae_jax.training import signals  # hear signals already during the imports

    signals.end_on_signals()
