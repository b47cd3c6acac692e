"""The console command: `vae-jax NAME --flags` runs the launcher NAME, as `python -m experiments.NAME` does.

Only the launcher that is asked for is imported.
"""

import difflib
import importlib.metadata
import runpy
import sys
from pathlib import Path

from vae_jax import commands
from vae_jax.runs import streams
from vae_jax.training import signals

NAMES = tuple("train evaluate sample encode sweep compare codes judge outliers restore compress audit report".split())


def main():
    """Run the launcher that the first argument names. Without one, list them."""
    signals.end_on_signals()  # hear them during the imports
    name, *arguments = sys.argv[1:] or ["--help"]
    word = name.lstrip("-")
    if name in NAMES:
        sys.argv = [f"vae-jax {name}", *arguments]
        runpy.run_module(f"{commands.__name__}.{name}", run_name="__main__", alter_sys=True)
        return
    streams.make_lasting()
    if name.startswith("-") and word in ("help", "h", "helpshort", "?", "list", "version"):
        print({"list": _list, "version": _version}.get(word, _help)())
        return
    close = difflib.get_close_matches(word, NAMES, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    kind = "flag before a command" if name.startswith("-") else "command"
    sys.exit(f"error: there is no {kind} {name!r}{hint} (allowed: {', '.join(NAMES)})")


def _help() -> str:
    """Return the commands, one line each."""
    from vae_jax.runs import manual  # not before it is needed: a command starts a tenth of a second sooner

    rows = [(name, manual.first_line(Path(commands.__path__[0]) / f"{name}.py")) for name in NAMES]
    lines = [f"  {name:9} {text}" for name, text in rows]
    head = "Latent-variable models: train, measure and use them.\n\nvae-jax COMMAND --flags, a COMMAND being one of\n"
    return "\n".join(
        [head, *lines, "\nvae-jax COMMAND --help shows its flags, vae-jax --list the configs, --version the version."]
    )


def _list() -> str:
    from vae_jax.runs import manual

    return manual.table()


def _version() -> str:
    try:
        return f"vae_jax {importlib.metadata.version('vae_jax')}"
    except importlib.metadata.PackageNotFoundError:
        return "vae_jax, from a checkout that is not installed"
