"""The SLURM script under a real SLURM of one node, which the tests start as root in a folder of its own and end."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel")
MISSING = [name for name in PROGRAMS if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"needs SLURM and MUNGE; not found: {', '.join(MISSING)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="starting SLURM needs root"),
]
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
# A job queued again starts once its old credentials have expired: 120 s unless said.
AuthInfo=socket={root}/munge.socket,cred_expire=5
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={host} NodeAddr=127.0.0.1 CPUs=4
PartitionName=main Nodes={host} Default=YES PriorityTier=1
PartitionName=urgent Nodes={host} PriorityTier=2
"""
# In the place of training: saves for a second when told to, and is done when started again.
SAVES = """
import os, signal, sys, time
def save(signum, frame):
    time.sleep(0.5)
    open("saved", "a").write("x")
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
open("started", "a").write("x")
time.sleep(0 if "SLURM_RESTART_COUNT" in os.environ else 60)
"""
ROOT = Path(__file__).parents[2]
TRAIN = (
    "experiments.train",
    "--config=experiments/configs/vae_digits.py:smoke",
    "--config.train.num_steps=20000",
    "--config.train.log_every=50",
    "--config.train.eval_every=1000",
    "--config.train.checkpoint_every=1000",
)


def until(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what() if callable(what) else what}"
        time.sleep(0.1)
    return found


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command[0]}: {done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def slurm():
    """A cluster of one node; its folder. Ended with all that it runs."""
    root = Path(tempfile.mkdtemp(prefix="slurm-"))  # short: the path of a socket has 107 characters at most
    root.chmod(0o755)
    key = root / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    host = socket.gethostname().partition(".")[0]
    conf = root / "slurm.conf"
    conf.write_text(CONF.format(root=root, host=host, ports=ports))
    munge = {name: f"--{name}={root}/munged.{name.split('-')[0]}" for name in ("pid-file", "log-file", "seed-file")}
    old = {name: os.environ.get(name) for name in ("SLURM_CONF", "PATH", "PYTHONPATH", "XLA_FLAGS")}
    path = f"{old['PATH']}:/usr/sbin"
    flags = os.environ["VAE_JAX_TESTS_XLA_FLAGS"]
    os.environ |= {"SLURM_CONF": str(conf), "PATH": path, "PYTHONPATH": str(ROOT), "XLA_FLAGS": flags}
    daemons = []

    def daemon(*command):
        log = (root / f"{command[0]}.log").open("w")
        daemons.append(subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL))

    def logs():
        return "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in root.glob("*.log"))

    try:
        daemon("munged", "-F", "--force", f"--socket={root}/munge.socket", f"--key-file={key}", *munge.values())
        until((root / "munge.socket").exists, logs, 20)
        daemon("slurmctld", "-D", "-c")
        daemon("slurmd", "-D", "-N", host)
        until(lambda: run_quietly("sinfo", "--noheader", "--format=%T").startswith("idle"), logs, 30)
        yield root
    finally:
        for job in run_quietly("squeue", "--noheader", "--format=%A").split():
            run_quietly("scancel", "--signal=KILL", "--full", job)
            run_quietly("scancel", job)
        for process in reversed(daemons):
            process.terminate()
        for process in daemons:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        for name, value in old.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        shutil.rmtree(root, ignore_errors=True)


def run_quietly(*command):
    return subprocess.run(command, capture_output=True, text=True).stdout


def submit(*command, options=(), cwd=ROOT, **environment):
    script = ROOT / "experiments/launch/slurm.sbatch"
    output = f"--output={Path(os.environ['SLURM_CONF']).parent}/%j.out"
    sbatch = ("sbatch", "--parsable", output, *options, script, *command)
    return run(*sbatch, cwd=cwd, env={**os.environ, **environment}).strip()


def job(number):
    """What SLURM says of a job: {JobState: ..., Restarts: ..., ExitCode: ...}."""
    return dict(item.split("=", 1) for item in run("scontrol", "show", "job", number).split() if "=" in item)


def ended(number, output, seconds=60):
    """The job's last (state, restarts, exit code), once it is neither running nor waiting."""

    def last():
        now = job(number)
        return now if now["JobState"] not in ("PENDING", "RUNNING", "COMPLETING") else None

    def what():
        return f"{job(number)}\n{(output / f'{number}.out').read_text()}"

    found = until(last, what, seconds)
    return found["JobState"], int(found["Restarts"]), found["ExitCode"]


def metrics(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.endswith(("_per_s", "seconds"))} for line in lines]


def test_a_pre_empted_training_is_queued_again_and_is_the_uninterrupted_run(slurm, tmp_path):
    cache = {  # three starts, one compilation
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    run(sys.executable, "-m", *TRAIN, f"--workdir={tmp_path / 'whole'}", cwd=ROOT, env={**os.environ, **cache})
    workdir = tmp_path / "preempted"
    number = submit(sys.executable, "-m", *TRAIN, f"--workdir={workdir}", **cache)
    until(lambda: list(workdir.glob("checkpoints/[0-9]*")), "the first checkpoint", 300)
    run("scancel", "--signal=TERM", number)
    assert ended(number, slurm, 300) == ("COMPLETED", 1, "0:0"), (slurm / f"{number}.out").read_text()[-3000:]
    output = (slurm / f"{number}.out").read_text()
    assert "start 1: ended with code 75" in output and "start 2: ended with code 0" in output
    assert (workdir / "results.json").exists()
    assert metrics(workdir) == metrics(tmp_path / "whole")


def started(folder):
    until((folder / "started").exists, "the start")
    return folder / "started"


def test_a_pre_emption_by_slurm_itself_lets_the_run_save(slurm, tmp_path):
    number = submit(sys.executable, "-c", SAVES, cwd=tmp_path, options=["--ntasks=1"])
    started(tmp_path)
    urgent = run("sbatch", "--parsable", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=true")
    assert ended(number, slurm) == ("COMPLETED", 1, "0:0")
    assert ended(urgent.strip(), slurm)[0] == "COMPLETED"
    assert (tmp_path / "saved").read_text() == "x" and (tmp_path / "started").read_text() == "xx"


def test_scontrol_requeue_lets_the_run_save(slurm, tmp_path):
    number = submit(sys.executable, "-c", SAVES, cwd=tmp_path)
    started(tmp_path)
    run("scontrol", "requeue", number)
    assert ended(number, slurm) == ("COMPLETED", 1, "0:0")
    assert (tmp_path / "saved").read_text() == "x"


def test_a_cancelled_job_saves_and_stays_cancelled(slurm, tmp_path):
    number = submit(sys.executable, "-c", SAVES, cwd=tmp_path)
    started(tmp_path)
    run("scancel", number)
    assert ended(number, slurm)[:2] == ("CANCELLED", 0)
    until((tmp_path / "saved").exists, "the checkpoint", 10)
    time.sleep(1)
    assert job(number)["JobState"] == "CANCELLED"


def test_any_other_code_is_an_error_and_is_not_tried_again(slurm):
    assert ended(submit("sh", "-c", "exit 3"), slurm) == ("FAILED", 0, "3:0")


def test_the_requeues_are_limited(slurm):
    number = submit("sh", "-c", "exit 75", MAX_RESTARTS="1")
    assert ended(number, slurm) == ("FAILED", 1, "75:0")
    assert "MAX_RESTARTS=1 is reached" in (slurm / f"{number}.out").read_text()


def test_tasks_that_save_one_after_the_other_all_save(slurm, tmp_path):
    script = SAVES.replace("time.sleep(0.5)", "time.sleep(0.5 + 2 * int(os.environ['SLURM_PROCID']))")
    number = submit(sys.executable, "-c", script, cwd=tmp_path, options=["--ntasks=2"])
    until(lambda: started(tmp_path).read_text() == "xx", "both")
    run("scancel", "--signal=TERM", number)
    assert ended(number, slurm) == ("COMPLETED", 1, "0:0")
    assert (tmp_path / "saved").read_text() == "xx"
    assert "--distributed=auto" in (slurm / f"{number}.out").read_text()
