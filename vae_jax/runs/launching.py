"""The frame of every launcher: flags, signals, streams, and one line for an error.

JAX is imported when the flags are parsed, and not before: --help, --list and a wrong flag are answered at once. A
launcher therefore imports what needs JAX inside its `main`.
"""

import ast
import contextlib
import functools
import os
import re
import signal
import sys
import threading
import traceback
from pathlib import Path

from absl import flags, logging
from ml_collections import config_flags

from vae_jax.errors import first_line
from vae_jax.runs import compiled, configs, manual, processes, streams
from vae_jax.runs.migrate import migrate_flag
from vae_jax.training import signals
from vae_jax.training.signals import Preempted

flags.disclaim_key_flags()  # what is defined here belongs to the launcher

_LIBRARY = Path(__file__).parents[1]
DIVERGED = ("vae_jax.training.loop", "Diverged")  # an error that is compared by name, since its module imports JAX
SECONDS_TO_LEAVE = 10  # for the cleaning up of libraries after a run has failed


def launched(main):
    """Make `main` one of the processes of a run, which joins the others (`--distributed`) before it uses a device.

    A failure ends in one line and exit code 1; `--verbosity=1` shows where it happened. A run that a signal has ended
    exits with the code of `signals.EXIT_CODES`, and the same command continues it. If one of several processes fails,
    it leaves.
    """

    @functools.wraps(main)
    def wrapped(argv):
        if not logging.level_debug():  # as shown by --verbosity=1
            logging.get_absl_handler().addFilter(_ours_or_serious)
        signals.end_on_signals()
        streams.make_lasting()
        logging.get_absl_handler().python_handler.setStream(sys.stderr)
        try:
            with _leaving():
                if len(argv) > 1:
                    raise ValueError(f"unknown argument {argv[1]!r}: all arguments are flags, as in --config=FILE")
                _import_jax()
                processes.join(processes.DISTRIBUTED.value)
                compiled.keep_programs()
                _check_devices()
                main(argv)
        except Preempted as stopped:
            print(stopped.message, file=sys.stderr, flush=True)
            _leave_in_time(stopped.code)
            raise
        except KeyboardInterrupt:
            signals.end_at_once(signal.SIGINT, "stopped")
        except Exception as error:
            logging.debug("traceback:", exc_info=True)
            _leave_in_time(1)
            sys.exit(f"error: {in_words(error)}")

    return wrapped


def in_words(error) -> str:
    """Return one line for a user: what failed and what to do."""
    text = str(error).strip() or type(error).__name__
    if isinstance(error, ValueError | OSError) or (type(error).__module__, type(error).__name__) == DIVERGED:
        return " ".join(text.split())
    if isinstance(error, ImportError) and error.name is None:  # raised with the name of an extra, not by an import
        return " ".join(text.split())
    if isinstance(error, RuntimeError) and ("home directory" in text or "Symlink loop" in text):  # of pathlib
        return f"a path cannot be followed: {text}; give another"
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
        return (
            f"out of memory ({first_line(error)}); lower config.data.batch_size, config.data.memory_limit or the size "
            "of the model"
        )
    return f"{first_line(error)} (an error in the program or in a library; --verbosity=1 shows where)"


def define_config():
    """Define the flags --config, the name or the file of a config, its --config.KEY=VALUE, and --list."""
    flags.DEFINE_bool("list", False, "List the configs, with a result of each.")
    holder = config_flags.DEFINE_config_file("config", help_string="A name of --list or a file; ':smoke' shrinks it.")
    flags.FLAGS["config"].parser = configs.Parser()
    return holder


def define_data(split):
    """Define the flags of data of one's own, and return a function that returns their values for `own_data.on`.

    `split` is the default of --split.
    """
    flags.DEFINE_string(
        "data", None, "A data set or a kind of files, as config.data.name; default: the run's own data."
    )
    flags.DEFINE_string("data_path", None, "Where its files are, as config.data.path.")
    flags.DEFINE_string(
        "data_files", None, "Options of its reader, as config.data.files, such as \"{'size': (32, 32)}\"."
    )
    flags.DEFINE_enum("split", split, ["train", "valid", "test", "all"], "A split of the data, or all of them.")

    def source() -> dict:
        values = flags.FLAGS
        if values.data is None and (values.data_path or values.data_files):
            raise ValueError("--data is missing: it names the kind of the files in --data_path, such as images or idx")
        files = options("data_files", values.data_files) if values.data_files else None
        path = values.data_path and str(Path(values.data_path).expanduser())
        return {"name": values.data, "path": path, "files": files, "split": values.split}

    return source


def options(name, text) -> dict:
    """Return the dict that the text of a flag holds. Raises `ValueError` for another text."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"--{name}={text}: give a dict of options, such as \"{{'size': (32, 32)}}\"")
    return value


def config_name() -> str:
    """Return the name of a run of --config: vae_digits:smoke gives vae_digits-smoke."""
    return configs.run_name(config_flags.get_config_filename(flags.FLAGS["config"]))


def parse_flags(argv):
    """Parse flags as absl does. A mistake gives one line, with the nearest name that exists.

    --help and --list are answered here, and the process ends. From here on a signal ends it with one line.
    """
    signals.end_on_signals()
    try:
        if (page := manual.page(argv)) is not None:
            streams.make_lasting()
            print(page, flush=True)
            sys.exit(0)
        sys.argv = [migrate_flag(argument) for argument in argv]  # where ml_collections looks for --config.KEY
        return flags.FLAGS(sys.argv)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError, SyntaxError) as error:
        hint = re.search(r'Did you mean "(.+?)" instead of "(.+?)"', str(error))
        missing = re.fullmatch(r"flag --(\w+)=None: Flag --\w+ must have a value other than None\.", str(error))
        if missing:
            reason = f"--{missing[1]} is missing: {flags.FLAGS[missing[1]].help}"
        elif hint:
            reason = f"--config: unknown key {hint[2]!r}; did you mean {hint[1]!r}?"
        elif unknown := re.fullmatch(r"['\"]*(\w+)['\"]+", str(error)):  # and no key of the config is near it
            named = (argument.partition("=")[0] for argument in argv)
            flag = next((n for n in named if n.startswith("--config.") and unknown[1] in n.split(".")), "--config")
            reason = f"{flag}: unknown key {unknown[1]!r}; a flag changes a key that the config has"
        else:
            reason = " ".join(str(error).split()) or type(error).__name__
        sys.exit(f"error: {reason}")


def _import_jax():
    """Import JAX. Raises `ValueError` for a variable such as JAX_ENABLE_X64 with a value that it cannot read."""
    try:
        import jax  # noqa: F401
    except ValueError as error:
        raise ValueError(f"JAX cannot read a variable of the environment: {error}") from error


def _check_devices():
    """Raise `ValueError` if JAX has no device of the platforms in `JAX_PLATFORMS`."""
    import jax

    try:
        jax.devices()
    except Exception as error:  # JAX raises RuntimeError or AssertionError
        raise ValueError(
            f"JAX has no device for JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS')!r} ({first_line(error)}); set it "
            "to a platform of this machine, or unset it"
        ) from error


# ------------------------------------------------------------------------------------------------------- the end


def _leave_in_time(code):
    """End the process soon with `code`, even if a thread of a library keeps it from ending."""
    timer = threading.Timer(SECONDS_TO_LEAVE, os._exit, (code,))
    timer.daemon = True
    timer.start()


@contextlib.contextmanager
def _leaving():
    """Let a process that fails print the reason and leave, if it is one of several."""
    try:
        yield
    except Preempted:
        raise
    except BaseException as error:
        if not processes.several():
            raise
        if type(error).__name__ == "JaxRuntimeError":
            processes.leave_if_lost(error)
        if logging.level_debug() or not isinstance(error, Exception):
            processes.leave(traceback.format_exc())
        processes.leave(f"error: {in_words(error)}")


def _ours_or_serious(record):
    """Return True for the lines of the log that are shown: our own, and errors of libraries.

    Orbax and JAX log a page about every checkpoint. Failures in Orbax are raised, so its errors are not shown either.
    """
    path = Path(record.pathname)
    if path.is_relative_to(_LIBRARY) or "experiments" in path.parts[-3:]:  # installed or not
        return True
    return record.levelno >= logging.converter.STANDARD_ERROR and "orbax" not in path.parts
