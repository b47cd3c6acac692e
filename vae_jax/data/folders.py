"""A folder of image files: flat, in folders that are the classes, or with train/valid/test above them."""

import collections
import os
from pathlib import Path

from absl import logging

from vae_jax.data import assemble, decoded, image_files, splits
from vae_jax.data.values import Dataset
from vae_jax.spec import BadOption, flags

DARK = 0.25  # of the scale of 8 bits, which the format states: images that are all darker may be levels
IGNORED = ("__MACOSX",)


def load(path=None, *, size=None, channels=None, fit="resize", bits=None, label=True, max_value=None) -> Dataset:
    """Return the data set of a folder of PNG, JPEG, WebP, TIFF, GIF, BMP or PNM files.

    The first folders below `path` are the splits if one of them is called train; their names are those in
    `splits.NAMES`. The folders below that, or below `path`, are the classes. Files deeper down belong to these classes.
    Images are decoded once into the cache (`cache`) and then mapped.

    Args:
      path: the folder.
      size: (height, width), or one number for a square; None if all images have one size.
      channels: 1 for grey, 2 for grey and alpha, 3 for RGB, 4 for RGBA; other numbers if the files have them. None for
        the channels of the files. Alpha is dropped where it is not asked for.
      fit: how an image gets its size: "resize" stretches it, "crop" takes its middle, "pad" adds a margin of zeros.
        The filter is Pillow's Lanczos filter, which is antialiased.
      bits: 8 to read images of 16 bits as 8 bits; None to keep them, as uint16.
      label: False if folders are no classes.
      max_value: the largest value that can be stored; None or 0 to find it out.

    Raises FileNotFoundError if there is no image, `ValueError` for damaged files and folders that cannot be understood,
    and `BadOption` for images that differ in size, channels or bits where nothing says how to make them alike.
    """
    chosen = image_files.options(size, channels, fit, bits)
    flags(label=label)
    folder = _folder(path)
    found = _found(folder)
    parts, class_names = _structure(folder, found, label)
    sources = {split: [_source(folder, name) for name, _ in part] for split, part in parts.items()}
    identity = {split: [[name, *found[name]] for name, _ in part] for split, part in parts.items()}
    name = folder.resolve().name or "images"
    x = decoded.arrays(name, folder, identity, sources, chosen)
    labels = {split: None if class_names is None else [number for _, number in part] for split, part in parts.items()}
    return assemble.of_splits(
        name,
        {split: (x[split], labels[split], None) for split in parts},
        where=str(folder),
        class_names=class_names,
        max_value=max_value,
        dark_below=DARK,
    )


def file_names(path) -> dict[str, list[str]]:
    """Return {split: names of its files below `path`}, in order; splits that are held out of "train" are in it."""
    folder = _folder(path)
    return {split: [name for name, _ in part] for split, part in _splits(folder, _found(folder)).items()}


def _folder(path) -> Path:
    if path is None:
        raise ValueError("images needs a path: a folder of image files")
    folder = Path(path).expanduser()
    if folder.is_file():
        raise ValueError(f"{folder}: a folder of image files is required, this is a file; name 'arrays' reads arrays")
    if not folder.is_dir():
        raise FileNotFoundError(f"images: no folder {folder}")
    return folder


def _source(folder, name):
    return lambda: (folder / name, str(folder / name))


def _found(folder) -> dict[str, list]:
    """Return {name of an image file below `folder`: [its size, the time of its last change]}, in order."""
    found, others, empty, seen = {}, collections.Counter(), [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in IGNORED)
        images = [name for name in names if name.lower().endswith(image_files.SUFFIXES) and not name.startswith(".")]
        others.update(Path(name).suffix.lower() for name in names if name not in images and not name.startswith("."))
        if not images and not folders:
            empty.append(os.path.relpath(place, folder))
        for name in images:
            file = Path(place) / name
            status = file.stat()
            found[file.relative_to(folder).as_posix()] = [status.st_size, status.st_mtime_ns]
    if not found:
        hint = f"; its files are {_counted(others)}: name 'arrays' reads arrays, 'table' tables" if others else ""
        raise FileNotFoundError(f"images: no {', '.join(image_files.SUFFIXES)} in {folder}{hint}")
    if others:
        logging.info("%s: files that are no images are passed over: %s", folder, _counted(others))
    if empty:
        logging.warning("%s: these folders have no image: %s", folder, ", ".join(sorted(empty)[:10]))
    return {name: found[name] for name in sorted(found)}


def _counted(others):
    return ", ".join(f"{number} {suffix or 'without suffix'}" for suffix, number in others.most_common(3))


def _structure(folder, found, label):
    """Return {split: [(name of a file, number of its class)]}, and the names of the classes or None."""
    parts = _splits(folder, found)
    if not label:
        return {split: [(name, 0) for name, _ in part] for split, part in parts.items()}, None
    classes = {
        split: {rest.split("/")[0] if "/" in rest else None for _, rest in part} for split, part in parts.items()
    }
    for split, names in classes.items():
        if None in names and len(names) > 1:
            loose = sum("/" not in rest for _, rest in parts[split])
            raise BadOption(
                f"label must be False if folders are no classes: in the {split} split of {folder}, {loose} images lie "
                "beside the folders; or move them into a folder"
            )
    names = set().union(*classes.values())
    if names == {None}:
        return {split: [(name, 0) for name, _ in part] for split, part in parts.items()}, None
    if None in names:
        flat = next(split for split, of_split in classes.items() if None in of_split)
        raise BadOption(
            f"label must be False for {folder}, whose {flat} split has no folders of classes, others have; or sort its "
            "images into such folders"
        )
    names = sorted(names, key=lambda name: (0, int(name), name) if name.isdecimal() else (1, 0, name))
    number = {name: i for i, name in enumerate(names)}
    numbered = {split: [(name, number[rest.split("/")[0]]) for name, rest in part] for split, part in parts.items()}
    return numbered, tuple(names)


def _splits(folder, found):
    """Return {split: [(name of a file, the same below the folder of its split)]}."""
    tops = {name.split("/")[0] for name in found if "/" in name}
    of_top = {top: split for top in sorted(tops) if (split := splits.named(top))}
    if "train" not in of_top.values():
        if of_top and "test" in of_top.values():
            raise ValueError(
                f"{folder}: it has a folder {next(iter(of_top))!r} and none called train; rename the folders to train, "
                "valid and test, or remove that name if the folders are classes"
            )
        return {"train": [(name, name) for name in found]}
    if len(set(of_top.values())) < len(of_top):
        raise ValueError(f"{folder}: the folders {', '.join(of_top)} give a split twice; keep one of each")
    parts = {split: [] for split in ("train", "valid", "test") if split in of_top.values()}
    for name in found:
        top, _, rest = name.partition("/")
        if top in of_top and rest:
            parts[of_top[top]].append((name, rest))
    left = len(found) - sum(map(len, parts.values()))
    if left:
        logging.warning("%s: %d images lie beside %s and are left out", folder, left, ", ".join(of_top))
    return parts
