"""Launchers and configs."""

import sys

if sys.argv[:1] == ["-m"] and {"experiments.train", "experiments.sweep"} & set(sys.orig_argv):  # python -m ...
    # Hear signals already during the long imports.
    from vae_jax.training import signals

    signals.end_on_signals()
    try:
        import jax  # noqa: F401
    except ValueError as error:  # a variable such as JAX_ENABLE_X64 with a value that JAX cannot read
        sys.exit(f"error: JAX cannot read a variable of the environment: {error}")
