"""The functions of a trained model, from the user's values to the user's values, for one example each.

    encoder    x, context        -> mean and scale of q(z|x)
    decoder    z, context        -> mean of p(x|z)
    prior      seed, context     -> z ~ p(z)
    sampler    seed, context     -> x ~ p(x)
    log_prob   x, seed, context  -> log p(x), or a bound of it, nats

x and a context that is part of x have the scale and the type in which the data set stores them (`data.scale`). A model
has the functions that its family can compute.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.data import transforms
from vae_jax.data.scale import draw_to_stored, expected, is_random, mean_to_stored
from vae_jax.distributions import LowRankNormal, MultivariateNormal, Normal, Sequential
from vae_jax.evaluation import likelihood, yardstick
from vae_jax.runs import build, inputs
from vae_jax.tasks import decode


class Value(NamedTuple):
    """One input of a program, for one example."""

    name: str
    shape: tuple
    dtype: np.dtype
    note: str


class Program(NamedTuple):
    """One function of a model."""

    call: Callable  # (params, *inputs) -> {name: array}, of one example
    inputs: tuple[Value, ...]
    note: str  # what it computes


def programs(experiment, params, *, num_samples) -> dict[str, Program]:
    """Return the programs of a model by name.

    Args:
      experiment: the `build.Experiment` of the model.
      params: its parameters, or their shapes.
      num_samples: K of a bound of log p(x).
    """
    model, made = experiment.model, {}
    scale = _Scale(experiment)
    if model.latent:
        made |= _of_latent(scale, model.latent, params)
    if model.sample:
        made["sampler"] = _sampler(scale, model)
    if yardstick.kind_of(model, num_samples) != yardstick.NONE:
        made["log_prob"] = _log_prob(scale, model, num_samples)
    return made


class _Scale:
    """The values of x and of contexts, as a user has them and as the model sees them."""

    def __init__(self, experiment):
        dataset = experiment.dataset
        self.transform, self.max_value = experiment.transform, dataset.max_value
        self.dtype = jax.dtypes.canonicalize_dtype(dataset.train.x.dtype)
        self.is_text, self.is_drawing = dataset.vocabulary is not None, dataset.strokes
        self.is_random = is_random(self.transform, self.dtype, self.max_value)
        self.offset = build.levels_offset(experiment.config, dataset)
        self.columns = dataset.columns  # of a table: real ones are standardised in the model
        self.x = Value("x", tuple(experiment.event.shape), self.dtype, self._meaning(dataset))
        self.seed = Value("seed", (), np.dtype("uint32"), "any number: equal seeds give equal results")
        name = experiment.config["data"]["context"]["name"]
        self.context_is_of_x = inputs.is_made_of_x(experiment)  # then it has the scale of x
        self.contexts = (self._context(name, experiment),) if experiment.context else ()  # inputs of a program

    def _context(self, name, experiment):
        shape = tuple(experiment.context.shape)
        if not shape:
            note = f"the class, 0 to {experiment.context.support.num_levels - 1}"
            return Value("context", shape, np.dtype("int32"), note)
        if name == "library":
            return Value("context", shape, np.dtype("float32"), "the sum of the counts of x")
        if not self.context_is_of_x:
            return Value("context", shape, np.dtype("float32"), f"the {name} that is stored beside x")
        dtype = self.dtype if name == "prefix" else np.dtype("float32")
        return Value("context", shape, dtype, f"{inputs.MADE_OF_X[name]}, on the scale of x")

    def _meaning(self, dataset):
        """Return a phrase for the values of a stored example."""
        if self.is_text:
            return "the ids of words, which dataset.json lists"
        if self.columns:
            return "columns in their units, categories as the codes that dataset.json lists, NaN where missing"
        if jnp.issubdtype(self.dtype, jnp.integer):
            return f"{'levels of sound' if dataset.encoding else 'whole numbers'} from 0 to {self.max_value}"
        return "as in the data set" if self.transform is transforms.real else f"numbers from 0 to {self.max_value}"

    def expected(self, x):
        """Return what the network sees of x, without a random draw."""
        return expected(self.transform, self._standardized(x), self.max_value)

    def drawn(self, key, x):
        """Return what the model sees of x for the draw of a key, as in training."""
        return self.transform(key, x, self.max_value) if self.is_random else self.expected(x)

    def mean(self, x):
        """Return a mean over x on the scale of the user."""
        return self._in_units(mean_to_stored(self.transform, x, self.max_value))

    def sample(self, x):
        """Return a draw of x as a user has it."""
        return self._in_units(draw_to_stored(self.transform, x, self.max_value, self.dtype))

    def log_volume(self, x):
        """Return log p(x) of the model minus that on the scale of the user, in nats."""
        if not self.columns:
            return self.offset
        return jnp.sum(jnp.where(jnp.isnan(x), 0.0, jnp.log(jnp.asarray(self.columns.scale, jnp.float32))))

    def _standardized(self, x):
        return (x - jnp.asarray(self.columns.mean)) / jnp.asarray(self.columns.scale) if self.columns else x

    def _in_units(self, x):
        return x * jnp.asarray(self.columns.scale) + jnp.asarray(self.columns.mean) if self.columns else x

    def context(self, context):
        """Return what the model takes for the context inputs `context`, a tuple of at most one."""
        if not context:
            return None
        return self.expected(context[0]) if self.context_is_of_x else context[0]


def _of_latent(scale, latent, params):
    """Return encoder, decoder and, if there is a p(z), prior. A hierarchy has one code for each level, z1 next to x."""

    def encode(params, x, *context):
        q = latent.posterior(params, scale.expected(x), scale.context(context))
        deviation = _deviation(q)
        return _by_level("mean", q.mean()) | ({} if deviation is None else _by_level("scale", deviation))

    inputs = (scale.x, *scale.contexts)
    encoded = jax.eval_shape(encode, params, *(jax.ShapeDtypeStruct(v.shape, v.dtype) for v in inputs))
    means = {name: a for name, a in encoded.items() if name.startswith("mean")}
    is_chain = "mean" not in means
    codes = tuple(Value(name.split("_")[1] if is_chain else "z", *_type(a), "a code") for name, a in means.items())

    def decode_one(params, *values):
        z, context = values[: len(codes)], scale.context(values[len(codes) :])
        p = latent.likelihood(params, z if is_chain else z[0], context)
        return {"mean": scale.mean(p.mean())} if hasattr(p, "mean") else {"x": scale.sample(decode.typical(p))}

    def draw(params, seed, *context):
        z = latent.prior(params, scale.context(context)).sample(_key(seed))
        return dict(zip([code.name for code in codes], z if is_chain else (z,), strict=True))

    has_scale = len(encoded) > len(means)
    note = "the mean of q(z|x)" + ", and the standard deviation of each dimension" * has_scale
    if is_chain:
        note += "; a level is given the means of those that are drawn before it"
    if scale.is_random:
        note += "; the network sees the mean of the random values that it was trained with"
    made = {
        "encoder": Program(encode, inputs, note),
        "decoder": Program(decode_one, (*codes, *scale.contexts), "the mean of p(x|z), on the scale of x, not rounded"),
    }
    if scale.is_text:
        made["decoder"] = made["decoder"]._replace(note="the most probable word at each place, given those before it")
    if scale.is_drawing:
        made["decoder"] = made["decoder"]._replace(note=f"a draw of p(x|z) at temperature {decode.COLD:g}, always one")
    if latent.prior is not None:
        made["prior"] = Program(draw, (scale.seed, *scale.contexts), "a draw z ~ p(z), for the decoder")
    return made


def _sampler(scale, model):
    def sample(params, seed, *context):
        return {"x": scale.sample(model.sample(params, _key(seed), scale.context(context)))}

    return Program(sample, (scale.seed, *scale.contexts), "a draw x ~ p(x), as x is stored")


def _log_prob(scale, model, num_samples):
    exact = model.log_prob is not None
    seeds = () if exact and not scale.is_random else (scale.seed,)

    def log_prob(params, x, *rest):
        seed, context = rest[: len(seeds)], scale.context(rest[len(seeds) :])
        key_x, key_z = jax.random.split(_key(*seed)) if seeds else (None, None)
        return {"log_prob": estimate(params, key_z, scale.drawn(key_x, x), context) - scale.log_volume(x)}

    def estimate(params, key, x, context):
        if exact:
            return model.log_prob(params, x, context)
        if model.latent is not None and model.latent.prior is not None:
            options = {"num_samples": num_samples}
            return likelihood.importance_weighted(model.latent, params, key, x, context, **options)["log_prob"]
        return jnp.mean(jax.vmap(lambda k: model.bound(params, k, x, context))(jax.random.split(key, num_samples)))

    note = "log p(x) in nats" if exact and not scale.offset else "a lower bound of log p(x) in nats"
    if not exact:
        note += f", from {num_samples} samples that the seed draws"
    if scale.is_random:
        note += "; the seed also draws the values that the model sees in place of x, as in training"
    return Program(log_prob, (scale.x, *seeds, *scale.contexts), note)


def _key(seed):
    return jax.random.key(seed, impl="threefry2x32")


def _by_level(name, value):
    """Return {name: array}, or for the levels of a hierarchy {name_z1: array, ...}."""
    return {f"{name}_z{n}": a for n, a in enumerate(value, 1)} if isinstance(value, tuple) else {name: value}


def _type(array):
    return tuple(array.shape), np.dtype(array.dtype)


def _deviation(q):
    """Return the standard deviation of each dimension of a Gaussian q(z|x); None for another distribution."""
    match q:
        case Normal():
            return jnp.broadcast_to(jnp.exp(q.log_scale), q.loc.shape)
        case LowRankNormal():
            return jnp.sqrt(jnp.exp(2.0 * q.log_scale) + jnp.sum(jnp.square(q.factor), axis=1))
        case MultivariateNormal():
            return jnp.sqrt(jnp.sum(jnp.square(q.scale_tril), axis=1)).reshape(q.loc.shape)
        case Sequential():
            levels = tuple(map(_deviation, q.parts(q.mean())))
            return None if any(level is None for level in levels) else levels
    return None
