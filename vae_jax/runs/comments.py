"""The meaning of the keys of a config: comments in its source, otherwise the docstring of the argument they become.

Sources are parsed and not imported, so this needs no JAX.
"""

import ast
import io
import re
import tokenize
from pathlib import Path

from vae_jax import configs
from vae_jax.runs.configs import value_at

BASE = "vae_digits"  # the config whose comments hold for every value; comments of others are on the value beside them
LIBRARY = Path(__file__).parents[1]
ARGUMENTS = {  # sections of a config, and the functions whose arguments they are
    "train": (("training/loop.py", "fit"),),
    "eval": (("runs/report.py", "evaluate"),),
    "optimizer": (("training/gradient.py", "optimizer"), ("training/gradient.py", "gradient")),
    "mesh": (("training/sharding.py", "make_mesh"),),
    "data": (("data/pipeline.py", "stream"), ("data/sources.py", "load")),
    "data.tokens": (("data/text.py", "load"),),
    "data.audio": (("data/audio.py", "load"),),
}
NAMED = ("conditionals", "networks", "objectives", "distributions", "training", "data")  # folders of named functions


def leaves(config, path=()):
    """Yield (path, value) for every key of a nested dict whose value is no dict, or an empty one."""
    for key, value in config.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def sections(config, path=()):
    """Yield (path, value) for every dict within a nested dict, except those that have a name."""
    for key, value in config.items():
        if isinstance(value, dict) and value:
            if "name" not in value:
                yield (*path, key), value
            yield from sections(value, (*path, key))


def of_config(file, config) -> dict:
    """Return {path: meaning} of the keys and sections of `config`, a nested dict that comes from the source `file`.

    The comment on a dict that has a name is that of its name. A key without a meaning is left out.
    """
    comments = [(source.stem, *entry) for source in _sources(Path(file)) for entry in _comments(source)]
    meanings = {path: _comment(comments, path, value) for path, value in sections(config)}
    for path, value in leaves(config):
        text = _comment(comments, path, value)
        if text is None and path[-1] == "name":
            text = _comment(comments, path[:-1], value_at(config, ".".join(path[:-1])))
        meanings[path] = text or _argument(config, path)
    return {path: text.removesuffix(".") for path, text in meanings.items() if text}


def _comment(comments, path, value):
    """Return the comment on the key at `path`, None if there is none. The nearest source comes first."""
    for source, keys, absolute, stated, text in comments:
        if keys and (path == keys if absolute else path[-len(keys) :] == keys and keys[-1] != "name"):
            if source == BASE or stated in (None, value, [value]):
                return text
    return None


# -------------------------------------------------------------------------------------------------- the comments


def _sources(file):
    """Return the source of a config, then those of the configs that it imports, and so on."""
    files = [file]
    for source in files:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == configs.__name__:
                others = [Path(configs.__path__[0]) / f"{alias.name}.py" for alias in node.names]
                files += [other for other in others if other not in files and other.is_file()]
    return files


def _comments(file):
    """Return (keys, absolute, value, comment) for every key of a source that has a comment.

    Keys are absolute if they begin at the config. The value is None unless it is written out. A comment belongs to the
    first key of its line, or of the line below.
    """
    text = file.read_text(encoding="utf-8")
    beside, above = _lines_with_comments(text)
    entries, lines = [], set()
    for line, keys, absolute, value in sorted(_keys(ast.parse(text)), key=lambda entry: (entry[0], len(entry[1]))):
        if line not in lines and (comment := beside.get(line) or above.get(line)):
            entries.append((keys, absolute, value, comment))
        lines.add(line)
    return entries


def _lines_with_comments(text):
    """Return {line: comment beside it}, and {line: comment in the lines above it}."""
    beside, alone = {}, {}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith("# noqa"):
            place = alone if token.line.strip().startswith("#") else beside
            place[token.start[0]] = token.string.lstrip("# ")
    above = {}
    for line in sorted(alone):
        above[line + 1] = f"{above.pop(line, '')} {alone[line]}".strip()
    return beside, above


def _keys(tree):
    """Yield (line, keys, absolute, value) for every key that a source assigns."""
    seen = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                keys, absolute = _target(target)
                if keys:
                    yield node.lineno, keys, absolute, _literal(node.value)
                yield from _of_dict(node.value, keys, absolute, seen)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "update":
            keys, absolute = _target(node.func.value)
            for argument in node.args:
                yield from _of_dict(argument, keys, absolute, seen)
        elif isinstance(node, ast.Dict):
            yield from _of_dict(node, (), False, seen)


def _of_dict(node, keys, absolute, seen):
    """Yield (line, keys, absolute, value) for the keys of a dict, or of one in a call such as ConfigDict(...)."""
    if isinstance(node, ast.Call) and len(node.args) == 1:
        node = node.args[0]
    if not isinstance(node, ast.Dict) or node in seen:
        return
    seen.add(node)
    for key, value in zip(node.keys, node.values, strict=True):
        if isinstance(key, ast.Constant):
            yield key.lineno, (*keys, key.value), absolute, _literal(value)
            yield from _of_dict(value, (*keys, key.value), absolute, seen)


def _target(node):
    """Return the keys of config.a.b or name["a"], and whether they begin at the config."""
    keys = []
    while isinstance(node, ast.Attribute | ast.Subscript):
        if isinstance(node, ast.Attribute):
            keys.append(node.attr)
        elif isinstance(node.slice, ast.Constant):
            keys.append(node.slice.value)
        node = node.value
    return tuple(reversed(keys)), isinstance(node, ast.Name) and node.id == "config"


def _literal(node):
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        return None


# ------------------------------------------------------------------------------------------------- the arguments


def _argument(config, path):
    """Return the docstring's text on the argument that the key at `path` becomes, None if it is not found."""
    *section, key = path
    functions = list(ARGUMENTS.get(".".join(section), ()))
    if section == ["model"]:
        functions.append((f"models/{config['family']}.py", "from_config"))
    if section and isinstance(name := value_at(config, ".".join(section)).get("name"), str) and key != "name":
        functions += [(file, name) for file in _defining(name)]
    text = next(filter(None, (_documented(*function).get(key) for function in functions)), None)
    return _argument(config, section) if text is None and key == "name" and len(section) > 1 else text


def _defining(name):
    """Return the sources that define a function of this name."""
    files = (file for folder in NAMED for file in sorted((LIBRARY / folder).glob("*.py")))
    return (
        [file for file in files if f"\ndef {name}(" in file.read_text(encoding="utf-8")] if name.isidentifier() else []
    )


def _documented(file, function) -> dict:
    """Return {argument: text} of the section "Args:" in the docstring of a function."""
    path = LIBRARY / file
    tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.Module([], [])
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == function and (text := ast.get_docstring(node)):
            section = re.search(r"^Args:\n(.*?)(?=\n\n|\Z)", text, re.DOTALL | re.MULTILINE)
            parts = re.findall(r"^  (\w+): (.*?)(?=^  \S|\Z)", section[1] if section else "", re.DOTALL | re.MULTILINE)
            return {name: " ".join(words.split()) for name, words in parts}
    return {}
