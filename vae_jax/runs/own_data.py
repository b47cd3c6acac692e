"""Data of one's own for a trained model: read as the data of the run were, and refused if they do not fit."""

import re
from pathlib import Path

import numpy as np

from vae_jax.data import folders, sources, table, text, transforms
from vae_jax.data.reading import Rows
from vae_jax.data.values import NAMES, SPLITS, Dataset, Split
from vae_jax.spec import BadOption, call, one_of, under

FULL = (1, 255, 65_535)  # largest values that readers find by themselves


def on(experiment, *, name, path, files, split):
    """Return `experiment` with data of one's own as its test split, those of `split` or, with "all", of every split.

    Args:
      experiment: the experiment of the run.
      name: a data set of `sources.load`; None for that of the run.
      path: where its files are.
      files: the options of its reader (`read`).
      split: "train", "valid", "test" or "all".

    Raises `ValueError` for data that do not fit, or that lack what the model is conditional on.
    """
    dataset = experiment.dataset if name is None else read(experiment, name, path, files)
    return experiment._replace(dataset=with_test(experiment, dataset, split))


def read(experiment, name, path=None, files=None, *, flag="--data") -> Dataset:
    """Return the data set `name` for the model of `experiment`.

    Readers get the options of the run's config, and files the run's scale. Text gets the run's vocabulary, a table the
    run's standardisation, and classes with names the run's numbers.

    Args:
      experiment: the experiment of the run.
      name: a data set of `sources.load`.
      path: where its files are.
      files: the options of its reader; None for those of the run, if it has the same reader.
      flag: the flag that names the data, for errors.

    Raises `ValueError` for data of another shape, other levels or another kind than those of the run.
    """
    data, dataset = experiment.config["data"], experiment.dataset
    if dataset.vocabulary and path:
        return _sentences(dataset, path)
    own = {key: value for key, value in data["files"].items() if key != "hide"} if name == data["name"] else {}
    if dataset.columns and name == "table":
        other = call(table.load, own if files is None else files, path, where="config.data.files", like=dataset.columns)
        return _with_classes_of(dataset, other) if experiment.context is not None else other
    options = {"audio": data["audio"] if name == "audio" else None}
    options |= {"tokens": data["tokens"] if name == "text" or name not in NAMES else None}
    options |= {"files": own if files is None else files}
    with under("config.data"):
        other = _loaded(name, path, options, data["max_value"] or _scale(experiment, name), dataset.max_value)
    _check(experiment, other, f"{flag}={name}")
    return _with_classes_of(dataset, other) if experiment.context is not None else other


def row_names(dataset, split, name, path) -> list[str]:
    """Return a name for each example of `split`, or with "all" of every split: that of its file, or SPLIT/PLACE.

    Args:
      dataset: the data set.
      split: "train", "valid", "test" or "all".
      name: the name by which it was read.
      path: where its files are.
    """
    files = folders.file_names(path) if name == "images" else {}
    rows = []
    for part in SPLITS if split == "all" else (split,):
        x = getattr(dataset, part).x
        of_part = [files["train"][place] for place in x.index] if files and isinstance(x, Rows) else files.get(part, ())
        places = [f"{part}/{place}" for place in range(len(x))]
        rows += of_part if len(of_part) == len(x) else places
    return rows


def title(*, name, path, split, **_) -> str:
    """Return a name for files about this data: letters, digits, dots, dashes and underscores."""
    parts = [name, path and Path(path).stem, split if split != "test" else None]
    return re.sub(r"[^\w.-]+", "_", "-".join(filter(None, parts)))


def _loaded(name, path, options, max_value, of_run):
    """Return a data set on the scale 0..max_value; if its values are larger, on its own, which `_check` refuses.

    With a `max_value` of 0 it has the scale that its values tell. If they tell none, it has that `of_run`, except where
    that is a full range, in which such images would be dark.
    """
    try:
        return sources.load(name, path, max_value=max_value, **options)
    except BadOption as error:
        if "max_value" not in str(error):
            raise
        if not max_value and of_run in FULL:
            raise ValueError(
                f"the values of {path or name} do not tell which one is full, and the run has 0..{of_run}: multiply "
                f"all values so that the largest possible one is {of_run}, and write them again"
            ) from None
        return sources.load(name, path, max_value=0 if max_value else of_run, **options)


def _scale(experiment, name):
    """Return the largest value of the run's data for files whose scale would be guessed, 0 to find it out."""
    guessed = name == "idx" or name in sources.READERS
    levels = experiment.dataset.train.x.dtype.kind in "ui" and experiment.transform is not transforms.binarize
    return experiment.dataset.max_value if guessed and levels else 0


def with_test(experiment, dataset, split) -> Dataset:
    """Return `dataset` with the examples of `split`, or with "all" of every split, as its test split."""
    one_of((*SPLITS, "all"), **{"--split": split})
    chosen = _together(dataset) if split == "all" else getattr(dataset, split)
    name, stored = experiment.config["data"]["context"]["name"], experiment.conditioning.stored
    if experiment.context is not None and stored(experiment.dataset.train) is not None:  # or it is made of x
        context = stored(chosen)
        if context is None:
            raise ValueError(f"{dataset.name} has no {name}, and this model is conditional on it; give data with one")
        if name == "label" and (known := experiment.dataset.num_classes) <= np.max(context, initial=0):
            raise ValueError(
                f"{dataset.name} has a class {np.max(context)}, and this model knows only 0 .. {known - 1}"
            )
    return dataset._replace(test=chosen)


def _together(dataset) -> Split:
    """Return the examples of all splits as one, in the order of `SPLITS`."""
    parts = zip(*(getattr(dataset, split) for split in SPLITS), strict=True)
    whole = lambda arrays: np.concatenate([np.asarray(array) for array in arrays])  # noqa: E731
    return Split(*(None if any(array is None for array in arrays) else whole(arrays) for arrays in parts))


def _sentences(dataset, path) -> Dataset:
    """Return the lines of a file as sentences in the vocabulary of `dataset`: the test split, the others are empty."""
    vocabulary, length = dataset.vocabulary, dataset.train.x.shape[1]
    tokens = (text.tokenize(line, level=vocabulary.level) for line in text.read_lines(path))
    fitting = [sentence for sentence in tokens if 0 < len(sentence) < length]
    if not fitting:
        raise ValueError(f"{path} has no line of 1 to {length - 1} tokens, which is the longest sentence of this model")
    split = Split(np.stack([vocabulary.encode(sentence, length) for sentence in fitting]))
    none = Split(split.x[:0])
    return Dataset(Path(path).stem, none, none, split, max_value=dataset.max_value, vocabulary=vocabulary)


def _with_classes_of(dataset, other) -> Dataset:
    """Return `other` with the class numbers of `dataset`, by their names. Raises `ValueError` for an unknown name."""
    names = other.class_names
    known = dataset.class_names or tuple(map(str, range(dataset.num_classes or 0)))
    if not names or not known or names == known:
        return other
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{other.name} has a class {unknown[0]!r}; this model knows {', '.join(known)}")
    numbers = np.asarray([known.index(name) for name in names], np.int32)
    splits = {split: getattr(other, split) for split in SPLITS}
    splits = {name: split._replace(label=numbers[np.asarray(split.label)]) for name, split in splits.items()}
    return other._replace(**splits, class_names=dataset.class_names, num_classes=len(known))


def _check(experiment, other, what):
    """Raise `ValueError` unless the model of `experiment` takes the data set `other`."""
    dataset, transform = experiment.dataset, experiment.transform
    shapes = [x.shape[1:] for x in (other.test.x, dataset.test.x)]
    kinds = [(bool(d.vocabulary), d.encoding, bool(d.columns)) for d in (other, dataset)]
    if kinds[0] != kinds[1]:
        raise ValueError(f"{what}: this is another kind of data than {dataset.name}, of which the model is")
    if other.vocabulary and other.vocabulary != dataset.vocabulary:
        raise ValueError(f"{what}: its words are not those of the model; give the text by its path")
    if shapes[0] != shapes[1]:
        kind = "images" if len(shapes[1]) == 3 else "examples"
        raise ValueError(
            f"{what}: its {kind} are {shapes[0]}, those of {dataset.name} are {shapes[1]}; give a data set with {kind} "
            "of the same shape"
        )
    if other.max_value != dataset.max_value and transform is not transforms.binarize:
        raise ValueError(
            f"{what}: its levels are 0..{other.max_value}, those of {dataset.name} 0..{dataset.max_value}; "
            "give a data set with the same levels, or a run of binarised data"
        )
