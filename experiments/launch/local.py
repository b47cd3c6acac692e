"""Start several processes of one run on this machine, as a cluster does.

    python -m experiments.launch.local --num_processes=2 [--devices_per_process=4] -- \
        python -m experiments.train --config=experiments/configs/vae_digits.py

Starts the command N times, each with `--distributed=127.0.0.1:PORT,N,INDEX` appended. Process 0 prints as if it were
alone; the lines of the others go to stderr after "[INDEX] ". SIGTERM, SIGHUP and SIGINT are passed on to all. When one
process dies, the others are ended, since they would wait for it forever. Exit code: 0 when all are done; 75 after
SIGTERM or SIGHUP and 130 after Ctrl-C (the same command continues the run); 124 on --timeout; otherwise that of the
first to fail, 128 + n if signal n killed it.
"""

import argparse
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time

from vae_jax.training.signals import EXIT_CODES, PREEMPTED

TIMED_OUT = 124
AFTERMATH = 5.0  # seconds between the death of one, SIGTERM to the others, and SIGKILL
POLL = 0.05
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
PR_SET_PDEATHSIG = 1


def main(argv=None) -> int:
    options = _parse(argv)
    processes, received = [], []
    for signum in EXIT_CODES:
        signal.signal(signum, lambda signum, frame: received.append(signum))
    try:
        port = free_port()
        for index in range(options.num_processes):
            processes.append(start(options.command, index, options.num_processes, port, options.devices_per_process))
        return watch(processes, received, timeout=options.timeout, grace=options.grace)
    except OSError as error:
        return say(f"{options.command[0]} cannot be started: {error.strerror}") or 127
    finally:
        send(processes, signal.SIGKILL)  # also to children that a dead process has left in its group


def start(command, index, count, port, devices_per_process) -> subprocess.Popen:
    """Start process `index` of `count` in a group of its own, which dies with this one (on Linux).

    Args:
      command: the command of the run.
      index: the number of the process.
      count: the number of processes.
      port: where the first process listens.
      devices_per_process: CPU devices of each process; 0 for what JAX finds.
    """
    environment = dict(os.environ)
    if devices_per_process:
        count_flag = f"--xla_force_host_platform_device_count={devices_per_process}"
        environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {count_flag}".strip()
        environment.setdefault("JAX_PLATFORMS", "cpu")
    launcher = os.getpid()

    def die_with_launcher():
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != launcher:  # it died before prctl was called
            os._exit(1)

    process = subprocess.Popen(
        [*command, f"--distributed=127.0.0.1:{port},{count},{index}"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if index else None,
        stderr=subprocess.STDOUT if index else None,
        process_group=0,  # the Ctrl-C of a terminal reaches it only through this process
        preexec_fn=die_with_launcher if LIBC else None,
    )
    if index:
        threading.Thread(target=_relay, args=(process.stdout, b"[%d] " % index), daemon=True).start()
    return process


def watch(processes, received, *, timeout, grace) -> int:
    """Wait for all processes, and end them some time after the first death, signal or timeout. Return the exit code.

    Args:
      processes: the processes.
      received: the signals that this process has received; it grows.
      timeout: seconds for the whole run; 0 for no limit.
      grace: seconds between a signal and SIGKILL.
    """
    began, passed_on, first, timed_out, schedule = time.monotonic(), 0, None, False, None
    while True:
        codes = [process.poll() for process in processes]
        now = time.monotonic()
        if first is None and any(codes):
            first = next(index for index, code in enumerate(codes) if code)
            if schedule is None:
                schedule = [(now + AFTERMATH, signal.SIGTERM), (now + 2 * AFTERMATH, signal.SIGKILL)]
                say(f"{_describe(first, codes)}{'; ending the others ...' if None in codes else ''}")
        if None not in codes:
            break
        for signum in received[passed_on:]:
            send(processes, signum)
        if received and schedule is None:
            schedule = [(now + grace, signal.SIGKILL)]
            say(f"{signal.Signals(received[0]).name} passed on to all; they have {grace:g} s to save")
        if timeout and schedule is None and now > began + timeout:
            timed_out, schedule = True, [(now, signal.SIGTERM), (now + grace, signal.SIGKILL)]
            say(f"not done after --timeout={timeout:g} s; ending all ...")
        while schedule and now >= schedule[0][0]:
            send(processes, schedule.pop(0)[1])
        passed_on = len(received)
        time.sleep(POLL)
    code = TIMED_OUT if timed_out else 0 if first is None else codes[first]
    if received and not timed_out and (code < 0 or EXIT_CODES[received[0]] in codes):
        code = EXIT_CODES[received[0]]
    if code in EXIT_CODES.values() or code < 0 or timed_out:
        say("run the same command again: it continues from the last checkpoint")
    return 128 - code if code < 0 else code


def send(processes, signum):
    """Send a signal to every process and to all its children."""
    for process in processes:
        try:
            os.killpg(process.pid, signum)
        except (ProcessLookupError, PermissionError):  # macOS raises the latter for a zombie
            pass


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def say(text):
    print(f"\nexperiments.launch.local: {text}", file=sys.stderr, flush=True)  # below a progress bar


def _describe(index, codes):
    code, name = codes[index], f"process {index} of {len(codes)}"
    if code == PREEMPTED:
        return f"{name} was pre-empted (code {PREEMPTED})"
    if code == EXIT_CODES[signal.SIGINT]:
        return f"{name} was interrupted"
    return f"{name} was killed by signal {-code}" if code < 0 else f"{name} ended with code {code}, see above for why"


def _relay(pipe, prefix):
    for line in pipe:
        sys.stderr.buffer.write(prefix + line.rstrip(b"\n") + b"\n")  # one write a line: lines are never mixed
        sys.stderr.buffer.flush()


def _parse(argv):
    parser = argparse.ArgumentParser(prog="python -m experiments.launch.local", allow_abbrev=False)
    parser.add_argument("--num_processes", type=int, default=2)
    parser.add_argument("--devices_per_process", type=int, default=0, help="CPU devices; default: what JAX finds")
    parser.add_argument("--timeout", type=float, default=0, help="seconds for the whole run; default: no limit")
    parser.add_argument("--grace", type=float, default=30, help="seconds to save in, after SIGTERM")
    parser.add_argument("command", nargs="+", help="after --: the command, without --distributed")
    options = parser.parse_args(argv)
    if options.num_processes < 1:
        parser.error(f"--num_processes must be at least 1, got {options.num_processes}")
    return options


if __name__ == "__main__":
    sys.exit(main())
