"""Figures of inference with one latent dimension: densities of z, areas, and bounds of their logarithms."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from vae_jax.plotting import INK, PALETTE, QUIET, shaped, styled
from vae_jax.plotting.images import pixels

PRIOR, JOINT, POSTERIOR, GUESS = QUIET, PALETTE[0], PALETTE[6], PALETTE[4]
DASHES = (0, (4, 3))


@styled
def bayes(x, z, log_prior, log_joint, log_prob, *, limits=(-3, 3)):
    """Show Bayes' rule for each observed image: the prior, the joint p(x, z) with its area p(x), and the posterior.

    The joints share one scale, in units of the largest p(x), so their areas can be compared.

    Args:
      x: images [N, H, W, C] in [0, 1].
      z: the grid [G].
      log_prior: log p(z) [G].
      log_joint: log p(x, z) [N, G].
      log_prob: log p(x) [N].
      limits: those of the axis of z.
    """
    x, z, log_prior, log_joint, log_prob = shaped(
        x=(x, "N H W C"),
        z=(z, "G"),
        log_prior=(log_prior, "G"),
        log_joint=(log_joint, "N G"),
        log_prob=(log_prob, "N"),
    )
    figure = Figure(figsize=(0.4 + 1.6 * len(x), 4.2), layout="constrained")
    rows = figure.subplots(4, len(x), squeeze=False, height_ratios=(0.8, 1, 1, 1))
    unit = log_prob.max()
    joint, posterior = np.exp(log_joint - unit), np.exp(log_joint - log_prob[:, None])
    for n, (picture, *panels) in enumerate(rows.T):
        _picture(picture, x[n])
        picture.set_title(f"$\\log\\, p(x)$ = {log_prob[n]:.1f}")
        curves = (np.exp(log_prior), PRIOR), (joint[n], JOINT), (posterior[n], POSTERIOR)
        for panel, (curve, colour), top in zip(
            panels, curves, (np.exp(log_prior).max(), joint.max(), posterior.max()), strict=True
        ):
            panel.fill_between(z, curve, color=colour, alpha=0.25, linewidth=0)
            panel.plot(z, curve, color=colour)
            panel.set(xlim=limits, ylim=(0, 1.1 * top), yticks=[])
            panel.spines["left"].set_visible(False)
            panel.tick_params(labelbottom=panel is panels[-1])
        area = np.exp(log_prob[n] - unit)
        panels[1].text(0.97, 0.92, f"area {_short(area)}", transform=panels[1].transAxes, ha="right", va="top")
        panels[-1].set_xlabel("$z$")
    names = "observed $x$", "prior\n$p(z)$", "joint\n$p(x, z)$", "posterior\n$p(z \\mid x)$"
    for panel, name in zip(rows[:, 0], names, strict=True):
        panel.set_ylabel(name, rotation=0, ha="right", va="center", labelpad=8)
    return figure


@styled
def densities(z, curves, *, areas=(), limits=(-3, 3), title=None):
    """Show densities of z on a grid.

    Args:
      z: the grid [G].
      curves: {name: log-density [G]}.
      areas: the names of the curves that are filled.
      limits: those of the axis of z.
      title: the title of the figure.
    """
    figure = Figure(figsize=(4.2, 2.2), layout="constrained")
    panel = figure.add_subplot(xlabel="$z$", xlim=limits, yticks=[], title=title)
    panel.spines["left"].set_visible(False)
    for k, (name, log_density) in enumerate(curves.items()):
        z, log_density = shaped(z=(z, "G"), **{name: (log_density, "G")})
        density, colour = np.exp(log_density), (QUIET, *PALETTE[0:1], *PALETTE[6:7], *PALETTE[4:5])[k % 4]
        if name in areas:
            panel.fill_between(z, density, color=colour, alpha=0.25, linewidth=0)
        panel.plot(z, density, color=colour, linestyle="-" if k < 4 else DASHES, label=name)
    panel.set_ylim(bottom=0)
    panel.legend(loc="best", handlelength=1.4)
    return figure


@styled
def rise(z, log_joint, steps, curve_steps, log_prob, bound, *, truth=None, limits=(-3, 3)):
    """Show training as the growth of an area.

    On the left, p(x, z) of one image at several steps, early ones pale, in units of the last area. On the right, the
    mean log p(x), the mean bound and the gap between them.

    Args:
      z: the grid [G].
      log_joint: log p(x, z) of one image [S, G].
      steps: the steps of `log_joint` [S].
      curve_steps: the steps of the curves [T].
      log_prob: the mean of log p(x) [T].
      bound: the mean of the bound [T].
      truth: the mean of log p(x) under the process that generated the data.
      limits: those of the axis of z.
    """
    z, log_joint, steps = shaped(z=(z, "G"), log_joint=(log_joint, "S G"), steps=(steps, "S"))
    curve_steps, log_prob, bound = shaped(curve_steps=(curve_steps, "T"), log_prob=(log_prob, "T"), bound=(bound, "T"))
    figure = Figure(figsize=(6.75, 2.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    log_area = np.log(np.trapezoid(np.exp(log_joint - log_joint.max()), z, axis=1)) + log_joint.max()
    for s in reversed(range(len(steps))):
        shade = min(1.0, 0.2 + 0.8 * s / max(1, len(steps) - 1))
        curve = np.exp(log_joint[s] - log_area[-1])
        left.fill_between(z, curve, color=JOINT, alpha=0.3 * shade, linewidth=0)
        name = f"step {steps[s]}: area {_short(np.exp(log_area[s] - log_area[-1]))}"
        left.plot(z, curve, color=JOINT, alpha=shade, label=name)
    left.set(xlabel="$z$", xlim=limits, yticks=[], title="$p(x, z)$ of one image")
    left.set_ylim(bottom=0)
    left.spines["left"].set_visible(False)
    handles, names = left.get_legend_handles_labels()
    left.legend(handles[::-1], names[::-1], loc="best", handlelength=1.2)
    if truth is not None:
        right.axhline(truth, color=INK, linewidth=0.7, linestyle=DASHES, label="the true process")
    right.fill_between(curve_steps, bound, log_prob, color=POSTERIOR, alpha=0.2, linewidth=0, label="gap")
    right.plot(curve_steps, log_prob, color=POSTERIOR, label=r"$\log\, p(x)$, exact")
    right.plot(curve_steps, bound, color=JOINT, label=r"$\mathcal{L}(x)$")
    right.set(xlabel="step", title="mean over images, nats")
    right.grid(axis="y")
    right.legend(loc="lower right")
    return figure


@styled
def jensen(log_w, log_prob):
    """Show Jensen's inequality for one image and several q: the log of the mean weight, and the mean of the logs.

    `log_w` {name: [K]} are log-weights of z ~ q, and `log_prob` is the exact log p(x). Weights are in units of p(x), so
    their mean is one. The log of the mean is then 0, and the mean of the logs is minus the gap. If q is the posterior,
    all weights are equal and the gap is 0.
    """
    figure = Figure(figsize=(2.25 * len(log_w), 2.5), layout="constrained")
    panels = figure.subplots(1, len(log_w), squeeze=False, sharey=True)[0]
    low = min(np.percentile(np.asarray(values) - log_prob, 10) for values in log_w.values())
    low = min(low, *(np.mean(np.asarray(values) - log_prob) for values in log_w.values()), -1.0) * 1.15
    high = max(np.max(np.asarray(values) - log_prob) for values in log_w.values())
    line = np.geomspace(max(np.exp(low), 1e-30), 1.1 * np.exp(max(high, 0.3)), 800)
    for panel, (name, values) in zip(panels, log_w.items(), strict=True):
        (values,) = shaped(**{name: (np.asarray(values) - log_prob, "K")})
        shown = values[:200]
        panel.plot(line, np.log(line), color=QUIET, linewidth=0.8)
        panel.plot(np.exp(shown), shown, "o", color=JOINT, markersize=3, alpha=0.35, markeredgewidth=0)
        panel.plot([1, 1], [values.mean(), 0], color=POSTERIOR, linewidth=1)
        panel.plot(1, 0, "o", color=POSTERIOR, markersize=5, label="log of the mean: $\\log\\, p(x)$")
        panel.plot(1, values.mean(), "s", color=GUESS, markersize=4, label="mean of the logs: $\\mathcal{L}$")
        panel.set(title=f"{name}\ngap {max(0.0, -values.mean()):.2f} nats", xlabel="$w / p(x)$")
        panel.set_ylim(low, np.log(line[-1]) + 0.3)
    panels[0].set_ylabel("$\\log\\, w / p(x)$")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


@styled
def sandwich(counts, lower, upper, exact=None, *, others=None):
    """Show log p(x) between the bounds of annealed importance sampling and its reverse.

    The axis is the number of temperatures. Points are mean differences to `exact`, with bars of one standard error.

    Args:
      counts: numbers of temperatures [T].
      lower: lower bounds of N simulated examples [T, N].
      upper: upper bounds [T, N].
      exact: log p(x) [N]; if None, the middle of the last two bounds replaces it.
      others: further bounds, {name: [N]}, drawn as horizontal lines.
    """
    counts, lower, upper = shaped(counts=(counts, "T"), lower=(lower, "T N"), upper=(upper, "T N"))
    centre = 0.5 * (lower[-1] + upper[-1]) if exact is None else np.asarray(exact)
    figure = Figure(figsize=(4.4, 2.7), layout="constrained")
    panel = figure.add_subplot(xscale="log", xlabel="temperatures $T$")
    panel.set_ylabel("bound $-$ exact $\\log\\, p(x)$, nats" if exact is not None else "nats around the middle")
    panel.axhline(0, color=INK, linewidth=0.7)
    for bound, colour, name in (upper, PALETTE[2], "upper: backwards"), (lower, JOINT, "lower: AIS, forwards"):
        difference = bound - centre
        error = difference.std(axis=1, ddof=1) / np.sqrt(difference.shape[1]) if difference.shape[1] > 1 else None
        panel.errorbar(counts, difference.mean(axis=1), error, fmt="o-", color=colour, markersize=3, label=name)
    for k, (name, values) in enumerate((others or {}).items()):
        level = float(np.mean(np.asarray(values) - centre))
        panel.axhline(level, color=PALETTE[4 + k % 6], linestyle=DASHES, linewidth=0.9, label=name)
    panel.set_xticks(counts, labels=[f"{c:g}" for c in counts])
    panel.xaxis.set_minor_locator(LogLocator(subs=()))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.legend(loc="best")
    return figure


@styled
def tightening(counts, bounds, exact):
    """Show the gap log p(x) - L_K of importance weighting against the number of samples K, on logarithmic axes.

    `bounds` [C, N] of N examples are for K in `counts` [C]; `exact` [N] is log p(x). The figure shows the mean gap, the
    middle 80 % of the examples, and a line of slope -1 through the last mean, the slope of Var[w / p(x)] / 2K.
    """
    counts, bounds, exact = shaped(counts=(counts, "C"), bounds=(bounds, "C N"), exact=(exact, "N"))
    lost = exact - bounds
    mean = lost.mean(axis=1)
    figure = Figure(figsize=(4.2, 2.7), layout="constrained")
    panel = figure.add_subplot(xscale="log", yscale="log", xlabel="samples $K$")
    panel.set_ylabel("$\\log\\, p(x) - \\mathcal{L}_K$, nats")
    panel.plot(counts, mean, "o-", color=JOINT, markersize=3, label="mean")
    panel.plot(counts, mean[-1] * counts[-1] / counts, color=QUIET, linestyle=DASHES, label="$1 / K$")
    positive = mean[mean > 0]  # noise may take an example, or the mean of all, beyond the exact value
    floor = (positive.min() if positive.size else 1e-3) / 4
    low, high = (np.maximum(np.quantile(lost, q, axis=1), floor) for q in (0.1, 0.9))
    panel.fill_between(counts, low, high, color=JOINT, alpha=0.2, linewidth=0, label="the middle 80 % of the images")
    panel.set_xticks(counts, labels=[f"{c:g}" for c in counts])
    panel.xaxis.set_minor_locator(LogLocator(subs=()))
    panel.set_ylim(floor, 2 * max(high.max(), mean.max()))
    panel.legend(loc="lower left")
    return figure


def _picture(axes, image):
    image = pixels(image)
    picture = np.broadcast_to(image, (*image.shape[:2], 3))
    axes.imshow(picture, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _short(number):
    """Format a number shortly: 1, 0.42, 0.003, 2e-9."""
    return f"{number:.2g}" if number >= 1e-3 else f"{number:.0e}"
