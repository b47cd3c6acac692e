"""The material of figures of a trained model: test examples, codes, draws. Each is computed once."""

import functools

import jax
import numpy as np

from vae_jax.data import transforms
from vae_jax.distributions import Autoregressive, RasterScan, Series, Transformed, is_standard_normal
from vae_jax.evaluation import latents
from vae_jax.evaluation.code_use import sizes_of_codebooks
from vae_jax.runs import build, passes, report
from vae_jax.support import Real

DRAWN = (Autoregressive, RasterScan, Series, Transformed)  # whose mean is an average of draws, and so expensive
NUM_DRAWS, CLASSES = 100, 12  # draws in a figure; rows of classes


class Scene:
    """A trained model and the examples that its figures show.

    Args:
      experiment: the experiment of the run.
      params: its trained parameters.
      log_prob: log p(x) of the first test examples [N], nats, which are then the ones that are shown; or None.
      seed: of the draws.
    """

    def __init__(self, experiment, params, *, log_prob=None, seed=0):
        self.experiment, self.params, self.log_prob, self.seed = experiment, params, log_prob, seed
        self.model, self.latent, self.dataset = experiment.model, experiment.model.latent, experiment.dataset
        number = experiment.config["eval"]["num_test"] if log_prob is None else len(log_prob)
        self.test = jax.tree.map(np.asarray, report.test_examples(experiment, number))
        self.x, self.context = self.test["x"], self.test.get("context")
        self.label = None if self.dataset.test.label is None else np.asarray(self.dataset.test.label[: len(self.x)])
        self.show = to_unit(experiment)

    @property
    def is_of_classes(self) -> bool:
        """True if the model is conditional on a class."""
        return self.experiment.context is not None and self.experiment.context.shape == ()

    @property
    def has_prior(self) -> bool:
        return self.latent is not None and self.latent.prior is not None

    @functools.cached_property
    def has_standard_prior(self) -> bool:
        """True if p(z) is N(0, I): not for an auto-encoder, a VampPrior or a hierarchy."""
        return self.latent is not None and standard_normal_prior(self.experiment, self.params) is not None

    @functools.cached_property
    def is_expensive(self) -> bool:
        """True if the mean of p(x|z), or of p(x), is an average of many draws."""
        shapes = build.likelihood_shapes(self.experiment)
        return isinstance(getattr(shapes, "base", shapes), DRAWN) or isinstance(shapes, DRAWN)

    @functools.cached_property
    def codes(self):
        """The mean of q(z|x) of every test example [N, D]; for a hierarchy a tuple by level."""
        return jax.tree.map(np.asarray, latents.posterior_means(self.model, self.params, self.test))

    @functools.cached_property
    def has_plain_codes(self) -> bool:
        """True if a code is one vector of real numbers, each of which can be changed by itself."""
        x, context = jax.tree.map(lambda a: a[0], (self.x, self.context))
        q = jax.eval_shape(lambda params: self.latent.posterior(params, x, context), self.params)
        shape = jax.eval_shape(lambda q: q.mean(), q)
        return isinstance(getattr(q, "support", None), Real) and len(getattr(shape, "shape", ())) == 1

    @functools.cached_property
    def sizes_of_codebooks(self) -> tuple:
        """K of each level if the codes are integers, which cannot be interpolated; () otherwise."""
        return sizes_of_codebooks(self.model, self.params, self.test)

    @functools.cached_property
    def is_invertible(self) -> bool:
        """True if x can be computed from its code, as with a flow."""
        return self.latent is not None and latents.is_invertible(self.model, self.params, self.test)

    def decode(self, z, context=None):
        """Return the means of p(x|z) of codes [N, D] in [0, 1]. `context`: one for each code."""
        return self.show(passes.decode(self.latent, self.params, z, context))

    def reconstruct(self, index):
        """Return the reconstructions of the test examples at `index` from the means of their posteriors, in [0, 1]."""
        return self.show(self.raw_reconstruct(index))

    def raw_reconstruct(self, index):
        """Return the same on the model's own scale."""
        z, context = jax.tree.map(lambda a: a[index], (self.codes, self.context))
        return passes.decode(self.latent, self.params, z, context)

    @functools.cached_property
    def draws(self) -> dict:
        """Draws of the model on its own scale: {"x": ...}, and "mean", the means of p(x|z) from which they came."""
        number = len(self.classes) * 10 if len(self.classes) else NUM_DRAWS
        context = contexts(self.experiment, number, rows_of=10)
        return passes.draw(self.model, self.params, number, context, seed=self.seed)

    def many_draws(self, number):
        """Return `number` draws of the model on its own scale, with contexts in turn."""
        context = contexts(self.experiment, number)
        return passes.draw(self.model, self.params, number, context, seed=self.seed, means="mean" in self.draws)["x"]

    @property
    def classes(self):
        """The classes that the draws of a conditional model have, ten of each."""
        return np.arange(min(self.experiment.context.support.num_levels, CLASSES)) if self.is_of_classes else ()

    def class_name(self, k) -> str:
        """Return the name of class k, in which no letter begins a formula."""
        names = self.dataset.class_names
        return str(names[int(k)]).replace("$", r"\$") if names else f"class {int(k)}"


def contexts(experiment, number, *, rows_of=1):
    """Return a context for each of `number` draws; None for a model without.

    Classes come in turn, `rows_of` draws of each. Other contexts are those of test examples, in order.
    """
    if experiment.context is None:
        return None
    if experiment.context.shape == ():
        return np.arange(number) // rows_of % experiment.context.support.num_levels
    stored = np.asarray(experiment.split("test")["context"])
    return stored[np.arange(number) % len(stored)]


def standard_normal_prior(experiment, params):
    """Return p(z) if it is N(0, I), otherwise None, as for an auto-encoder, a VampPrior or a hierarchy."""
    if experiment.model.latent.prior is None:
        return None
    context = experiment.split("test")["context"][0] if experiment.context else None
    prior = experiment.model.latent.prior(params, context)
    return prior if is_standard_normal(prior) else None


def to_unit(experiment):
    """Return the function from pixels on the model's scale to NumPy arrays in [0, 1]."""
    scale = experiment.dataset.max_value if experiment.transform is transforms.levels else 1.0
    return lambda x: np.clip(np.asarray(x, np.float32) / scale, 0.0, 1.0)


def different_classes(label, pairs, size):
    """Return the indices of the first examples a, b of different classes, as many pairs as the examples allow.

    If all examples have the same class, so do the pairs. Raises `ValueError` for fewer than two examples.
    """
    pairs = min(pairs, size // 2)
    if pairs == 0:
        raise ValueError(f"a path needs two test images, and the test set has {size}")
    left, right, free = np.arange(pairs), [], list(range(pairs, size))
    for a in left:
        b = next((i for i in free if label is not None and label[i] != label[a]), free[0])
        right.append(b)
        free.remove(b)
    return left, np.asarray(right)
