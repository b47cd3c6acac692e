"""Curves of training: bounds, rates, variances of gradients."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from vae_jax.plotting import MARKERS, PALETTE, QUIET_INK, row_of_panels, shaped, styled

TITLES = {
    "bound": r"bound  $\mathcal{L}(x)$",
    "rate": r"rate  $\mathrm{KL}(q(z \mid x) \parallel p(z))$",
    "distortion": r"distortion  $-\mathbb{E}_q\,\log p(x \mid z)$",
}
PLAYERS = {
    "critic": "loss of the critic",
    "generator": "loss of the generator",
    "flow_matching": "squared error of the velocity",
}
LINES = {True: {"linestyle": "-"}, False: {"linestyle": (0, (4, 1.5))}}  # of exact values, and of bounds
LINE_OF_TEXT = 0.046  # of the height of `time_to`


@styled
def training(train, valid=None):
    """Plot the bound and its two terms, bound = -(distortion + rate), in nats.

    `train` and `valid` map "bound", "rate" and "distortion" to (steps [N], values [N]). Each that exists has a panel;
    the losses "critic" and "generator" of two players, and "flow_matching", have one if there are none of these. Other
    names are ignored. The axes leave out extreme values, such as those of the first steps.
    """
    series = {"train": train, "validation": valid or {}}
    exists = lambda name: any(name in curves for curves in series.values())  # noqa: E731
    names = list(filter(exists, TITLES)) or list(filter(exists, PLAYERS))
    if not names:
        raise ValueError(
            f"train or valid must contain one of {list(TITLES)}; found {[list(c) for c in series.values()]}"
        )
    figure, panels = row_of_panels(len(names), 1.75, 1.45)
    for panel, name in zip(panels, names, strict=True):
        drawn = []
        for (split, curves), colour, width in zip(series.items(), (PALETTE[0], PALETTE[6]), (0.8, 1.4), strict=True):
            if name in curves:
                steps, values = curves[name]
                steps, values = shaped(**{f"{split} steps": (steps, "N"), f"{split} {name}": (values, "N")})
                marker = "o" if len(steps) == 1 else None  # a line needs two points
                panel.plot(steps, values, color=colour, linewidth=width, marker=marker, markersize=3, label=split)
                drawn.append(values)
        title = TITLES[name] if name in TITLES else PLAYERS[name]
        panel.set(title=title, xlabel="step", ylabel="nats" if name in TITLES else "", ylim=_limits(drawn))
        panel.grid(axis="y")
        panel.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        panel.xaxis.set_major_formatter(FuncFormatter(_thousands))
        panel.margins(x=0.02)
    figure.axes[0].legend(loc="best", handlelength=1.2)
    return figure


@styled
def bands(runs, *, label):
    """Plot the mean over seeds for each of several settings, with a band of one standard error, or a bar at one step.

    `runs` maps the name of a setting to (steps [N], values [S, N]) of S seeds, NaN if a run has no value. `label` is
    the title.
    """
    figure = Figure(figsize=(4.2, 2.6), layout="constrained")
    panel, drawn = figure.subplots(), []
    for i, (name, (steps, values)) in enumerate(runs.items()):
        steps, values = shaped(**{f"{name} steps": (steps, "N"), f"{name} values": (values, "S N")})
        count = np.isfinite(values).sum(0)
        mean = np.nansum(values, 0) / np.maximum(count, 1)
        spread = np.sqrt(np.nansum((values - mean) ** 2, 0) / np.maximum(count - 1, 1) / np.maximum(count, 1))
        mean = np.where(count > 0, mean, np.nan)
        style = {"color": PALETTE[i % len(PALETTE)], "linestyle": ("-", "--", ":")[i // len(PALETTE) % 3]}
        if len(steps) == 1:  # a line and a band need two points
            panel.errorbar(steps, mean, spread, label=name, fmt="o", markersize=3, capsize=3, color=style["color"])
            drawn.append(np.concatenate([mean - spread, mean + spread]))
        else:
            panel.plot(steps, mean, label=name, **style)
            panel.fill_between(steps, mean - spread, mean + spread, color=style["color"], alpha=0.25, linewidth=0)
        drawn.append(mean)
    if not drawn:
        raise ValueError("runs is empty: give at least one curve")
    panel.set(title=label, xlabel="step", ylabel="nats", ylim=_limits(drawn))
    panel.grid(axis="y")
    panel.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    panel.xaxis.set_major_formatter(FuncFormatter(_thousands))
    panel.margins(x=0.02)
    panel.legend(loc="best", handlelength=1.6)
    return figure


@styled
def time_to(runs, *, label, xlabel, worst=None):
    """Plot nats, of which fewer are better, against a time on a logarithmic axis. Every curve has its name at its end.

    Curves of exact values are solid, those of bounds dashed. The names stand in the order of the last values, and each
    has the lowest value of its curve.

    Args:
      runs: {name: (times [N], nats [N], True if they are exact)}.
      label: the name of the vertical axis.
      xlabel: the name of the horizontal axis.
      worst: the upper end of the vertical axis; None for 30 nats above the last value of the worst run.
    """
    if not runs:
        raise ValueError("runs is empty: give at least one curve")
    figure = Figure(figsize=(5.2, 3.2))
    panel = figure.add_axes((0, 0, 0.66, 1), xscale="log", xlabel=xlabel, ylabel=label)
    ends, low, high = {}, np.inf, -np.inf
    for i, name in enumerate(sorted(runs, key=lambda name: runs[name][1][-1])):
        times, nats, exact = runs[name]
        times, nats = shaped(**{f"{name} times": (times, "N"), f"{name} nats": (nats, "N")})
        colour, marker = PALETTE[i % len(PALETTE)], MARKERS[i // len(PALETTE) % len(MARKERS)]
        panel.plot(times, nats, color=colour, marker=marker, markersize=1.8, **LINES[bool(exact)])
        ends[name] = times[-1], nats[-1], f"{name}  {nats.min():.1f}", colour
        low, high = min(low, nats.min()), max(high, nats[-1] + 30)
    high, low = worst or high, low - 0.04 * ((worst or high) - low)
    left, right = panel.get_xlim()
    panel.set(xlim=(left, right), ylim=(low, high))
    outside = right * (right / left) ** np.array([0.025, 0.05, 0.06])  # two ends of a line, and the text behind it
    places = _apart([min(nats, high) for _, nats, *_ in ends.values()], LINE_OF_TEXT * (high - low))
    for (time, nats, text, colour), place in zip(ends.values(), places, strict=True):
        leader = [time, *outside[:2]], [min(nats, high), place, place]
        panel.plot(*leader, color=colour, linewidth=0.7, clip_on=False)
        panel.text(outside[2], place, text, va="center", fontsize=8)
    kinds = {bool(exact) for *_, exact in runs.values()}
    names = {True: r"exact $-\log p(x)$", False: "bound from above"}
    handles = [
        Line2D([], [], color=QUIET_INK, label=names[kind], **LINES[kind]) for kind in sorted(kinds, reverse=True)
    ]
    panel.legend(handles=handles, loc="lower left", handlelength=2.4)
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}" if x >= 1 else f"{x:g}"))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.grid(axis="both")
    return figure


def _apart(values, least):
    """Return the places nearest to ascending `values` [N] that are at least `least` apart, in squared distance.

    Places minus n `least` must ascend: this is isotonic regression, by pooling neighbours.
    """
    pools = []
    for n, value in enumerate(values):
        pools.append([value - n * least])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    flat = [np.mean(pool) for pool in pools for _ in pool]
    return [value + n * least for n, value in enumerate(flat)]


@styled
def variance_curves(steps, variances, *, biased=(), title="total variance of the gradient"):
    """Plot the variance of gradient estimators against the training step, on a logarithmic axis.

    `variances` maps a name to values [S] at `steps` [S]. The legend is in the order of the last values. Estimators in
    `biased` are dashed, since their variance does not tell the whole error.
    """
    unknown = [name for name in biased if name not in variances]
    if unknown or not variances:
        raise ValueError(f"biased contains {unknown}, which are not among the curves {list(variances)}")
    figure = Figure(figsize=(5.4, 2.7), layout="constrained")
    panel, last = figure.subplots(), {}
    for i, (name, values) in enumerate(variances.items()):
        steps, values = shaped(steps=(steps, "S"), **{name: (values, "S")})
        marker, dashes = MARKERS[i % len(MARKERS)], (4, 2) if name in biased else ()
        (line,) = panel.plot(steps, values, marker=marker, dashes=dashes, color=PALETTE[i % len(PALETTE)], markersize=3)
        last[name] = (values[-1], line)
    order = sorted(last, key=lambda name: -last[name][0])
    panel.set(yscale="log", title=title, xlabel="step")
    panel.grid(axis="y")
    panel.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    panel.xaxis.set_major_formatter(FuncFormatter(_thousands))
    panel.margins(x=0.02)
    named = [name + (" (biased)" if name in biased else "") for name in order]
    figure.legend([last[name][1] for name in order], named, loc="outside right center", handlelength=2.2)
    return figure


def _limits(drawn, *, wild=5, margin=0.12):
    """Return the limits of an axis without the lowest and highest `wild` per cent of each curve, plus a margin."""
    values = [v[np.isfinite(v)] for v in drawn]
    values = [v for v in values if v.size]
    if not values:
        return None
    low = min(np.percentile(v, wild) for v in values)
    high = max(np.percentile(v, 100 - wild) for v in values)
    room = margin * (high - low) or 1.0
    return max(low - room, min(map(np.min, values)) - room / 4), min(high + room, max(map(np.max, values)) + room / 4)


def _thousands(step, _):
    return f"{step / 1000:g}k" if abs(step) >= 1000 else f"{step:g}"
