"""Two processes of four devices each: the run of one process, and no process that waits for one that has ended."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from vae_jax.runs import processes

TRAIN = """
import os
import sys
from absl import app
from vae_jax.runs import launching, train, build
from vae_jax.configs import vae_digits
from vae_jax.evaluation import likelihood
from vae_jax.runs.workdir import open_workdir

@launching.launched
def main(argv):
    config = vae_digits.get_config("smoke")
    config.train.update({"num_steps": 20, "log_every": 5, "eval_every": 10, "checkpoint_every": 5})
    workdir = open_workdir(os.environ["WORKDIR"], config.to_dict())
    if os.environ["BUG"]:
        likelihood.validation = lambda *_, **__: lambda *_, **__: {}["a bug"]
    train.train(build.build(config.to_dict()), workdir)

print("here", flush=True)
app.run(main, flags_parser=launching.parse_flags)
"""


def start(workdir, *arguments, devices=4, bug=""):
    quickly = os.environ["VAE_JAX_TESTS_XLA_FLAGS"]
    flags = {"XLA_FLAGS": f"{quickly} --xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu"}
    flags |= {"JAX_COMPILATION_CACHE_DIR": f"{workdir}-cache"}  # of two starts, one compiles
    flags |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    flags |= {"WORKDIR": str(workdir), "BUG": bug}
    command = [sys.executable, "-c", TRAIN, *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **pipes, env={**os.environ, **flags})


def address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"--distributed=127.0.0.1:{free.getsockname()[1]},2,"


def ends(*started):
    """(exit code, stderr) of each."""
    try:
        said = [process.communicate(timeout=300)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, text) for process, text in zip(started, said, strict=True)]


def losses(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 10, 15, 20]  # the first process alone has written
    return np.array([line["train/loss"] for line in lines])


@pytest.mark.slow
def test_two_processes_one_of_which_fails_first_are_one_process(tmp_path):
    to = address()
    (code, said), (other, told) = ends(
        start(tmp_path / "two", f"{to}0", bug="yes"), start(tmp_path / "two", f"{to}1")
    )  # the first fails at step 10
    assert code == 1 and "KeyError: 'a bug'" in said
    # It ends in the abort of XLA's client, which a thread that still computes may meet first.
    assert other in (1, -signal.SIGABRT, -signal.SIGSEGV)
    assert "error: another process has ended" in told and processes.START_AGAIN in told
    assert "Check failure" not in told and "Fatal Python error" not in told
    to = address()
    again = ends(start(tmp_path / "two", f"{to}0"), start(tmp_path / "two", f"{to}1"))
    assert [code for code, _ in again] == [0, 0], again
    assert "resumed from the checkpoint of step 5" in again[0][1]
    assert ends(start(tmp_path / "one", devices=1))[0][0] == 0
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=1e-5)


def test_a_process_that_waits_for_the_others_heeds_sigterm(tmp_path):
    waiting = start(tmp_path, f"{address()}1")
    assert waiting.stdout.readline() == "here\n"
    time.sleep(2)
    waiting.send_signal(signal.SIGTERM)
    began = time.time()
    ((code, said),) = ends(waiting)
    assert code == 75 and time.time() - began < 10
    assert said.strip().startswith("SIGTERM: stopped")


@pytest.mark.parametrize("lost", [True, False])
def test_one_line_takes_the_place_of_the_service_s_page(lost):
    service = "E1121 16:33:42.044088   11980 coordination_service.cc:1549] The following tasks are unhealthy:\n1\n"
    fatal = (
        "F1121 16:33:42.044427   11997 client.h:80] Terminating process because the JAX distributed service detected"
    )
    text = "W1121 16:33:42.044088   11980 ours.cc:1] kept\n" + service
    text += f"{fatal} fatal errors.\n*** Check failure stack trace: ***\nFatal Python error" if lost else "Traceback\n"
    command = [sys.executable, "-S", "-c", processes._FILTER, "the line"]
    shown = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stderr
    kept = "W1121 16:33:42.044088   11980 ours.cc:1] kept\n"
    assert shown == kept + ("the line\n" if lost else "Traceback\n")
