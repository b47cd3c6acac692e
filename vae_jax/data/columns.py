"""The columns of a table: what their values mean, and values as strings, numbers and codes."""

import dataclasses
import math

import numpy as np

from vae_jax import support
from vae_jax.spec import nearest

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "None", "?")


@dataclasses.dataclass(frozen=True)
class Columns:
    """The meaning of the columns of a table.

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
        model = [self._model(place, texts_of(rows[name])) for place, name in enumerate(self.names)]
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
            return (floats_of(name, texts) - self.mean[place]) / self.scale[place]
        codes = {category: float(code) for code, category in enumerate(names)}
        if unknown := [text for text in texts if text is not None and category_of(text, codes) is None]:
            raise ValueError(f"column {name!r}: unknown value {unknown[0]!r}{nearest(unknown[0], names[:50])}")
        return np.array([np.nan if text is None else codes[category_of(text, codes)] for text in texts])


def texts_of(values) -> list:
    """Return values as strings, None for None, NaN and the strings of `MISSING`.

    Whole floats beside NaN are written as whole numbers: a data frame makes floats of these if some are missing.
    """
    values = values.tolist() if hasattr(values, "tolist") else list(values)
    values = [None if _is_missing(value) else value for value in values]
    if None in values and all(value is None or (isinstance(value, float) and value.is_integer()) for value in values):
        values = [None if value is None else int(value) for value in values]
    texts = [None if value is None else str(value).strip() for value in values]
    return [None if text in MISSING else text for text in texts]


def _is_missing(value):
    return value is None or type(value).__name__ in ("NAType", "NaTType") or value != value


def number_of(text) -> float | None:
    """Return a finite number, None for other strings, also for those that only Python reads as one, such as "1_2"."""
    if "_" in text:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def is_whole(text) -> bool:
    return text.lstrip("+-").isdigit()


def floats_of(column, texts) -> np.ndarray:
    values = [math.nan if text is None else number_of(text) for text in texts]
    if None in values:
        raise ValueError(f"column {column!r} holds {texts[values.index(None)]!r}, which is no finite number")
    return np.array(values, np.float64)


def category_of(text, codes):
    """Return the category that a text means: itself, or a number that is written in another way; None for neither."""
    if text in codes:
        return text
    value = number_of(text)
    return next((name for name in codes if value is not None and number_of(name) == value), None)
