"""Signals that stop a run: SIGTERM, SIGHUP, SIGINT. Imports only the standard library, to hear them early."""

import contextlib
import os
import signal
import threading

PREEMPTED = 75  # exit code: "temporary failure, run me again" (EX_TEMPFAIL of sysexits.h)
EXIT_CODES = {signal.SIGTERM: PREEMPTED, signal.SIGHUP: PREEMPTED, signal.SIGINT: 128 + signal.SIGINT}


class Preempted(SystemExit):
    """A signal has stopped the run and its state is saved.

    The process ends with the code of `EXIT_CODES`: 75 for SIGTERM and SIGHUP, 130 for SIGINT (Ctrl-C). The same command
    continues the run.
    """

    def __init__(self, number, message):
        super().__init__(EXIT_CODES[number])
        self.message = message


def end_on_signals():
    """Let a signal of `EXIT_CODES` end the process at once with one line: outside the loop there is nothing to save.

    A signal that is ignored (for example by nohup) stays ignored.
    """
    text = "stopped; run the same command again to continue from the last checkpoint"
    for number in _heard():
        signal.signal(number, lambda number, frame: end_at_once(number, text))


@contextlib.contextmanager
def noted():
    """Note signals while the block runs: the yielded function returns the number of the last one, or 0.

    A second Ctrl-C ends the process at once. Signals are only heard in the main thread.
    """
    seen, before = [0], {}

    def note(number, frame):
        if seen[0] == number == signal.SIGINT:
            end_at_once(number, "stopped at once, without saving")
        seen[0] = number

    if threading.current_thread() is threading.main_thread():  # no other may install a handler
        before = {number: signal.signal(number, note) for number in _heard()}
    try:
        yield lambda: seen[0]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_at_once(number, text):
    """End the process with the code of a signal and one line.

    This raises no exception: Python swallows one that is raised within a callback of its garbage collector. It does not
    `print`: it may have interrupted a print.
    """
    with contextlib.suppress(OSError):
        os.write(2, f"\n{signal.Signals(number).name}: {text}\n".encode())
    os._exit(EXIT_CODES[number])


def _heard():
    return [number for number in EXIT_CODES if signal.getsignal(number) is not signal.SIG_IGN]
