"""Figures of codes: where the data are in latent space, and which dimensions carry information."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke

from vae_jax.plotting import INK, MARKERS, PALETTE, QUIET, class_style, plain, shaped, styled

HALO = [withStroke(linewidth=2, foreground="white")]


@styled
def scatter(z, label=None, *, class_names=None, axes=("$z_1$", "$z_2$"), radii=(1, 2)):
    """Show codes of the data in two dimensions, with circles at standard deviations of the prior N(0, I).

    For D > 2 pass an orthonormal projection of the codes, for which the circles are still right, and the names of its
    axes, such as `("PC 1", "PC 2")`. Codes that are not finite are left out.

    Args:
      z: codes [N, 2].
      label: classes from 0, which choose the colours [N].
      class_names: the names of the classes.
      axes: the names of the two axes.
      radii: those of the circles; () if p(z) is not N(0, I), or there is none.

    Raises `ValueError` for labels without a name, and if no code is finite.
    """
    figure = Figure(figsize=(3.4, 3.4))
    panel = figure.add_axes((0, 0, 1, 1), aspect="equal", anchor="W", xlabel=axes[0], ylabel=axes[1])
    names, present = _codes(panel, z, label, class_names, radii)
    _legend(panel, label, names, present)
    return figure


@styled
def planes(codes, label=None, *, class_names=None, radii=(), ncols=4):
    """Show the codes of several models side by side (`scatter`), each on the scale of its codes.

    Args:
      codes: {title: z [N, 2]}, of the same examples.
      label: classes from 0, which choose the colours [N].
      class_names: the names of the classes.
      radii: those of the circles of N(0, I) in every panel, or {title: radii} for models with different p(z).
      ncols: the number of panels in a row.
    """
    ncols = min(ncols, len(codes))
    nrows = -(-len(codes) // ncols)
    figure = Figure(figsize=(min(2.2, 6.3 / ncols) * ncols + 0.5, 2.2 * nrows), layout="constrained")
    for n, (title, z) in enumerate(codes.items()):
        panel = figure.add_subplot(nrows, ncols, n + 1, title=title)
        circles = radii[title] if isinstance(radii, dict) else radii
        names, present = _codes(panel, z, label, class_names, circles)
        z = np.asarray(z)[np.isfinite(z).all(axis=1)]
        low, high = np.min(z, axis=0), np.max(z, axis=0)
        half = 0.55 * max(np.max(high - low), 1e-6)
        sides = np.stack([(low + high) / 2 - half, (low + high) / 2 + half], axis=-1)
        panel.set(aspect="equal", xlim=sides[0], ylim=sides[1])
        if n + 1 == ncols:
            _legend(panel, label, names, present)
    return figure


def _codes(panel, z, label, class_names, radii):
    """Draw codes and circles, and return the names of all classes and the classes that occur."""
    z, classes = shaped(z=(z, "N 2"), label=(np.zeros(len(z)) if label is None else label, "N"))
    classes = classes.astype(int)
    finite = np.isfinite(z).all(axis=1)
    if not finite.any():
        raise ValueError("no code is finite")
    z, classes = z[finite], classes[finite]
    names = range(classes.max() + 1) if class_names is None else class_names
    if classes.min() < 0 or classes.max() >= len(names):
        raise ValueError(f"label must lie in 0..{len(names) - 1}; found {classes.min()}..{classes.max()}")
    order = np.random.default_rng(0).permutation(len(z))  # so that no class covers the others
    styles = {k: class_style(k, len(names)) for k in np.unique(classes)}
    size = np.clip(2e4 / len(z), 2.5, 12)
    for marker in dict.fromkeys(marker for _, marker in styles.values()):
        some = order[[styles[k][1] == marker for k in classes[order]]]
        colours = [styles[k][0] for k in classes[some]]
        panel.scatter(*z[some].T, s=size, c=colours, marker=marker, alpha=0.8, linewidths=0, rasterized=True)
    for radius in radii:
        panel.add_patch(Circle((0, 0), radius, fill=False, edgecolor=INK, linewidth=0.7, linestyle=(0, (4, 3))))
        panel.text(
            0, radius, f"{radius}$\\sigma$", ha="center", va="center", fontsize=7, clip_on=True, path_effects=HALO
        )
    panel.autoscale_view()
    return names, np.unique(classes)


def _legend(panel, label, names, present):
    if len(present) > 5 * len(MARKERS) * 2:
        panel.set_title(f"{len(present)} classes: colours repeat", loc="left")
    elif label is not None:
        keys = [_key(k, names[k], len(names)) for k in present]
        columns = 1 + (len(keys) - 1) // 16
        panel.legend(handles=keys, loc="center left", bbox_to_anchor=(1, 0.5), handlelength=1, ncols=columns)


@styled
def kl_per_dimension(kl, *, threshold=None):
    """Show the rate of every latent dimension, `kl` [D] in nats, averaged over the data, largest first.

    Dimensions above `threshold` nats are active; the posteriors of the others have collapsed to the prior.
    """
    (kl,) = shaped(kl=(kl, "D"))
    order, rank = np.argsort(-kl, kind="stable"), np.arange(len(kl))
    active = kl[order] > (-np.inf if threshold is None else threshold)
    figure = Figure(figsize=(4.0, 1.9))
    panel = figure.add_axes((0, 0, 1, 1), ylabel=r"$\mathrm{KL}(q(z_d \mid x) \parallel p(z_d))$  (nats)")
    panel.bar(rank, kl[order], width=0.8, color=np.where(active, PALETTE[0], QUIET))
    summary = f"{kl.sum():.1f} nats in all"
    if threshold is not None:
        panel.axhline(threshold, color=INK, linewidth=0.7, linestyle=(0, (4, 3)))
        summary = f"{active.sum()} of {len(kl)} dimensions above {threshold:g} nats\n{summary}"
    panel.text(1, 1, summary, transform=panel.transAxes, ha="right", va="top", linespacing=1.4)
    panel.set_xlim(-0.7, len(kl) - 0.3)
    if len(kl) <= 32:
        panel.set_xlabel("latent dimension $d$, by rate")
        panel.set_xticks(rank, labels=order)
        panel.tick_params(axis="x", length=0, labelsize=8 if len(kl) <= 24 else 7)
        for tick, on in zip(panel.get_xticklabels(), active, strict=True):
            tick.set_color(INK if on else QUIET)
    else:
        panel.set_xlabel("latent dimensions, by rate")
    return figure


@styled
def kl_per_level(kl):
    """Show the rate of every level of a hierarchy, `kl` [L] in nats, level 1 (next to x) first."""
    (kl,) = shaped(kl=(kl, "L"))
    levels = np.arange(1, len(kl) + 1)
    figure = Figure(figsize=(4.0, 1.9))
    panel = figure.add_axes((0, 0, 1, 1), ylabel="KL of the level  (nats)", xlabel="level $l$, from $x$ to the top")
    panel.bar(levels, kl, width=0.8, color=PALETTE[0])
    panel.text(1, 1.02, f"{kl.sum():.1f} nats in all", transform=panel.transAxes, ha="right", va="bottom")
    panel.set_xlim(0.3, len(kl) + 0.7)
    if len(kl) <= 24:
        panel.set_xticks(levels)
        panel.tick_params(axis="x", length=0)
    return figure


def _key(k, name, num_classes):
    """Return the entry of the legend for class k."""
    colour, marker = class_style(k, num_classes)
    return Line2D([], [], marker=marker, color=colour, markersize=4.5, linestyle="", label=plain(name))
