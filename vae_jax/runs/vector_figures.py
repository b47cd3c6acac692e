"""The figures of a model of vectors, series or tables: each function takes a `Scene` and returns a captioned figure."""

import functools

import numpy as np

from vae_jax.plotting import add_caption, plain, series

LINES = 8  # vectors in a panel
PAIRED = 6  # vectors of at most so many numbers are shown two by two, as tables are


def makers(scene) -> dict:
    """Return {name: function of no arguments that returns the figure}, all that the model and the data allow."""
    chosen, paired = [], is_paired(scene.dataset)
    if scene.latent and not paired:
        chosen.append(reconstructions)
    if scene.model.sample is not None:
        chosen.append(pairs if paired else samples)
    if scene.log_prob is not None and len(scene.x) > 1 and not paired:
        chosen.append(best_and_worst)
    names = {"pairs": "samples"}
    return {names.get(make.__name__, make.__name__): functools.partial(make, scene) for make in chosen}


def is_paired(dataset) -> bool:
    """Return True for a table, and for vectors of few numbers."""
    return dataset.columns is not None or dataset.test.x[0].size <= PAIRED


def reconstructions(scene):
    """Draw test vectors and their reconstructions from the mean of q(z|x)."""
    first = np.arange(min(LINES, len(scene.x)))
    figure = series.overlays(_lines(scene.x[first]), _lines(scene.raw_reconstruct(first)))
    return add_caption(figure, "The first test examples, and the mean of p(x|z) at the mean of q(z|x).")


def samples(scene):
    """Draw test vectors and draws of the model as lines."""
    groups = {"test data": scene.x[:LINES]}
    if "mean" in scene.draws:
        groups["means of p(x|z), z from p(z)"] = scene.draws["mean"][:LINES]
    groups["draws of the model"] = scene.draws["x"][:LINES]
    figure = series.lines({name: _lines(x) for name, x in groups.items()})
    return add_caption(figure, "The first of each; none is selected.")


def pairs(scene):
    """Draw the columns of a table two by two, of the test data and of draws of the model."""
    number = min(len(scene.x), series.MOST_POINTS)
    figure = in_pairs(scene.dataset, scene.x, scene.many_draws(number))
    dim = scene.x[0].size
    some = f"The first {series.MOST_COLUMNS} of {dim} columns" if dim > series.MOST_COLUMNS else "The columns"
    return add_caption(figure, f"{some} two by two: test data (grey) and as many draws of the model.")


def in_pairs(dataset, x, drawn):
    """Return the figure of examples x [N, D] and draws of the model, in the units of the columns of `dataset`."""
    columns = dataset.columns
    if columns is None:
        return series.pairs(_lines(x), _lines(drawn), [f"$x_{{{d + 1}}}$" for d in range(x[0].size)])
    rows = (_in_units(columns, _lines(rows)) for rows in (x, drawn))
    return series.pairs(
        *rows, [plain(series.shortened(name, 18)) for name in columns.names], categories=columns.categories
    )


def best_and_worst(scene):
    """Draw the test vectors with the highest and with the lowest log p(x)."""
    order = np.argsort(-scene.log_prob, kind="stable")
    number = min(LINES, len(order) // 2)
    rows = {"highest log p(x)": order[:number], "lowest log p(x)": order[::-1][:number]}
    figure = series.lines({name: _lines(scene.x[i]) for name, i in rows.items()})
    ends = [f"{scene.log_prob[i].min():.1f} to {scene.log_prob[i].max():.1f}" for i in rows.values()]
    return add_caption(figure, f"log p(x) is {ends[0]} nats on the left and {ends[1]} nats on the right.")


def _lines(x):
    """Return vectors or series as [N, T]: of several channels the first."""
    x = np.asarray(x, np.float64)
    return x if x.ndim == 2 else x[..., 0] if x.ndim == 3 else x.reshape(len(x), -1)


def _in_units(columns, x):
    """Return rows of a table in the units of the file; columns of categories keep their codes."""
    original = columns.to_original(x)
    known = zip(columns.names, columns.categories, strict=True)
    return np.stack([original[name] if names is None else x[:, d] for d, (name, names) in enumerate(known)], axis=1)
