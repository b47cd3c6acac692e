"""What a launcher does around its main: one line for every failure, signals, and streams that end no run."""

import json
import os
import signal
import subprocess
import sys

import jax
import pytest

from vae_jax.runs import launching, streams
from vae_jax.training.loop import Diverged

LAUNCH = """
import sys, time
from absl import app
from vae_jax.runs import launching

@launching.launched
def main(argv):
    {body}

app.run(main, flags_parser=launching.parse_flags)
"""
ALONE = os.environ | {"XLA_FLAGS": os.environ["VAE_JAX_TESTS_XLA_FLAGS"]}


def launch(body, *arguments, **options):
    command = [sys.executable, "-c", LAUNCH.format(body=body), *arguments]
    options = {"capture_output": True, "text": True, "env": ALONE, "timeout": 60, **options}
    return subprocess.run(command, **options)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("a key\n  and a remedy"), "a key and a remedy"),
        (FileNotFoundError("no file x"), "no file x"),
        (Diverged("step 8: loss not finite"), "step 8: loss not finite"),
        (ValueError(), "ValueError"),
        (KeyError("seed"), "KeyError: 'seed' (an error in the program or in a library; --verbosity=1 shows where)"),
        (TypeError("a\nb"), "TypeError: a (an error in the program or in a library; --verbosity=1 shows where)"),
        (MemoryError(), "out of memory (MemoryError); lower config.data.batch_size"),
        (
            jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.\na page"),
            "out of memory (JaxR",
        ),
        (jax.errors.JaxRuntimeError("INTERNAL: x\na page"), "JaxRuntimeError: INTERNAL: x (an error in"),
    ],
)
def test_every_error_is_one_line(error, line):
    text = launching.in_words(error)
    assert text.startswith(line) and "\n" not in text


def test_a_missing_extra_is_no_error_in_the_program():
    text = "this needs P: pip install 'vae_jax[p]'"
    assert launching.in_words(ImportError(text)) == text
    assert "an error in the program" in launching.in_words(ModuleNotFoundError("No module named 'p'", name="p"))


@pytest.mark.parametrize(
    ("body", "code", "line"),
    [
        ("raise KeyError('x')", 1, "error: KeyError: 'x' (an error in the program"),
        ("raise MemoryError", 1, "error: out of memory"),
        (
            "import threading; threading.Thread(target=time.sleep, args=(600,)).start(); raise OSError('disk')",
            1,
            "error: d",
        ),
    ],
    ids=["an error", "memory", "a library's thread that stays"],
)
def test_a_failure_is_one_line_and_leaves_within_seconds(body, code, line):
    done = launch(body)
    assert done.returncode == code and done.stderr.startswith(line) and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
def test_a_signal_outside_the_loop_ends_in_one_line(number):
    """Also where Python would swallow an exception: within a callback of its garbage collector."""
    kill = f"gc.callbacks.append(lambda *_: os.kill(os.getpid(), {int(number)}))"
    done = launch(f"import gc, os; {kill}; gc.collect(); time.sleep(9)")
    assert done.returncode == (130 if number == signal.SIGINT else 75)
    assert (
        done.stderr.strip()
        == f"{number.name}: stopped; run the same command again to continue from the last checkpoint"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
def test_a_signal_is_heard_from_the_first_import_on(number, tmp_path):
    """A module that stands for the long imports: jax, which kills its own process while it is imported."""
    (tmp_path / "jax.py").write_text(f"import os, time; os.kill(os.getpid(), {int(number)}); time.sleep(9)")
    environment = ALONE | {"PYTHONPATH": f"{tmp_path}:{ALONE.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "experiments.train", "--config=vae_digits:smoke"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == (130 if number == signal.SIGINT else 75) and "Traceback" not in done.stderr
    assert done.stderr.strip().startswith(f"{number.name}: stopped")


def test_words_without_dashes_are_refused():
    done = launch("print('ran')", "verbose")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == "error: unknown argument 'verbose': all arguments are flags, as in --config=FILE\n"


def test_an_unknown_flag_is_one_line_without_the_list_of_all():
    done = launch("print('ran')", "--cofnig=x")
    assert done.returncode == 1 and done.stdout == "" and len(done.stderr.splitlines()) == 1


def test_a_platform_that_is_not_there_is_one_line():
    done = launch("print('ran')", env=ALONE | {"JAX_PLATFORMS": "cuda"})
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("error: JAX has no device for JAX_PLATFORMS='cuda'")


def test_letters_that_a_terminal_lacks_are_replaced():
    environment = ALONE | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = launch(r"print('\u221223.03 \xb1 0.21 \u2265 \xe9'); raise ValueError('\xb1')", env=environment)
    assert (done.stdout, done.stderr) == ("-23.03 +- 0.21 >= ?\n", "error: +-\n")


def test_a_stream_that_fails_goes_silent_and_ends_no_run(tmp_path):
    body = (
        "from absl import logging\n"
        "    for i in range(2000): print('line', i); print('line', i, file=sys.stderr); logging.error('line')\n"
        f"    open({str(tmp_path / 'done')!r}, 'w').write('yes')"
    )
    with open("/dev/full", "w") as full:
        done = launch(body, capture_output=False, stdout=full, stderr=full)
    assert done.returncode == 0 and (tmp_path / "done").read_text() == "yes"
    reader, writer = os.pipe()
    os.close(reader)
    done = launch(body.replace("yes", "pipe"), capture_output=False, stdout=writer, stderr=writer)
    os.close(writer)
    assert done.returncode == 0 and (tmp_path / "done").read_text() == "pipe"


def test_streams_of_a_notebook_or_a_test_stay_as_they_are(capsys):
    before = sys.stdout, sys.stderr
    streams.make_lasting()
    assert (sys.stdout, sys.stderr) == before


NO_SIDE_DOORS = """
import json, sys
seen = []
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn",
                 "pickle.find_class"):
        seen.append([event, str(arguments)[:200]])
from vae_jax.runs import train
from vae_jax.configs import vae_digits
from absl import flags
flags.FLAGS(sys.argv[:1])
sys.addaudithook(hook)
train.complete(vae_digits.get_config("smoke").to_dict(), sys.argv[1])
print(json.dumps(seen))
"""


@pytest.mark.slow
def test_training_opens_no_connection_starts_no_program_and_unpickles_nothing(tmp_path):
    command = [sys.executable, "-c", NO_SIDE_DOORS, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, env=ALONE, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == []
