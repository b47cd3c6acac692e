"""Files of tables with a header, as strings: CSV with the standard library, Parquet and Arrow with pyarrow."""

import csv
import io
from pathlib import Path

from vae_jax.data import files
from vae_jax.data.columns import number_of, texts_of

EXTENSIONS = (".csv", ".tsv", ".txt", ".parquet", ".arrow", ".feather")


def of_split(folder, split) -> Path | None:
    return next((file for end in EXTENSIONS if (file := folder / f"{split}{end}").is_file()), None)


def read(path, delimiter, missing_values) -> dict:
    """Return {column: texts [N]} of a file, None for a missing value."""
    path = files.regular(path)
    if path.suffix in (".parquet", ".arrow", ".feather"):
        return _read_arrow(path, missing_values)
    with files.reading(path, "not a CSV of UTF-8"):
        text = path.read_text(encoding="utf-8-sig")
        first = text.partition("\n")[0]
        if delimiter is None:
            delimiter = max(",;\t|", key=first.count)
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
        rows = [(number, [cell.strip() for cell in row]) for number, row in enumerate(rows, 1) if row]
    if len(rows) < 2:
        raise ValueError(f"{path}: a header and at least one row are required, and the file has {len(rows)} lines")
    names = _header(path, rows[0][1], missing_values)
    for number, row in rows[1:]:
        if len(row) != len(names):
            raise ValueError(
                f"{path}: row {number} has {len(row)} cells and the header {len(names)}: all rows must have the same "
                f"number; the delimiter is {delimiter!r}, and a cell that contains it must be quoted"
            )
    cells = zip(*(row for _, row in rows[1:]), strict=True)
    return {
        name: [None if c in missing_values else c for c in column] for name, column in zip(names, cells, strict=True)
    }


def _header(path, names, missing_values) -> list:
    """Return the names of the columns. An empty name, as of the index that pandas writes, becomes column_N."""
    for name in names:
        if name and (number_of(name) is not None or name in missing_values):
            raise ValueError(
                f"{path}: the first row holds {name!r} and looks like data: a header with the names of the columns is "
                "required"
            )
    names = [name or f"column_{place}" for place, name in enumerate(names, 1)]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{path}: two columns are called {twice[0]!r}: give every column a name of its own")
    return names


def _read_arrow(path, missing_values) -> dict:
    try:
        from pyarrow import feather, ipc, parquet
    except ImportError as error:
        raise ImportError(f"{path}: Parquet and Arrow need pyarrow: pip install 'vae_jax[files]'") from error
    with files.reading(path, "a damaged file, or no table"):
        if path.suffix == ".parquet":
            table = parquet.read_table(path)
        elif path.suffix == ".feather":
            table = feather.read_table(path)
        else:
            with ipc.open_file(path) as file:
                table = file.read_all()
        names = table.column_names
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{path}: two columns are called {twice[0]!r}: give every column a name of its own")
        columns = {name: texts_of(table.column(name).to_pylist()) for name in names}
    return _without(missing_values, columns.items())


def _without(missing_values, columns) -> dict:
    return {name: [None if cell in missing_values else cell for cell in cells] for name, cells in columns}
