"""From a config to the things it names, and from an error to one line."""

import functools
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
from absl import app, logging

from vae_jax import models
from vae_jax.core import Learner, Model, call
from vae_jax.data import pipeline, sources, transforms
from vae_jax.distributions import check_support
from vae_jax.training import gradient
from vae_jax.training.loop import Diverged

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

    def split(self, name: str) -> dict:
        """The whole validation or test split as one batch, in its fixed draw."""
        context = self.config["data"]["context"]
        return pipeline.fixed_split(self.dataset, name, transform=self.transform, context=context)


def build(config: dict) -> Experiment:
    """Everything that `config` (a plain dict) names. Raises `ValueError` that names the key to mend."""
    config = _tuples(config)
    data = config["data"]
    transform = _transform(data["transform"])
    dataset = sources.load(data["name"], data["path"] or None)
    stream = pipeline.stream(
        dataset.train,
        seed=config["seed"],
        batch_size=data["batch_size"],
        transform=transform,
        max_value=dataset.max_value,
        context=data["context"],
        memory_limit=data["memory_limit"],
        num_workers=data.get("num_workers", 0),  # which runs of 0.1.0 have not in their config
    )
    model = models.from_config(
        config["family"],
        config["model"],
        event_shape=dataset.train.x.shape[1:],
        num_classes=dataset.num_classes if data["context"] else 0,
    )
    options = dict(config["optimizer"])
    average_decay = options.pop("average_decay")
    optimizer = call(gradient.optimizer, options, where="config.optimizer")
    learner = gradient.gradient(model, optimizer, average_decay=average_decay)
    experiment = Experiment(config, dataset, transform, model, learner, stream, jax.random.key(config["seed"]))
    _check_likelihood(model, experiment.split("valid"))
    return experiment


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
    return json.loads(path.read_text())


def one_line_errors(main):
    """What a user can mend ends in one line and exit code 1; `--verbosity=1` shows where it arose."""

    @functools.wraps(main)
    def wrapped(argv):
        if not logging.level_debug():  # as shown by --verbosity=1
            logging.get_absl_handler().addFilter(_ours_or_serious)
        try:
            main(argv)
        except (ValueError, OSError, Diverged) as error:
            logging.debug("traceback:", exc_info=True)
            sys.exit(f"error: {error}")

    return wrapped


def parse_flags(argv):
    """absl's parsing, with one line for a key of the config that does not exist (and the nearest that does)."""
    try:
        return app.parse_flags_with_usage(argv)
    except (AttributeError, KeyError) as error:
        nearest = re.search(r'Did you mean "(.+?)" instead of "(.+?)"', str(error))
        reason = f"unknown key {nearest[2]!r}; did you mean {nearest[1]!r}?" if nearest else str(error)
        sys.exit(f"error: --config: {reason}")


def _ours_or_serious(record):
    """Orbax and JAX say a page about every checkpoint: of libraries, errors alone are shown."""
    return record.levelno >= logging.converter.STANDARD_ERROR or Path(record.pathname).parent.name in _OUR_FOLDERS


def _transform(name):
    if name not in transforms.__all__:
        raise ValueError(f"config.data.transform: unknown value {name!r} (allowed: {', '.join(transforms.__all__)})")
    return getattr(transforms, name)


def _check_likelihood(model, batch):
    """A likelihood must be one of the data it is given. Only shapes are evaluated: nothing is compiled."""
    if model.latent is None:
        return

    def likelihood(key, batch):
        context = jax.tree.map(lambda a: a[0], batch.get("context"))
        params = model.init(key, batch)
        return model.latent.likelihood(params, model.latent.prior(params, context).mean(), context)

    check_support(jax.eval_shape(likelihood, jax.random.key(0), batch), batch["x"])


def _tuples(value):
    """Lists, as JSON gives them, back to tuples: network fields must be hashable."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value
