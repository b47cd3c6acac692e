"""The API reference, `python -m pdoc vae_jax -o DIR`, builds without a warning and shows what the docstrings say."""

import ast
import html
import re
import warnings
from pathlib import Path

import pytest

import vae_jax

pdoc = pytest.importorskip("pdoc", reason="the reference needs: pip install 'vae_jax[docs]'")

ROOT = Path(vae_jax.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
KINDS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def test_the_reference_builds_without_a_warning(tmp_path):
    from pdoc.__main__ import cli

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        cli(["vae_jax", "-o", str(tmp_path)])
    page = (tmp_path / "vae_jax" / "core.html").read_text()
    assert "Latent" in page and "p(x|z)" in page
    modules = {path.relative_to(tmp_path).parts[1].removesuffix(".html") for path in tmp_path.glob("vae_jax/**/*.html")}
    assert modules == {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in FILES} - {"__init__", "__main__"}


def words(text):
    """Return the characters of a text that carry meaning: not spaces, backticks, bullets."""
    return re.sub(r"^\s*[*-] |[\s`]", "", text, flags=re.MULTILINE)


def lost(docstring):
    """Return where a docstring and its page begin to differ, None where nothing is lost.

    Markdown takes `x_<t` and `<pad>` for tags, a pair of stars for emphasis, "[N, T]: ..." for the target of a link,
    and a line that begins with + for an item. Put these in backticks, or in another order.
    """
    page = str(pdoc.render_helpers.to_html(pdoc.docstrings.convert(docstring, vae_jax.__docformat__, None)))
    shown = words(html.unescape(re.sub(r"<[^>]*>", "", page))).replace("Arguments:", "Args:")
    meant = words(docstring)
    if shown == meant:
        return None
    first = next((i for i, (a, b) in enumerate(zip(shown, meant, strict=False)) if a != b), len(shown))
    return meant[max(first - 20, 0) : first + 20]


def test_the_reference_shows_every_character_of_the_docstrings():
    problems = {}
    for path in FILES:
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, KINDS)]
        texts = filter(None, map(ast.get_docstring, nodes))
        if found := list(filter(None, map(lost, texts))):
            problems[path.relative_to(ROOT).as_posix()] = found
    assert problems == {}


@pytest.mark.parametrize("text", ["p(x_t | x_<t) of all t", "the row w, <pad>", "t*² and s*²", "[N, T]: the rows."])
def test_a_lost_character_is_noticed(text):
    assert lost(text) is not None
    assert lost(f"Return `{text}`, Σ_t log p(x_t|z) ≥ β KL(q||p) - κ.") is None
