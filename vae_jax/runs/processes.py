"""The processes of one run: how they join, and how each ends when it or another one fails."""

import os
import re
import subprocess
import sys
import threading

from absl import flags, logging

from vae_jax.errors import first_line
from vae_jax.runs import streams

HEARTBEAT_S = 20  # a process that is silent for this long counts as lost, and the others end
START_AGAIN = "Start all again: they continue from the last checkpoint"

DISTRIBUTED = flags.DEFINE_string(
    "distributed", None, "Train with other processes: auto (SLURM, Open MPI, GKE, Cloud TPU) or HOST:PORT,COUNT,INDEX."
)


def join(address: str | None):
    """Start `jax.distributed`. `address` is "auto" if JAX knows the cluster, or "HOST:PORT,NUM_PROCESSES,PROCESS_ID".

    Raises `ValueError` if the address cannot be read or the processes cannot connect.
    """
    if not address:
        return
    options = {"heartbeat_timeout_seconds": HEARTBEAT_S, "shutdown_timeout_seconds": 24 * 3600}
    if address != "auto":
        match = re.fullmatch(r"([^,]+:\d+),(\d+),(\d+)", address)
        if not match or int(match[3]) >= int(match[2]):
            raise ValueError(
                f"--distributed={address}: give auto or HOST:PORT,NUM_PROCESSES,PROCESS_ID, the last from 0"
            )
        options |= {
            "coordinator_address": match[1],
            "num_processes": int(match[2]),
            "process_id": int(match[3]),
            "cluster_detection_method": "deactivate",
        }
        if re.match(r"(localhost|127\.\d+\.\d+\.\d+):", address):
            options["coordinator_bind_address"] = match[1]  # only this machine: by default it listens to all
    import jax  # not before flags are parsed

    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself
    _replace_the_page_of_the_service()
    try:
        _interruptibly(lambda: jax.distributed.initialize(**options))
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"--distributed={address}: {first_line(error)}. If JAX does not know the cluster, give "
            "--distributed=HOST:PORT,NUM_PROCESSES,PROCESS_ID to every process"
        ) from error


def several() -> bool:
    """Return True if this process is one of several. Without a launcher, as in a notebook, it is not."""
    return flags.FLAGS.is_parsed() and bool(DISTRIBUTED.value)


def is_first() -> bool:
    """Return True if this process is the one that writes."""
    import jax

    return jax.process_index() == 0


def leave(message: str, code: int = 1):
    """End this process at once, so that the others notice.

    The usual exit would wait for the others, which wait for this process in their next exchange.
    """
    print(f"\n{message}", file=sys.stderr, flush=True)  # below the progress bar
    sys.stdout.flush()
    os._exit(code)


def leave_if_lost(error):
    """Call `leave` if there are several processes: then a failure of the devices means that another one is lost."""
    if several():
        leave(f"error: another process has ended, or the network has failed ({first_line(error)}). {START_AGAIN}")


def _interruptibly(function):
    """Call `function()` in a thread of its own, so that this thread still hears signals while C++ code waits."""
    raised = []

    def run():
        try:
            function()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


# JAX's service also notices a lost process. It prints a page and calls abort(), without a call of our handlers.
_FILTER = """
import re, sys
ours, fatal = True, False
for line in sys.stdin:
    source = re.match(r"[IWEF]\\d{4} \\S+ +\\d+ ([\\w.]+):\\d+\\]", line)
    if "distributed service detected fatal errors" in line:
        fatal = print(sys.argv[1], file=sys.stderr, flush=True) or True
    if source or line.startswith(("Fatal Python error", "Traceback")):
        ours = not (source and source[1].startswith("coordination_service"))
    if ours and not fatal:
        print(line, end="", file=sys.stderr, flush=True)
"""


def _replace_the_page_of_the_service():
    """Send the stderr of C++ code through a filter, which replaces that page by one line.

    The filter is a process of its own. The stderr of Python stays as it is.
    """
    line = f"\nerror: another process has ended, or the network has failed. {START_AGAIN}"
    command = [sys.executable, "-S", "-c", _FILTER, line]
    sys.stderr = streams.lasting(os.dup(2), sys.stderr.encoding)
    logging.get_absl_handler().python_handler.setStream(sys.stderr)
    # In a session of its own it outlives this process and prints its line, whatever signal ends the group.
    pipe = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True).stdin
    os.dup2(pipe.fileno(), 2)
    pipe.close()
