"""Tables: CSV, Parquet or Arrow with a header, as arrays and back.

Every column has a kind. It is found from the values, and `columns` overrides it:

    real          standardised by the mean and the standard deviation of the training split
    binary        two values, stored as 0 and 1
    categorical   names, stored as codes 0, ..., C - 1
    count         whole numbers 0, 1, 2, ...

A missing value is NaN. `Columns` has what turns rows back into the values of the file, and the log-density of
standardised rows into that of the original units (`Columns.log_volume`).
"""

import csv
import dataclasses
import math
from pathlib import Path

import numpy as np
from absl import logging

from vae_jax import support
from vae_jax.data import files
from vae_jax.data.values import SPLITS, Dataset, Split
from vae_jax.spec import BadOption, integers, nearest, numbers, shown

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "None", "?")
KINDS = ("real", "binary", "categorical", "count", "leave_out")
EXTENSIONS = (".csv", ".tsv", ".txt", ".parquet", ".arrow", ".feather")
HELD_OUT = 6  # one of so many rows is for validation, one for test
FEW = 10  # distinct values of a real column that are too few for a density
MOST_CATEGORIES = 100  # of a column whose kind is found


@dataclasses.dataclass(frozen=True)
class Columns:
    """What the columns of a table mean.

    names: [D] strings.
    kinds: [D], each "real", "binary", "count" or "categorical:C".
    categories: [D], the strings of the codes 0, 1, ... of binary and categorical columns, None for the others.
    mean, scale: [D] numbers, x_model = (x - mean) / scale; 0 and 1 for columns that are not real.
    """

    names: tuple
    kinds: tuple
    categories: tuple
    mean: tuple
    scale: tuple

    def __len__(self):
        return len(self.names)

    @property
    def support(self) -> support.Columns:
        """The values of one row."""
        return support.Columns(self.kinds)

    def to_original(self, x) -> dict:
        """Return {name: values [N]} in the units of the file, from rows x [N, D].

        Real columns and counts are float64, NaN where missing; the others are arrays of strings, None where missing. A
        code is rounded to the nearest category.
        """
        x = np.asarray(x, np.float64).reshape(-1, len(self))
        return {name: self._original(place, x[:, place]) for place, name in enumerate(self.names)}

    def to_model(self, rows) -> np.ndarray:
        """Return rows [N, D], float32, from {name: values [N]} or from a sequence of rows in the order of the columns.

        None, NaN and the strings of `MISSING` are missing. Raises `ValueError` for an unknown name or category, for a
        column that is not there, and for values that are no numbers.
        """
        if not hasattr(rows, "keys"):
            rows = [list(row) for row in rows]
            if wrong := [len(row) for row in rows if len(row) != len(self)]:
                raise ValueError(f"a row has {wrong[0]} values, and the table has {len(self)} columns")
            rows = {name: [row[place] for row in rows] for place, name in enumerate(self.names)}
        if wrong := [name for name in rows if name not in self.names]:
            raise ValueError(f"the table has no column {wrong[0]!r}{nearest(str(wrong[0]), self.names)}")
        if absent := [name for name in self.names if name not in rows]:
            raise ValueError(f"the column {absent[0]!r} is not there; a value that is not known is None")
        model = [self._model(place, _texts(rows[name])) for place, name in enumerate(self.names)]
        return np.stack(model, axis=1).astype(np.float32)

    def log_volume(self, x):
        """Return Σ_d log scale_d over the observed real columns of rows x [..., D], in nats.

        The log-density in the original units is log p(x) minus this: the change of variables x = mean + scale x_model.
        """
        return np.sum(np.where(np.isnan(x), 0.0, np.log(np.asarray(self.scale))), axis=-1)

    def to_dict(self) -> dict:
        """Return plain JSON, for `from_dict`."""
        fields = {name: list(values) for name, values in dataclasses.asdict(self).items()}
        return fields | {"categories": [None if names is None else list(names) for names in self.categories]}

    @classmethod
    def from_dict(cls, fields) -> "Columns":
        """Return the columns that `to_dict` described."""
        categories = tuple(None if names is None else tuple(names) for names in fields["categories"])
        rest = {name: tuple(fields[name]) for name in ("names", "kinds", "mean", "scale")}
        return cls(categories=categories, **rest)

    def _original(self, place, x):
        names = self.categories[place]
        if names is None:
            return x * self.scale[place] + self.mean[place]
        codes = np.clip(np.round(np.nan_to_num(x)), 0, len(names) - 1).astype(int)
        return np.where(np.isnan(x), None, np.asarray(names, object)[codes])

    def _model(self, place, texts):
        name, names = self.names[place], self.categories[place]
        if names is None:
            return (_floats(name, texts) - self.mean[place]) / self.scale[place]
        codes = {category: float(code) for code, category in enumerate(names)}
        if unknown := [text for text in texts if text is not None and _category(text, codes) is None]:
            raise ValueError(f"column {name!r}: unknown value {unknown[0]!r}{nearest(unknown[0], names[:50])}")
        return np.array([np.nan if text is None else codes[_category(text, codes)] for text in texts])


def load(
    path=None, *, columns=None, label=None, delimiter=None, missing_values=MISSING, hide=0.0, seed=0, name=None
) -> Dataset:
    """Return a table as a data set, and log the kind of every column.

    A sixth of the rows is held out for validation and a sixth for test, by a permutation of fixed seed.

    Args:
      path: a .csv (.tsv, .txt), .parquet, .arrow or .feather file with a header. A folder holds train, valid and test
        files, or some of them; a split without a file is held out of train. None for scikit-learn's breast_cancer.
      columns: {name: kind} of columns whose kind is not to be found; "leave_out" leaves a column out.
      label: the name of the column with the classes; it is no part of x.
      delimiter: between the cells of a CSV; None to find it among comma, semicolon, tab and bar.
      missing_values: the strings that mean "missing".
      hide: the share of the entries of all splits that is removed at random, to measure how well it is imputed.
      seed: of the splits and of `hide`.
      name: of the data set; None for that of the file.

    Raises FileNotFoundError, `ValueError` for a damaged file, and `BadOption`.
    """
    if delimiter is not None and (not isinstance(delimiter, str) or len(delimiter) != 1):
        raise BadOption(f"delimiter must be one character or None, got {shown(delimiter)}")
    if not isinstance(missing_values, tuple | list) or not all(isinstance(v, str) for v in missing_values):
        raise BadOption(f"missing_values must be a tuple of strings, such as ('', 'NA'), got {shown(missing_values)}")
    options = {"columns": columns, "label": label, "hide": hide, "seed": seed}
    if path is None:
        return of_columns(name or "breast_cancer", _breast_cancer(), **options | {"label": label or "diagnosis"})
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    read = lambda file: _read(file, delimiter, tuple(missing_values))  # noqa: E731
    if not path.is_dir():
        return of_columns(name or path.stem, read(path), **options)
    tables = {split: read(file) for split in SPLITS if (file := _of_split(path, split))}
    if "train" not in tables:
        raise FileNotFoundError(f"{path}: no file train.csv (or {', '.join(EXTENSIONS[1:])}) in this folder")
    names = list(tables["train"])
    for split, table in tables.items():
        if list(table) != names:
            raise ValueError(f"{path}: the columns of {split} are not those of train: give all files one header")
    sizes = {split: len(next(iter(table.values()))) for split, table in tables.items()}
    joined = {column: [cell for table in tables.values() for cell in table[column]] for column in names}
    return of_columns(name or path.stem, joined, sizes=sizes, **options)


def of_columns(name, table, *, columns=None, label=None, hide=0.0, seed=0, sizes=None) -> Dataset:
    """Return the data set of a table {name of a column: its values}, and log the kind of every column.

    Args:
      name: of the data set.
      table: {column: values [N]}; None, NaN and the strings of `MISSING` are missing.
      columns, label, hide, seed: as in `load`.
      sizes: {split: number of rows}, in this order; None to hold rows out.

    Raises `ValueError` for a table without rows, and `BadOption`.
    """
    columns = {} if columns is None else columns
    _check_options(columns, label, hide, seed, table)
    texts = {column: _texts(values) for column, values in table.items()}
    number = len(next(iter(texts.values())))
    rows = _rows_of_splits(name, number, seed, sizes)
    classes = None if label is None else _classes(name, label, texts.pop(label))
    kinds = _kinds(name, texts, columns)
    if not kinds:
        raise ValueError(f"{name}: no column is left to be modelled; name their kinds in `columns`")
    stored, categories = {}, {}
    for column, kind in kinds.items():
        stored[column], categories[column] = _stored(name, column, kind, texts[column])
    x = np.stack(list(stored.values()), axis=1)
    x[np.random.default_rng([seed, 1]).random(x.shape) < hide] = np.nan
    described = _described(name, kinds, categories, x[rows["train"]])
    x = ((x - np.asarray(described.mean)) / np.asarray(described.scale)).astype(np.float32)
    labels, class_names = (None, None) if classes is None else classes
    splits = {s: Split(x[r], None if labels is None else labels[r]) for s, r in rows.items()}
    missing = bool(np.isnan(x).any())
    logging.info("%s: %s", name, _summary(described, x, {split: len(r) for split, r in rows.items()}))
    return Dataset(
        name,
        **splits,
        max_value=1,
        num_classes=class_names and len(class_names),
        class_names=class_names,
        columns=described,
        missing=missing,
    )


# -------------------------------------------------------------------------------------------------------- files


def _of_split(folder, split) -> Path | None:
    return next((file for end in EXTENSIONS if (file := folder / f"{split}{end}").is_file()), None)


def _read(path, delimiter, missing_values) -> dict:
    """Return {column: texts [N]} of a file, None for a missing value."""
    path = files.regular(path)
    if path.suffix in (".parquet", ".arrow", ".feather"):
        return _read_arrow(path, missing_values)
    with files.reading(path, "not a CSV of UTF-8"):
        text = path.read_text(encoding="utf-8-sig")
        first = text.partition("\n")[0]
        if delimiter is None:
            delimiter = max(",;\t|", key=first.count)
        rows = csv.reader(text.splitlines(), delimiter=delimiter, skipinitialspace=True, strict=True)
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
        if name and (_number(name) is not None or name in missing_values):
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
        columns = {name: _texts(table.column(name).to_pylist()) for name in names}
    return {name: [None if c in missing_values else c for c in column] for name, column in columns.items()}


def _breast_cancer() -> dict:
    """Return the 569 tumours of scikit-learn: 30 real columns and the diagnosis."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    table = {str(name).replace(" ", "_"): column for name, column in zip(data.feature_names, data.data.T, strict=True)}
    return table | {"diagnosis": data.target_names[data.target].tolist()}


# --------------------------------------------------------------------------------------------------------- kinds


def _kinds(name, texts, columns) -> dict:
    """Return {column: kind} of the columns that are modelled; the log names those that are left out and why."""
    kinds, seen = {}, {}
    for column, cells in texts.items():
        chosen = columns.get(column)
        if chosen == "leave_out":
            continue
        reason = _useless(column, cells, seen)
        if reason and chosen is None:
            logging.warning(
                "%s: column %r is left out: %s; to keep it, name its kind in `columns`", name, column, reason
            )
            continue
        seen.setdefault(tuple(cells), column)
        kinds[column] = _found(name, column, cells) if chosen is None else chosen
    return kinds


def _useless(column, cells, seen) -> str | None:
    """Return why a column says nothing about a row; None if it says something."""
    present = [cell for cell in cells if cell is not None]
    distinct = set(present)
    if not present:
        return "all its values are missing"
    if len(distinct) == 1:
        return f"it is constant, {present[0]!r}"
    if tuple(cells) in seen:
        return f"it is a copy of {seen[tuple(cells)]!r}"
    values = [_number(cell) for cell in present]
    if len(distinct) == len(present) > 2:
        if None in values:
            return "all its values are different strings, such as names or ids"
        steps = np.diff(values)
        if len(cells) == len(present) > FEW and np.all(steps == steps[0]) and all(map(_is_whole, present)):
            return "it numbers the rows"
    return None


def _found(name, column, cells) -> str:
    """Return the kind of a column: "binary", "categorical", "count" or "real"."""
    present = [cell for cell in cells if cell is not None]
    distinct, values = set(present), [_number(cell) for cell in present]
    if len(distinct) == 2:
        return "binary"
    words = [cell for cell, value in zip(present, values, strict=True) if value is None]
    if words and len(words) < 0.5 * len(present):
        raise ValueError(
            f"{name}: column {column!r} holds {words[0]!r} among numbers: add it to missing_values, correct it, or name "
            f"the kind in columns={{{column!r}: 'categorical'}}"
        )
    if words:
        if len(distinct) > MOST_CATEGORIES:
            raise ValueError(
                f"{name}: column {column!r} has {len(distinct)} different strings, too many for categories: set "
                f"columns={{{column!r}: 'leave_out'}}, or 'categorical' to keep them"
            )
        return "categorical"
    if all(map(_is_whole, present)) and min(values) >= 0:
        return "count"
    if len(distinct) <= FEW and len(present) > 10 * FEW:
        logging.warning(
            "%s: the real column %r has only %d distinct values, on which a density can grow without bound; if they are "
            "levels or codes, set columns={%r: 'categorical'}",
            *(name, column, len(distinct), column),
        )
    return "real"


def _stored(name, column, kind, cells):
    """Return the values [N] of a column, NaN where missing, and the categories of its codes or None."""
    if kind in ("real", "count"):
        values = _floats(column, cells)
        bad = values[~np.isnan(values) & ((values < 0) | (values != np.round(values)))]
        if kind == "count" and bad.size:
            raise BadOption(f"columns: {column!r} is no column of counts: it holds {bad[0]:g}; use 'real'")
        return values, None
    categories = sorted({cell for cell in cells if cell is not None}, key=lambda c: (_number(c) is None, _number(c), c))
    if kind == "binary" and len(categories) > 2:
        raise BadOption(f"columns: {column!r} is not binary: it has {len(categories)} values; use 'categorical'")
    codes = {category: float(code) for code, category in enumerate(categories)}
    return np.array([np.nan if cell is None else codes[cell] for cell in cells]), tuple(categories)


def _described(name, kinds, categories, train) -> Columns:
    """Return the `Columns` of a table; `train` are its training rows, before they are standardised."""
    mean, scale, full = [], [], []
    for place, (column, kind) in enumerate(kinds.items()):
        observed = train[~np.isnan(train[:, place]), place]
        if not observed.size:
            raise ValueError(f"{name}: column {column!r} has no value in the training split; leave it out")
        spread = observed.std()
        mean.append(float(observed.mean()) if kind == "real" else 0.0)
        scale.append(float(spread) if kind == "real" and spread > 0 else 1.0)
        full.append(f"{support.CATEGORICAL}{len(categories[column])}" if kind == "categorical" else kind)
    return Columns(tuple(kinds), tuple(full), tuple(categories.values()), tuple(mean), tuple(scale))


def _classes(name, label, cells):
    """Return the classes [N], int32, and their names."""
    if None in cells:
        raise ValueError(
            f"{name}: row {cells.index(None) + 1} of the label {label!r} is missing; every row needs a class"
        )
    codes, names = _stored(name, label, "categorical", cells)
    if len(names) > max(2, len(cells) // 2):
        raise BadOption(f"label: {label!r} has {len(names)} values in {len(cells)} rows, which are no classes")
    return codes.astype(np.int32), names


def _rows_of_splits(name, number, seed, sizes) -> dict:
    """Return {split: places of its rows}, in the order of the file."""
    if sizes is None:
        sizes = {"train": number}
    ends = np.cumsum(list(sizes.values()))
    rows = {split: np.arange(end - sizes[split], end) for split, end in zip(sizes, ends, strict=True)}
    order = np.random.default_rng(seed).permutation(rows["train"])
    for split in ("test", "valid"):
        if split not in rows:
            held_out = len(rows["train"]) // HELD_OUT
            order, rows[split] = order[held_out:], np.sort(order[:held_out])
    rows["train"] = np.sort(order)
    if empty := [split for split in SPLITS if not len(rows[split])]:
        raise ValueError(f"{name}: {number} rows are too few: the {empty[0]} split would be empty")
    return {split: rows[split] for split in SPLITS}


def _summary(columns, x, sizes) -> str:
    """Return one line for the log: the sizes, the columns of each kind, and the share of missing values."""
    kinds = {}
    for name, kind in zip(columns.names, columns.kinds, strict=True):
        kinds.setdefault(kind.partition(":")[0], []).append(name)
    listed = [f"{len(n)} {kind} ({', '.join(n[:6])}{', ...' if len(n) > 6 else ''})" for kind, n in kinds.items()]
    rows = " / ".join(map(str, sizes.values()))
    return f"{rows} rows of {', '.join(listed)}; {np.mean(np.isnan(x)):.1%} of the values are missing"


def _check_options(columns, label, hide, seed, table):
    if not isinstance(columns, dict):
        raise BadOption(f"columns must be a dict {{name: kind}}, got {shown(columns)}")
    if not table or not len(next(iter(table.values()))):
        raise ValueError("a table needs at least one column and one row")
    for column, kind in columns.items():
        if column not in table:
            raise BadOption(f"columns: unknown column {column!r}{nearest(str(column), table)}")
        if kind not in KINDS:
            raise BadOption(f"columns: {column!r} has the unknown kind {shown(kind)}{nearest(str(kind), KINDS)}")
    if label is not None and label not in table:
        raise BadOption(f"label: unknown column {shown(label)}{nearest(str(label), table)}")
    numbers(hide=hide, at_least=0, below=1)
    integers(seed=seed, at_least=0)


# ------------------------------------------------------------------------------------------------------- values


def _texts(values) -> list:
    """Return values as strings, None for None, NaN and the strings of `MISSING`."""
    values = values.tolist() if hasattr(values, "tolist") else list(values)
    texts = [None if value is None or value != value else str(value).strip() for value in values]
    return [None if text in MISSING else text for text in texts]


def _number(text) -> float | None:
    """Return a finite number, None for other strings."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _is_whole(text) -> bool:
    return text.lstrip("+-").isdigit()


def _floats(column, texts) -> np.ndarray:
    values = [math.nan if text is None else _number(text) for text in texts]
    if None in values:
        raise ValueError(f"column {column!r} holds {texts[values.index(None)]!r}, which is no finite number")
    return np.array(values, np.float64)


def _category(text, codes):
    """Return the category that a text means: itself, or a number that is written in another way; None for neither."""
    if text in codes:
        return text
    value = _number(text)
    return next((name for name in codes if value is not None and _number(name) == value), None)
