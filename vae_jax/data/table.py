"""Tables: CSV, Parquet or Arrow with a header, as arrays and back.

Every column has a kind. It is found from the values, and `columns` overrides it:

    real          standardised by the mean and the standard deviation of the training split
    binary        two values, stored as 0 and 1
    categorical   names, stored as codes 0, ..., C - 1
    count         whole numbers 0, 1, 2, ...

A missing value is NaN. `Columns` has what turns rows back into the values of the file, and the log-density of
standardised rows into that of the original units (`Columns.log_volume`).
"""

from pathlib import Path

import numpy as np
from absl import logging

from vae_jax import support
from vae_jax.data import column_kinds, table_files
from vae_jax.data.columns import MISSING, Columns, texts_of
from vae_jax.data.values import SPLITS, Dataset, Split
from vae_jax.spec import BadOption, integers, nearest, numbers, shown

HELD_OUT = 6  # one of so many rows is for validation, one for test


def load(
    path=None, *, columns=None, label=None, delimiter=None, missing_values=(), hide=0.0, seed=0, name=None, like=None
) -> Dataset:
    """Return a table as a data set, and log the kind of every column.

    A sixth of the rows is held out for validation and a sixth for test, by a permutation of fixed seed.

    Args:
      path: a .csv (.tsv, .txt), .parquet, .arrow or .feather file with a header. A folder holds train, valid and test
        files, or some of them; a split without a file is held out of train. None for scikit-learn's breast_cancer.
      columns: {name: kind} of columns whose kind is not to be found; "leave_out" leaves a column out.
      label: the name of the column with the classes; it is no part of x.
      delimiter: between the cells of a CSV; None to find it among comma, semicolon, tab and bar.
      missing_values: a string, or several, that mean "missing", besides "", NA, NaN, ? (`columns.MISSING`).
      hide: the share of the entries of all splits that is removed at random, to measure how well it is imputed.
      seed: of the splits and of `hide`.
      name: of the data set; None for that of the file.
      like: the `Columns` of another table: the rows get its columns, codes and scale. Others are left out, and the
        label need not be there. None to find them from this table.

    Raises FileNotFoundError, `ValueError` for a damaged file, and `BadOption`.
    """
    if delimiter is not None and (not isinstance(delimiter, str) or len(delimiter) != 1):
        raise BadOption(f"delimiter must be one character or None, got {shown(delimiter)}")
    missing_values = (missing_values,) if isinstance(missing_values, str) else missing_values
    if not isinstance(missing_values, tuple | list) or not all(isinstance(v, str) for v in missing_values):
        raise BadOption(
            f"missing_values must be a tuple of strings, such as ('unknown', '-9'), got {shown(missing_values)}"
        )
    options = {"columns": columns, "label": label, "hide": hide, "seed": seed, "like": like}
    if path is None:
        return of_columns(name or "breast_cancer", _breast_cancer(), **options | {"label": label or "diagnosis"})
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    read = lambda file: table_files.read(file, delimiter, (*MISSING, *missing_values))  # noqa: E731
    if not path.is_dir():
        return of_columns(name or path.stem, read(path), **options)
    tables = {split: read(file) for split in SPLITS if (file := table_files.of_split(path, split))}
    if "train" not in tables:
        raise FileNotFoundError(
            f"{path}: no file train.csv (or {', '.join(table_files.EXTENSIONS[1:])}) in this folder"
        )
    names = list(tables["train"])
    for split, table in tables.items():
        if list(table) != names:
            raise ValueError(f"{path}: the columns of {split} are not those of train: give all files one header")
    sizes = {split: len(next(iter(table.values()))) for split, table in tables.items()}
    joined = {column: [cell for table in tables.values() for cell in table[column]] for column in names}
    return of_columns(name or path.stem, joined, sizes=sizes, **options)


def of_columns(name, table, *, columns=None, label=None, hide=0.0, seed=0, sizes=None, like=None) -> Dataset:
    """Return the data set of a table {name of a column: its values}, and log the kind of every column.

    Args:
      name: of the data set.
      table: {column: values [N]}; None, NaN and the strings of `MISSING` are missing.
      columns, label, hide, seed: as in `load`.
      sizes: {split: number of rows}, in this order; None to hold rows out.
      like: as in `load`.

    Raises `ValueError` for a table without rows, for columns of unequal lengths, and `BadOption`.
    """
    columns = {} if columns is None else columns
    if like is not None and not isinstance(like, Columns):
        raise BadOption(f"like must be the `Columns` of a data set, or None, got {shown(like)}")
    label = None if like is not None and label not in table else label
    _check_options(columns, label, hide, seed, table)
    texts = {column: texts_of(values) for column, values in table.items()}
    (first, cells), *others = texts.items()
    number = len(cells)
    if unequal := [column for column, cells in others if len(cells) != number]:
        raise ValueError(
            f"{name}: column {unequal[0]!r} has {len(texts[unequal[0]])} values, and {first!r} has {number}; give all "
            "columns one length"
        )
    rows = _rows_of_splits(name, number, seed, sizes)
    classes = None if label is None else _classes(name, label, texts.pop(label))
    x, kinds, categories = _found(name, texts, columns) if like is None else (_as_in(like, name, texts), None, None)
    x[np.random.default_rng([seed, 1]).random(x.shape) < hide] = np.nan
    described = like or _described(name, kinds, categories, x[rows["train"]])
    if like is None:
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


def _found(name, texts, columns):
    """Return rows [N, D] in the units of the file, the kind of every column, and the categories of its codes."""
    kinds = column_kinds.find(name, texts, columns)
    if not kinds:
        raise ValueError(f"{name}: no column is left to be modelled; name their kinds in `columns`")
    stored, categories = {}, {}
    for column, kind in kinds.items():
        stored[column], categories[column] = column_kinds.stored(name, column, kind, texts[column])
    return np.stack(list(stored.values()), axis=1), kinds, categories


def _as_in(like, name, texts):
    """Return the rows [N, D] of the columns `like`, on their scale."""
    if others := [column for column in texts if column not in like.names]:
        logging.warning("%s: columns that the model does not have are left out: %s", name, ", ".join(others))
    try:
        return like.to_model({column: cells for column, cells in texts.items() if column in like.names})
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _breast_cancer() -> dict:
    """Return the 569 tumours of scikit-learn: 30 real columns and the diagnosis."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    table = {str(name).replace(" ", "_"): column for name, column in zip(data.feature_names, data.data.T, strict=True)}
    return table | {"diagnosis": data.target_names[data.target].tolist()}


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
    codes, names = column_kinds.stored(name, label, "categorical", cells)
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
        if kind not in column_kinds.KINDS:
            raise BadOption(
                f"columns: {column!r} has the unknown kind {shown(kind)}{nearest(str(kind), column_kinds.KINDS)}"
            )
    if label is not None and label not in table:
        raise BadOption(f"label: unknown column {shown(label)}{nearest(str(label), table)}")
    numbers(hide=hide, at_least=0, below=1)
    integers(seed=seed, at_least=0)
