"""The structure of the library, read from its source: who imports whom, and in which words it speaks."""

import ast
import functools
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import vae_jax
from vae_jax import models, objectives

ROOT = Path(vae_jax.__file__).parent
EXPERIMENTS = ROOT.parent / "experiments"
BASE = {"errors", "numerics", "spec", "support"}  # parts that every part may import
LAYERS = {  # the other parts of vae_jax that each part may import
    "numerics": set(),
    "spec": set(),
    "support": set(),
    "errors": set(),
    "files": set(),
    "commands": set(),
    "configs": set(),
    "__main__": {"runs"},
    "core": set(),
    "degradations": {"core"},
    "bijectors": set(),
    "distributions": {"core", "bijectors"},
    "objectives": {"core", "distributions", "bijectors"},
    "networks": {"core"},
    "conditionals": {"core", "distributions", "bijectors", "networks"},
    "models": {
        *("core", "objectives", "conditionals"),
        *("distributions", "bijectors", "networks"),
    },
    "inference": {"core", "distributions", "bijectors", "objectives"},
    "training": {"core", "files", "distributions", "objectives"},
    "evaluation": {"core", "distributions", "bijectors", "objectives", "inference"},
    "codecs": {"core", "distributions"},
    "tasks": {"core", "degradations", "distributions", "bijectors", "objectives", "inference", "codecs"},
    "data": {"core", "degradations"},
    "plotting": set(),
    "runs": {
        *("core", "files", "commands", "configs", "degradations", "distributions"),
        *("models", "networks", "inference", "training", "evaluation", "tasks", "plotting", "data"),
    },
}
FILE_FORMATS = {"h5py", "zarr", "pyarrow", "tifffile", "datasets"}  # imported where such a file is read
THIRD_PARTY = {  # parts that stay light
    "data": {
        "numpy",
        "jax",
        "tensorflow_datasets",
        "grain",
        "absl",
        "sklearn",
        "scipy",
        "soundfile",
        "PIL",
        *FILE_FORMATS,
    },
    "plotting": {"numpy", "matplotlib"},
}
STANDARD = set(__import__("sys").stdlib_module_names)
FILES = sorted(ROOT.rglob("*.py"))


def part(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@functools.cache
def tree(path):
    return ast.parse(path.read_text())


def imports(path, nodes=ast.walk):
    """Return the dotted names that a file imports; `from a import b` counts as a.b."""
    names = set()
    for node in nodes(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are absolute here"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    here = part(path)
    if here == "__init__":
        return
    assert here in LAYERS, f"{here} is a new part of the library: say in LAYERS what it may import"
    for name in imports(path):
        first, *rest = name.split(".")
        if first == "vae_jax":
            assert rest[0] in {here} | BASE | LAYERS[here], f"{path.name} imports {name}"
        elif first not in STANDARD and here in THIRD_PARTY:
            assert first in THIRD_PARTY[here], f"{path.name} imports {name}"
        assert first not in ("experiments", "tests"), f"{path.name} imports {name}"


def circle(graph):
    """Return a circle of a graph {node: nodes}, None if there is none."""
    done, path = set(), []

    def visit(node):
        if node in path:
            return [*path[path.index(node) :], node]
        if node not in done:
            path.append(node)
            for other in sorted(graph.get(node, ())):
                if (found := visit(other)) is not None:
                    return found
            path.pop()
            done.add(node)
        return None

    return next((found for node in sorted(graph) if (found := visit(node)) is not None), None)


def test_the_parts_are_layers():
    assert (
        circle({name: allowed | (BASE - {name} if name not in BASE else set()) for name, allowed in LAYERS.items()})
        is None
    )


def test_no_module_imports_itself_through_others():
    """Imports inside functions do not count: they happen later."""
    names = {path: ".".join(path.relative_to(ROOT.parent).with_suffix("").parts) for path in FILES}
    modules = {name.removesuffix(".__init__") for name in names.values()}
    graph = {}
    for path, name in names.items():
        top = imports(path, nodes=ast.iter_child_nodes)
        targets = {target if target in modules else target.rpartition(".")[0] for target in top}
        graph[name.removesuffix(".__init__")] = targets & modules
    assert circle(graph) is None


def test_linen_is_known_to_networks_alone():
    users = {part(path) for path in FILES if any(name.startswith("flax.linen") for name in imports(path))}
    assert users <= {"networks"}


def test_models_never_import_each_other():
    families = {f"vae_jax.models.{name}" for name in models.families()}
    for path in (ROOT / "models").glob("*.py"):
        if path.stem != "__init__":
            others = families - {f"vae_jax.models.{path.stem}"}
            assert not {f for f in others for name in imports(path) if f"{name}.".startswith(f"{f}.")}


def test_launchers_are_small_beside_the_library():
    def lines(folder):
        return sum(len(path.read_text().splitlines()) for path in folder.rglob("*.py"))

    assert lines(EXPERIMENTS) < 0.2 * (lines(EXPERIMENTS) + lines(ROOT))
    for path in EXPERIMENTS.glob("*.py"):
        assert path.stem == "comparisons" or len(path.read_text().splitlines()) <= 60, (
            f"{path.name}: more than a screen"
        )


# ----------------------------------------------------------------------------------------------------------- language


def test_only_runs_speak_of_a_config():
    """The library raises errors about its own arguments; runs put the path in front, as examples in `spec` show."""
    speaking = set()
    for path in FILES:
        strings = [n.value for n in ast.walk(tree(path)) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        if part(path) not in ("runs", "spec", "errors") and any(
            re.search(r"(?<!jax\.)\bconfig\.", text) for text in strings
        ):
            speaking.add(path.relative_to(ROOT).as_posix())
    assert speaking == set()


def docstrings(path):
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(tree(path)) if isinstance(node, kinds)]
    return [text for node in nodes if (text := ast.get_docstring(node))]


def unclear(text):
    """Return what is wrong with a docstring, None if nothing is."""
    first = text.splitlines()[0]
    if first[0].isalpha() and first[0].islower():
        return f"begins with a small letter: {first}"
    if match := re.search(r"(?:^|[.:?!]\s+|\n\s*\n\s*)((?:Of|What|That of|Whether)\b[^.\n]*)", text):
        return f"a sentence begins with a word that is hard to read: {match[1]}"
    if not re.search(r"[.:?!`]$", first) and len(text.splitlines()) > 1 and text.splitlines()[1]:
        return f"the first sentence is longer than a line: {first}"
    return None


def test_docstrings_begin_plainly():
    found = {path.relative_to(ROOT).as_posix(): list(filter(None, map(unclear, docstrings(path)))) for path in FILES}
    assert {name: problems for name, problems in found.items() if problems} == {}


@pytest.mark.parametrize("package", [models, objectives], ids=["models", "objectives"])
def test_every_public_equation_says_what_it_is(package):
    functions = {}
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for name, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_"):
                functions[f"{info.name}.{name}"] = value
    assert functions
    assert [name for name, function in functions.items() if not inspect.getdoc(function)] == []


def test_every_file_begins_with_its_subject():
    assert [str(path) for path in FILES if not ast.get_docstring(tree(path))] == []
