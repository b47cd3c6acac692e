"""Checks of a config before anything is read, compiled or written, and of the learner that it builds.

Each section of a config is the keyword arguments of a function below, which checks their types and ranges.
"""

import math
import os

import jax

from vae_jax import spec
from vae_jax.core import first_example
from vae_jax.runs import trackers
from vae_jax.spec import BadOption, integers, shown, under
from vae_jax.training import loop

LONGEST = 2**63 - 1  # bytes


def check_config(config):
    """Raise `ValueError` for a key that is unknown or missing, and for a value of another type or out of range.

    The options of model, optimiser and learner are checked when these are built.
    """
    if not isinstance(config, dict):
        raise ValueError(f"config must be a dict, such as config.json holds, got {shown(config)}")
    _finite(config, "config")
    spec.call(_config, config, where="config")


def check_learner(experiment):
    """Raise `ValueError` if the learner cannot begin or the loss cannot be computed. Only shapes are traced."""
    model, learner = experiment.model, experiment.learner
    if model.fit:
        return  # fitted on the host, when the run begins
    turns = experiment.config["learner"]["name"] in ("aggressive", "alternating")
    if turns and experiment.config["model"].get("penalty_every", 1) != 1:
        raise ValueError(
            "config.model.penalty_every must be 1 with a learner of turns: the critic moves only in its own steps, and "
            f"some or all of the others would have the penalty, got {experiment.config['model']['penalty_every']}"
        )

    def first_step(key, batch):
        key, key_loss = jax.random.split(key)
        state = _first_state(model, learner, key, batch)
        with under("config.model"):
            return state, learner.step(state, batch) if turns else model.loss(learner.params(state), key_loss, batch, 0)

    try:
        state, _ = jax.eval_shape(first_step, jax.random.key(0), experiment.batch_shapes())
    except (TypeError, OverflowError, MemoryError) as error:
        raise ValueError(f"config.model cannot be trained as it is: {spec.first_line(error)}") from error
    _fits(state, experiment.mesh)
    if experiment.config["train"]["patience"]:
        _check_patience(experiment)


def _check_patience(experiment):
    """Raise `ValueError` if validation gives no number by which parameters can be the best."""

    def judge(key, batch):
        key_init, key_judge = jax.random.split(key)
        params = experiment.model.init(key_init, batch)
        return experiment.model.judge(params, key_judge, *first_example(batch))

    terms = jax.eval_shape(judge, jax.random.key(0), experiment.batch_shapes())
    if not any(name in terms for name in loop.JUDGED_BY):
        raise ValueError(
            "config.train.patience: this family has no bound and no loss to be judged by; set it to 0, so that the run "
            "goes to its last step"
        )


def _first_state(model, learner, key, batch):
    """Return the first state. Raises `BadOption` with the path of the model or of the learner, whichever refuses."""
    try:
        return learner.init(key, batch)
    except BadOption as error:
        with under("config.model"):
            model.init(key, batch)
        with under("config.learner"):
            raise BadOption(str(error)) from error


def _fits(state, mesh):
    """Raise `ValueError` if the state of a run, cut over the devices of `mesh`, does not fit into their memory."""
    needed = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)) / mesh.shape["model"]
    limits = jax.local_devices()[0].memory_stats() or {}  # none on CPU
    available = limits.get("bytes_limit", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    if needed > available:
        raise ValueError(
            f"config.model: its parameters and the optimiser's state need {needed / 2**30:,.0f} GiB on each device, "
            f"which has {available / 2**30:,.0f} GiB; make it smaller, or cut it over more devices (config.mesh.model)"
        )


def _config(*, seed, family, model, data, train, eval, learner, mesh, start_from, optimizer=None):
    integers(seed=seed, at_least=0, at_most=2**32 - 1)
    _words(family=family, start_from=start_from)
    _dicts(model=model)
    spec.call(_data, data, where="data")
    spec.call(_train, train, where="train")
    spec.call(_eval, eval, where="eval")
    _dicts(mesh=mesh)
    _named(learner=learner)
    if optimizer is not None:  # counting and EM have none
        _dicts(optimizer=optimizer)


def _data(
    *,
    name,
    path,
    transform,
    context,
    batch_size,
    memory_limit,
    leave_out,
    num_workers,
    buckets,
    max_value,
    tokens,
    audio,
    files,
):
    _words(name=name, path=path, transform=transform)
    _named(context=context)
    integers(batch_size=batch_size, buckets=buckets)
    integers(memory_limit=memory_limit, at_least=0, at_most=LONGEST)
    integers(num_workers=num_workers, at_least=0, at_most=1000)
    integers(max_value=max_value, at_least=0)
    if not isinstance(leave_out, tuple | list):
        raise BadOption(f"leave_out must be a tuple of classes, such as (7, 9), got {shown(leave_out)}")
    for label in leave_out:
        integers(**{"leave_out: each entry": label}, at_least=0)
    _options(tokens, "tokens", words=("level",), counts=("min_count", "max_length"))
    _dicts(files=files)
    _options(audio, "audio", words=("companding", "label"), counts=("sample_rate", "length"))


def _train(*, num_steps, log_every, eval_every, checkpoint_every, preview_every, patience, max_skipped, writers, keep):
    loop.check_options(
        num_steps=num_steps,
        log_every=log_every,
        eval_every=eval_every,
        checkpoint_every=checkpoint_every,
        patience=patience,
        max_skipped=max_skipped,
    )
    integers(keep=keep)
    integers(preview_every=preview_every, at_least=0)
    trackers.check(writers)


def _eval(*, num_samples, num_test):
    integers(num_samples=num_samples)
    integers(num_test=num_test, at_least=0)


def _options(options, name, *, words, counts):
    """Check the types and ranges of the options of a reader of text or of sound. The reader knows the other keys.

    Args:
      options: the section.
      name: its name.
      words: keys whose values are strings.
      counts: keys whose values are whole numbers.
    """
    _dicts(**{name: options})
    _words(**{f"{name}.{key}": options[key] for key in words if key in options})
    integers(**{f"{name}.{key}": options[key] for key in counts if key in options})


def _words(**options):
    for name, value in options.items():
        if not isinstance(value, str):
            raise BadOption(f"{name} must be a string, got {shown(value)}")


def _dicts(**options):
    for name, value in options.items():
        if not isinstance(value, dict):
            raise BadOption(f"{name} must be a dict of options, got {shown(value)}")


def _named(**options):
    for name, value in options.items():
        _dicts(**{name: value})
        if "name" not in value:
            raise BadOption(f"{name}: missing key 'name'")
        _words(**{f"{name}.name": value["name"]})


def _finite(value, path):
    """Raise `ValueError` for a number anywhere in a config that is NaN or infinite."""
    if isinstance(value, dict):
        for key, item in value.items():
            _finite(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for item in value:
            _finite(item, path)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{path} must be a finite number, got {value}")
