"""The pages that a command shows without any work: its flags, the list of configs, and the keys of one config.

All of them are read from sources, so that nothing is imported except the config in question.
"""

import ast
import re
import sys
import textwrap
from pathlib import Path

from absl import flags

from vae_jax import configs as sources
from vae_jax.runs import comments, configs

WIDTH = 118
NAME, SUBJECT, RESULT = 26, 50, 38  # widths of the columns of the list
KEY, VALUE = 36, 26
UNITS = r"nats|bits/dim|bits a sample|modes"
HELP = {"help", "h", "?", "helpshort"}


def page(argv) -> str | None:
    """Return the page that the arguments of a launcher ask for by --list or --help; None if they ask for none.

    Raises `ValueError` for --help with a --config that does not exist.
    """
    words = {argument.lstrip("-") for argument in argv[1:] if argument.startswith("-")}
    takes_config = "config" in flags.FLAGS
    if takes_config and "list" in words:
        return table()
    if not words & HELP:
        return None
    name = _value(argv, "config") if takes_config else None
    return launcher(argv[0]) if name is None else f"{launcher(argv[0])}\n\n{config(name)}"


def launcher(program) -> str:
    """Return the docstring of the program that runs, and its flags."""
    shown = {flag.name: flag for flag in flags.FLAGS.flags_by_module_dict().get(program, ())}
    shown |= {name: flags.FLAGS[name] for name in ("distributed",) if name in flags.FLAGS}
    rows = [(f"--{name}", " ".join(flag.help.split())) for name, flag in shown.items()]
    rows += [("--verbosity=1", "Show where an error happened."), ("--helpfull", "Show the flags of all libraries.")]
    width = max(len(name) for name, _ in rows)
    lines = [_row([(name, width), (text, WIDTH - width - 4)]) for name, text in rows]
    title = (sys.modules["__main__"].__doc__ or "").strip()
    return "\n".join([title, "\nflags:", *(f"  {line}" for row in lines for line in row)])


def first_line(file) -> str:
    """Return the first line of a source's docstring, without the references at its end."""
    return docstring(file).partition("\n")[0].partition("  ")[0].strip().removesuffix(".")


def result(text) -> str | None:
    """Return the figure of the result in a config's docstring, up to its unit; None if there is no result."""
    conditions = r"(?:[^:(]|\((?:[^()]|\([^()]*\))*\))*"  # a colon within parentheses does not end them
    match = re.search(rf"^Result\b{conditions}:\s+(.*?)(?=\n\n|\Z)", text, re.DOTALL | re.MULTILINE)
    if match is None:
        return None
    figure = re.match(rf"not yet measured|.*?\d (?:{UNITS})\b", " ".join(match[1].split()))
    return figure and figure[0]


def table() -> str:
    """Return every config that comes with the library: its name, its subject and its measured result."""
    head = [("config", NAME), ("subject", SUBJECT), ("result", RESULT)]
    lines = [*_row(head), *_row([("-" * width, width) for _, width in head])]
    for name in configs.names():
        file = Path(sources.__path__[0]) / f"{name}.py"
        cells = (name, NAME), (first_line(file), SUBJECT), (result(docstring(file)) or "", RESULT)
        lines += _row(cells)
    return "\n".join([*lines, "\nkeys of one of them: vae-jax train --config=NAME --help"])


def config(name) -> str:
    """Return the docstring of a config, and its keys with their values and what each means.

    Raises `ValueError` for a name or a file that does not exist.
    """
    file = configs.file_of(name)
    values = configs.get(name).to_dict()
    meanings = comments.of_config(file, values)
    rows = [(path, repr(value)) for path, value in comments.leaves(values)]
    rows += [(path, "") for path, _ in comments.sections(values) if path in meanings]
    lines = [line for path, value in sorted(rows) for line in _key(path, value, meanings.get(path, ""))]
    title = f"--config={name}: {docstring(file)}"
    return "\n".join([title, "\nkeys, as in --config.KEY=VALUE:", *(f"  {line}" for line in lines)])


def _key(path, value, meaning) -> list[str]:
    """Return the lines of a key: its path, its value, and what it means beside it, or below a long value."""
    start, before = f"{'.'.join(path):{KEY}}  {value:{VALUE}}", KEY + VALUE + 4
    first, *rest = textwrap.wrap(meaning, WIDTH - before - 2, break_on_hyphens=False) or [""]
    beside = len(start) < before
    lines = [f"{start}  {first}"] if beside else [start, " " * before + first]
    return [line.rstrip() for line in (*lines, *(" " * before + line for line in rest)) if line.strip()]


def docstring(file) -> str:
    """Return the docstring of a source."""
    return ast.get_docstring(ast.parse(Path(file).read_text(encoding="utf-8"))) or ""


def _row(cells) -> list[str]:
    """Return the lines of a row of a table. `cells` are pairs (text, width)."""
    columns = [textwrap.wrap(text, width, break_on_hyphens=False) or [""] for text, width in cells]
    height = max(map(len, columns))
    filled = [column + [""] * (height - len(column)) for column in columns]
    widths = [width for _, width in cells]
    pad = lambda line: "  ".join(f"{text:{width}}" for text, width in zip(line, widths, strict=True))  # noqa: E731
    return [pad(line).rstrip() for line in zip(*filled, strict=True)]


def _value(argv, name) -> str | None:
    """Return the value of --name=VALUE or --name VALUE among the arguments; None if it is not there."""
    for argument, following in zip(argv, [*argv[1:], None], strict=True):
        flag, equals, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and flag == name:
            return value if equals else following
    return None
