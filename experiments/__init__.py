"""Launchers and configs."""

import sys

if sys.argv[:1] == ["-m"] and {"experiments.train", "experiments.sweep"} & set(sys.orig_argv):  # python -m ...
    # Signals are heard before the long imports.
    from vae_jax.training import signals

    signals.end_on_signals()
    try:
        import jax  # noqa: F401
    except ValueError as error:  # a variable such as JAX_ENABLE_X64 that JAX cannot read
        sys.exit(f"error: JAX cannot be set as the environment asks: {error}")
