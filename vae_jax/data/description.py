"""All of a data set except its examples, as JSON: a trained model is built from it where the data are absent.

A description has the shapes and types of the splits, the meaning of their values, and the fingerprint of the examples.
"""

import numpy as np

from vae_jax.data.audio import Encoding
from vae_jax.data.columns import Columns
from vae_jax.data.fingerprint import fingerprint
from vae_jax.data.text import Vocabulary
from vae_jax.data.values import SPLITS, Dataset, Split


def describe(dataset: Dataset) -> dict:
    """Return the description of `dataset`: numbers, strings, lists and dicts."""
    vocabulary, encoding = dataset.vocabulary, dataset.encoding
    return {
        "name": dataset.name,
        "fingerprint": fingerprint(dataset),
        "splits": {split: _shapes(getattr(dataset, split)) for split in SPLITS},
        "max_value": dataset.max_value,
        "num_classes": dataset.num_classes,
        "class_names": dataset.class_names and list(dataset.class_names),
        "vocabulary": vocabulary and {"tokens": list(vocabulary.tokens), "level": vocabulary.level},
        "encoding": encoding and {"sample_rate": encoding.sample_rate, "companding": encoding.companding},
        "columns": dataset.columns and dataset.columns.to_dict(),
        "missing": dataset.missing,
        "strokes": dataset.strokes,
    }


def stand_in(description: dict) -> Dataset:
    """Return a data set of this description whose examples are all zero. Its arrays take no memory.

    Models and learners are built from it exactly as from the data. Raises `ValueError` if the description is damaged.
    """
    try:
        splits = {split: Split(**_zeros(description["splits"][split])) for split in SPLITS}
        words = ("vocabulary", "encoding", "class_names", "columns")
        vocabulary, encoding, names, columns = (description[name] for name in words)
        return Dataset(
            description["name"],
            **splits,
            max_value=description["max_value"],
            num_classes=description["num_classes"],
            vocabulary=vocabulary and Vocabulary(tuple(vocabulary["tokens"]), vocabulary["level"]),
            encoding=encoding and Encoding(encoding["sample_rate"], encoding["companding"]),
            class_names=names and tuple(names),
            stands_for=description["fingerprint"],
            columns=columns and Columns.from_dict(columns),
            missing=description["missing"],
            strokes=description.get("strokes", False),  # runs of earlier versions have none
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is not the description of a data set ({type(error).__name__}: {error})") from error


def _shapes(split):
    arrays = {name: array for name, array in split._asdict().items() if array is not None}
    return {name: {"shape": list(array.shape), "dtype": np.dtype(array.dtype).str} for name, array in arrays.items()}


def _zeros(arrays):
    return {name: np.broadcast_to(np.zeros((), a["dtype"]), a["shape"]) for name, a in arrays.items()}
