"""Break runs in the ways in which they break in practice, and measure what they survive.

    python -m experiments.benchmarks.faults [--kills=20]
        [--only=kill,stop,streams,lock,sweep,disk,damage,hostile,processes]

Every fault happens to `experiments.train` (or sweep) in processes of its own, and the same command is run again. It
must continue from the last whole checkpoint and end with the numbers of an undisturbed run. Prints a Markdown table;
the exit code is 1 if a requirement is broken. Filling a disk needs root (a small tmpfs). About a quarter of an hour on
two idle cores.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import app, flags

from vae_jax.runs import writers
from vae_jax.training import signals

KILLS = flags.DEFINE_integer("kills", 20, "How often to kill -9.")
SEED = flags.DEFINE_integer("seed", 0, "Of the random moments.")
PATIENCE_S = 600  # a process that has not done by then what it should is hanging
NUM_STEPS, EVERY = 3000, 60
CONFIG = "--config=experiments/configs/vae_digits.py:smoke"
JOB = (
    CONFIG,
    f"--config.train.num_steps={NUM_STEPS}",
    "--config.train.log_every=20",
    "--config.train.eval_every=200",
    f"--config.train.checkpoint_every={EVERY}",
)
SHORT_JOB = (  # eight devices share the cores of the machine: a step is an exchange between threads that wait
    CONFIG,
    "--config.train.num_steps=120",
    "--config.train.log_every=10",
    "--config.train.eval_every=40",
    "--config.train.checkpoint_every=20",
)
A_BUG = """
import runpy
from vae_jax.evaluation import likelihood
likelihood.validation = lambda *_, **__: lambda *_, **__: {}["a bug"]
runpy.run_module("experiments.train", run_name="__main__", alter_sys=True)
"""


class Row(NamedTuple):
    fault: str
    codes: list
    seconds: list  # from the fault to the end of the process
    lost: list  # steps
    same: str  # are the curves those of an undisturbed run?
    message: str
    broken: str = ""

    def __str__(self):
        codes = ", ".join(f"{code} ({self.codes.count(code)}x)" for code in sorted(set(self.codes)))
        seconds = _range(self.seconds, "{:.1f}")
        return f"| {self.fault} | {codes} | {seconds} | {_range(self.lost, '{}')} | {self.same} | {self.message} |"


def _range(values, form):
    if not values:
        return ""
    low, high = form.format(min(values)), form.format(max(values))
    return low if low == high else f"{low} to {high}"


class Launched:
    """One process of a run in `workdir`, and a file with its output."""

    def __init__(
        self, workdir, *arguments, module="experiments.train", devices=1, code=None, cache=True, stderr=None, before=()
    ):
        self.workdir = Path(workdir)
        self.workdir.parent.mkdir(parents=True, exist_ok=True)
        self._log = tempfile.NamedTemporaryFile("w", suffix=".log", delete=False)
        environment = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu"}
        if cache:  # most of a restart is compilation, and there are many
            environment["JAX_COMPILATION_CACHE_DIR"] = str(Path(tempfile.gettempdir()) / "cache")
            environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        self.process = subprocess.Popen(
            [*before, sys.executable, *(["-c", code] if code else ["-m", module]), f"--workdir={workdir}", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=stderr or self._log,
            env={**os.environ, **environment},
        )
        self.started = time.time()

    def words(self) -> str:
        return Path(self._log.name).read_text().replace("\r", "\n")

    def until(self, condition) -> bool:
        """Wait for `condition()`; return False if the process ends before."""
        while not condition():
            if self.process.poll() is not None:
                return False
            if time.time() > self.started + PATIENCE_S:
                self.process.kill()
                raise TimeoutError(f"not within {PATIENCE_S} s; it said: {self.words()[-1000:]}")
            time.sleep(0.002)
        return self.process.poll() is None

    def hit(self, number):
        """Send a signal and wait for the end. Return the exit code and the seconds until then."""
        self.process.send_signal(number)
        return self.end()

    def end(self):
        began = time.time()
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return f"hung for {PATIENCE_S} s", PATIENCE_S
        return self.process.returncode, time.time() - began

    @property
    def resumed(self):
        """The step from which it has continued; None if it began at 0 or has not come so far."""
        match = re.search(r"resumed from the checkpoint of step (\d+)", self.words())
        return int(match[1]) if match else None

    @property
    def writing(self) -> bool:
        """True while it writes a checkpoint."""
        try:
            return any(
                p.stat().st_ctime > self.started for p in self.workdir.glob("checkpoints/*orbax-checkpoint-tmp*")
            )
        except FileNotFoundError:
            return False

    @property
    def message(self) -> str:
        """The line that a user reads last."""
        lines = [line for line in self.words().splitlines() if line.strip() and not re.search(r"\d+%\|", line)]
        ends = [line for line in lines if line.startswith(("error:", "SIG"))]
        last = ends[-1] if ends else (lines[-1] if lines else "")
        return re.sub(r"/\S*/", ".../", last).replace("|", "/")[:160]


def saved(workdir) -> list:
    return sorted(int(path.name) for path in Path(workdir).glob("checkpoints/[0-9]*") if path.name.isdigit())


def last_saved(workdir):
    return max(saved(workdir), default=0)


def last_logged(workdir):
    try:
        lines = writers.read_metrics(Path(workdir) / "metrics.jsonl")
    except (ValueError, FileNotFoundError):  # it is being replaced
        return 0
    return lines[-1]["step"] if lines else 0


def curve(workdir):
    """Return the lines of metrics.jsonl without the timings."""
    lines = writers.read_metrics(Path(workdir) / "metrics.jsonl")
    return [{name: value for name, value in line.items() if name != "train/steps_per_s"} for line in lines]


def difference(workdir, other):
    """Return the largest relative difference of a loss between two curves; infinite if their steps differ."""
    a, b = curve(workdir), curve(other)
    if [line["step"] for line in a] != [line["step"] for line in b]:
        return np.inf
    return max(abs(x["train/loss"] / y["train/loss"] - 1) for x, y in zip(a, b, strict=True))


def files(workdir):
    return {path: path.stat().st_size for path in sorted(Path(workdir, "checkpoints").rglob("*")) if path.is_file()}


def finish(workdir, whole, job=JOB, **options):
    """Run to the end. Return the process, "yes" if the curve is that of `whole`, and a text of what is broken."""
    run = Launched(workdir, *job, **options)
    code, _ = run.end()
    same = code == 0 and curve(workdir) == curve(whole)
    return run, "yes" if same else "NO", "" if same else f"exit code {code}, curve equal: {same}; {run.message}"


def kill(root, whole, rng):
    """Use kill -9 at random moments, and the same command again after each."""
    moments = {"start-up": [], "training": [], "a checkpoint's writing": []}
    broken, workdir, expected, torn = [], root / "kill0", 0, 0
    began = time.time()
    usual = Launched(root / "usual", *JOB)
    usual.until(lambda: last_logged(root / "usual") > 0)
    usual.hit(signal.SIGKILL)
    start_up_s = time.time() - began
    done = 0
    while done < KILLS.value or not (workdir / "results.json").exists():
        run = Launched(workdir, *JOB)
        moment = list(moments)[done % 3] if done < KILLS.value else None
        at_most = rng.uniform()
        if moment == "start-up":
            time.sleep(at_most * start_up_s)
        elif moment == "training":
            run.until(lambda where=workdir, step=expected: last_logged(where) > step)
            time.sleep(at_most)
        elif moment:
            run.until(lambda run=run: run.writing)
            time.sleep(at_most * 0.01)
        code, seconds = run.hit(signal.SIGKILL) if moment else run.end()
        if run.resumed not in (None, expected):
            broken.append(f"resumed from {run.resumed}, the last whole checkpoint is {expected}")
        if code == -signal.SIGKILL:
            torn += moment == "a checkpoint's writing" and run.writing
            expected = last_saved(workdir)
            moments[moment].append((code, seconds, last_logged(workdir) - expected))
            done += 1
            continue
        if code != 0 or curve(workdir) != curve(whole):
            broken.append(f"after the kills exit code {code}, curve equal: {curve(workdir) == curve(whole)}")
            break
        if done < KILLS.value:
            workdir, expected = root / f"kill{done}", 0
    left = list(workdir.glob("checkpoints/*tmp*"))
    for moment, hits in moments.items():
        if hits:
            codes, seconds, lost = (list(column) for column in zip(*hits, strict=True))
            note = f"{torn} times a torn one was there; {len(left)} left at the end" if "writing" in moment else ""
            yield Row(
                f"kill -9 during {moment}", codes, seconds, lost, "NO" if broken else "yes", note, "; ".join(broken)
            )


def stop(root, whole, rng):
    """Send each signal that stops a run, at every stage; one run goes through all stages."""
    for number, expected in signals.EXIT_CODES.items():
        workdir, rows = root / number.name, []
        stages = {
            "the imports": (lambda run: time.time() > run.started + 0.4, 0.5),
            "start-up": (lambda run, w=workdir: (w / "config.json").exists(), 3.0),
            "compilation": (lambda run: "training vae" in run.words(), 1.5),
            "training": (lambda run, w=workdir: last_logged(w) > last_saved(w), 1.0),
            "evaluation": (lambda run: "IW-" in run.words(), 0.0),
            "drawing": (lambda run, w=workdir: (w / "results.json").exists(), 0.0),
        }
        for stage, (reached, more) in stages.items():
            run = Launched(workdir, *JOB, cache=stage != "compilation")
            if run.until(lambda run=run, reached=reached: reached(run)):
                time.sleep(rng.uniform(0, more))
            code, seconds = run.hit(number)
            lost = last_logged(workdir) - last_saved(workdir)
            lines = len([line for line in run.words().splitlines() if line.startswith(number.name)])
            broken = "" if (code, lost, lines) == (expected, 0, 1) else f"exit code {code}, {lost} lost, {lines} lines"
            broken += " with a traceback" * ("Traceback" in run.words())
            rows.append(Row(f"{number.name} during {stage}", [code], [seconds], [lost], "", run.message, broken))
        _, same, broken = finish(workdir, whole)
        yield from (row._replace(same=same, broken="; ".join(filter(None, [row.broken, broken]))) for row in rows)


def streams(root, whole, rng):
    """Make standard error fail: a closed pipe, as by `2>&1 | head`, and a full disk."""
    del rng
    reader, writer = os.pipe()
    full = os.open("/dev/full", os.O_WRONLY)
    for fault, stream in (("standard error is a closed pipe", writer), ("standard error is on a full disk", full)):
        run = Launched(root / fault.replace(" ", "-"), *JOB, stderr=stream)
        os.close(stream)
        if stream == writer:
            os.close(reader)
        code, seconds = run.end()
        same = code == 0 and curve(run.workdir) == curve(whole)
        broken = "" if same else f"exit code {code}"
        yield Row(fault, [code], [seconds], [0], "yes" if same else "NO", "continues to its end, in silence", broken)


def lock(root, whole, rng):
    """Start a second run in the workdir of one that trains, and evaluations of it."""
    del rng
    workdir = root / "locked"
    first = Launched(workdir, *JOB, "--config.train.num_steps=20000")
    first.until(lambda: last_saved(workdir) > 0)
    began = time.time()
    second = Launched(workdir, *JOB, "--config.train.num_steps=20000")
    code, _ = second.end()
    named = f"in use by process {first.process.pid} " in second.words()
    broken = "" if code == 1 and named else f"exit code {code}"
    yield Row("a second run in the same workdir", [code], [time.time() - began], [], "", second.message, broken)
    codes = []
    while first.process.poll() is None and len(codes) < 10:
        codes.append(Launched(workdir, "--nofigures", module="experiments.evaluate").end()[0])
    first.hit(signal.SIGTERM)
    broken = "" if codes and not any(codes) else f"exit codes {codes}"
    yield Row("evaluate while another process trains", codes, [], [], "", "the newest checkpoint is measured", broken)
    pair = [Launched(root / "pair", *JOB) for _ in range(2)]
    codes = sorted(run.end()[0] for run in pair)
    same = curve(root / "pair") == curve(whole)
    broken = "" if same and codes in ([0, 1], [0, 0]) else f"exit codes {codes}, curve equal: {same}"
    message = next((run.message for run in pair if run.process.returncode), "")
    yield Row("two equal runs at once", codes, [], [0], "yes" if same else "NO", message, broken)


def sweep(root, whole, rng):
    del whole
    options = {"module": "experiments.sweep"}
    job = (*JOB, "--sweep=seed=0:3", "--config.train.num_steps=2000")
    members = [f"members/seed={seed}" for seed in range(3)]
    code, _ = Launched(root / "sweep-whole", *job, **options).end()
    run = Launched(root / "sweep", *job, **options)
    run.until(lambda: last_logged(root / "sweep" / members[0]) > 0)
    time.sleep(rng.uniform(0, 0.5))
    stopped, seconds = run.hit(signal.SIGTERM)
    reached = last_logged(root / "sweep" / members[0])
    again = Launched(root / "sweep", *job, **options)
    codes = [code, again.end()[0]]
    same = codes == [0, 0] and all(curve(root / "sweep" / m) == curve(root / "sweep-whole" / m) for m in members)
    lost = reached - (again.resumed or 0)
    broken = "" if same and stopped == 75 and lost == 0 else f"exit codes {stopped}, {codes}, {lost} lost, {same}"
    fault = "SIGTERM to a sweep of 3 members"
    yield Row(fault, [stopped], [seconds], [lost], "yes" if same else "NO", run.message, broken)


def disk(root, whole, rng):
    del rng
    fault, mount = "disk full (tmpfs of 8 MB)", root / "disk"
    mount.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", mount], capture_output=True, text=True)
    if mounted.returncode:
        yield Row(fault, [], [], [], "", f"skipped: {mounted.stderr.strip()[:80]}")
        return
    try:
        run = Launched(mount / "run", *JOB)
        run.until(lambda: last_saved(mount / "run") > 0)
        began = time.time()
        with (mount / "ballast").open("wb") as file:
            try:
                while run.process.poll() is None:  # what old checkpoints leave, too
                    os.write(file.fileno(), b"\0" * 4096)
            except OSError:
                while run.process.poll() is None:
                    time.sleep(0.01)
                    try:
                        os.write(file.fileno(), b"\0" * 4096)
                    except OSError:
                        continue
        code, seconds = run.process.returncode, time.time() - began
        (mount / "ballast").unlink()
        kept, lost = last_saved(mount / "run"), last_logged(mount / "run") - last_saved(mount / "run")
        again, same, broken = finish(mount / "run", whole)
        if (code, again.resumed) != (1, kept) or not kept:
            broken = f"exit code {code}, resumed from {again.resumed} of {kept}; {broken}"
        yield Row(fault, [code], [seconds], [lost], same, run.message, broken)
    finally:
        subprocess.run(["umount", mount], check=False)


def damage(root, whole, rng):
    """Damage files: the newest checkpoint, then all."""
    run = Launched(root / "stopped", *JOB)
    run.until(lambda: len(saved(root / "stopped")) >= 2)
    run.hit(signal.SIGKILL)

    def spoil(step, how, workdir):
        file = max(
            (path for path in files(workdir) if f"checkpoints/{step}/" in str(path)), key=lambda p: p.stat().st_size
        )
        content = bytearray(file.read_bytes())
        if how == "a file removed":
            file.unlink()
        elif how == "a file cut in half":
            file.write_bytes(content[: len(content) // 2])
        else:
            content[rng.integers(len(content))] ^= 1 << rng.integers(8)
            file.write_bytes(content)

    for how in ("a file cut in half", "a bit flipped", "a file removed"):
        workdir = root / how.replace(" ", "-")
        shutil.copytree(root / "stopped", workdir)
        *_, before, newest = saved(workdir)
        spoil(newest, how, workdir)
        if how == "a bit flipped":
            there = files(workdir)
            looked = Launched(workdir, "--nofigures", module="experiments.evaluate")
            code, seconds = looked.end()
            kept = files(workdir) == there
            broken = "" if code == 0 and kept else f"exit code {code}, files kept: {kept}"
            note = "nothing deleted; the one before is measured" if kept else "FILES CHANGED"
            yield Row(f"newest checkpoint, {how}: evaluate", [code], [seconds], [], "", note, broken)
        lost = last_logged(workdir) - before
        again, same, broken = finish(workdir, whole)
        if again.resumed != before:
            broken = f"resumed from {again.resumed}, not {before}; {broken}"
        said = next((line for line in again.words().splitlines() if "damaged" in line), "")
        message = re.sub(r"^.*?\] ", "", re.sub(r"/\S*/", ".../", said))[:120].replace("|", "/")
        yield Row(f"newest checkpoint, {how}", [again.process.returncode], [], [lost], same, message, broken)
    yield _unreadable(root, whole)
    for step in saved(root / "stopped"):
        spoil(step, "a file cut in half", root / "stopped")
    there = files(root / "stopped")
    run = Launched(root / "stopped", *JOB)
    code, seconds = run.end()
    kept = files(root / "stopped") == there
    lines = len([line for line in run.words().splitlines() if "damaged" in line])
    broken = "" if code == 1 and kept and lines <= 3 else f"exit code {code}, files kept: {kept}, {lines} lines"
    yield Row("all checkpoints damaged", [code], [seconds], [], "", run.message, broken)


def _unreadable(root, whole):
    """Make the newest checkpoint unreadable for a moment. The run must not touch it."""
    fault, workdir = "newest checkpoint unreadable for the moment", root / "unreadable"
    if not (shutil.which("setpriv") and os.getuid() == 0):
        return Row(fault, [], [], [], "", "skipped: needs root and setpriv")
    shutil.copytree(root / "stopped", workdir)
    newest = workdir / "checkpoints" / str(last_saved(workdir))
    there, lost = files(workdir), last_logged(workdir) - last_saved(workdir)
    newest.chmod(0)
    drop = "-dac_override,-dac_read_search"  # root without the right to read everything
    run = Launched(workdir, *JOB, before=("setpriv", f"--inh-caps={drop}", f"--bounding-set={drop}"))
    code, seconds = run.end()
    newest.chmod(0o755)
    kept = files(workdir) == there
    again, same, broken = finish(workdir, whole)
    if (code, kept, again.resumed) != (1, True, int(newest.name)):
        broken = f"exit code {code}, files kept: {kept}, resumed from {again.resumed}; {broken}"
    return Row(fault, [code], [seconds], [lost], same, run.message, broken)


def hostile(root, whole, rng):
    """Prepare a data folder that names a class of a module which Python could import."""
    del whole, rng
    data, fault = root / "data" / "tiny" / "1.0.0", "a data folder that names code"
    data.mkdir(parents=True)
    (root / "hostile.py").write_text(f"open({str(root / 'ran')!r}, 'w').close()\n")
    features = {"pythonClassName": "hostile.Features", "content": ""}
    info = {"name": "tiny", "version": "1.0.0", "fileFormat": "array_record", "splits": []}
    (data / "features.json").write_text(json.dumps(features))
    (data / "dataset_info.json").write_text(json.dumps(info))
    job = (CONFIG, "--config.data.name=tiny", f"--config.data.path={root / 'data'}")
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    run = Launched(root / "hostile", *job, before=("env", f"PYTHONPATH={path}"))
    code, seconds = run.end()
    left = [name for name in ("ran", "hostile") if (root / name).exists()]
    broken = "" if code == 1 and not left and "hostile.Features" in run.words() else f"exit code {code}, left: {left}"
    yield Row(fault, [code], [seconds], [], "", run.message, broken)


def processes(root, whole, rng):
    """Break one of two processes of four devices each, and read the last words of the other."""
    del whole, rng
    one = root / "one-process"
    code, _ = Launched(one, *SHORT_JOB, devices=8).end()
    workdir, rows = root / "two", []

    def pair(where=workdir, code=None):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"--distributed=127.0.0.1:{free.getsockname()[1]},2,"
        return [Launched(where, *SHORT_JOB, f"{address}{i}", devices=4, code=code if i else None) for i in range(2)]

    def row(fault, struck, other, expected, lost=None, seconds=None):
        """Wait for the other process after one has ended."""
        code, after = other.end()
        lost = last_logged(workdir) - last_saved(workdir) if lost is None else lost
        broken = "" if code in expected else f"the other ended with {code}; "
        broken += "" if len(other.message) and "@ " not in other.words() else "a page of C++"
        rows.append(
            Row(fault, [struck, code], [after if seconds is None else seconds], [lost], "", other.message, broken)
        )

    for victim in (1, 0):
        runs = pair()
        expected = last_saved(workdir)
        runs[0].until(lambda step=expected: last_saved(workdir) > step)
        code_of_victim, _ = runs[victim].hit(signal.SIGKILL)
        name = "the first" if victim == 0 else "the second"
        row(f"kill -9 of {name} of two processes", code_of_victim, runs[1 - victim], (1, -6))
        resumed = [run.resumed for run in runs]
        if resumed != [expected or None] * 2:
            rows[-1] = rows[-1]._replace(broken=f"{rows[-1].broken} resumed from {resumed}, not {expected}")
    runs = pair()
    time.sleep(1)
    runs[1].until(lambda: "training vae" in runs[1].words())
    code_of_victim, _ = runs[1].hit(signal.SIGKILL)
    row("kill -9 of the second while both start", code_of_victim, runs[0], (1, -6))
    runs = pair()
    expected = last_saved(workdir)
    runs[0].until(lambda: last_logged(workdir) > expected)
    code_of_victim, seconds = runs[1].hit(signal.SIGTERM)
    row("SIGTERM to one of two processes", code_of_victim, runs[0], (75,), seconds=seconds)
    if code_of_victim != 75 or rows[-1].lost != [0]:
        rows[-1] = rows[-1]._replace(broken=f"exit code {code_of_victim}, {rows[-1].lost} lost")
    shutil.copytree(workdir, root / "one-device")
    runs = pair()
    ends = [run.end() for run in runs]
    far = difference(workdir, one)
    ok = [end[0] for end in ends] == [0, 0] and far < 1e-4
    same = f"within {far:.0e} of one process with 8 devices"
    broken = "" if ok else f"exit codes {ends}, difference {far}; {runs[0].message}"
    yield from (row._replace(same=same, broken="; ".join(filter(None, [row.broken, broken]))) for row in rows)
    yield Row("two processes to their end", [end[0] for end in ends], [ends[1][1]], [0], same, "", broken)
    run = Launched(root / "one-device", *SHORT_JOB)
    ended, _ = run.end()
    far = difference(root / "one-device", one)
    broken = "" if ended == 0 and code == 0 and far < 1e-4 else f"exit code {ended}, difference {far}"
    yield Row("begun on 8 devices, continued on 1", [ended], [], [0], f"within {far:.0e}", "", broken)
    runs = pair(root / "bug", code=A_BUG)
    crashed, _ = runs[1].end()
    code, seconds = runs[0].end()
    broken = "" if (crashed, code) in ((1, 1), (1, -6)) else f"exit codes {crashed}, {code}"
    yield Row("an exception in one of two processes", [crashed, code], [seconds], [], "", runs[0].message, broken)


FAULTS = {f.__name__: f for f in (kill, stop, streams, lock, sweep, disk, damage, hostile, processes)}
ONLY = flags.DEFINE_list("only", list(FAULTS), f"Which of {', '.join(FAULTS)}.")


def main(argv):
    del argv
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup the runs would rightly ignore it
    rng, rows = np.random.default_rng(SEED.value), []
    with tempfile.TemporaryDirectory() as root:
        root = Path(root)
        tempfile.tempdir = str(root)
        if set(ONLY.value) - {"sweep", "hostile", "processes"}:
            whole = Launched(root / "whole", *JOB)
            if whole.end()[0] != 0:
                sys.exit(f"error: the undisturbed run failed: {whole.message}")
        for name in ONLY.value:
            for row in FAULTS[name](root, root / "whole", rng):
                rows.append(row)
                print(f"{row} {row.broken and 'BROKEN: '}{row.broken}", file=sys.stderr, flush=True)
    print("| fault | exit codes | ended after, s | steps lost | same numbers | message |\n|---|---|---|---|---|---|")
    print(*rows, sep="\n")
    if any(row.broken for row in rows):
        sys.exit("\n".join(f"BROKEN: {row.fault}: {row.broken}" for row in rows if row.broken))


if __name__ == "__main__":
    app.run(main)
