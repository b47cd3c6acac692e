"""Many image files as mapped arrays [N, H, W, C]: decoded once, in threads, into the cache."""

import numpy as np
from absl import logging

from vae_jax.data import cache, image_files, on_demand
from vae_jax.spec import BadOption

VERSION = 1  # of what is decoded: a change here decodes everything again


def arrays(name, where, identity, sources, chosen) -> dict[str, np.ndarray]:
    """Return {split: images [N, H, W, C]}, mapped from the cache.

    Args:
      name: of the data set.
      where: the folder, for messages.
      identity: the content of the sources as JSON, such as names, sizes and times of files.
      sources: {split: a list of functions, each returning the content of a file and what messages name}.
      chosen: `image_files.options`.

    Raises `ValueError` for damaged files, with the number of them, and `BadOption` for images that differ in size,
    channels or bits.
    """
    number = sum(map(len, sources.values()))

    def make(folder):
        logging.info("%s: %s images are decoded once, into %s", where, f"{number:,}", cache.root())
        several, first = 0, None
        for split, of_split in sources.items():
            frames, first = _decode(where, split, of_split, chosen, folder / f"{split}.npy", number, first)
            several += frames
        if several:
            logging.warning("%s: %d files hold several images, of which the first one is read", where, several)

    return cache.arrays(name, [VERSION, *chosen, identity], make)


def _decode(where, split, sources, chosen, file, number, first):
    """Write the images of a split into `file`; return how many sources hold several, and the first image's kind."""
    if first is None:
        first = _first(sources, chosen)
        cache.check_space(int(number * np.prod(first[0]) * first[1].itemsize))
    stored = np.lib.format.open_memmap(file, "w+", first[1], (len(sources), *first[0]))

    def work(i):
        content, name = sources[i]()
        try:
            x, frames = image_files.decode(content, name, chosen)
        except BadOption:
            raise
        except (ValueError, OSError) as error:
            return error  # the number of broken files is known at the end
        _check_alike(x, name, first, chosen)
        stored[i] = x
        return frames

    several, broken = 0, []
    for part in on_demand.in_threads(work, len(sources), f"{where}, {split}: decoded"):
        broken += [result for result in part if isinstance(result, Exception)]
        several += sum(result > 1 for result in part if isinstance(result, int))
    if broken:
        rest = f"; so are {len(broken) - 1} more files" if len(broken) > 1 else ""
        raise ValueError(f"{broken[0]}{rest}; restore or remove them")
    stored.flush()
    return several, first


def _first(sources, chosen):
    """Return the shape, the type and the name of the first image that can be read."""
    errors = []
    for source in sources:
        content, name = source()
        try:
            x, _ = image_files.decode(content, name, chosen)
            return x.shape, x.dtype, name
        except BadOption:
            raise
        except (ValueError, OSError) as error:
            errors.append(error)
    raise errors[0]


def _check_alike(x, name, first, chosen):
    shape, dtype, first_name = first
    if x.shape[:2] != shape[:2]:
        raise BadOption(
            f"size must be given, such as ({shape[0]}, {shape[1]}), because the images differ: {first_name} has "
            f"{shape[0]}x{shape[1]} pixels, {name} {x.shape[0]}x{x.shape[1]}"
        )
    if x.shape[2] != shape[2]:
        raise BadOption(
            f"channels must be given, such as {min(shape[2], x.shape[2])}, because the images differ: {first_name} has "
            f"{shape[2]}, {name} {x.shape[2]}"
        )
    if x.dtype != dtype:
        raise BadOption(f"bits must be 8, because the images differ: {first_name} is {dtype}, {name} {x.dtype}")
