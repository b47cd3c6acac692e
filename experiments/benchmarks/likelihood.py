"""Time to a likelihood: nats of validation images against CPU seconds, one curve for each run.

    python -m experiments.benchmarks.likelihood --workdirs=DIR,DIR [--out=FILE]
    python -m experiments.benchmarks.likelihood --train=vae_mnist,pixel_cnn_mnist --minutes=3 --data=DIR --folder=DIR
    python -m experiments.benchmarks.likelihood --average=DIR,DIR

The first command draws runs that exist, from their logged validations, and prints a table. The second one first trains
configs, each in a process of its own for so many minutes of CPU time, in `--folder`; a run that is there already is not
trained again. Runs on different data, or on other pixels of the same images, are refused. The third one measures the
average of the conditionals of several PixelCNNs on all test images (`distributions.averaged`), and their mixture: each
can be trained on a core of its own, and scan images from a corner of its own (`config.model.turns`).

CPU seconds are those of all threads of the process since training began (`cpu_seconds` of metrics.jsonl), validations
and compilation included. A run of an earlier version has none: then they are wall seconds of its training steps only,
and the table says so. "=" is exact, "≥" a bound: the one that the run was trained on, with a new draw for every image,
such as the ELBO, IW-50, or the bound of a diffusion.

Before a config is trained, a few steps of it measure the cost of a step, of a validation and of the compilation. The
number of steps uses up the rest of the budget, and all schedules (learning rate, KL warm-up) shrink with it. Validation
is on the first `--num_valid` images, so that it takes little of the budget; early stopping is off.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import app, flags

from vae_jax.runs.launching import launched, parse_flags

WORKDIRS = flags.DEFINE_list("workdirs", [], "Folders of runs.")
TRAIN = flags.DEFINE_list("train", [], "Configs that are trained first; NAME or NAME:ARGUMENT.")
MINUTES = flags.DEFINE_float("minutes", 3.0, "Of CPU time, for each config.", lower_bound=0.01)
DATA = flags.DEFINE_string("data", "", "The folder of the data set, as config.data.path.")
FOLDER = flags.DEFINE_string("folder", None, "Where the runs of --train are written.")
NUM_VALID = flags.DEFINE_integer("num_valid", 1000, "Validation images of --train.", lower_bound=1)
AVERAGE = flags.DEFINE_list("average", [], "Folders of runs whose conditionals are averaged.")
OUT = flags.DEFINE_string("out", "time_to_likelihood.png", "The figure: a PNG, PDF or SVG.")
WORKER = flags.DEFINE_string("worker", None, "Internal: train this config in this process.")

TARGETS = (100, 90, 85, 82)  # nats
TITLES = {  # of configs, in the figure
    "vae_mnist": "VAE",
    "flow_prior_mnist": "VAE, RealNVP prior",
    "vamp_mnist": "VAE, VampPrior",
    "hvae_mnist": "VAE of two levels",
    "deep_vae_mnist": "deep hierarchical VAE",
    "iwae_mnist_1layer": "IWAE, K = 50",
    "pixel_cnn_mnist": "PixelCNN",
    "likelihood_mnist-pixel_cnn_15min": "PixelCNN, 2x2 squares",
    "pixel_vae_mnist": "PixelVAE",
    "belief_network_mnist": "NADE",
    "diffusion_mnist-binary": "diffusion",
}
CHUNK, LEAST_SECONDS = 10, 0.2  # steps of a measurement, and its CPU time at least
SHARE, FEWEST, MOST = 0.15, 8, 40  # of the budget for validations, and their number


class Curve(NamedTuple):
    """The logged validations of a run."""

    name: str
    data: str  # what is modelled
    kind: str  # "=" or "≥"
    parameters: int
    seconds: np.ndarray  # [N]
    clock: str  # which seconds
    nats: np.ndarray  # [N], -log p(x) or its bound

    def time_to(self, nats):
        """Return the seconds after which a validation is at most `nats`; None if there is none."""
        reached = np.flatnonzero(self.nats <= nats)
        return self.seconds[reached[0]] if len(reached) else None


def read(folder) -> Curve:
    """Read the curve of a run. Raises `ValueError` for a folder without one."""
    import jax

    from vae_jax.evaluation import yardstick
    from vae_jax.runs import build, writers
    from vae_jax.training import loop

    folder = Path(folder).expanduser()
    experiment = build.build_trained(folder, with_data=False)
    lines = writers.read_metrics(folder / "metrics.jsonl")
    if not lines:
        raise ValueError(f"{folder} has no metrics yet: train first")
    seconds, clock = seconds_of(lines)
    kind = yardstick.kind_of(experiment.model, 1)
    nats = np.array([-line.get("valid/bound", np.nan) for line in lines])
    if kind == yardstick.NONE or not (finite := np.isfinite(nats)).any():
        raise ValueError(f"{folder}: no validation in its metrics has log p(x) or a bound; give another run")
    if yardstick.is_bound(kind) or build.levels_offset(experiment.config, experiment.dataset):
        kind = yardstick.BOUND
    params = jax.eval_shape(experiment.learner.params, loop.state_shapes(experiment.learner, experiment.stream))
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    data = f"{experiment.dataset.name}, {experiment.config['data']['transform']}"
    return Curve(folder.resolve().name, data, kind, size, seconds[finite], clock, nats[finite])


def seconds_of(lines):
    """Return the seconds at every line of metrics.jsonl, [N], and what they are."""
    if np.isfinite(cpu := np.array([line.get("cpu_seconds", np.nan) for line in lines])).all():
        return cpu, "CPU"
    steps = np.diff([0, *(line["step"] for line in lines)])
    return np.cumsum(steps / [line.get("train/steps_per_s", np.nan) for line in lines]), "wall, steps only"


def table(curves) -> str:
    """Return a Markdown table: the best first."""
    head = ["config", "", "parameters", *(f"{nats} nats" for nats in TARGETS), "best, nats", "seconds", "clock"]
    rows = [head, ["---"] * len(head)]
    for curve in sorted(curves, key=lambda curve: curve.nats.min()):
        times = ["–" if (s := curve.time_to(nats)) is None else f"{s:,.0f}" for nats in TARGETS]
        last = [f"{curve.nats.min():.2f}", f"{curve.seconds[-1]:,.0f}", curve.clock]
        rows.append([f"`{curve.name}`", curve.kind, f"{curve.parameters:,}", *times, *last])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def draw(curves, out):
    """Write the figure. Raises `ValueError` for runs on different data."""
    from vae_jax.plotting import curves as plots
    from vae_jax.plotting import save

    if len(data := {curve.data: curve.name for curve in curves}) > 1:
        shown = "; ".join(f"{name} has {what}" for what, name in data.items())
        raise ValueError(f"these runs are of different data and cannot be compared ({shown})")
    shown = {TITLES.get(curve.name, curve.name): curve for curve in curves}
    if len(shown) < len(curves):
        raise ValueError("two of the workdirs have the same name; rename one")
    clocks = {curve.clock for curve in curves}
    runs = {name: (curve.seconds, curve.nats, curve.kind == "=") for name, curve in shown.items()}
    xlabel = "CPU seconds of training" if clocks == {"CPU"} else "seconds of training (of CPU or wall: see the table)"
    save(plots.time_to(runs, label=r"$-\log p(x)$ of validation images (nats)", xlabel=xlabel), out)


def of_average(folders) -> str:
    """Return a table of log p(x) of runs on their test images, of their mixture, and of their average.

    All numbers are exact. The mixture (1/K) Σ_k p_k(x) chooses a run once an image, the average at every place. Runs
    that scan images in different orders have no average. If some of them have the same order, those are averaged, and
    the orders mixed.
    """
    import jax

    from vae_jax import core
    from vae_jax.distributions import averaged, order_of
    from vae_jax.evaluation import likelihood
    from vae_jax.runs import build

    folders = [Path(folder).expanduser() for folder in folders]
    experiments = [build.build_trained(folder) for folder in folders]
    whats = {f"{e.dataset.name}, {e.config['data']['transform']}": f for e, f in zip(experiments, folders, strict=True)}
    if len(whats) > 1:
        raise ValueError(f"these runs are of different data: {'; '.join(f'{f} has {w}' for w, f in whats.items())}")
    for experiment, folder in zip(experiments, folders, strict=True):
        if experiment.model.density is None or not build.is_mass(experiment):
            raise ValueError(f"{folder} has no exact P(x) of discrete pixels, and cannot be averaged")
    densities = [experiment.model.density for experiment in experiments]
    params = tuple(build.restore(f, e).params for f, e in zip(folders, experiments, strict=True))
    test = experiments[0].split("test")
    each = [likelihood.exact(e.model, p, test) for e, p in zip(experiments, params, strict=True)]
    rows = [(f"`{folder.name}`", log_prob) for folder, log_prob in zip(folders, each, strict=True)]
    rows.append(("mixture", jax.nn.logsumexp(np.stack(each), axis=0) - np.log(len(each))))
    orders, of_orders = {}, []
    for number, (density, p) in enumerate(zip(densities, params, strict=True)):
        orders.setdefault(order_of(density(p)), []).append(number)
    for numbers in orders.values():
        if len(numbers) == 1:
            of_orders.append(each[numbers[0]])
            continue
        model = core.tractable(None, lambda params, c=None, n=numbers: averaged(densities[i](params[i], c) for i in n))
        names = "" if len(orders) == 1 else f" of {', '.join(f'`{folders[i].name}`' for i in numbers)}"
        of_orders.append(likelihood.exact(model, params, test))
        rows.append((f"average of the conditionals{names}", of_orders[-1]))
    if 1 < len(orders) < len(each):
        mixed = jax.nn.logsumexp(np.stack(of_orders), axis=0) - np.log(len(orders))
        rows.append(("mixture of the orders, each its average", mixed))
    lines = ["| model | log p(x), nats | ± | bits/dim |", "| --- | --- | --- | --- |"]
    for name, log_prob in rows:
        found = likelihood.summary_of(log_prob, event_size=test["x"][0].size)
        figures = f"{found['log_prob']:.3f} | {found['log_prob_se']:.2f} | {found['bits_per_dim']:.4f}"
        lines.append(f"| {name} | {figures} |")
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------------- training


def train(name, folder, *, minutes, path, num_valid):
    """Train a config for so many `minutes` of CPU time, or finish the run that is in `folder`.

    Args:
      name: the config, NAME or NAME:ARGUMENT.
      folder: the workdir.
      minutes: the budget.
      path: the folder of the data set.
      num_valid: how many validation images are used.
    """
    from vae_jax.data import description
    from vae_jax.files import write_json
    from vae_jax.runs import build, configs, workdir
    from vae_jax.runs import train as training

    if (folder / "config.json").exists():
        config = build.load_config(folder)
    else:
        config = configs.with_values(configs.get(name).to_dict(), {"data.path": path, "train.patience": 0})
        config = configs.with_values(config, {"train.checkpoint_every": 0, "train.preview_every": 0})
        config = for_budget(config, *cost(config, num_valid), 60 * minutes)
    experiment = with_few(build.build(config), num_valid)
    folder = workdir.open_workdir(folder, config)
    with workdir.locked(folder):
        write_json(folder / workdir.DESCRIPTION, description.describe(experiment.dataset))
        training.train(experiment, folder)


def with_few(experiment, num_valid):
    """Return `experiment` with the first `num_valid` validation images, of the same data set."""

    class Few(type(experiment)):
        def split(self, name, *, expected=False):
            import jax

            end = num_valid if name == "valid" else None
            return jax.tree.map(lambda a: a[:end], super().split(name, expected=expected))

    return Few(*experiment)


def cost(config, num_valid, chunk=CHUNK):
    """Return the CPU seconds of a step, of a validation, and of the compilation of both."""
    from vae_jax.runs import build, configs, workdir, writers
    from vae_jax.runs import train as training

    lengths = {"train.num_steps": 4 * chunk, "train.log_every": chunk, "train.eval_every": 2 * chunk}
    short = configs.with_values(config, lengths)
    with tempfile.TemporaryDirectory() as folder:
        experiment = with_few(build.build(short), num_valid)
        training.train(experiment, workdir.open_workdir(folder, short), progress=False)
        lines = writers.read_metrics(Path(folder) / "metrics.jsonl")
    first, second, steps, both = np.diff([0.0, *(line["cpu_seconds"] for line in lines)])  # validations: 2nd and 4th
    if steps < LEAST_SECONDS:
        return cost(config, num_valid, int(chunk * 2 * LEAST_SECONDS / steps))
    valid = max(both - steps, 0.0)
    return steps / chunk, valid, max(first + second - 2 * steps - valid, 0.0)


def for_budget(config, step, valid, compilation, budget):
    """Return `config` with as many steps as `budget` allows, in seconds; all else are seconds too (`cost`)."""
    from vae_jax.runs import configs

    number = int(np.clip(SHARE * budget / max(valid, 1e-3), FEWEST, MOST))
    every = int((budget - compilation - number * valid) / step / number)
    if every < 1:
        raise ValueError(
            f"--minutes={budget / 60:g} is too short: compilation takes {compilation:.0f} s of CPU time and {number} "
            f"validations {number * valid:.0f} s; give more"
        )
    times = number * every / config["train"]["num_steps"]
    lengths = {"num_steps": number * every, "log_every": every, "eval_every": every}
    values = {f"train.{name}": steps for name, steps in lengths.items()}
    values |= {name: stretched(config[name], times) for name in ("optimizer",) if name in config}
    if "objective" in config["model"]:
        values["model.objective"] = stretched(config["model"]["objective"], times)
    return configs.with_values(config, values)


def stretched(options, times):
    """Return options of schedules with every number of steps `times` as large."""
    if not isinstance(options, dict):
        return options
    steps = lambda number: max(1, round(int(number) * times))  # noqa: E731
    if "boundaries_and_scales" in options:
        scales = {str(steps(step)): scale for step, scale in options["boundaries_and_scales"].items()}
        options = {**options, "boundaries_and_scales": scales}
    return {name: steps(v) if name.endswith("steps") else stretched(v, times) for name, v in options.items()}


def train_all(names) -> list:
    """Train every config in a process of its own, and return the folders."""
    from vae_jax.runs import configs

    if not FOLDER.value:
        raise ValueError("--folder is missing: --train writes its runs there")
    for name in names:
        configs.get(name)  # report a wrong name now
    folders = [Path(FOLDER.value).expanduser() / configs.run_name(name) for name in names]
    options = [f"--{flag.name}={flag.value}" for flag in (MINUTES, DATA, FOLDER, NUM_VALID)]
    env = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}  # everyone compiles
    for name in names:
        command = [sys.executable, "-m", "experiments.benchmarks.likelihood", f"--worker={name}", *options]
        if subprocess.run(command, env=env, check=False).returncode:
            raise ValueError(f"{name} was not trained; the reason is above")
    return folders


@launched
def main(argv):
    del argv
    if WORKER.value:
        from vae_jax.runs import configs

        folder = Path(FOLDER.value).expanduser() / configs.run_name(WORKER.value)
        train(WORKER.value, folder, minutes=MINUTES.value, path=DATA.value, num_valid=NUM_VALID.value)
        return
    if AVERAGE.value:
        print(of_average(AVERAGE.value))
        return
    folders = [*WORKDIRS.value, *train_all(TRAIN.value)] if TRAIN.value else WORKDIRS.value
    if not folders:
        raise ValueError("there is nothing to draw: give --workdirs=DIR,DIR, --train=NAME,NAME or --average=DIR,DIR")
    curves = [read(folder) for folder in folders]
    draw(curves, Path(OUT.value).expanduser())
    print(table(curves))


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
