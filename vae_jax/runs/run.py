"""A trained model in the user's hands: `load(workdir)` and `fit(data, config)` return a `Run`.

A `Run` does not need the training data. All its methods take and return NumPy arrays on the scale of the stored data
(pixels 0..255, rows of a table in their units), with or without a batch axis. They compile once for each kind of call.
"""

import dataclasses
import functools
import shutil
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from vae_jax.core import Model
from vae_jax.data.values import Dataset
from vae_jax.distributions import Normal
from vae_jax.distributions.support import supports
from vae_jax.evaluation import latents, yardstick
from vae_jax.inference import laplace
from vae_jax.runs import build, configs, inputs, pieces, report
from vae_jax.runs import workdir as workdirs
from vae_jax.runs.writers import read_metrics
from vae_jax.spec import first_line, integers, one_of
from vae_jax.support import Levels
from vae_jax.tasks import decode, impute, interpolate, outliers

AT_ONCE = 128  # examples of a compiled call; fewer if they are large
SAVED = (
    *("config.json", "dataset.json", "environment.json", "extensions.json", "metrics.jsonl", "results.json"),
    *("codes.npz", "checkpoints"),
)
SCORES = ("surprise", "negative_elbo", "distortion", "typicality")
PATHS = {"linear": interpolate.linear, "spherical": interpolate.spherical}


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained model, and everything that is needed to use it.

    experiment: what the config names; its data set has the shapes of the training data, and only zeros.
    params: the trained parameters.
    folder: the workdir.
    results: the numbers of results.json; empty if the run has not finished.
    temporary: a temporary workdir, which exists as long as this run or one made from it by `to`; None for others.
    """

    experiment: build.Experiment
    params: Any
    folder: Path
    results: dict
    temporary: Any = None

    # ---------------------------------------------------------------------------------------- what the run is

    @property
    def model(self) -> Model:
        """The `core.Model`."""
        return self.experiment.model

    @property
    def config(self) -> dict:
        """The config of the run, a plain dict."""
        return self.experiment.config

    @property
    def dataset(self) -> Dataset:
        """The description of the training data: shapes, classes, columns. Its examples are zeros."""
        return self.experiment.dataset

    def history(self) -> dict:
        """Return the metrics of the training, {name: [steps logged]}, with NaN where one was not measured."""
        lines = read_metrics(self._needs_file("metrics.jsonl"))
        names = dict.fromkeys(name for line in lines for name in line)
        return {name: np.array([line.get(name, np.nan) for line in lines]) for name in names}

    def __repr__(self):
        shape = "x".join(map(str, self.dataset.train.x.shape[1:]))
        size = sum(np.size(leaf) for leaf in jax.tree.leaves(self.params))
        parts = [f"{self.config['family']} of {self.dataset.name} ({shape}, {self.config['data']['transform']})"]
        if self.experiment.context is not None:
            parts.append(f"given {self.config['data']['context']['name']}")
        parts.append(f"{size:,} parameters")
        if "train/steps" in self.results:
            parts.append(f"{self.results['train/steps']:,} steps")
        if self.results.get("test/log_prob") is not None:
            error = self.results.get("test/log_prob_se")
            error = "" if error is None else f" ± {error:.2f}"
            kind = self.results.get("test/kind", "")
            parts.append(f"test log p(x) {self.results['test/log_prob']:.2f}{error} nats ({kind})")
        return f"<Run {', '.join(parts)}; in {self.folder.name}>"

    # ------------------------------------------------------------------------------------------ codes and back

    def encode(self, x, context=None, *, with_scale=False):
        """Return the codes of x, the means of q(z|x): [N, D], or a tuple of them by level for a hierarchy.

        If the data are transformed at random (`binarize`, `dequantize`), the encoder sees the mean of the draws.

        Args:
          x: examples on the scale of the stored data, or one example.
          context: classes, class names or arrays, for a conditional model.
          with_scale: True for the pair (mean, standard deviation) of q(z|x); for diagonal Gaussians only.
        """
        self._needs("latent", "encode")
        if with_scale and not isinstance(self._posterior_shapes(), Normal):
            kind = type(self._posterior_shapes()).__name__
            raise ValueError(f"with_scale is for a diagonal Gaussian q(z|x), and this one is a {kind}; leave it out")
        return self._each(_moments if with_scale else _code, x, context)

    def decode(self, z, context=None):
        """Return the means of p(x|z) for codes z, [N, D] or one [D]; tuples of codes for a hierarchy."""
        self._needs("latent", "decode")
        like = jax.eval_shape(lambda q: q.mean(), self._posterior_shapes())
        z = jax.tree.map(
            lambda level: np.asarray(level, np.float32), tuple(z) if isinstance(like, tuple) else np.asarray(z)
        )
        single = _matches(z, like, axes=0)
        if not single and not _matches(z, like, axes=1):
            wanted, given = (jax.tree.map(lambda a: list(a.shape), tree) for tree in (like, z))
            raise ValueError(f"codes of this model have the shape {wanted}, or [N, ...] of it; got {given}")
        if not all(np.isfinite(level).all() for level in jax.tree.leaves(z)):
            raise ValueError("codes must be finite, and these hold NaN or infinity")
        z = jax.tree.map(lambda a: a[None], z) if single else z
        means = self._apply(_decoded, z, inputs.contexts(self.experiment, context, len(jax.tree.leaves(z)[0])))
        return _first(self._stored(means), single)

    def reconstruct(self, x, context=None):
        """Return the means of p(x | z = E_q[z]), in the shape and on the scale of x."""
        self._needs("latent", "reconstruct")
        return self._each(_reconstructed, x, context, then=self._stored)

    def interpolate(self, a, b, *, num_steps=9, path="spherical", context=None):
        """Return `num_steps` images from example a to example b, along a path of codes: [T, ...].

        Args:
          a: the first example.
          b: the last example.
          num_steps: T.
          path: "spherical" or "linear" (`tasks.interpolate`).
          context: one context, for a conditional model.
        """
        self._needs("latent", "interpolate")
        self._needs_numbers("interpolate")
        integers(num_steps=num_steps, at_least=2)
        one_of(PATHS, path=path)
        ends = [self._code_of(x, name, context) for x, name in ((a, "a"), (b, "b"))]
        return self.decode(interpolate.by_level(PATHS[path], *ends, jnp.linspace(0.0, 1.0, num_steps)), context)

    def traverse(self, x, dim, *, values=None, context=None):
        """Return images whose codes differ in one dimension only: the code of x, with z_`dim` = each of `values`.

        Args:
          x: one example.
          dim: the dimension, 0 .. D-1.
          values: the values of z_dim [T]; None for 9 from -3 to 3.
          context: one context, for a conditional model.
        """
        self._needs("latent", "traverse")
        self._needs_numbers("traverse")
        z = self._code_of(x, "x", context)
        if np.ndim(z) != 1 or not isinstance(z, np.ndarray):
            raise ValueError("traverse is for codes that are one vector; for others use `encode` and `decode`")
        integers(dim=dim, at_least=0, at_most=len(z) - 1)
        values = np.linspace(-3, 3, 9) if values is None else np.asarray(values)
        codes = np.repeat(z[None], len(values), axis=0)
        codes[:, dim] = values
        return self.decode(codes, context)

    def neighbours(self, x, k=5, *, context=None, among=None):
        """Return the k nearest training examples of each x in the space of codes: (indices [N, k], distances [N, k]).

        Args:
          x: examples, or one.
          k: how many.
          context: for a conditional model.
          among: other examples to search; None for the training examples, whose codes are stored with the run.
        """
        from sklearn.neighbors import NearestNeighbors

        self._needs("latent", "neighbours")
        self._needs_numbers("neighbours")
        codes = self._training_codes() if among is None else latents.side_by_side(self.encode(among, context))
        integers(k=k, at_most=len(codes))
        z = self.encode(x, context)
        single = np.ndim(jax.tree.leaves(z)[0]) == 1
        distances, indices = (
            NearestNeighbors(n_neighbors=k)
            .fit(codes)
            .kneighbors(latents.side_by_side(jax.tree.map(lambda a: a[None], z) if single else z))
        )
        return _first(indices, single), _first(distances, single)

    # ---------------------------------------------------------------------------------------- samples and numbers

    def sample(self, n=1, context=None, *, seed=0, mean=False):
        """Return n draws of x, or with `mean` the means of p(x|z) for n draws of z. Text is returned as sentences.

        Args:
          n: how many.
          context: one context for all or one for each, for a conditional model; None for the classes in turn.
          seed: draws with the same seed are the same.
          mean: True for means, such as grey images of a model of bits.
        """
        integers(n=n)
        integers(seed=seed, at_least=0)
        self._needs("sample", "sample")
        if mean and (self.model.latent is None or self.model.latent.prior is None):
            raise ValueError("mean is for models with p(z) and p(x|z); leave it out")
        keys = np.asarray(jax.random.key_data(jax.random.split(jax.random.key(seed), n)))
        contexts = inputs.contexts(self.experiment, context, n, in_turn=True)
        return self._stored(self._apply(_mean_draw if mean else pieces.draw, keys, contexts), drawn=not mean)

    def log_prob(self, x, context=None, *, num_samples=None) -> yardstick.Measured:
        """Return log p(x) of every example, in nats, and what kind of number it is (`yardstick.measure`).

        `num_samples` is K of a bound, by default that of the config. For the test set of the run the result is the one
        in `results`. Raises `ValueError` for a model that only draws, which has no log p(x).
        """
        yardstick.check_has_number(self.model)
        data, size, single = inputs.batch(self.experiment, x, context)
        padded = pieces.padded(data, pieces.power_of_two(size))
        num_samples = self.config["eval"]["num_samples"] if num_samples is None else num_samples
        measured = report.measure(self.experiment, self.params, padded, num_samples=num_samples)
        cut = lambda a: _first(a[:size], single)  # noqa: E731
        log_prob = None if measured.log_prob is None else cut(measured.log_prob)
        return measured._replace(log_prob=log_prob, terms={name: cut(a) for name, a in measured.terms.items()})

    def score(self, x, context=None, *, method="surprise", num_samples=100):
        """Return a score that is larger for outliers, in nats [N].

        Args:
          x: examples, or one.
          context: for a conditional model.
          method: "surprise", -log p(x) or its bound; "negative_elbo"; "distortion", the error of the reconstruction;
            "typicality", the distance of the surprise from its mean over the test set of the run (`tasks.outliers`).
          num_samples: the number of draws of a bound; typicality takes that of the config.
        """
        one_of(SCORES, method=method)
        integers(num_samples=num_samples)
        yardstick.check_has_number(self.model)
        if method == "typicality" and self.results.get("test/log_prob") is None:
            raise ValueError("typicality requires the results of the run, and this run has none; use 'surprise'")
        if method in ("surprise", "typicality"):
            # The mean over the test set was measured with the K of the config.
            log_prob = self.log_prob(x, context, num_samples=num_samples if method == "surprise" else None)
            if log_prob.log_prob is None:
                raise ValueError(f"the surprise requires log p(x): {log_prob.note}; use method='distortion'")
            surprise = -log_prob.log_prob
            return surprise if method == "surprise" else outliers.typicality(surprise, -self.results["test/log_prob"])
        self._needs("latent", f"score(method={method!r})")
        data, size, single = inputs.batch(self.experiment, x, context)
        options = {"num_samples": num_samples} if method == "negative_elbo" else {}
        key, data = report.measuring_key(self.experiment), pieces.padded(data, pieces.power_of_two(size))
        scores = outliers.of_data(getattr(outliers, method), self.model, self.params, key, data, **options)
        scores = scores + build.levels_offset(self.experiment.config, self.dataset)  # as log p(x) has it
        return _first(scores[:size], single)

    def impute(self, x, mask=None, context=None, *, num_samples=1000, num_draws=0, proposal="laplace", seed=0):
        """Return x with its missing values filled in: E[x_mis | x_obs] (`tasks.impute`), rows of a table as columns.

        Args:
          x: examples, or one; NaN is missing. For a table, {name of a column: values}, None or NaN for missing.
          mask: True for observed entries, of the shape of x; the others are filled in, too.
          context: for a conditional model.
          num_samples: K of the importance weights.
          num_draws: S; more than 0 for draws of p(x_mis | x_obs) instead of the mean, [S, N, ...], a list for a table.
          proposal: what z is drawn from: "laplace" for a Gaussian at the mode of p(z|x_obs) (`inference.laplace`), for
            which the encoder need not be good; "encoder" for q(z|x_obs), also of a hierarchy.
          seed: of the samples.

        Raises `ValueError` for a model that was trained without missing values.
        """
        self._needs("latent", "impute")
        if not self.experiment.event.missing:
            raise ValueError(
                "impute requires a model that was trained with missing values: NaN in the data, and missing=True of "
                "`data.from_arrays` or config.data.files.missing"
            )
        integers(num_samples=num_samples)
        integers(num_draws=num_draws, at_least=0)
        one_of(("laplace", "encoder"), proposal=proposal)
        data, _, single = inputs.batch(self.experiment, x, context)
        observed = ~np.isnan(data["x"])
        if mask is not None:
            mask = inputs.mask_of(mask, data["x"].shape, single)
            data, observed = data | {"x": np.where(mask, data["x"], np.nan)}, observed & mask
        function = _imputing(num_samples, num_draws, proposal, seed)
        filled = self._apply(function, {"x": data["x"], "index": np.arange(len(observed))}, data.get("context"))
        if not num_draws:
            return _first(self._stored(filled), single)
        draws = [self._stored(filled[:, s], drawn=True) for s in range(num_draws)]
        draws = [_first(draw, single) for draw in draws]
        return draws if self.dataset.columns else np.stack(draws)

    # ------------------------------------------------------------------------------------------ keeping and moving

    def save(self, folder) -> Path:
        """Copy what `load` needs into a new folder, and return it. Training can be continued there, too."""
        folder = Path(folder).expanduser()
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f"{folder} exists and is no empty folder; nothing was written. Give a new name")
        if self.folder.resolve() in folder.resolve().parents:
            raise ValueError(f"{folder} is inside the run itself; nothing was written. Give a folder outside it")
        self._needs_file("config.json")
        self._needs_file("checkpoints")
        folder.mkdir(parents=True, exist_ok=True)
        for name in SAVED:
            if (self.folder / name).is_dir():
                shutil.copytree(self.folder / name, folder / name)
            elif (self.folder / name).is_file():
                shutil.copy2(self.folder / name, folder / name)
        return folder

    def export(self, folder, **options) -> Path:
        """Write weights and programs that need JAX but not this package into a folder (`runs.export.export`)."""
        from vae_jax.runs import export

        return export.export(self.experiment, self.params, folder, **options)

    def to(self, target) -> "Run":
        """Return the run on another device ("cpu", "gpu", "tpu" or a `jax.Device`), or in "bf16" or "float32".

        Numbers change what the networks compute with; densities stay in float32.
        """
        precision = {"bf16": "bfloat16", "bfloat16": "bfloat16", "float32": "float32"}.get(target)
        if precision is None:
            device = _device(target)
            return dataclasses.replace(self, params=jax.device_put(jax.device_get(self.params), device))
        if "compute_dtype" not in self.config["model"]:
            raise ValueError(f"{self.config['family']} has no networks whose precision could be chosen")
        config = configs.with_values(self.config, {"model.compute_dtype": precision})
        return dataclasses.replace(self, experiment=build.build(config, self.dataset))

    # ------------------------------------------------------------------------------------------------ inside

    def _needs_file(self, name) -> Path:
        """Return a file or a folder of the workdir. Raises `ValueError` if it is gone."""
        if not (self.folder / name).exists():
            raise ValueError(f"{self.folder / name} does not exist: this run has been moved or removed since `load`")
        return self.folder / name

    def _needs(self, field, what):
        """Raise `ValueError` for a model that does not have what a method needs."""
        if getattr(self.model, field) is None:
            able = [name for name in ("latent", "sample", "log_prob", "bound") if getattr(self.model, name) is not None]
            raise ValueError(
                f"{what} requires a model with `{field}`, and the family {self.config['family']} has none; it has "
                f"{', '.join(able) or 'no such field'}"
            )

    def _needs_numbers(self, method):
        """Raise `ValueError` if the codes are integers of a codebook, which have no values between them."""
        if any(isinstance(support, Levels) for support in supports(self._posterior_shapes())):
            raise ValueError(f"{method} requires codes with distances, and those of this model are integers")

    def _posterior_shapes(self):
        """Return q(z|x) with shapes in place of arrays."""
        shapes = self.experiment.batch_shapes()
        one = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), shapes)
        return jax.eval_shape(self.model.latent.posterior, self.params, one["x"], one.get("context"))

    def _code_of(self, x, name, context):
        """Return the code of one example [D], or a tuple by level. Raises `ValueError` for several examples."""
        examples, single = inputs.examples(self.experiment, x)
        if len(examples) != 1:
            raise ValueError(f"{name} must be one example, got {len(examples)}")
        return _first(self.encode(x, context), not single)

    def _each(self, function, x, context, then=lambda result: result):
        """Return `then` of `function` of every example of x, in pieces of a fixed size, as NumPy."""
        data, _, single = inputs.batch(self.experiment, x, context, expected=True)
        result = self._apply(function, data["x"], data.get("context"))
        return _first(then(result), single)

    def _apply(self, function, x, context):
        return pieces.apply(function, self.experiment, self.params, x, context)

    def _stored(self, x, *, drawn=False):
        """Return values that the model sees on the scale of the stored data."""
        return self.experiment.to_stored(x, drawn=drawn)

    def _training_codes(self):
        """Return the codes of training examples, as the run has stored them [N, D]."""
        file = self.folder / "codes.npz"
        if not file.is_file():
            raise ValueError(f"{self.folder} has no codes.npz, so no training examples are known; give among=")
        try:
            with np.load(file, allow_pickle=False) as stored:
                return stored["train"]
        except (OSError, ValueError, TypeError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{file} is damaged ({first_line(error)}); give among=") from error


# ------------------------------------------------------------------------------------------------- entrances


def load(folder) -> Run:
    """Return the trained model in a workdir. Its training data need not exist.

    Raises `ValueError` if the folder holds no run, or no checkpoint yet.
    """
    folder = Path(folder).expanduser().absolute()
    experiment = build.build_trained(folder, with_data=False)
    params = build.restore(folder, experiment, mesh=experiment.mesh).params
    results = {}
    if (folder / "results.json").is_file():
        try:
            results = workdirs.read_results(folder)
        except ValueError as error:  # the model is there
            logging.warning("%s", error)
    return Run(experiment, params, folder, results)


def fit(data, config="vae", *, workdir=None, figures=False, progress=True, extend=False, **changes) -> Run:
    """Train a model and return it.

    Args:
      data: a `data.Dataset`, or an array that `data.from_arrays` takes, or the name of a data set.
      config: the name of a config, such as "vae_digits"; a family, such as "vae", for a config that suits the data; or
        a config.
      workdir: the folder of the run. None for a temporary one, which exists as long as the `Run`; `save` keeps it.
      figures: True to draw the figures and to write report.html as well.
      progress: True to show how far it is.
      extend: True to lengthen the run in `workdir` to a larger `num_steps`, from its last state.
      **changes: values of the config, by their last name if only one place has it, such as latent_dim=2, otherwise by
        their path, such as "model.objective.beta" as the key of a dict.
    """
    from vae_jax.runs import suited, train

    dataset = suited.dataset(data)
    chosen = configs.with_changes(suited.config(config, dataset), changes)
    temporary = None if workdir else tempfile.TemporaryDirectory(prefix="vae_jax-", ignore_cleanup_errors=True)
    folder = workdir or temporary.name
    train.complete(chosen, folder, dataset=dataset, figures=figures, progress=progress, extend=extend)
    return dataclasses.replace(load(folder), temporary=temporary)


# ------------------------------------------------------------------------------------- functions of one example


def _code(model, params, x, context):
    return model.latent.posterior(params, x, context).mean()


def _moments(model, params, x, context):
    q = model.latent.posterior(params, x, context)
    return q.mean(), jnp.exp(q.log_scale)


def _decoded(model, params, z, context):
    return decode.typical(model.latent.likelihood(params, z, context))


def _reconstructed(model, params, x, context):
    return _decoded(model, params, model.latent.posterior(params, x, context).mean(), context)


@functools.cache
def _imputing(num_samples, num_draws, proposal, seed):
    """Return the function of one example that fills it in; equal numbers give the same, which is compiled once."""

    def fill(model, params, example, context):
        key = jax.random.fold_in(jax.random.key(seed), example["index"])
        options = {"num_samples": num_samples, "num_draws": max(1, num_draws)}
        latent = model.latent
        if proposal == "laplace":
            latent = latent.exchange(posterior=laplace.posterior(latent))
        imputed = impute.impute(latent, params, key, example["x"], context, **options)
        return imputed.draws if num_draws else imputed.mean

    return fill


def _mean_draw(model, params, key_data, context):
    key = jax.random.wrap_key_data(key_data)
    return _decoded(model, params, model.latent.prior(params, context).sample(key), context)


def _matches(z, like, *, axes):
    """Return True if codes have the structure and the shapes of `like`, after `axes` further axes."""
    if jax.tree.structure(z) != jax.tree.structure(like):
        return False
    pairs = zip(jax.tree.leaves(z), jax.tree.leaves(like), strict=True)
    return all(a.ndim == b.ndim + axes and a.shape[axes:] == b.shape for a, b in pairs)


def _device(target):
    """Return a device. Raises `ValueError` for a platform that JAX does not have here."""
    if isinstance(target, jax.Device):
        return target
    try:
        return jax.devices(target)[0]
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{target!r} is neither 'bf16' nor 'float32' nor a device of this machine") from error


def _first(array, single):
    if not single or isinstance(array, list):  # of sentences
        return array[0] if single else array
    return jax.tree.map(lambda a: a[0], array)
