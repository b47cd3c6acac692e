"""The results of a sweep: its settings in a table, over their seeds, and their validation as bands."""

import json

import numpy as np

from vae_jax.runs import build, configs, pictures
from vae_jax.runs.workdir import read_results
from vae_jax.runs.writers import read_metrics

COLUMNS = {  # of the table of a sweep, if a member has them
    "valid bound": "valid/best_bound",
    "valid loss": "valid/best_loss",
    "log p(x)": "test/log_prob",
    "ELBO": "test/elbo",
    "rate": "test/rate",
    "distortion": "test/distortion",
}


def by_setting(folders, axes) -> list[dict]:
    """Return a row for each setting of a sweep: means over its seeds and their standard errors.

    `best` is True for the best setting by validation. There is none if settings differ in their data. `supported` is
    True if every other setting is worse by more than two standard errors of the difference, √(s_a² + s_b²). One seed
    has no standard error and supports nothing.
    """
    members = {}
    for folder in folders:
        config = build.load_config(folder)
        setting = {path: configs.value_at(config, path) for path in axes if path != "seed"}
        members.setdefault(json.dumps(setting), []).append(folder)
    rows = []
    for setting, member_folders in members.items():
        results = [read_results(folder) for folder in member_folders]
        whole = [r for r in results if not r.get("train/diverged") and r.get("test/log_prob", 0.0) is not None]
        row = {
            "setting": json.loads(setting),
            "members": [folder.name for folder in member_folders],
            "best": False,
            "supported": False,
        }
        row["diverged"] = len(results) - len(whole)
        row["kind"] = " or ".join(sorted({r["test/kind"] for r in whole if "test/kind" in r}))
        for name in (*COLUMNS.values(), "test/active_units"):
            values = np.array(
                [r[name] for r in whole if r.get(name) is not None], np.float64
            )  # an auto-encoder has no log p(x)
            row[name] = float(values.mean()) if len(values) else None
            row[f"{name}_se"] = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
        rows.append(row)
    if any(path.startswith("data.") and path != "data.batch_size" for path in axes):
        return rows  # on different data, or in different units, none is better
    for name, sign in (("valid/best_bound", 1), ("valid/best_loss", -1)):  # only one of them: a sweep has one family
        if finished := [row for row in rows if row[name] is not None]:
            best = max(finished, key=lambda row, name=name, sign=sign: sign * row[name])
            best["best"] = True
            best["supported"] = all(_apart(best, row, name) for row in finished if row is not best)
    return rows


def _apart(a, b, name) -> bool:
    """Return True if two rows differ in `name` by more than two standard errors of the difference."""
    errors = [row[f"{name}_se"] for row in (a, b)]
    return None not in errors and abs(a[name] - b[name]) > 2.0 * np.hypot(*errors)


def table(rows) -> str:
    """Return the rows of `by_setting` as text: mean ± standard error over seeds, in nats.

    * marks the best by validation, ~ a best that two standard errors over seeds do not support.
    """

    def cell(row, name):
        mean, error = row[name], row[f"{name}_se"]
        return "-" if mean is None else f"{mean:.2f}" + ("" if error is None else f" ± {error:.2f}")

    columns = {title: name for title, name in COLUMNS.items() if any(row[name] is not None for row in rows)}
    kind = " or ".join(sorted({row["kind"] for row in rows if row["kind"]}))  # what log p(x) is: "=", "≥ IW-K" ...
    columns = {f"{title} {kind}" if title == "log p(x)" and kind else title: name for title, name in columns.items()}
    lines = [["", "setting", "seeds", "diverged", *columns, "active units"]]
    for row in rows:
        cells = [cell(row, name) for name in (*columns.values(), "test/active_units")]
        lines.append(
            [
                ("*" if row["supported"] else "~") if row["best"] else "",
                setting_name(row),
                len(row["members"]),
                row["diverged"],
                *cells,
            ]
        )
    widths = [max(len(str(line[i])) for line in lines) for i in range(len(lines[0]))]
    text = "\n".join("  ".join(str(c).ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)
    if any(row["best"] and not row["supported"] for row in rows) and len(rows) > 1:
        text += "\n~ best by validation, but not by two standard errors over seeds"
    return text


def setting_name(row) -> str:
    """Return the setting of a row with the last parts of its paths, such as learning_rate=0.001."""
    return ", ".join(f"{path.rpartition('.')[2]}={value}" for path, value in row["setting"].items()) or "all"


def figure(rows, workdir):
    """Draw the validation bounds of a sweep, or its losses, as a band for each setting. Return the path of the figure.

    The figure is figures/sweep.png. If it fails (`pictures.drawn`), the result is "not drawn".
    """
    path = workdir / "figures" / "sweep.png"
    return path if pictures.drawn("sweep", lambda: _bands(rows, workdir), path) else "not drawn"


def _bands(rows, workdir):
    from vae_jax import plotting
    from vae_jax.plotting import curves

    bands, judged = {}, "bound" if any(row["valid/best_bound"] is not None for row in rows) else "loss"
    for row in rows:
        members = [read_metrics(workdir / "members" / name / "metrics.jsonl") for name in row["members"]]
        runs = [pictures.curves(lines)[1].get(judged) for lines in members]
        longest = max((run for run in runs if run is not None), key=lambda run: len(run[0]), default=None)
        if longest is not None:  # members that were stopped or frozen leave the band where they end
            values = np.full((len(runs), len(longest[0])), np.nan)
            for row_values, run in zip(values, runs, strict=True):
                row_values[: 0 if run is None else len(run[1])] = () if run is None else run[1]
            bands[plotting.plain(setting_name(row))] = longest[0], values
    return curves.bands(bands, label=f"validation {judged}, mean and standard error over seeds")
