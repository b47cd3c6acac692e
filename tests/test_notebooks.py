"""Every notebook runs from top to bottom, is stored without outputs, and has a page with its figures."""

import base64
import importlib.util
import io
import os
import re
import sys
from pathlib import Path

import pytest
from PIL import Image

NEEDED = "notebooks need: pip install 'vae_jax[notebooks]'"
nbformat = pytest.importorskip("nbformat", reason=NEEDED)

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
ABSOLUTE_PATH = re.compile(
    r"(?<![\w.$}/])(/(home|root|tmp|usr|opt|mnt|var|work|srv|data|content|Users)\b|\b[A-Z]:\\\w)"
)
HOST = re.compile(r"://|\b[\w-]+\.(org|com|net|io|dev)\b")
MAX_BYTES = 100_000
MAX_BYTES_OF_PAGES = 3_000_000
LINK = re.compile(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"")


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_as_text_alone(path):
    text = path.read_text()
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        assert not cell.metadata, f"metadata of a cell: {cell.metadata}"
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None, f"outputs are stored:\n{cell.source}"
    assert len(text) < MAX_BYTES
    for cell in notebook.cells:
        for pattern in (ABSOLUTE_PATH, HOST):
            found = pattern.search(cell.source)
            assert found is None, f"{found[0]!r} in:\n{cell.source}"


@pytest.fixture(scope="module")
def render():
    for module in ("nbclient", "ipykernel", "PIL"):
        pytest.importorskip(module, reason=NEEDED)
    spec = importlib.util.spec_from_file_location("render", NOTEBOOKS[0].parent / "render.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def links(page):
    """Return the relative targets of the links and pictures of a Markdown file, without its code."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    targets = ["".join(match) for match in LINK.findall(text)]
    return {(page.parent / target).resolve() for target in targets if "://" not in target}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_has_a_page_of_its_present_cells(path, render):
    page = render.PAGES / f"{path.stem}.md"
    remedy = f"run: python notebooks/render.py {path.stem}"
    assert page.exists(), remedy
    text = page.read_text()
    assert text.startswith(render.stamp(nbformat.read(path, as_version=4))), remedy
    figures = set((render.PAGES / path.stem).iterdir())
    assert figures and figures <= links(page)
    assert all(target.exists() for target in links(page))
    for pattern in (ABSOLUTE_PATH, HOST):
        match = pattern.search(text)
        assert match is None, f"{match[0]!r} in {page.name}"


def test_pages_are_small_and_listed(render):
    files = [file for file in render.PAGES.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < MAX_BYTES_OF_PAGES
    listed = links(render.FOLDER / "README.md")
    assert all(target.exists() for target in listed)
    pages = {path.stem for path in NOTEBOOKS}
    assert {target.stem for target in listed if target.suffix == ".md"} == pages
    assert {target.parent.name for target in listed if target.suffix == ".png"} == pages
    assert {file.stem for file in render.PAGES.glob("*.md")} == pages


def test_a_page_of_a_small_notebook(render):
    """Text, folded code, output and a figure of few colours; an edit of a cell changes the stamp."""
    cells = nbformat.v4.new_markdown_cell("# Title"), nbformat.v4.new_code_cell("1 + 1"), nbformat.v4.new_code_cell("f")
    notebook = nbformat.v4.new_notebook(cells=list(cells))
    picture = io.BytesIO()
    Image.effect_noise((2000, 1000), 50).save(picture, "PNG")
    data = {"image/png": base64.b64encode(picture.getvalue()).decode(), "text/plain": "<Figure>"}
    cells[1].outputs = [nbformat.v4.new_output("execute_result", {"text/plain": "2"})]
    cells[2].outputs = [nbformat.v4.new_output("display_data", data)]
    text, figures = render.page(notebook, "name")
    assert "# Title" in text and "<details><summary>Code</summary>\n\n```python\n1 + 1\n```" in text
    assert "```text\n2\n```" in text and "![figure 1](name/01.png)" in text and "<Figure>" not in text
    small = Image.open(io.BytesIO(figures["01.png"]))
    assert small.size == (render.WIDTH, render.WIDTH // 2) and len(small.getcolors()) <= render.COLOURS
    before = render.stamp(notebook)
    cells[1].source = "1 + 2"
    assert text.startswith(before) and render.stamp(notebook) != before


# They take minutes where every use of a key is checked.
LONG = ("10_flows", "11_diffusion", "12_codes_and_players", "15_faces")


def marked(path):
    return pytest.param(path, marks=pytest.mark.every if path.stem in LONG else pytest.mark.slow)


@pytest.mark.parametrize("path", map(marked, NOTEBOOKS), ids=[path.stem for path in NOTEBOOKS])
def test_runs(path, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason=NEEDED)
    kernelspec = pytest.importorskip("ipykernel.kernelspec", reason=NEEDED)
    # A python3 kernel of this very interpreter, before any other that the machine may have under that name.
    kernelspec.write_kernel_spec(tmp_path / "kernels" / "python3")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    # A reader's kernel has one CPU device, not the eight of the tests.
    monkeypatch.setenv("XLA_FLAGS", os.environ["VAE_JAX_TESTS_XLA_FLAGS"])
    monkeypatch.setenv("JAX_NUMPY_RANK_PROMOTION", "raise")
    monkeypatch.setenv("JAX_DEBUG_KEY_REUSE", "1")

    notebook = nbformat.read(path, as_version=4)
    which = nbformat.v4.new_code_cell("import sys\nprint(sys.executable)")
    notebook.cells.insert(0, which)
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute()  # raises CellExecutionError, with the cell and its traceback

    assert which.outputs[0].text.strip() == sys.executable
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [o for o in outputs if o.output_type == "error"] == []
    assert [o.text for o in outputs if o.output_type == "stream" and o.name == "stderr"] == [], "a warning is shown"
    assert any("image/png" in o.get("data", {}) for o in outputs), "no figure is shown"
