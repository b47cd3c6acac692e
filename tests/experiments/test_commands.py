"""The console command: it lists what there is, starts one launcher, and imports nothing else."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vae_jax.runs import commands

ROOT = Path(__file__).parents[2]
LIGHT = {"absl", "pathlib", "os", "vae_jax.runs.launching", "vae_jax.commands.comparisons"}  # none needs JAX
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


def launchers():
    return {path.stem for path in (ROOT / "experiments").glob("*.py") if "app.run(" in path.read_text()}


def vae_jax(*arguments, cwd, module="vae_jax"):
    command = [sys.executable, "-X", "importtime", "-m", module, *arguments]
    done = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True)
    words = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    return done.returncode, done.stdout, words, imported


def test_every_launcher_is_a_command():
    assert set(commands.NAMES) == launchers()


@pytest.mark.parametrize("name", commands.NAMES)
def test_a_launcher_imports_nothing_heavy_before_its_flags_are_parsed(name):
    body = ast.parse((ROOT / "experiments" / f"{name}.py").read_text()).body
    names = {f"{node.module}.{alias.name}" for node in body if isinstance(node, ast.ImportFrom) for alias in node.names}
    names |= {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
    assert not [name for name in names if name not in LIGHT and name.partition(".")[0] not in LIGHT]


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_alone_it_lists_the_commands_a_line_each(arguments, tmp_path):
    code, shown, words, imported = vae_jax(*arguments, cwd=tmp_path)
    lines = [line for line in shown.splitlines() if line.startswith("  ")]
    assert (code, words) == (0, []) and [line.split()[0] for line in lines] == list(commands.NAMES)
    assert max(map(len, lines)) < 120 and all(len(line.split()) > 3 for line in lines)
    assert not {"jax", "numpy"} & imported


def test_the_list_needs_neither_a_command_nor_jax(tmp_path):
    code, shown, words, imported = vae_jax("--list", cwd=tmp_path)
    assert (code, words) == (0, []) and "\nvae_mnist " in shown and not {"jax", "numpy"} & imported
    assert vae_jax("train", "--list", cwd=tmp_path)[:2] == (0, shown)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("trian",), "error: there is no command 'trian'; did you mean 'train'? (allowed: train, evaluate,"),
        (("--workdir=x",), "error: there is no flag before a command '--workdir=x' (allowed: train,"),
        (("train",), "error: --config is missing: A name of --list or a file"),
        (("train", "--config=vae_minst"), "error: --config: there is no config 'vae_minst'; did you mean 'vae_mnist'?"),
        (
            ("train", "--config=vae_mnist", "--config.model.likelihood.scale=3"),
            "error: --config.model.likelihood.scale: unknown key 'scale'; a flag changes a key that the config has",
        ),
        (("encode", "--workdir=x"), "error: --out is missing: The file to write"),
        (("sample", "--workdir=x", "--num=0"), "error: flag --num=0"),
        (("compare", "--runs=x", "--tables=digits"), "error: flags runs=['x'], tables="),
    ],
)
def test_a_mistake_is_one_line_before_jax_is_imported(arguments, line, tmp_path):
    code, shown, words, imported = vae_jax(*arguments, cwd=tmp_path)
    assert code == 1 and shown == "" and len(words) == 1 and words[0].startswith(line)
    assert "jax" not in imported


def test_help_shows_the_flags_of_the_launcher(tmp_path):
    code, shown, words, imported = vae_jax("sample", "--help", cwd=tmp_path)
    assert (code, words) == (0, []) and shown.startswith("Draw from a trained model into files.")
    assert "  --temperature " in shown and "--config" not in shown and "jax" not in imported
    assert vae_jax("--help", cwd=ROOT, module="experiments.sample")[1] == shown


def test_two_tables_of_one_set_read_one_folder(tmp_path):
    """In a process of its own: launchers may define flags of one name."""
    code = (
        "from absl import flags\nfrom experiments import compare\nfrom vae_jax.runs import train\n"
        "train.complete = lambda config, *_, **options: print(config['data']['path'])\n"
        "flags.FLAGS(['compare', '--path=DIR'])\n"
        "for table in ('mnist', 'mnist_8bit', 'digits'):\n    compare.trained(table, compare.Path('runs'))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0 and set(done.stdout.splitlines()) == {"DIR/mnist", ""}, done.stderr
