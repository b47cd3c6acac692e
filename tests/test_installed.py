"""The wheel: what it contains, and that a config is found by name from anywhere."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FIND = """
from pathlib import Path
import vae_jax.configs
from vae_jax.configs import iwae_mnist
from vae_jax.runs import configs
assert iwae_mnist.get_config() == configs.find("iwae_mnist")
print(Path(vae_jax.__file__).parents[1])
print(Path(iwae_mnist.__file__).parent)
print(configs.find("vae_mnist:smoke").train.num_steps)
"""
HELP = """
import sys
from vae_jax.runs import commands
sys.argv = ["vae-jax", "train", "--config=vae_mnist:smoke", "--help"]
try:
    commands.main()
except SystemExit as end:
    assert not end.code, end
assert "jax" not in sys.modules and "vae_jax.commands.sweep" not in sys.modules
"""


def find(folder, elsewhere):
    """Import a config in a process whose working directory is `elsewhere`; return the lines that it prints."""
    return run(FIND, folder, elsewhere).split()


def run(code, folder, elsewhere):
    environment = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run([sys.executable, "-c", code], cwd=elsewhere, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_of_a_checkout_explains_a_config_before_jax_is_imported(tmp_path):
    shown = run(HELP, ROOT, tmp_path)
    assert "\n  train.num_steps " in shown and "--workdir" in shown


def test_a_checkout_has_its_configs(tmp_path):
    assert find(ROOT, tmp_path) == [str(ROOT), str(ROOT / "experiments" / "configs"), "20"]


def test_a_wheel_has_its_configs_and_no_package_named_experiments(tmp_path):
    pytest.importorskip("setuptools", "77", "builds the wheel")
    source, site = tmp_path / "source", tmp_path / "site"
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("vae_jax", "experiments"):
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-c", "from setuptools import build_meta; print(build_meta.build_wheel('.'))"]
    done = subprocess.run(build, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    with zipfile.ZipFile(source / done.stdout.splitlines()[-1]) as wheel:
        wheel.extractall(site)
    assert {path.suffix or path.name for path in site.iterdir()} == {"vae_jax", ".dist-info"}
    files = {path.relative_to(ROOT / "vae_jax").as_posix() for path in (ROOT / "vae_jax").rglob("*.py")}
    files |= {f"configs/{path.name}" for path in (ROOT / "experiments" / "configs").glob("*.py")}
    files |= {f"commands/{path.name}" for path in (ROOT / "experiments").glob("*.py")}
    assert {path.relative_to(site / "vae_jax").as_posix() for path in (site / "vae_jax").rglob("*.py")} == files
    templates = {path.name for path in (ROOT / "vae_jax" / "runs" / "templates").iterdir()}
    assert {path.name for path in (site / "vae_jax" / "runs" / "templates").iterdir()} == templates != set()
    assert find(site, tmp_path) == [str(site), str(site / "vae_jax" / "configs"), "20"]
    (script,) = site.glob("*.dist-info/entry_points.txt")
    assert "vae-jax = vae_jax.runs.commands:main" in script.read_text()
    assert run(HELP, site, tmp_path) == run(HELP, ROOT, tmp_path)


def test_every_package_is_installed():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = [path.parent.relative_to(ROOT) for path in (ROOT / "vae_jax").rglob("*.py")]
    assert sorted(listed) == sorted(
        {".".join(folder.parts) for folder in folders} | {"vae_jax.commands", "vae_jax.configs"}
    )
