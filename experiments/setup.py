"""From a config to the things it names, and from an error to one line."""

import contextlib
import functools
import json
import os
import re
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from absl import app, logging

from experiments import checking, processes
from vae_jax import core, models
from vae_jax.core import Learner, Model, call, check_options, nearest
from vae_jax.data import audio, pipeline, sources, text, transforms
from vae_jax.distributions import check_support, num_levels
from vae_jax.evaluation import latents
from vae_jax.training import gradient, learners, loop, sharding
from vae_jax.training.checkpoint import Checkpoints
from vae_jax.training.loop import PREEMPTED, Diverged, Preempted

_OUR_FOLDERS = ("experiments", "training", "data", "evaluation")
_IMPORTED_AT = time.time()


class Experiment(NamedTuple):
    config: dict
    dataset: sources.Dataset
    transform: object
    model: Model
    learner: Learner
    stream: pipeline.Stream
    key: jax.Array
    mesh: jax.sharding.Mesh

    def split(self, name: str) -> dict:
        """The whole validation or test split as one batch, in its fixed draw."""
        context = self.config["data"]["context"]
        return pipeline.fixed_split(self.dataset, name, transform=self.transform, context=context)


def build(config: dict) -> Experiment:
    """Everything that `config` (a plain dict) names. Raises `ValueError` that names the key to mend."""
    checking.check_config(config)
    config = _tuples(config)
    data = config["data"]
    transform = _transform(data["transform"])
    tokens = data.get("tokens", {})  # `get`, here and below: runs of 0.1.0 have no such key
    check_options(text.load, tokens, where="config.data.tokens", num_args=1)
    windows = data.get("audio", {})
    check_options(audio.load, windows, where="config.data.audio", num_args=1)
    dataset = load_data(data)
    if dataset.encoding and transform is transforms.binarize:
        raise ValueError("config.data.transform: a sample of sound is no pixel and has no 'binarize'; take 'levels'")
    if (dataset.vocabulary is not None) != (transform is transforms.tokens):
        kind = "images" if dataset.vocabulary is None else "text"
        raise ValueError(
            f"config.data.transform: 'tokens' is for text and for text alone; {dataset.name} is {kind}, got "
            f"{data['transform']!r}"
        )
    if leave_out := data.get("leave_out"):
        dataset = sources.without_classes(dataset, leave_out)
    stream = build_stream(config, dataset)
    model, learner = build_learner(config, dataset)
    mesh = call(sharding.make_mesh, config.get("mesh", {}), where="config.mesh", batch_size=data["batch_size"])
    key = jax.random.key(config["seed"])
    experiment = Experiment(config, dataset, transform, model, learner, stream, key, mesh)
    checking.check_learner(experiment)
    if (likelihood := likelihood_shapes(experiment)) is not None:
        check_support(likelihood, experiment.split("valid")["x"])
    return experiment


def build_stream(config: dict, dataset) -> pipeline.Stream:
    """The training batches of the config's seed."""
    data = config["data"]
    return pipeline.stream(
        dataset.train,
        seed=config["seed"],
        batch_size=data["batch_size"],
        transform=_transform(data["transform"]),
        max_value=dataset.max_value,
        context=data["context"],
        memory_limit=data["memory_limit"],
        num_workers=data.get("num_workers", 0),
        process=(jax.process_index(), jax.process_count()),
        buckets=data.get("buckets", 1),
    )


def load_data(data: dict) -> sources.Dataset:
    """The data set of `config.data`, before any class is left out."""
    return sources.load(data["name"], data["path"] or None, tokens=data.get("tokens"), audio=data.get("audio"))


def build_learner(config: dict, dataset) -> tuple[Model, Learner]:
    """The model and how it is fitted. Numbers of `config` may be traced: a sweep runs many of them as one program."""
    model = models.from_config(
        config["family"],
        config["model"],
        event_shape=dataset.train.x.shape[1:],
        num_classes=dataset.num_classes if config["data"]["context"] else 0,
        **({"vocabulary_size": len(dataset.vocabulary)} if dataset.vocabulary else {}),
    )
    learner = dict(config.get("learner", {"name": "gradient"}))
    if start_from := config.get("start_from"):
        model = _started_from(start_from, model, anew=learner.get("only", ()))
    if learner["name"] in ("counting", "em"):
        num_steps = config["train"]["num_steps"]
        return model, _by_sums(learner, model, len(dataset.train.x), config["data"]["batch_size"], num_steps)
    if learner["name"] == "whole_data":
        if start_from:
            raise ValueError("config.start_from: what is fitted by 'whole_data' begins with the data; set it to ''")
        return model, core.build(learners, learner, model, dataset.train.x, where="config.learner")
    if model.fit:
        raise ValueError(f"config.learner.name {learner['name']!r}: {config['family']!r} is fitted by 'whole_data'")
    options = dict(config["optimizer"])
    kept = {name: options.pop(name) for name in ("average_decay", "skip_above") if name in options}
    optimizer = call(gradient.optimizer, options, where="config.optimizer")
    if learner["name"] == "aggressive":
        kept["information"] = functools.partial(_information, model)
    return model, core.build(learners, learner, model, optimizer, where="config.learner", **kept)


def _by_sums(spec, model, size, batch_size, num_steps) -> Learner:
    """A learner that wants every example once in a pass."""
    if size % batch_size:
        near = min((b for b in range(1, size + 1) if size % b == 0), key=lambda b: abs(b - batch_size))
        raise ValueError(
            f"config.data.batch_size {batch_size} does not divide the {size} training examples, and a pass over them "
            f"must leave none out; the nearest that does is {near}"
        )
    if num_steps < size // batch_size:
        raise ValueError(
            f"config.train.num_steps {num_steps} ends before the first pass, of {size // batch_size} batches of "
            f"{batch_size}: steps are batches, so take a multiple of {size // batch_size}"
        )
    given = {"batches_per_pass": size // batch_size} if spec["name"] == "em" else {}
    return core.build(learners, spec, model, where="config.learner", **given)


def _information(model, params, key, batch):
    return latents.mutual_information(latents.posteriors(model, params, batch), key)


def _started_from(workdir, model, *, anew) -> Model:
    """`model` whose parameters begin as those of a trained workdir, but for the parts in `anew`."""
    trained = _trained(workdir)

    def init(key, batch):
        params = model.init(key, batch)
        for part in params:
            if part in anew:
                continue
            shapes = [jax.tree.map(jnp.shape, tree.get(part)) for tree in (params, trained)]
            if shapes[0] != shapes[1]:
                raise ValueError(
                    f"config.start_from: {part!r} of {workdir} is not that of this model; build both alike, or let it "
                    f"be learned anew (config.learner.only)"
                )
        return {part: own if part in anew else trained[part] for part, own in params.items()}

    return model._replace(init=init)


@functools.cache  # a sweep asks for it with every member
def _trained(workdir) -> dict:
    """The parameters that a workdir would be evaluated with."""
    experiment = build(load_config(workdir))
    return restore(workdir, experiment.config, experiment.learner, experiment.stream).params


def restore(workdir, config, learner, stream, *, step=None, mesh=None) -> loop.Fit:
    """What a workdir's newest checkpoint holds, or that of `step` (`loop.restore`). Raises `ValueError` without one."""
    checkpoints = Checkpoints(Path(workdir) / "checkpoints")
    fitted = loop.restore(learner, stream, checkpoints, patience=config["train"]["patience"], step=step, mesh=mesh)
    checkpoints.close()
    if fitted is None:
        raise ValueError(f"{workdir} holds no checkpoint yet: train first")
    return fitted


def value_at(config: dict, path: str):
    """The value of a dotted path. Raises `ValueError` that names the part which does not exist and the nearest."""
    for depth, name in enumerate(path.split(".")):
        if not isinstance(config, dict) or name not in config:
            where = ".".join(["config", *path.split(".")[:depth]])
            hint = nearest(name, config if isinstance(config, dict) else ())
            raise ValueError(f"{where}: unknown key {name!r}{hint}")
        config = config[name]
    return config


def as_in_config(config: dict, path: str, value):
    """`value`, as a float where the config holds one at `path`. Raises `ValueError` for another kind of value."""
    there = value_at(config, path)
    if isinstance(there, float) and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if type(there) is not type(value) and not isinstance(value, dict) and not isinstance(there, dict):
        raise ValueError(f"config.{path} is a {type(there).__name__} ({there!r}), got {value!r}")
    return value


def with_values(config: dict, values: dict) -> dict:
    """`config` with `values` {dotted path: value} in their places; `config` itself stays as it is."""
    for path, value in values.items():
        name, _, rest = path.partition(".")
        config = {**config, name: with_values(config[name], {rest: value}) if rest else value}
    return config


def run_name(config_file) -> str:
    """configs/vae_digits.py:smoke -> vae_digits-smoke."""
    stem, _, argument = str(config_file).partition(":")
    return "-".join(filter(None, (Path(stem).stem, argument)))


def process_start() -> float:
    """When this process began, seconds since the epoch: a user waits for the imports too."""
    try:
        ticks = float(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        return time.time() - (uptime - ticks / os.sysconf("SC_CLK_TCK"))
    except OSError:  # not Linux: since this module was imported
        return _IMPORTED_AT


def load_config(workdir) -> dict:
    """The config that a workdir was trained with."""
    path = Path(workdir) / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: --workdir must be a folder that experiments.train has written")
    config = json.loads(path.read_text())
    if "sweep" in config:
        raise ValueError(f"{workdir} holds a sweep: give one of {Path(workdir) / 'members'}")
    return config


def launched(main):
    """`main` as one of the processes of a run, which joins the others (`--distributed`) before it touches a device.

    What a user can mend ends in one line and exit code 1; `--verbosity=1` shows where it arose. A run that SIGTERM has
    ended exits with code 75: the same command goes on. One of several processes that fails leaves at once.
    """

    @functools.wraps(main)
    def wrapped(argv):
        if not logging.level_debug():  # as shown by --verbosity=1
            logging.get_absl_handler().addFilter(_ours_or_serious)
        signal.signal(signal.SIGTERM, _stop)
        try:
            with _leaving():
                processes.join(processes.DISTRIBUTED.value)
                main(argv)
        except Preempted as stopped:
            print(stopped.message, file=sys.stderr, flush=True)
            raise
        except (ValueError, OSError, Diverged) as error:
            logging.debug("traceback:", exc_info=True)
            sys.exit(f"error: {error}")

    return wrapped


@contextlib.contextmanager
def _leaving():
    """Of several processes, one that fails within says why and leaves; those that stop together do so as they would
    alone.
    """
    try:
        yield
    except Preempted:
        raise
    except BaseException as error:
        if not processes.several():
            raise
        if isinstance(error, jax.errors.JaxRuntimeError):
            processes.leave_if_lost(error)
        expected = isinstance(error, ValueError | OSError | Diverged) and not logging.level_debug()
        processes.leave(f"error: {error}" if expected else traceback.format_exc())


def _stop(*_):
    """Outside the loop there is nothing to save. No exception: raised within a callback of Python's garbage collector,
    as happens here, it would be swallowed. No `print`: this may interrupt another.
    """
    os.write(2, b"\nSIGTERM: stopped; run the same command again to go on from the last checkpoint\n")
    os._exit(PREEMPTED)


def parse_flags(argv):
    """absl's parsing, with one line for a key of the config that does not exist (and the nearest that does)."""
    try:
        return app.parse_flags_with_usage(argv)
    except (AttributeError, KeyError) as error:
        nearest = re.search(r'Did you mean "(.+?)" instead of "(.+?)"', str(error))
        reason = f"unknown key {nearest[2]!r}; did you mean {nearest[1]!r}?" if nearest else str(error)
        sys.exit(f"error: --config: {reason}")


def _ours_or_serious(record):
    """Orbax and JAX say a page about every checkpoint: of libraries, errors alone are shown; of Orbax, not even these,
    for what fails there is raised.
    """
    if Path(record.pathname).parent.name in _OUR_FOLDERS:
        return True
    return record.levelno >= logging.converter.STANDARD_ERROR and "orbax" not in Path(record.pathname).parts


def _transform(name):
    if name not in transforms.__all__:
        raise ValueError(f"config.data.transform: unknown value {name!r} (allowed: {', '.join(transforms.__all__)})")
    return getattr(transforms, name)


def likelihood_shapes(experiment):
    """p(x|z), or p(x) where the model has it, as shapes: nothing is compiled. None where there is neither."""
    model, size = experiment.model, experiment.stream.batch_size  # a family may start from the examples of a batch
    if model.latent is None and model.density is None:
        return None

    def likelihood(key, batch):
        context = jax.tree.map(lambda a: a[0], batch.get("context"))
        params = model.init(key, batch)
        if model.density:
            return model.density(params, context)
        z = model.latent.posterior(params, jax.tree.map(lambda a: a[0], batch["x"]), context).mean()
        return model.latent.likelihood(params, z, context)

    batch = jax.tree.map(lambda a: jax.ShapeDtypeStruct((size, *a.shape[1:]), a.dtype), experiment.split("valid"))
    return jax.eval_shape(likelihood, jax.random.key(0), batch)


def is_mass(experiment) -> bool:
    """Whether log p(x) is of levels, or bounds that, and not of the points of a grid, where a density has no limit."""
    likelihood = likelihood_shapes(experiment)
    if likelihood is None or experiment.transform is transforms.dequantize:
        return True
    return num_levels(likelihood.support) is not None


def _tuples(value, path="config"):
    """Lists, as JSON gives them, back to tuples: network fields must be hashable. What a flag could not parse as a
    tuple is a string within one, and no name.
    """
    if isinstance(value, dict):
        return {key: _tuples(item, f"{path}.{key}") for key, item in value.items()}
    if not isinstance(value, list | tuple):
        return value
    if wrong := [item for item in value if isinstance(item, str) and not item.isidentifier()]:
        raise ValueError(f"{path}: {wrong[0]!r} is no list of values; write them out, as in --{path}='(24, 24)'")
    return tuple(_tuples(item, path) for item in value)
