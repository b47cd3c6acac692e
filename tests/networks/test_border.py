"""Flax linen stays inside `vae_jax.networks`: its names, and its modules."""

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import pytest

import vae_jax
from vae_jax import networks

ROOT = Path(vae_jax.__file__).parent
OUTSIDE = sorted(path for path in ROOT.rglob("*.py") if "networks" not in path.relative_to(ROOT).parts[:1])


def module_names():
    """The classes of linen, and those of `networks`: linen numbers their instances, as in "Dense_0"."""
    names = {name for name, value in vars(nn).items() if inspect.isclass(value) and issubclass(value, nn.Module)}
    for info in pkgutil.iter_modules(networks.__path__):
        module = importlib.import_module(f"vae_jax.networks.{info.name}")
        names |= {n for n, v in vars(module).items() if inspect.isclass(v) and issubclass(v, nn.Module)}
    return names


def uses_of_linen(tree):
    """What in a file only linen understands, each with its line."""
    auto_name = re.compile(rf"\b({'|'.join(sorted(module_names()))})_\d+\b")
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            applied = isinstance(node.func, ast.Attribute) and node.func.attr in ("apply", "init", "init_with_output")
            for keyword in node.keywords:
                if keyword.arg in ("rngs", "mutable") or (keyword.arg == "method" and applied):
                    yield f"line {node.lineno}: {keyword.arg}="
        elif isinstance(node, ast.Import) and any(alias.name.startswith("flax.linen") for alias in node.names):
            yield f"line {node.lineno}: import flax.linen"
        elif isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith("flax."):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            if any(name.startswith("flax.linen") for name in names):
                yield f"line {node.lineno}: from {node.module} import ..."
        elif isinstance(node, ast.Attribute) and node.attr in ("linen", "make_rng", "has_rng"):
            yield f"line {node.lineno}: .{node.attr}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and auto_name.search(node.value):
            yield f"line {node.lineno}: {auto_name.search(node.value)[0]!r}"


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(ROOT)))
def test_linens_names_stay_inside_networks(path):
    assert list(uses_of_linen(ast.parse(path.read_text()))) == []


def test_the_search_finds_what_it_is_for():
    code = """
import flax.linen as nn
from flax import linen
y = module.apply(variables, x, method="step", rngs={"dropout": key})
kernel = variables["params"]["Dense_0"]["kernel"]
own = params["DenseHead_0"]
z = flax.linen.Dense(3)
"""
    assert len(list(uses_of_linen(ast.parse(code)))) == 7
    assert not list(uses_of_linen(ast.parse('clustering(codes, labels, method="kmeans")\nfrom flax import struct')))


def test_what_leaves_is_a_tuple_of_functions():
    for name in networks.__all__:
        assert not (inspect.isclass(getattr(networks, name)) and issubclass(getattr(networks, name), nn.Module)), name


WITHOUT = """
import importlib, importlib.abc, importlib.machinery, pkgutil, sys, types

class Unavailable(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise AssertionError(f"{self.__name__}.{name} is used outside of vae_jax.networks")

class Stub(types.ModuleType):
    '''A module in which every name is a function that nobody calls while modules are imported.'''
    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **options: None

class Networks(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name == "vae_jax.networks" or name.startswith("vae_jax.networks."):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return Stub(spec.name)

    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Networks())
sys.modules["flax.linen"] = Unavailable("flax.linen")
import flax
import vae_jax
assert flax.linen is sys.modules["flax.linen"]

count = 0
for info in pkgutil.walk_packages(vae_jax.__path__, "vae_jax."):
    if not info.name.startswith("vae_jax.networks") and not info.name.startswith("vae_jax.configs."):
        importlib.import_module(info.name)
        count += 1
loaded = {name for name in sys.modules if name.startswith("flax.linen.")}
assert not loaded, loaded
print(count)
"""


def test_the_library_is_imported_without_linen():
    """All modules except `vae_jax.networks`, each of which is a stub here, as is `flax.linen`."""
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 80
