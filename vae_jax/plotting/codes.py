"""Figures of integer codes: maps of them as colours, and how often each is used."""

import numpy as np
from matplotlib.colors import hsv_to_rgb

from vae_jax.plotting import INK, PALETTE, row_of_panels, shaped, styled
from vae_jax.plotting.images import named_rows

__all__ = ["coloured", "maps", "use"]

GOLDEN = 0.6180339887  # of a turn: hues in steps of it are far apart


def coloured(codes, num_codes):
    """Return integer codes [...] as colours [..., 3] in [0, 1]: one for each of `num_codes`, without an order."""
    k = np.arange(num_codes)
    colours = hsv_to_rgb(np.stack([k * GOLDEN % 1.0, 0.55 + 0.35 * (k % 2), 0.65 + 0.3 * (k // 2 % 2)], axis=-1))
    return colours[np.asarray(codes)]


def maps(x, levels, sizes, mean):
    """Show images x [N, H, W, C], below them a row for each map of their codes, and their reconstructions.

    Args:
      x: the images.
      levels: {name: codes [N, h, w]}, where h divides H and w divides W.
      sizes: {name: number of codes}.
      mean: the reconstructions [N, H, W, C].
    """
    x, mean = shaped(x=(x, "N H W C"), mean=(mean, "N H W C"))
    rows = {"$x$": _in_colour(x)}
    for name, codes in levels.items():
        factors = (x.shape[1] // codes.shape[1], x.shape[2] // codes.shape[2])
        rows[name] = coloured(codes, sizes[name]).repeat(factors[0], 1).repeat(factors[1], 2)
    return named_rows({**rows, r"$\hat{x}$": _in_colour(mean)})


@styled
def use(counts):
    """Show the share of each code, {name: counts [K]}, the most frequent first, beside that of a uniform use."""
    figure, panels = row_of_panels(len(counts), 4.0, 1.9)
    for panel, (name, number) in zip(panels, counts.items(), strict=True):
        shares = np.sort(np.asarray(number, float))[::-1] / max(np.sum(number), 1)
        panel.bar(np.arange(len(shares)), shares, width=1.0, color=PALETTE[0])
        panel.axhline(1 / len(shares), color=INK, linewidth=0.7, linestyle=(0, (4, 3)))
        positive = shares[shares > 0]
        perplexity = np.exp(-np.sum(positive * np.log(positive)))
        summary = f"{len(positive)} of {len(shares)} codes in use\nperplexity {perplexity:.1f}"
        panel.text(1, 1, summary, transform=panel.transAxes, ha="right", va="top", linespacing=1.4)
        panel.set_xlabel("codes, by use")
        panel.set_title(name if len(counts) > 1 else None)
    panels[0].set_ylabel("share")
    return figure


def _in_colour(images):
    """Return images [N, H, W, C] in three channels; of C other than 1 and 3, the first channel, in grey."""
    images = np.asarray(images)
    return images if images.shape[-1] == 3 else np.repeat(images[..., :1], 3, axis=-1)
