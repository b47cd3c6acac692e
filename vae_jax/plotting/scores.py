"""Figures of scores: two sets of examples compared."""

import numpy as np
from matplotlib.figure import Figure

from vae_jax.plotting import PALETTE, shaped, styled


@styled
def histograms(inliers, outliers, *, label, names=("inliers", "outliers"), num_bins=50):
    """Show scores of inliers [N] and outliers [M], in nats, as two histograms of area one over the same bins.

    Scores that are not finite are left out.

    Args:
      inliers: the scores of the first set.
      outliers: the scores of the second set.
      label: the name of the score.
      names: the names of the two sets.
      num_bins: the number of bins.

    Raises `ValueError` if a set has no finite score.
    """
    inliers, outliers = shaped(inliers=(inliers, "N"), outliers=(outliers, "M"))
    inliers, outliers = (values[np.isfinite(values)] for values in (inliers, outliers))
    if not inliers.size or not outliers.size:
        raise ValueError("no score of the inliers, or of the outliers, is finite")
    edges = np.histogram_bin_edges(np.concatenate([inliers, outliers]), num_bins)
    figure = Figure(figsize=(4.2, 2.2), layout="constrained")
    panel = figure.add_subplot(xlabel=f"{label}  (nats)", yticks=[])
    panel.spines["left"].set_visible(False)
    for values, colour, name in zip((inliers, outliers), (PALETTE[0], PALETTE[6]), names, strict=True):
        density, _ = np.histogram(values, edges, density=True)
        panel.stairs(density, edges, fill=True, color=colour, alpha=0.25)
        panel.stairs(density, edges, color=colour, label=name)
    panel.margins(x=0.02)
    panel.legend(loc="best", handlelength=1.2)
    return figure
