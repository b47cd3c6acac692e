"""From a config to the model, the learner and the data that it names, and back from a workdir."""

import functools
import json
import math
import os
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import files, models, spec
from vae_jax.core import Context, Event, Learner, Model
from vae_jax.data import audio, contexts, description, pipeline, scale, sources, text, transforms
from vae_jax.data.fingerprint import fingerprint
from vae_jax.data.values import Dataset, event_of
from vae_jax.distributions import check_continuous, check_support
from vae_jax.evaluation import latents, likelihood
from vae_jax.runs import checking, workdir
from vae_jax.runs.migrate import migrate
from vae_jax.spec import call, check_options, under
from vae_jax.support import is_discrete
from vae_jax.training import gradient, learners, loop, sharding
from vae_jax.training.checkpoint import Checkpoints

_IMPORTED_AT = time.time()


class Experiment(NamedTuple):
    """Everything that a config names."""

    config: dict
    dataset: Dataset
    transform: object
    model: Model
    learner: Learner
    stream: pipeline.Stream
    key: jax.Array
    mesh: jax.sharding.Mesh
    conditioning: contexts.Conditioning

    @property
    def event(self) -> Event:
        """The modelled quantity."""
        return self.conditioning.event

    @property
    def context(self) -> Context | None:
        """The quantity on which the model is conditional; None for nothing."""
        return self.conditioning.context

    def split(self, name: str, *, expected=False) -> dict:
        """Return a whole split ("train", "valid" or "test") as one batch, in its fixed draw.

        With `expected` it is the mean of what the transform draws.
        """
        options = {"transform": self.transform, "conditioning": self.conditioning, "expected": expected}
        with under("config.data"):
            return pipeline.fixed_split(self.dataset, name, **options)

    def to_stored(self, x, *, drawn=False):
        """Return means or draws of the likelihood on the scale of the stored data; sentences for ids of tokens."""
        dataset = self.dataset
        if dataset.vocabulary:
            return [dataset.vocabulary.decode(row) for row in np.asarray(x)]
        if dataset.columns:
            return dataset.columns.to_original(np.asarray(x))
        values = self.transform, np.asarray(x), dataset.max_value
        return scale.draw_to_stored(*values, dataset.train.x.dtype) if drawn else scale.mean_to_stored(*values)

    def batch_shapes(self) -> dict:
        """Return the shapes and types of a training batch. Nothing is computed."""
        shapes = jax.eval_shape(lambda feed: self.stream.batch(feed, jnp.int32(0), 0), self.stream.feed(0, 1))
        size = self.stream.batch_size  # each of several processes reads only its rows
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct((size, *a.shape[1:]), a.dtype), shapes)


def build(config: dict, dataset=None) -> Experiment:
    """Build everything that `config` (a plain dict) names.

    `dataset` is that of `config.data`, if it was read before, or what stands in for it (`data.description`): its values
    are then not checked. Raises `ValueError` that names the wrong key.
    """
    config = migrate(config)
    checking.check_config(config)
    config = _tuples(config)
    data = config["data"]
    transform = _transform(data["transform"])
    with under("config.data.tokens"):
        check_options(text.load, data["tokens"], num_args=1)
    with under("config.data.audio"):
        check_options(audio.load, data["audio"], num_args=1)
    is_read = dataset is not None
    dataset = dataset if is_read else load_data(data)
    if dataset.encoding and transform is transforms.binarize:
        raise ValueError("config.data.transform: 'binarize' is for images; use 'levels' for sound")
    if (dataset.vocabulary is not None) != (transform is transforms.tokens):
        kind = "no text" if dataset.vocabulary is None else "text"
        raise ValueError(
            f"config.data.transform: text needs 'tokens', and other data cannot have it; {dataset.name} is {kind}, got "
            f"{data['transform']!r}"
        )
    if data["leave_out"] and not is_read:
        dataset = sources.without_classes(dataset, data["leave_out"])
    stream = build_stream(config, dataset)
    model, learner = build_learner(config, dataset)
    mesh = call(sharding.make_mesh, config["mesh"], where="config.mesh", batch_size=data["batch_size"])
    key = jax.random.key(config["seed"])
    parts = (transform, model, learner, stream, key, mesh, conditioning(config, dataset))
    experiment = Experiment(config, dataset, *parts)
    if dataset.stands_for is not None:
        return experiment
    checking.check_learner(experiment)
    if (density := likelihood_shapes(experiment)) is not None:
        valid = experiment.split("valid")["x"]
        check_support(density, valid)
        without_prior = model.latent and model.latent.prior is None
        if not (_is_mass(density, transform) or without_prior or dataset.columns):  # whose reader has looked at them
            is_float = jnp.issubdtype(dataset.train.x.dtype, jnp.floating)
            measured = transform is transforms.real and valid.ndim == 2 and is_float  # such numbers are often rounded
            check_continuous(density, valid, refuse=not measured)
    return experiment


def build_stream(config: dict, dataset) -> pipeline.Stream:
    """Return the training batches of the config's seed."""
    data = config["data"]
    options = {name: data[name] for name in ("batch_size", "memory_limit", "num_workers", "buckets")}
    options |= {"transform": _transform(data["transform"]), "conditioning": conditioning(config, dataset)}
    options |= {"missing": dataset.missing}
    process = jax.process_index(), jax.process_count()
    with under("config.data"):
        return pipeline.stream(
            dataset.train, seed=config["seed"], max_value=dataset.max_value, process=process, **options
        )


def conditioning(config: dict, dataset) -> contexts.Conditioning:
    """Return what is modelled, what it is conditional on, and how a batch gets its context."""
    with under("config.data"):
        event = event_of(dataset, config["data"]["transform"])
    return spec.build(contexts, config["data"]["context"], dataset, event, where="config.data.context")


def load_data(data: dict) -> Dataset:
    """Read the data set of `config.data`. No class is left out."""
    options = {name: data[name] for name in ("tokens", "audio", "files", "max_value")}
    with under("config.data"):
        return sources.load(data["name"], data["path"] or None, **options)


def build_learner(config: dict, dataset) -> tuple[Model, Learner]:
    """Return the model and its learner. Numbers of `config` may be traced, as in a program of a sweep."""
    model, learner = _model_and_learner(config, dataset)
    return model, _in_levels(learner, levels_offset(config, dataset))


def _model_and_learner(config, dataset):
    event, context = conditioning(config, dataset)[:2]
    with under("config"):
        model = models.from_config(
            config["family"],
            config["model"],
            event=event,
            context=context,
        )
    learner = dict(config["learner"])
    if start_from := config["start_from"]:
        model = _started_from(start_from, model, initialized=learner["only"] if "only" in learner else ())
    if learner["name"] in ("counting", "em"):
        num_steps = config["train"]["num_steps"]
        return model, _by_sums(learner, model, len(dataset.train.x), config["data"]["batch_size"], num_steps)
    if learner["name"] == "whole_data":
        if start_from:
            raise ValueError("config.start_from: the learner 'whole_data' has no initial parameters; set it to ''")
        return model, spec.build(learners, learner, model, dataset.train.x, where="config.learner")
    if model.fit:
        raise ValueError(f"config.learner.name: {config['family']!r} needs 'whole_data', got {learner['name']!r}")
    if "optimizer" not in config:
        raise ValueError("config.optimizer is missing: a dict with a 'name' and a 'learning_rate'")
    with under("config.optimizer"):
        optimizer, of_learner = _optimizer(config["optimizer"])
    if learner["name"] == "aggressive":
        of_learner["information"] = functools.partial(_information, model)
    return model, spec.build(learners, learner, model, optimizer, where="config.learner", **of_learner)


def _optimizer(options):
    """Return the optimiser, and the options of the learner that stand beside it.

    `options` name one optimiser, or are {"default": {...}, part of the parameters: {...}}, one for each player.
    """
    options = dict(options)
    of_learner = {name: options.pop(name) for name in ("average_decay", "skip_above") if name in options}
    gradient.check(**of_learner)
    if "default" not in options:
        return call(gradient.optimizer, options, where=""), of_learner
    parts = {part: call(gradient.optimizer, chosen, where=part) for part, chosen in options.items()}
    return gradient.by_part(**parts), of_learner


def _by_sums(options, model, size, batch_size, num_steps) -> Learner:
    """Build a learner that needs every example once in a pass.

    Args:
      options: the options of the learner.
      model: the model that it fits.
      size: the number of training examples.
      batch_size: the number of examples in a batch.
      num_steps: the number of batches until the run ends.
    """
    if size % batch_size:
        nearest_size = min((b for b in range(1, size + 1) if size % b == 0), key=lambda b: abs(b - batch_size))
        raise ValueError(
            f"config.data.batch_size {batch_size} does not divide the {size} training examples, and a pass needs all "
            f"of them; the nearest that does is {nearest_size}"
        )
    if num_steps < size // batch_size:
        raise ValueError(
            f"config.train.num_steps {num_steps} ends before the first pass, of {size // batch_size} batches of "
            f"{batch_size}: steps are batches, so give a multiple of {size // batch_size}"
        )
    batches = {"batches_per_pass": size // batch_size} if options["name"] == "em" else {}
    return spec.build(learners, options, model, where="config.learner", **batches)


def _information(model, params, key, batch):
    return latents.mutual_information(latents.posteriors(model, params, batch), key)


def _started_from(folder, model, *, initialized) -> Model:
    """Return `model` with initial parameters taken from a trained workdir, except the parts in `initialized`."""
    try:
        trained = _trained(folder)
    except (ValueError, OSError) as error:
        raise ValueError(f"config.start_from: {error}") from error

    def init(key, batch):
        params = model.init(key, batch)
        for part in params:
            if part in initialized:
                continue
            shapes = [jax.tree.map(jnp.shape, tree.get(part)) for tree in (params, trained)]
            if shapes[0] != shapes[1]:
                raise ValueError(
                    f"config.start_from: {part!r} of {folder} is not that of this model; build both alike, or name it "
                    f"in config.learner.only to initialise it"
                )
        return {part: tree if part in initialized else trained[part] for part, tree in params.items()}

    return model._replace(init=init)


def _trained(folder) -> dict:
    """Return the parameters with which a workdir is evaluated."""
    folder = Path(folder).expanduser().absolute()
    written = [folder / "config.json", *sorted((folder / "checkpoints").glob("*"))]
    return _params_of(folder, tuple((path, path.stat().st_mtime_ns) for path in written if path.exists()))


@functools.lru_cache(maxsize=1)  # a sweep asks for it with every member
def _params_of(folder, written) -> dict:
    """Return the parameters with which a workdir is evaluated; `written` says what is in it, and when it was made."""
    return restore(folder, build_trained(folder, with_data=False)).params


def build_trained(folder, *, with_data=True) -> Experiment:
    """Build the experiment of a trained workdir, without reading the run that it may have started from.

    Without the data, their description in dataset.json stands in for them; for a run of an earlier version, which has
    none, they are read.
    """
    config = load_config(folder) | {"start_from": ""}
    if with_data or (described := workdir.read_description(folder)) is None:
        if config["data"]["name"] == "arrays" and not config["data"]["path"]:
            raise ValueError(
                f"{folder} was trained on data in memory, which a run does not store: give --data, or use `load`"
            )
        try:
            return build(config)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{error}. If the data of {folder} have moved, run its training command once more with the new "
                "--config.data.path"
            ) from error
    try:
        dataset = description.stand_in(described)
    except ValueError as error:
        raise ValueError(f"{Path(folder) / workdir.DESCRIPTION}: {error}") from error
    return build(config, dataset)


def checkpoints(folder, config, data, **options) -> Checkpoints:
    """Open the checkpoints in the workdir `folder`; those of another config or of other data are refused.

    Args:
      folder: the workdir.
      config: the config of the run.
      data: the `fingerprint` of its data set.
      **options: the other options of `Checkpoints`.
    """
    origin = {"config": json.loads(files.strict_json(config)), "data": data}
    directory = Path(folder).expanduser() / "checkpoints"
    return Checkpoints(directory, made_by=origin, difference=workdir.origin_difference, **options)


def restore(folder, experiment, *, step=None, mesh=None) -> loop.Fit:
    """Return what a workdir's newest checkpoint holds, or that of `step` (`loop.restore`). The run may be training.

    Raises `ValueError` if there is no checkpoint, or if it belongs to another config or to other data.
    """
    check_step(step)
    stored = checkpoints(folder, load_config(folder), fingerprint(experiment.dataset), read_only=True)
    patience = experiment.config["train"]["patience"]
    fitted = loop.restore(experiment.learner, experiment.stream, stored, patience=patience, step=step, mesh=mesh)
    stored.close()
    if fitted is None:
        raise ValueError(f"{folder} holds no checkpoint yet: train first")
    return fitted


def check_step(step):
    """Raise `ValueError` unless `step` names a checkpoint: a number of steps, "best", or None for the last."""
    if step not in (None, "best") and not str(step).isdecimal():
        raise ValueError(f"--checkpoint={step}: give a step, or best")


def process_start() -> float:
    """Return when this process began, seconds since the epoch: a user waits for the imports as well."""
    try:
        ticks = float(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        return time.time() - (uptime - ticks / os.sysconf("SC_CLK_TCK"))
    except OSError:  # not Linux: since this module was imported
        return _IMPORTED_AT


def load_config(folder) -> dict:
    """Return the config of a trained workdir. Raises `ValueError` if there is none, or if it is that of a sweep."""
    config = workdir.read_config(folder)
    if "sweep" in config:
        raise ValueError(f"{folder} holds a sweep; give a folder in {Path(folder) / 'members'}")
    return config


def _transform(name):
    if name not in transforms.__all__:
        raise ValueError(f"config.data.transform: unknown value {name!r} (allowed: {', '.join(transforms.__all__)})")
    return getattr(transforms, name)


def likelihood_shapes(experiment):
    """Return p(x|z), or p(x) if the model has it, as shapes; None if there is neither. Nothing is compiled."""
    model = experiment.model
    if model.latent is None and model.density is None:
        return None

    def likelihood(key, batch):
        context = jax.tree.map(lambda a: a[0], batch.get("context"))
        params = model.init(key, batch)
        if model.density:
            return model.density(params, context)
        z = model.latent.posterior(params, jax.tree.map(lambda a: a[0], batch["x"]), context).mean()
        return model.latent.likelihood(params, z, context)

    return jax.eval_shape(likelihood, jax.random.key(0), experiment.batch_shapes())


def is_mass(experiment) -> bool:
    """Return True if log p(x) is, or bounds, the log-probability of discrete levels: only then bits/dim mean anything.

    A density of dequantised levels bounds their probability; the density of real numbers has no such meaning.
    """
    density = likelihood_shapes(experiment)
    return _is_mass(experiment.event if density is None else density, experiment.transform)


def _is_mass(density, transform):
    return transform is transforms.dequantize or is_discrete(density.support)


def levels_offset(config, dataset) -> float:
    """Return D log V: the nats per example between a density of dequantised levels and the bound on their probability.

    log P(x) >= E_u[log p((x + u) / V)] - D log V, with V levels and D dimensions (`likelihood.of_levels`). The number
    is 0 for other transforms.
    """
    dim = math.prod(conditioning(config, dataset).event.shape)
    return dim * transforms.log_levels_per_dim(_transform(config["data"]["transform"]), dataset.max_value)


def _in_levels(learner, offset):
    """Return `learner` with metrics of the stored levels, so that training and test report one kind of number."""
    if not offset:
        return learner

    def step(state, batch):
        state, metrics = learner.step(state, batch)
        return state, likelihood.of_levels(metrics, offset)

    return learner._replace(step=step)


def _tuples(value, path="config"):
    """Turn the lists of JSON into tuples, since the fields of networks must be hashable.

    Raises `ValueError` for a string that is no name: a flag puts a text that it cannot parse into a tuple.
    """
    if isinstance(value, dict):
        return {key: _tuples(item, f"{path}.{key}") for key, item in value.items()}
    if not isinstance(value, list | tuple):
        return value
    names_of_files = path.startswith("config.data.files.")  # may hold any letters
    if wrong := [v for v in value if isinstance(v, str) and not (v.isidentifier() or names_of_files)]:
        raise ValueError(f"{path}: {wrong[0]!r} is no list of values; give them as in --{path}='(24, 24)'")
    return tuple(_tuples(item, path) for item in value)
