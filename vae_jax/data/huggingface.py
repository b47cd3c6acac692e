"""Data sets in the format of the Hugging Face hub: saved on disk by `datasets`, or by name where that is asked for.

Images are decoded by `image_files`, once, into the cache. Other columns are read as arrays.
"""

import os
from pathlib import Path

from vae_jax.data import array_files, assemble, decoded, files, folders, image_files, splits
from vae_jax.data.values import SPLITS, Dataset
from vae_jax.spec import BadOption, flags, nearest, shown

SAVED = ("dataset_dict.json", "state.json")  # in a folder that `save_to_disk` has written
IMAGES, LABELS = ("image", "img", "x"), ("label", "labels", "fine_label")


def load(
    path=None,
    *,
    x=None,
    label=None,
    size=None,
    channels=None,
    fit="resize",
    bits=None,
    download=False,
    subset=None,
    missing=False,
    max_value=None,
) -> Dataset:
    """Return a data set that `datasets.Dataset.save_to_disk` or `DatasetDict.save_to_disk` has written.

    The splits are those of the set, called as in `splits.NAMES`; missing ones are held out. Nothing is downloaded
    except with `download`.

    Args:
      path: the folder; with `download` the name of a set of the hub.
      x: the column of the examples: images or lists of numbers; None for the only column of images, or for "x".
      label: the column of the classes; None for a column of classes or one called label, "" for none.
      size: (height, width) of images, or one number; None if all have one size.
      channels: the number of channels of images; None for that of the files (`folders.load`).
      fit: how an image gets its size: "resize", "crop" or "pad".
      bits: 8 to read images of 16 bits as 8 bits.
      download: True to fetch the set `path` from the hub, into the cache of `datasets`.
      subset: the name of a configuration of the set, for `download`.
      missing: True if NaN means "not observed".
      max_value: the largest value that can be stored; None or 0 to find it out.

    Raises FileNotFoundError if there is no folder, `ValueError` if it is damaged or `datasets` is not installed, and
    `BadOption` for columns that it does not have.
    """
    chosen = image_files.options(size, channels, fit, bits)
    flags(download=download, missing=missing)
    for option, name in {"x": x, "label": label}.items():
        if name is not None and not isinstance(name, str):
            raise BadOption(f"{option} must be the name of a column, got {shown(name)}")
    tables, where, identity = _downloaded(path, subset) if download else _saved(path)
    import datasets

    tables = _by_split(tables, where)
    features = tables["train"].features
    x = _examples_column(features, x, where)
    label = _label_column(features, label, where)
    if isinstance(features[x], datasets.Image):
        sources = {split: _sources(table, x, where, split) for split, table in tables.items()}
        options_of_reader = [identity, x]
        examples = decoded.arrays(Path(where).name, where, options_of_reader, sources, chosen)
    else:
        if chosen != image_files.Options():
            raise BadOption(f"size, channels, fit and bits are for images, and the column {x!r} of {where} has none")
        examples = {split: _column(table, x, where) for split, table in tables.items()}
    labels = {split: None if label is None else _column(table, label, where) for split, table in tables.items()}
    names = features[label].names if label and isinstance(features[label], datasets.ClassLabel) else None
    return assemble.of_splits(
        Path(where).name,
        {split: (examples[split], labels[split], None) for split in tables},
        where=where,
        class_names=names and tuple(names),
        missing=missing,
        max_value=max_value,
        dark_below=folders.DARK,
    )


def _datasets():
    try:
        import datasets
    except ImportError:
        raise ValueError(
            "huggingface: this format is read by datasets, which is not installed: pip install 'vae_jax[huggingface]'"
        ) from None
    return datasets


def _saved(path):
    """Return the tables of a folder, the folder, and what its content is known by."""
    if path is None:
        raise ValueError("huggingface needs a path: a folder that save_to_disk of datasets has written")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"huggingface: no folder {folder}; set download to True to fetch a set of this name from the hub"
        )
    if not any((folder / name).is_file() for name in SAVED):
        raise ValueError(
            f"{folder}: not written by save_to_disk of datasets, which leaves {' or '.join(SAVED)}; name 'images' "
            "reads a folder of image files, 'arrays' and 'table' read Parquet files"
        )
    with files.reading(folder, "damaged, or not a saved data set"):
        tables = _datasets().load_from_disk(os.fspath(folder))
    listed = sorted(file for file in folder.rglob("*") if file.is_file())
    states = [(file.relative_to(folder).as_posix(), file.stat()) for file in listed]
    return tables, str(folder), [[name, state.st_size, state.st_mtime_ns] for name, state in states]


def _downloaded(path, subset):
    """Fetch a set of the hub; return its tables, its name, and what its content is known by."""
    if path is None:
        raise ValueError("huggingface needs a path: the name of a set of the hub, such as ylecun/mnist")
    if subset is not None and not isinstance(subset, str):
        raise BadOption(f"subset must be the name of a configuration, got {shown(subset)}")
    with files.reading(path, "cannot be fetched from the hub"):
        tables = _datasets().load_dataset(str(path), subset)
    prints = {name: table._fingerprint for name, table in tables.items()}
    return tables, str(path), prints


def _by_split(tables, where):
    """Return {split: table}."""
    if not isinstance(tables, dict):
        return {"train": tables}
    found = {}
    for name in tables:
        if (split := splits.named(name)) in found:
            raise ValueError(f"{where}: it has the split {split} twice: {', '.join(tables)}")
        if split is not None:
            found[split] = tables[name]
    if "train" not in found:
        raise ValueError(f"{where}: a split called train is required; it has {', '.join(tables) or 'none'}")
    return {split: found[split] for split in SPLITS if split in found}


def _examples_column(features, x, where):
    import datasets

    if x is not None:
        if x not in features:
            raise BadOption(f"x: {where} has no column {x!r}{nearest(x, features)}")
        return x
    images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    likely = [name for name in IMAGES if name in features]
    if len(images) != 1 and not likely:
        raise BadOption(
            f"x must name the column of the examples of {where}, because it has {len(images)} columns of images; its "
            f"columns are {', '.join(features)}; a text is read from a file by name 'text'"
        )
    return images[0] if len(images) == 1 else likely[0]


def _label_column(features, label, where):
    import datasets

    if label == "":
        return None
    if label is not None:
        if label not in features:
            raise BadOption(f"label: {where} has no column {label!r}{nearest(label, features)}")
        return label
    classes = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    likely = [name for name in LABELS if name in features]
    return (likely or (classes if len(classes) == 1 else [None]))[0]


def _sources(table, column, where, split):
    """Return a function for each image: its bytes, or the path of its file, and what messages name."""
    import datasets

    table = table.cast_column(column, datasets.Image(decode=False)).select_columns([column])

    def source(i):
        def content():
            name = f"{where}, {split} {i}"
            with files.reading(name, "damaged"):
                image = table[i][column]
            if image is None:
                raise ValueError(f"{name}: the image is missing")
            if image["bytes"] is not None:
                return image["bytes"], name
            if "://" in image["path"] or "::" in image["path"]:
                raise ValueError(f"{name}: the image is not stored but on the network; save the set with its images")
            return Path(image["path"]), image["path"]

        return content

    return [source(i) for i in range(len(table))]


def _column(table, column, where):
    with files.reading(where, f"damaged in the column {column!r}"):
        table = table.select_columns([column]).with_format("arrow")
        return array_files.of_column(table[:][column], f"{where}, {column}")
