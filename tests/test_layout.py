"""The arrows of the layout: which part may import which, read from the source."""

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import vae_jax
from vae_jax import models, objectives

ROOT = Path(vae_jax.__file__).parent
LAYERS = {  # what of vae_jax each part may import, beside itself
    "core": set(),
    "numerics": set(),
    "bijectors": {"numerics"},
    "distributions": {"core", "bijectors", "numerics"},
    "objectives": {"core", "distributions", "bijectors", "numerics"},
    "networks": {"core", "numerics"},
    "priors": {"core", "distributions", "bijectors", "networks", "numerics"},
    "posteriors": {"core", "distributions", "bijectors", "networks", "numerics"},
    "likelihoods": {"core", "distributions", "bijectors", "networks", "numerics"},
    "models": {
        *("core", "objectives", "posteriors", "priors", "likelihoods"),
        *("distributions", "bijectors", "networks", "numerics"),
    },
    "inference": {"core", "distributions", "bijectors", "objectives", "numerics"},
    "training": {"core", "numerics"},
    "evaluation": {"core", "distributions", "bijectors", "objectives", "inference", "numerics"},
    "tasks": {"core", "distributions", "bijectors", "objectives", "inference", "numerics"},
    "data": set(),
    "plotting": set(),
}
THIRD_PARTY = {  # parts that stay light
    "data": {"numpy", "jax", "tensorflow_datasets", "grain", "absl", "sklearn", "scipy", "soundfile", "PIL"},
    "plotting": {"numpy", "matplotlib"},
}
STANDARD = set(__import__("sys").stdlib_module_names)
FILES = sorted(ROOT.rglob("*.py"))


def part(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path):
    """Dotted names of all that a file imports, also inside functions; `from a import b` counts as a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are absolute here"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_point_down(path):
    here = part(path)
    if here == "__init__":
        return
    assert here in LAYERS, f"a new part of the package, {here}: say in LAYERS what it may import"
    for name in imports(path):
        first, *rest = name.split(".")
        if first == "vae_jax":
            assert rest[0] == here or rest[0] in LAYERS[here], f"{path.name} imports {name}"
        elif first not in STANDARD and here in THIRD_PARTY:
            assert first in THIRD_PARTY[here], f"{path.name} imports {name}"
        assert first not in ("experiments", "tests"), f"{path.name} imports {name}"


def test_linen_is_known_to_networks_alone():
    users = {part(path) for path in FILES if any(name.startswith("flax.linen") for name in imports(path))}
    assert users <= {"networks"}


def test_models_never_import_each_other():
    families = {f"vae_jax.models.{name}" for name in models.families()}
    for path in (ROOT / "models").glob("*.py"):
        if path.stem != "__init__":
            own = f"vae_jax.models.{path.stem}"
            assert not {f for f in families for name in imports(path) if f != own and f"{name}.".startswith(f"{f}.")}


def public_functions(package):
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for name, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_"):
                yield f"{info.name}.{name}", value


@pytest.mark.parametrize("package", [models, objectives], ids=["models", "objectives"])
def test_every_public_equation_says_what_it_is(package):
    functions = dict(public_functions(package))
    assert functions
    assert [name for name, function in functions.items() if not inspect.getdoc(function)] == []


def test_every_file_begins_with_its_subject():
    assert [str(path) for path in FILES if not ast.get_docstring(ast.parse(path.read_text()))] == []
