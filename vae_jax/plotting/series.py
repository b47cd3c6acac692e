"""Figures of vectors, series and tables: lines over the index, and one panel for each pair of columns."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vae_jax.plotting import INK, OKABE_ITO, QUIET, plain, row_of_panels, shaped, styled

MOST_POINTS, MOST_COLUMNS, MOST_NAMES, BINS = 1000, 6, 4, 24
DATA, MODEL = QUIET, OKABE_ITO[0]


@styled
def lines(groups, *, xlabel="index"):
    """Show vectors or series, {name: x [N, T]}, as thin lines: a panel for each group, all on one scale."""
    arrays = shaped(**{name: (x, f"N{n} T") for n, (name, x) in enumerate(groups.items())})
    low, high = _range(arrays)
    figure, panels = row_of_panels(len(groups), 2.6, 1.7, gap=0.3)
    for n, (panel, name, x) in enumerate(zip(panels, groups, arrays, strict=True)):
        for k, one in enumerate(x):
            panel.plot(np.arange(x.shape[1]), one, linewidth=0.8, color=OKABE_ITO[k % 6], alpha=0.9)
        panel.set(title=plain(name), xlabel=xlabel, ylim=(low, high))
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        panel.margins(x=0.02)
        if n:
            panel.set_yticklabels([])
    return figure


@styled
def overlays(x, mean, *, xlabel="index", ncols=4):
    """Show each vector or series x [N, T] and its reconstruction from the posterior mean, `mean` [N, T], in a panel."""
    x, mean = shaped(x=(x, "N T"), mean=(mean, "N T"))
    low, high = _range([x, mean])
    ncols = min(ncols, len(x))
    nrows = -(-len(x) // ncols)
    width, height, gap = 1.55, 1.0, 0.12
    figure = Figure(figsize=(ncols * (width + gap) - gap, nrows * (height + gap) - gap))
    whole, tall = figure.get_size_inches()
    for n in range(len(x)):
        row, column = divmod(n, ncols)
        place = (
            column * (width + gap) / whole,
            1 - (row * (height + gap) + height) / tall,
            width / whole,
            height / tall,
        )
        panel = figure.add_axes(place, ylim=(low, high))
        panel.plot(x[n], color=INK, linewidth=0.8, label="$x$")
        panel.plot(mean[n], color=MODEL, linewidth=1.0, label=r"$\hat{x}$")
        panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        panel.margins(x=0.02)
        panel.tick_params(labelleft=column == 0, labelbottom=n + ncols >= len(x))
        if n + ncols >= len(x):
            panel.set_xlabel(xlabel)
    figure.axes[ncols - 1].legend(loc="upper left", bbox_to_anchor=(1, 1), handlelength=1.2)
    return figure


@styled
def pairs(data, samples, names, *, categories=None):
    """Show the columns of a table two by two: points of the data and of the model, and histograms on the diagonal.

    Rows with a missing value (NaN) in a pair of columns are left out there. The axes hold all data, and the samples but
    for one in a hundred on either side, which may lie far out. At most the first `MOST_COLUMNS` columns
    and the first `MOST_POINTS` rows are shown.

    Args:
      data: rows of the data [N, D].
      samples: rows of the model [M, D].
      names: the names of the columns [D]; dollar signs begin a formula.
      categories: the names of the codes 0, 1, ... of each column [D], None for a column of numbers. Points of codes are
        spread a little, so that they do not hide each other.
    """
    data, samples = shaped(data=(data, "N D"), samples=(samples, "M D"))
    both = [rows[:MOST_POINTS, :MOST_COLUMNS].astype(float) for rows in (data, samples)]
    dim = both[0].shape[1]
    codes = [None] * dim if categories is None else list(categories)[:dim]
    side, gap = min(1.4, 6.0 / dim), 0.08
    whole = dim * (side + gap) - gap
    figure = Figure(figsize=(whole, whole))
    limits = [_limits(*(rows[:, d] for rows in both), codes[d]) for d in range(dim)]
    spread = [_spread(rows, codes) for rows in both]
    for row in range(dim):
        for column in range(row + 1):
            place = (column * (side + gap) / whole, 1 - (row * (side + gap) + side) / whole)
            panel = figure.add_axes((*place, side / whole, side / whole), xlim=limits[column])
            if row == column:
                bins = BINS if codes[column] is None else len(codes[column])
                _shares(panel, [rows[:, column] for rows in both], np.linspace(*limits[column], bins + 1))
            else:
                style = {"s": 3, "alpha": 0.5, "linewidths": 0, "rasterized": True}
                for rows, colour in zip(spread, (DATA, MODEL), strict=True):
                    panel.scatter(rows[:, column], rows[:, row], color=colour, **style)
                panel.set_ylim(limits[row])
                _name_codes(panel.yaxis, codes[row], 10)
            _name_codes(panel.xaxis, codes[column], 16 // len(codes[column] or [0]))
            panel.tick_params(labelleft=column == 0 and row > 0, labelbottom=row == dim - 1)
            if row == dim - 1:
                panel.set_xlabel(names[column])
            if column == 0 and row > 0:
                panel.set_ylabel(names[row])
    figure.axes[0].legend(loc="upper left", bbox_to_anchor=(1.05, 1), handlelength=1.2)
    return figure


def _shares(panel, both, edges):
    """Draw the shares of two sets of numbers in the same bins."""
    for values, colour, name in zip(both, (DATA, MODEL), ("data", "samples"), strict=True):
        values = values[np.isfinite(values)]
        share = np.histogram(values, edges)[0] / max(len(values), 1)
        style = {"fill": True, "alpha": 0.5} if colour == DATA else {}
        panel.stairs(share, edges, color=colour, label=name, **style)
    panel.set_yticks([])


def _spread(rows, codes):
    """Return rows in which codes are moved by up to a quarter."""
    noise = np.random.default_rng(0).uniform(-0.25, 0.25, rows.shape)
    return rows + noise * np.array([names is not None for names in codes])


def _limits(data, samples, names):
    """Return the limits of the axis of a column: of all data, and of the samples without a hundredth on either side."""
    if names is not None:
        return -0.5, len(names) - 0.5
    samples = samples[np.isfinite(samples)]
    return _range([data, np.percentile(samples, [1, 99]) if samples.size else samples], margin=0.06)


def _name_codes(axis, names, letters):
    """Put the names of codes at an axis, at most `MOST_NAMES`; a few numbers for a column of numbers."""
    if names is None or len(names) > MOST_NAMES:
        axis.set_major_locator(MaxNLocator(3, integer=names is not None))
        return
    axis.set_ticks(np.arange(len(names)), labels=[plain(shortened(name, letters)) for name in names])


def shortened(name, letters) -> str:
    """Return `name`, cut to so many letters."""
    return str(name) if len(str(name)) <= letters else f"{str(name)[: letters - 1]}…"


def _range(arrays, margin=0.04):
    """Return the limits of an axis for all finite values of `arrays`."""
    values = np.concatenate([np.ravel(a)[np.isfinite(np.ravel(a))] for a in arrays])
    if not values.size:
        return 0.0, 1.0
    room = margin * (values.max() - values.min()) or 0.5
    return values.min() - room, values.max() + room
