"""Execute the notebooks and write a page of each that a code host shows: text, folded code, output and figures.

    python notebooks/render.py [NAME ...]        for example 01_vae; without a name, all of them

A page is `pages/NAME.md`, its figures are `pages/NAME/*.png` of few colours. Each page holds a digest of the cells that
it was made from, and the tests compare it with the notebook.
"""

import base64
import hashlib
import io
import shutil
import sys
import tempfile
from pathlib import Path

import nbclient
import nbformat
from ipykernel import kernelspec
from jupyter_client.kernelspec import KernelSpecManager
from PIL import Image

FOLDER = Path(__file__).parent
PAGES = FOLDER / "pages"
WIDTH, COLOURS = 760, 48  # of a figure: pixels, and entries of its palette


def digest(notebook) -> str:
    """Return the SHA-256 of the cells of a notebook, which changes with every edit of a text or of a program."""
    cells = "".join(f"{cell.cell_type}\n{cell.source}\n" for cell in notebook.cells)
    return hashlib.sha256(cells.encode()).hexdigest()


def stamp(notebook) -> str:
    """Return the line of a page that says from which cells it was made."""
    return f"<!-- cells: {digest(notebook)} -->"


def execute(path):
    """Return the notebook at `path` with the outputs of a run by this interpreter. Raises the error of a cell."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        kernelspec.write_kernel_spec(Path(folder) / "python3")
        client = nbclient.NotebookClient(notebook, timeout=3600, resources={"metadata": {"path": str(path.parent)}})
        client.create_kernel_manager().kernel_spec_manager = KernelSpecManager(kernel_dirs=[folder])
        return client.execute()


def page(notebook, name) -> tuple[str, dict[str, bytes]]:
    """Return the Markdown of an executed notebook, and its figures as {file name: PNG}."""
    parts, figures = (
        [stamp(notebook), f"*Made from [`{name}.ipynb`](../{name}.ipynb); see [notebooks](../README.md).*"],
        {},
    )
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source.replace("](../", "](../../"))  # a page is one folder deeper
            continue
        parts.append(f"<details><summary>Code</summary>\n\n```python\n{cell.source}\n```\n\n</details>")
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                file = f"{len(figures) + 1:02}.png"
                figures[file] = small(base64.b64decode(data["image/png"]))
                parts.append(f"![figure {len(figures)}]({name}/{file})")
            elif "text/html" in data and "<audio" in data["text/html"]:
                parts.append("*(The notebook plays the sound here.)*")
            elif text := output.get("text", data.get("text/plain", "")).rstrip():
                parts.append(f"```text\n{text}\n```")
    return "\n\n".join(parts) + "\n", figures


def small(png: bytes) -> bytes:
    """Return a PNG of at most `WIDTH` pixels a row and `COLOURS` colours."""
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.width > WIDTH:
        image = image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def render(path):
    """Execute the notebook at `path`, and replace its page and its figures."""
    text, figures = page(execute(path), path.stem)
    shutil.rmtree(PAGES / path.stem, ignore_errors=True)
    (PAGES / path.stem).mkdir(parents=True)
    for file, png in figures.items():
        (PAGES / path.stem / file).write_bytes(png)
    (PAGES / f"{path.stem}.md").write_text(text)
    kilobytes = sum(map(len, figures.values())) / 1e3
    print(f"{path.stem}: {len(figures)} figures, {kilobytes:.0f} kB")


def main(names):
    paths = {path.stem: path for path in sorted(FOLDER.glob("*.ipynb"))}
    if unknown := [name for name in names if name not in paths]:
        sys.exit(f"{unknown[0]!r} is no notebook; choose from {', '.join(paths)}")
    for name in names or paths:
        render(paths[name])


if __name__ == "__main__":
    main(sys.argv[1:])
