"""Every notebook runs from top to bottom, and is kept as its text alone: no outputs, nothing of one machine."""

import os
import re
import sys
from pathlib import Path

import pytest

NEEDED = "notebooks need: pip install 'vae_jax[notebooks]'"
nbformat = pytest.importorskip("nbformat", reason=NEEDED)

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
ABSOLUTE_PATH = re.compile(
    r"(?<![\w.$}/])(/(home|root|tmp|usr|opt|mnt|var|work|srv|data|content|Users)\b|\b[A-Z]:\\\w)"
)
HOST = re.compile(r"://|\b[\w-]+\.(org|com|net|io|dev)\b")
MAX_BYTES = 100_000


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


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
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
