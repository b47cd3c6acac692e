"""README, the guides and the changelog: their links, their equations, their Python, their language."""

import functools
import importlib
import inspect
import re
from pathlib import Path

import pytest

from vae_jax import models, objectives
from vae_jax.evaluation import likelihood
from vae_jax.runs import train
from vae_jax.training import loop

ROOT = Path(__file__).parents[1]
FOLDERS = ("experiments", "notebooks", "tests", "vae_jax")
MARKDOWN = sorted([*ROOT.glob("*.md"), *(path for name in FOLDERS for path in (ROOT / name).rglob("*.md"))])
GUIDES = [path for path in MARKDOWN if path.parent.name != "pages"]
WITH_PYTHON = [path for path in GUIDES if "```python\n" in path.read_text()]
LINES = 150  # of README, at most
WORDS = 25  # of a sentence, at most
COMPLETE = train.complete
HARD = r"wants?|puts out|put out|alone|but for|hangs? on|dear|anew"  # words that are hard to read here


def name_of(path):
    return path.relative_to(ROOT).as_posix()


guides = pytest.mark.parametrize("path", GUIDES, ids=name_of)


def prose(text):
    """Return Markdown without code blocks and targets of links. Inline code is one word, which may begin a sentence."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"\]\([^)]*\)", "]", re.sub(r"`[^`]*`", "Code", text))


def sentences(text):
    """Return the sentences of Markdown: those of its paragraphs, headings and items, and of the cells of its tables."""
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[*-]|\d+\.) )|\n(?=[|#])", prose(text)):
        for cell in block.split("|") if block.startswith("|") else [block]:
            cell = re.sub(r"^\W+", "", " ".join(cell.split()))
            yield from filter(None, re.split(r"(?<=[.:;?!])[*\"]*\s+(?=\W*[A-Z])|:\s", cell))


# -------------------------------------------------------------------------------------------------------------- links


def anchors(text):
    """Return the anchors that a code host gives to the headings of Markdown."""
    names = []
    for heading in re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.M):
        name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        count = sum(re.fullmatch(rf"{re.escape(name)}(-\d+)?", other) is not None for other in names)
        names.append(f"{name}-{count}" if count else name)
    return names


def broken(path):
    """Yield the relative links and images of a file whose target, or whose heading, does not exist."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)[^)]*\)", re.sub(r"`[^`]*`", "", text)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        if not there.exists():
            yield f"{target}: no such file"
        elif anchor and anchor not in anchors(there.read_text()):
            yield f"{target}: no such heading"


@pytest.mark.parametrize("path", MARKDOWN, ids=name_of)
def test_every_link_leads_somewhere(path):
    assert list(broken(path)) == []


def test_a_broken_link_is_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A title: `x`, *y*\n\n[a](#a-title-x-y) [b](#b) [c](missing.md) ![d](page.md)\n")
    assert list(broken(page)) == ["#b: no such heading", "missing.md: no such file"]


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= LINES


def test_readme_leads_to_every_guide():
    text = (ROOT / "README.md").read_text()
    names = [name_of(path) for path in GUIDES if path != ROOT / "README.md"]
    assert [name for name in names if f"]({name})" not in text] == []


# ---------------------------------------------------------------------------------------------------------- equations


def equations():
    """Yield the rows of the table "Where is each equation?": the equation, its sources, the names of the code."""
    text = (ROOT / "vae_jax" / "README.md").read_text()
    table = text.split("## Where is each equation?")[1].split("\n## ")[0]
    for line in table.splitlines():
        if line.startswith("| ") and not line.startswith("| equation"):
            equation, source, where = (cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:4])
            yield equation, source, re.findall(r"`([\w.]+)`", where)


def documented(name):
    """Return what `vae_jax.name` is, and the docstrings of it and of its module. Raises if it does not exist."""
    module, _, attribute = f"vae_jax.{name}".rpartition(".")
    module = importlib.import_module(module)
    value = getattr(module, attribute)
    return value, [value.__doc__ or "", module.__doc__ or ""]


@pytest.mark.parametrize("row", equations(), ids=lambda row: row[2][0])
def test_the_code_of_an_equation_names_its_source(row):
    _, source, names = row
    docstrings = []
    for name in names:
        docstrings += documented(name)[1]
        assert docstrings[-2].strip(), f"{name} has no docstring"
    text = " ".join(" ".join(docstrings).split())
    for part in filter(None, source.split("; ")):
        reference = re.match(r"arXiv:[\w./-]*\d|doi:\S+", part)
        assert (reference[0] if reference else part) in text, f"{names} do not name {part}"


def test_every_equation_stands_in_the_table():
    values = [documented(name)[0] for _, _, names in equations() for name in names]
    missing = [name for name in objectives.__all__ if getattr(objectives, name) not in values]
    modules = {inspect.getmodule(value).__name__ for value in values}
    assert missing + [name for name in models.families() if f"vae_jax.models.{name}" not in modules] == []


# ------------------------------------------------------------------------------------------------------------- Python


def shortened(function, **limits):
    """Return `function` with its keyword arguments at most those of `limits`."""

    @functools.wraps(function)
    def call(*args, **options):
        return function(*args, **options | {name: min(options.get(name, most), most) for name, most in limits.items()})

    return call


def hurried(config, folder, **options):
    """Call `train.complete` for ten steps, a number of few samples and no figures."""
    every = {"num_steps": 10, "log_every": 10, "eval_every": 10, "checkpoint_every": 10}
    config = {**config, "train": config["train"] | every, "eval": {"num_samples": 2, "num_test": 20}}
    return COMPLETE(config, folder, **options | {"figures": False})


@pytest.mark.parametrize("path", WITH_PYTHON, ids=name_of)
def test_the_python_of_a_guide_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loop, "fit", shortened(loop.fit, num_steps=10))
    monkeypatch.setattr(train, "complete", hurried)
    monkeypatch.setattr(likelihood, "log_likelihood", shortened(likelihood.log_likelihood, num_samples=2))
    names = {"__name__": "guide"}
    for block in re.findall(r"^```python\n(.*?)^```$", path.read_text(), flags=re.DOTALL | re.MULTILINE):
        exec(compile(block, name_of(path), "exec"), names)


# ----------------------------------------------------------------------------------------------------------- language


@guides
def test_no_sentence_begins_with_a_word_that_is_hard_to_read(path):
    assert [s for s in sentences(path.read_text()) if re.match(r"(Of|What|That of|Whether)\b", s)] == []


@guides
def test_words_are_plain(path):
    assert [s for s in sentences(path.read_text()) if re.search(rf"\b({HARD})\b", s, re.IGNORECASE)] == []


@guides
def test_sentences_are_short(path):
    assert [s for s in sentences(path.read_text()) if len(s.split()) > WORDS] == []


def test_a_hard_sentence_is_noticed():
    text = (
        "# Heading\n\nIt is so. Of these, one `Of x`.\n\n* Whether it is\n\n| What | a |\n|---|---|\n| b | That of c |"
    )
    found = [s for s in sentences(text) if re.match(r"(Of|What|That of|Whether)\b", s)]
    assert found == ["Of these, one Code.", "Whether it is", "What", "That of c"]
