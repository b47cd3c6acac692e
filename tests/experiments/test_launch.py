"""The recipes for queues that are not here: their syntax, what they promise, and what the TPU script decides."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

LAUNCH = Path(__file__).parents[2] / "experiments" / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])
# In the place of gcloud: a TPU that is pre-empted in its first run, told to save in its second, and done in its third.
GCLOUD = """#!/bin/bash
cd "${0%/*}"
case "$*" in
*" describe "*) cat state ;;
*" create "*) echo ACTIVE >state; echo create >>calls ;;
*" delete "*) rm -f state; echo delete >>calls ;;
*" scp "*) ;;
*mountpoint*) echo prepare >>calls ;;
*flock*)
    echo run >>calls
    said=$(grep -o 'vae_jax-[-0-9]*: code' <<<"$*")
    eval "$(sed -n "$(grep -c run calls)p" runs)"
    ;;
esac
"""


def test_there_are_scripts():
    assert {path.name for path in SCRIPTS} == {"slurm.sbatch", "tpu_vm.sh"}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_shell_scripts_parse(path):
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(path):
    done = subprocess.run(["shellcheck", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_jobset_agrees_with_itself():
    jobset = yaml.safe_load((LAUNCH / "jobset.yaml").read_text())
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (replicated,) = jobset["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    variables = {item["name"]: item["value"] for item in container["env"]}
    assert job["completionMode"] == "Indexed"
    assert job["parallelism"] == job["completions"] == int(variables["COUNT"])
    name = jobset["metadata"]["name"]
    assert variables["COORDINATOR"].split(":")[0] == f"{name}-{replicated['name']}-0-0.{name}"
    assert pod["restartPolicy"] == "Never"  # else podFailurePolicy is refused
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    saved, _, failed = job["podFailurePolicy"]["rules"]
    assert saved["action"] == "Ignore" and saved["onExitCodes"]["values"] == [75]
    assert failed["action"] == "FailJob" and failed["onExitCodes"]["operator"] == "NotIn"
    assert failed["onExitCodes"]["values"] == sorted(failed["onExitCodes"]["values"])  # as Kubernetes wants them
    assert {rule["onExitCodes"]["containerName"] for rule in (saved, failed)} == {container["name"]}
    script = container["command"][-1]
    assert subprocess.run(["sh", "-n", "-c", script]).returncode == 0
    used = set(re.findall(r"\$(\w+)", script))
    assert used == {*variables, "JOB_COMPLETION_INDEX"}


def tpu_vm(folder, *runs):
    """The script's end and what it asked of gcloud, where the run ends as `runs` say, one after the other."""
    program = folder / "gcloud"
    program.write_text(GCLOUD)
    program.chmod(0o755)
    (folder / "runs").write_text("\n".join(runs) + "\n")
    options = {"PROJECT": "p", "ZONE": "z", "ACCELERATOR": "a", "VERSION": "v", "NFS": "n:/", "POLL": "0.01"}
    (folder / "git").write_text("#!/bin/sh\n")
    (folder / "git").chmod(0o755)
    done = subprocess.run(
        ["bash", str(LAUNCH / "tpu_vm.sh"), "name", "python3", "-m", "experiments.train"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **options, "PATH": f"{folder}:{os.environ['PATH']}", "TMPDIR": str(folder)},
    )
    return done, (folder / "calls").read_text().split()


def test_a_tpu_is_made_anew_after_a_pre_emption_and_the_run_goes_on_to_its_end(tmp_path):
    done, calls = tpu_vm(
        tmp_path, "echo SUSPENDED >state; exit 255", 'echo "$said 75"', 'echo "$said 0"; echo "$said 0"'
    )
    assert done.returncode == 0, done.stderr
    assert calls == "create prepare run delete create prepare run prepare run delete".split()


def test_a_peer_that_fails_because_of_a_pre_emption_is_no_error(tmp_path):
    done, calls = tpu_vm(tmp_path, 'echo "$said 1"; echo SUSPENDING >state; exit 1', 'echo "$said 0"')
    assert done.returncode == 0, done.stderr
    assert calls == "create prepare run delete create prepare run delete".split()


def test_what_a_program_prints_is_not_its_exit_code(tmp_path):
    done, calls = tpu_vm(tmp_path, "echo 'exit code 75'; echo 'vae_jax-1-2-3: code 75'; echo \"$said 1\"; exit 1")
    assert done.returncode == 1 and "ended with code(s) 1," in done.stderr
    assert calls == "create prepare run delete".split()


def test_an_error_ends_the_loop_and_the_tpu(tmp_path):
    done, calls = tpu_vm(tmp_path, 'echo "$said 0"; echo "$said 1"; exit 1')
    assert done.returncode == 1 and "ended with code(s) 0 1" in done.stderr
    assert calls == "create prepare run delete".split()
