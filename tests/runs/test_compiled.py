"""Compiled programs are kept from one start to the next."""

import os
import subprocess
import sys
import time

import jax
import pytest

from vae_jax.data import cache
from vae_jax.runs import compiled


def test_the_folder_is_that_of_the_user_or_another(monkeypatch, tmp_path):
    monkeypatch.delenv("VAE_JAX_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.root() == tmp_path / "vae_jax"
    monkeypatch.setenv("VAE_JAX_CACHE", str(tmp_path / "other"))
    assert cache.root() == tmp_path / "other"


@pytest.mark.parametrize("keeps", [True, False])
def test_a_process_finds_the_programs_of_the_one_before(tmp_path, keeps):
    code = (
        "import jax; from vae_jax.runs import compiled; compiled.keep_programs(); "
        "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0); jax.jit(lambda x: x @ x)(jax.numpy.eye(8))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    environment |= {
        "VAE_JAX_CACHE": str(tmp_path),
        "JAX_ENABLE_COMPILATION_CACHE": str(keeps).lower(),
        "JAX_PLATFORMS": "cpu",
        "HOME": str(tmp_path),
    }
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)
    assert bool([file for file in tmp_path.rglob("*") if file.is_file()]) == keeps


def test_another_place_of_jax_stays(monkeypatch, tmp_path):
    monkeypatch.setenv("VAE_JAX_CACHE", str(tmp_path / "mine"))
    before = jax.config.jax_compilation_cache_dir
    assert before  # conftest has chosen it
    compiled.keep_programs()
    assert jax.config.jax_compilation_cache_dir == before and not (tmp_path / "mine").exists()


def test_a_folder_that_cannot_be_written_keeps_nothing(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VAE_JAX_CACHE", str(tmp_path / "file"))
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        compiled.keep_programs()
        assert jax.config.jax_compilation_cache_dir is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_the_oldest_programs_go_first(monkeypatch, tmp_path):
    for age in range(4):
        (tmp_path / str(age)).write_bytes(b"0" * 10)
        os.utime(tmp_path / str(age), (time.time() - age, time.time() - age))
    monkeypatch.setattr(compiled, "LARGEST", 25)
    compiled._shrink(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0", "1"]
