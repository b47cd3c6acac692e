"""The local launcher with tiny scripts in the place of training: whatever happens, it ends, and says so."""

import os
import signal
import subprocess
import sys
import time

import pytest

LAUNCHER = [sys.executable, "-m", "experiments.launch.local"]
SAVES = r"""
import signal, sys, time
signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(75))
os.write(1, b"ready\n")
time.sleep(60)
"""
SLEEPS = r"""
import time
os.write(1, b"pid %d\n" % os.getpid())  # in one piece: two processes write to the test's pipe
time.sleep(600)
"""
STUBBORN = r"""
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write(1, b"ready\n")
time.sleep(60)
"""


def command(script, *options, count=2):
    """The launcher of `script`, which sees its index as `index`."""
    header = "import os, sys; address, count, index = sys.argv[-1].split('=')[1].split(','); index = int(index)\n"
    return [*LAUNCHER, f"--num_processes={count}", *options, "--", sys.executable, "-c", header + script]


def launch(script, *options, count=2, **environment):
    environment = {**os.environ, **environment}
    began = time.monotonic()
    done = subprocess.run(
        command(script, *options, count=count), capture_output=True, text=True, env=environment, timeout=50
    )
    done.seconds = time.monotonic() - began
    return done


def begin(script, *options, ready=2, **pipes):
    """The launcher under way, once `ready` lines have come from its processes."""
    process = subprocess.Popen(
        command(script, *options), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **pipes
    )
    lines = [process.stdout.readline() for _ in range(ready)]
    return process, lines


def alive(pid):
    """Whether `pid` runs; a zombie, which waits for a parent to ask after it, does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_all_succeed_and_each_knows_its_place():
    done = launch("print('I am', index, 'of', count); print(sys.argv[-1], file=sys.stderr)", count=3)
    assert done.returncode == 0
    assert done.stdout == "I am 0 of 3\n"  # as if it were alone
    assert "[1] I am 1 of 3\n" in done.stderr and "[2] I am 2 of 3\n" in done.stderr
    addresses = {line.split("=")[1].split(",")[0] for line in done.stderr.splitlines() if "--distributed=" in line}
    assert len(addresses) == 1 and addresses.pop().startswith("127.0.0.1:")


def test_devices_per_process_adds_the_flag_to_those_there_are():
    done = launch("print(os.environ['XLA_FLAGS'])", "--devices_per_process=4", count=1, XLA_FLAGS="--xla_other=1")
    assert done.stdout == "--xla_other=1 --xla_force_host_platform_device_count=4\n"


def test_one_fails_and_the_others_end():
    done = launch("import time; index == 1 and sys.exit(3); time.sleep(60)")
    assert done.returncode == 3 and done.seconds < 15
    assert "process 1 of 2 ended with code 3" in done.stderr


def test_one_is_killed_while_the_others_wait_for_ever():
    process, lines = begin(SLEEPS)
    pids = {line.startswith("[1]"): int(line.split()[-1]) for line in lines}
    os.kill(pids[True], signal.SIGKILL)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGKILL
    assert "process 1 of 2 was killed by signal 9; ending the others" in output
    assert "run the same command again: it continues" in output
    assert not any(map(alive, pids.values()))


def test_sigterm_reaches_all_and_a_saved_run_is_75():
    process, _ = begin(SAVES)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=10)
    assert process.returncode == 75
    assert "SIGTERM passed on to all" in output and "run the same command again" in output


def test_a_process_that_never_saves_is_killed_after_the_grace_and_can_be_run_again():
    process, _ = begin(STUBBORN, "--grace=0.5")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 75


def test_an_error_while_saving_is_an_error():
    process, _ = begin(SAVES.replace("75", "1"))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 1


def test_ctrl_c_reaches_all():
    process, _ = begin(SLEEPS)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 128 + signal.SIGINT


def test_timeout():
    done = launch(STUBBORN, "--timeout=0.5", "--grace=0.5")
    assert done.returncode == 124 and "--timeout=0.5" in done.stderr and done.seconds < 10


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_the_launchers_own_death_leaves_no_orphans():
    process, lines = begin(SLEEPS)
    pids = [int(line.split()[-1]) for line in lines]
    process.kill()
    process.wait()
    deadline = time.monotonic() + 5
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(alive, pids))


def test_a_command_that_does_not_exist():
    done = subprocess.run([*LAUNCHER, "--", "/nonexistent/python"], capture_output=True, text=True)
    assert done.returncode == 127
    assert "/nonexistent/python cannot be started: No such file or directory" in done.stderr
