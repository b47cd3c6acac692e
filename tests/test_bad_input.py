"""Bad values in configs, by kinds: each is refused in one line that names its key, and nothing is left behind."""

import copy
import importlib
import inspect
import json
import math
import re
from pathlib import Path

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from vae_jax import networks, spec
from vae_jax.core import Aux, Model, by_loss
from vae_jax.data import idx, sources
from vae_jax.networks.mlp import activation_function
from vae_jax.runs import build, checking, train
from vae_jax.runs.migrate import migrate
from vae_jax.training import gradient

NAN, HUGE = math.nan, 2**70
CONFIGS = sorted(p.stem for p in Path("experiments/configs").glob("*.py"))


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """A hundred of scikit-learn's digits as 28x28 IDX files."""
    folder = tmp_path_factory.mktemp("idx")
    digits = load_digits()
    x = np.pad(np.kron(digits.images, np.ones((3, 3))), ((0, 0), (2, 2), (2, 2)))
    x, label = np.round(x * 255 / 16).astype(np.uint8), digits.target.astype(np.uint8)
    for prefix, part in (("train", slice(0, 300)), ("t10k", slice(300, 400))):
        idx.write(folder / f"{prefix}-images-idx3-ubyte", x[part])
        idx.write(folder / f"{prefix}-labels-idx1-ubyte", label[part])
    colour = np.pad(x[:100], ((0, 0), (2, 2), (2, 2)))[..., None] // np.array([1, 2, 3], np.uint8)
    np.savez(folder / "colour.npz", x=colour, is_test=np.arange(100) % 4 == 0)
    return folder


@pytest.fixture(scope="session", autouse=True)
def read_once():
    """Every data set is read once, not for every case."""
    read, sets = sources.load, {}

    def load(*args, **options):
        key = repr((args, options))
        if key not in sets:
            sets[key] = read(*args, **options)
        return sets[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "load", load)
        yield


@pytest.fixture
def refused(images, tmp_path):
    """(config's name, {path: value}) -> the one line of the error; no workdir was made."""

    def one_line(name, changes):
        config = changed(smoke(name, images), changes)
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            train.complete(config, tmp_path / "run", figures=False)
        assert list(tmp_path.iterdir()) == []
        message = str(error.value)
        assert message and "\n" not in message and len(message) < 1000
        return message

    return one_line


def smoke(name, images):
    """The small config called NAME or NAME:ARGUMENT, a plain dict."""
    name, _, arg = name.partition(":")
    module = importlib.import_module(f"vae_jax.configs.{name}")
    config = module.get_config(",".join(filter(None, (arg, "smoke"))))
    drawn = ("counts", "dsprites_by_rule", "faces_by_rule")
    if config.data.name not in ("digits", "text", "audio", "table", "strokes", *drawn):
        config.data.path = str(Path(images) / "colour.npz" if config.data.name == "arrays" else images)
    return config.to_dict()


def changed(config, changes):
    config = copy.deepcopy(config)
    for path, value in changes.items():
        *parents, key = path.split(".")
        place = config
        for parent in parents:
            place = place[parent]
        if value is DELETED:
            del place[key]
        else:
            place[key] = value
    return config


DELETED = "(deleted)"

# ------------------------------------------------------------------------------------------- numbers and their ranges

# {config: {path: (what the error says after the path, values)}}
COUNT = "must be (a whole number, )?(at least 1|between 1 and 2147483647)"
NATURAL = "must be (a whole number, )?at least 0"
EACH = "(: each entry|) must "
NUMBERS = {
    "vae_digits": {
        "seed": (
            r"must be (a whole number, )?(between 0 and 4294967295|at least 0)",
            [-1, 2**32, HUGE, 1.0, True, "0", None],
        ),
        "data.batch_size": (COUNT, [0, -8, 8.0, True, "8", None, [8]]),
        "data.buckets": (COUNT, [0, 1.0]),
        "data.memory_limit": (NATURAL, [-1, 1e9, None]),
        "data.num_workers": ("must be (a whole number, )?between 0 and 1000", [-1, 10**6, 0.0]),
        "data.leave_out": ("must be a tuple|: each entry must be", [3, "3", [-1], [1.0], [None]]),
        "data.max_value": (NATURAL, [-1, 1.0, "255"]),
        "data.context": ("must be a dict of options", [1, "yes", None]),
        "data.files": ("must be a dict of options|must be empty for digits", [1, None, {"size": 8}]),
        "data.context.name": ("unknown value|must be a string", [1, "lable", None]),
        "train.num_steps": (COUNT, [0, -1, 10.0, "10", None]),
        "train.log_every": (COUNT, [0, -5, 2.5]),
        "train.eval_every": (COUNT, [0, True]),
        "train.checkpoint_every": (NATURAL, [-1, "often"]),
        "train.keep": (COUNT, [0, -2, None]),
        "train.patience": (NATURAL, [-1, 0.5]),
        "train.max_skipped": (COUNT, [0, -1]),
        "train.preview_every": (NATURAL, [-1, 0.5, True, None]),
        "train.writers": ("must be a tuple of names|: unknown value", ["wandb", 1, None, ["wandbb"], [1], [None]]),
        "eval.num_samples": (COUNT, [0, -1, 10.0, "many", None]),
        "eval.num_test": (NATURAL, [-1, 1.5, True]),
        "mesh.data": ("must be", [0, -2, 1.0, "all"]),
        "mesh.model": (COUNT, [0, -1, None]),
        "optimizer.learning_rate": (
            "must be (a number, |one finite number, )?above 0",
            [0, -1e-3, "fast", None, True, 1e300],
        ),
        "optimizer.clip_norm": ("must be (a number, )?at least 0", [-1.0, "1", None]),
        "optimizer.average_decay": ("must be (a number, )?at least 0 and below 1", [2, -1, 1.0, "0.9"]),
        "optimizer.skip_above": ("must be", [-1, 0.5, 1, "10"]),
        "optimizer.b1": ("must be (a number, )?at least 0 and below 1", [1.0, -0.1, "0.9"]),
        "optimizer.eps": ("must be (a number, )?at least 0", [-1e-8, [1e-8]]),
        "optimizer.schedule.decay_steps": (COUNT, [0, -1, 100.0, "100"]),
        "model.latent_dim": (COUNT, [0, -1, 8.0, True, "8", None, 2**31]),
        "model.encoder.hidden": (EACH + "be", [[0], [-4], [16, 0], [16.0], [True], 16, "16", None, [None], [[16]]]),
        "model.decoder.branches": (EACH + "be", [[0], 3]),
        "model.encoder.gated": ("must be True or False", [1, None]),
        "model.objective.beta": ("must be (a number, )?at least 0", [-1.0, "1", None, [1.0]]),
        "model.objective.num_samples": (COUNT, [0, -1, 1.0, True, None]),
    },
    "vae_mnist": {
        "model.objective.beta.steps": (COUNT, [0, -5, 10.0, None]),
        "model.objective.beta.start": ("must be a number", ["0", None]),
        "model.objective.beta.end": ("must be a number", [None]),
    },
    "text_vae_text": {
        "data.tokens.max_length": (COUNT, [0, -1, 11.0, None]),
        "data.tokens.min_count": (COUNT, [0, 1.5]),
        "model.objective.free_nats": ("must be (a number, )?at least 0", [-0.1, "0", None]),
        "model.encoder.width": (COUNT, [0, 16.0]),
        "model.decoder.dropout": ("must be (a number, )?at least 0 and below 1", [1.0, -0.1, 2, None]),
        "model.decoder.word_dropout": ("must be (a number, )?at least 0 and below 1", [1.0, -0.1]),
        "model.decoder.num_layers": ("must be", [0, 1.0, 10**6]),
        "model.decoder.tied": ("must be True or False", ["no"]),
    },
    "text_vae_text:logistic": {"model.objective.beta.width": ("must be (a number, )?above 0", [0, -1.0])},
    "text_vae_text:cyclical": {
        "model.objective.beta.num_cycles": (COUNT, [0, 2.0]),
        "model.objective.beta.ratio": ("must be (a number, )?above 0 and at most 1", [0, 1.5]),
    },
    "language_model_text:transformer": {
        "model.network.num_heads": ("", [0, 3, 4.0]),
        "model.network.num_layers": ("must be", [0, -1]),
    },
    "lagging_encoder_digits": {
        "learner.window": (COUNT, [0, 1.0]),
        "learner.max_steps": (COUNT, [0, None]),
        "learner.check_every": (COUNT, [0, -1]),
        "learner.only": ("", ["prior", [1], ["priors"], None]),
    },
    "discrete_mnist": {"model.objective.num_samples": ("must be (a whole number, )?at least 2", [0, 1, 4.0])},
    "discrete_mnist:gumbel_softmax": {
        "model.objective.temperature": ("must be (a number, )?above 0", [0, -0.5, None]),
        "model.objective.hard": ("must be True or False", [1]),
    },
    "discrete_mnist:nvil": {
        "model.objective.running_mean": ("must be (a number, )?at least 0 and below 1", [1.0, -0.1, "0.8"]),
        "model.objective.baseline.hidden": (EACH + "be", [[0], 4]),
    },
    "beta_tcvae_digits": {
        "model.objective.num_data": ("", [0, 3, 1197.0]),
        "model.objective.gamma": ("must be (a number, )?at least 0", [-1.0, None]),
    },
    "flow_posterior_mnist": {
        "model.posterior.num_flows": ("must be", [0, 2.0, 10**9]),
        "model.posterior.num_reflections": (NATURAL, [-1, 1.0]),
        "model.encoder.channels": ("", [[0], [4, -1], [4.0], 4, [4] * 9]),
        "model.decoder.channels": ("", [[], [0], [4] * 9, None]),
    },
    "flow_posterior_mnist:iaf": {
        "model.posterior.context_dim": (COUNT, [0, None]),
        "model.posterior.hidden": (EACH + "be", [[0], 16]),
    },
    "flow_prior_mnist": {
        "model.prior.num_flows": ("must be", [0, -1, 10**9]),
        "model.prior.hidden": (EACH + "be", [[0], None]),
    },
    "vamp_mnist": {
        "model.prior.num_components": (COUNT, [0, 4.0, None]),
        "model.prior.noise": ("must be (a number, )?at least 0", [-0.1, None]),
    },
    "hvae_mnist": {
        "model.levels.z2.latent_dim": (COUNT, [0, 2.0, None]),
        "model.levels.z1.encoder.branches": (EACH + "be", [[0], 5]),
        "model.skip": ("must be True or False", [1]),
    },
    "pixel_cnn_digits": {
        "model.network.kernel": ("must be", [0, 2, -3, 3.0, 10**6 + 1]),
        "model.network.first_kernel": ("must be", [0, 4]),
        "model.network.channels": ("", [[], [0, 4], [4.0, 4], 4]),
        "model.network.dilations": ("", [[1], [0, 1], 1, None]),
        "model.network.dropout": ("must be (a number, )?at least 0 and below 1", [1.0, -0.5]),
        "model.network.shortcuts": ("must be True or False", [1]),
        "model.likelihood.num_levels": ("must be (a whole number, )?at least 2", [0, 1, 17.0, None]),
    },
    "pixel_cnn_digits:logistics": {"model.likelihood.num_components": (COUNT, [0, 3.0])},
    "pixel_cnn_digits:normal_fixed": {"model.likelihood.scale": ("must be", [0, -1.0, 1e9, "1"])},
    "pixel_vae_digits": {"model.likelihood.features": (COUNT, [0, 2.0]), "model.likelihood.spatial": ("must be", [1])},
    "wavenet_audio": {
        "data.audio.length": (COUNT, [0, -1, 64.0, None]),
        "data.audio.sample_rate": (COUNT, [0, 8000.0]),
        "model.network.width": (COUNT, [0, 4.0]),
        "model.network.skip": (COUNT, [0, -1]),
        "model.network.dilations": ("", [[], [0], [1.0], 2]),
        "model.network.first_kernel": ("must be", [0, 10**9]),
    },
    "belief_network_digits": {"model.network.num_hidden": (COUNT, [0, 64.0, None])},
    "belief_network_mnist:made": {"model.network.hidden": ("", [[0], [2**31 - 1], 5])},
    "linear_predictor_audio": {
        "model.order": ("must be", [0, 4.0, 10**6]),
        "model.num_scales": (COUNT, [0, None]),
        "model.floor": ("must be (a number, )?above 0", [0, -1e-6, None]),
    },
    "ngram_text": {"model.order": ("must be", [0, 3.0, 10**9])},
    "ngram_audio": {"model.num_levels": ("must be", [-1, 256.0, None])},
    "naive_bayes_digits": {"model.smoothing": ("must be (a number, )?above 0", [0, -1.0, "1", None])},
    "chow_liu_digits": {"model.smoothing": ("must be (a number, )?above 0", [0, None])},
    "multivariate_normal_digits": {"model.shrinkage": ("must be (a number, )?between 0 and 1", [-0.1, 1.1, None])},
    "factor_analysis_digits": {
        "model.latent_dim": ("must be (a whole number, )?between 1 and 63", [0, 64, 2.0]),
        "model.min_variance": ("must be (a number, )?above 0", [0, None]),
    },
    "bernoulli_mixture_digits": {
        "model.num_components": (COUNT, [0, 4.0, None]),
        "model.components.smoothing": ("must be (a number, )?above 0", [0, None]),
        "model.concentration": ("must be (a number, )?at least 0", [-1.0]),
        "model.revive_below": ("must be (a number, )?at least 0", [-1.0, "1"]),
    },
    "gaussian_mixture_digits": {"model.components.floor": ("must be (a number, )?above 0", [0, -1.0])},
    "autoencoder_digits:denoising": {
        "model.corruption.rate": ("must be (a number, )?between 0 and 1", [-0.1, 1.1, None])
    },
    "autoencoder_digits:k_sparse": {
        "model.code.num_active": ("must be (a whole number, )?between 1 and 16", [0, 17, 1.0])
    },
    "autoencoder_digits:sparse": {"model.penalties.l1.weight": ("must be (a number, )?at least 0", [-1.0, None])},
    "autoencoder_digits:target_activation": {
        "model.penalties.target_activation.activation": ("must be (a number, )?above 0 and below 1", [0, 1, None])
    },
    "iwae_mnist_1layer": {"optimizer.schedule.boundaries_and_scales": ("", [{"2.5": 0.1}, {"10": -1.0}, {"10": "x"}])},
}
OUT_OF_RANGE = [
    pytest.param(name, path, value, words, id=f"{name}-{path}={spec.shown(value)}")
    for name, keys in NUMBERS.items()
    for path, (words, values) in keys.items()
    for value in values
]


@pytest.mark.parametrize(("name", "path", "value", "words"), OUT_OF_RANGE)
def test_a_value_of_another_type_or_out_of_range_is_refused(name, path, value, words, refused):
    message = refused(name, {path: value})
    assert re.match(rf"config\.{re.escape(path)}[: ]*({words})", message), message


@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize("path", ["model.objective.beta", "optimizer.learning_rate", "train.num_steps", "seed"])
def test_what_is_not_finite_is_refused_at_any_key(path, value, refused):
    assert refused("vae_digits", {path: value}) == f"config.{path} must be a finite number, got {value}"


def test_what_is_not_finite_is_refused_within_tuples_and_deep_down():
    for change in ({"model.encoder.hidden": (NAN,)}, {"optimizer.schedule.alpha": NAN}):
        with pytest.raises(ValueError, match=f"config.{next(iter(change))} must be a finite number, got nan"):
            checking.check_config(migrate(changed(smoke("vae_digits", ""), change)))


# ----------------------------------------------------------------------------------- words: names, keys, whole sections

WORDS = [
    ("vae_digits", {"family": "vea"}, "config.family: unknown value 'vea'"),
    ("vae_digits", {"family": 3}, "config.family must be a string, got 3"),
    ("vae_digits", {"model.encoder.name": "mpl"}, "config.model.encoder.name: unknown value 'mpl'; did you mean 'mlp'"),
    ("vae_digits", {"model.encoder.name": None}, "config.model.encoder.name: unknown value None"),
    ("vae_digits", {"model.encoder.name": ["mlp"]}, "config.model.encoder.name: unknown value"),
    ("vae_digits", {"model.posterior.name": "gaussian"}, "config.model.posterior.name: unknown value 'gaussian'"),
    ("vae_digits", {"model.likelihood.name": "Bernoulli"}, "config.model.likelihood.name: .* did you mean 'bernoulli'"),
    ("vae_digits", {"model.prior.name": "vampprior"}, "config.model.prior.name: unknown value 'vampprior'"),
    ("vae_digits", {"model.objective.name": "elb"}, "config.model.objective.name: .* did you mean 'elbo'"),
    ("vae_digits", {"model.compute_dtype": "float16"}, "config.model.compute_dtype: unknown value 'float16'"),
    ("vae_digits", {"model.compute_dtype": None}, "config.model.compute_dtype: unknown value None"),
    ("vae_digits", {"data.transform": "binarise"}, "config.data.transform: unknown value 'binarise'"),
    ("vae_digits", {"data.transform": None}, "config.data.transform must be a string, got None"),
    ("vae_digits", {"data.name": 5}, "config.data.name must be a string, got 5"),
    ("vae_digits", {"data.path": None}, "config.data.path must be a string, got None"),
    ("vae_digits", {"start_from": 1}, "config.start_from must be a string, got 1"),
    ("vae_digits", {"optimizer.name": "adma"}, "config.optimizer.name: 'adma' is no optimiser of optax"),
    ("vae_digits", {"optimizer.name": None}, "config.optimizer.name: None is no optimiser of optax"),
    ("vae_digits", {"optimizer.schedule.name": "cosine"}, "config.optimizer.schedule.name: unknown value 'cosine'"),
    (
        "vae_digits",
        {"learner.name": "gradeint"},
        "config.learner.name: unknown value 'gradeint'; did you mean 'gradient'",
    ),
    ("vae_digits", {"learner.name": None}, "config.learner.name must be a string, got None"),
    (
        "beta_tcvae_digits",
        {"model.objective.sampling": "random"},
        "config.model.objective.sampling: unknown value 'random'",
    ),
    ("hvae_mnist", {"model.inference": "sideways"}, "config.model.inference: unknown value 'sideways'"),
    ("hvae_mnist", {"model.levels": {}}, "config.model.levels must have the keys z1"),
    ("hvae_mnist", {"model.levels.z3": 3}, "config.model.levels.z3 must be a dict"),
    ("factor_analysis_digits", {"model.noise": "round"}, "config.model.noise: unknown value 'round'"),
    (
        "gaussian_mixture_digits",
        {"model.components.covariance": 1},
        "config.model.components.covariance: unknown value 1",
    ),
    ("ngram_text", {"model.discounts": "kneser"}, "config.model.discounts: unknown value 'kneser'"),
    ("ngram_text", {"data.tokens.level": 3}, "config.data.tokens.level must be a string, got 3"),
    (
        "autoencoder_digits",
        {"model.corruption": {"name": "blur"}},
        "config.model.corruption.name: unknown value 'blur'",
    ),
    (
        "autoencoder_digits",
        {"model.penalties": {"l3": {"weight": 1.0}}},
        "config.model.penalties.l3.name: unknown value",
    ),
    ("autoencoder_digits", {"model.penalties": {"l1": 0.1}}, "config.model.penalties.l1 must be a dict"),
    ("autoencoder_digits", {"model.penalties": None}, "config.model.penalties must be a dict"),
    ("autoencoder_digits", {"model.tied": True, "model.encoder": 3}, "config.model.tied requires"),
    # keys that there are not
    ("vae_digits", {"lr": 1.0}, r"config: unknown key 'lr' \(allowed: data, eval, family"),
    ("vae_digits", {"optimiser": {}}, "config: unknown key 'optimiser'; did you mean 'optimizer'"),
    ("vae_digits", {"data.batchsize": 8}, "config.data: unknown key 'batchsize'; did you mean 'batch_size'"),
    ("vae_digits", {"train.steps": 8}, "config.train: unknown key 'steps'"),
    ("vae_digits", {"train.progress": True}, "config.train: unknown key 'progress'"),
    ("vae_digits", {"eval.num_tests": 8}, "config.eval: unknown key 'num_tests'; did you mean 'num_test'"),
    ("vae_digits", {"mesh.date": 1}, "config.mesh: unknown key 'date'; did you mean 'data'"),
    ("vae_digits", {"learner.onyl": ()}, "config.learner: unknown key 'onyl'; did you mean 'only'"),
    ("vae_digits", {"optimizer.lr": 1.0}, "config.optimizer .*: unknown key 'lr'"),
    ("vae_digits", {"optimizer.schedule.decay": 1}, "config.optimizer.schedule: unknown key 'decay'"),
    ("vae_digits", {"model.latnt_dim": 3}, "config.model: unknown key 'latnt_dim'; did you mean 'latent_dim'"),
    ("vae_digits", {"model.encoder.width": 3}, "config.model.encoder: unknown key 'width'"),
    ("vae_digits", {"model.objective.betas": 3}, "config.model.objective: unknown key 'betas'"),
    (
        "vae_digits",
        {"data.tokens": {"levels": "word"}},
        "config.data.tokens: unknown key 'levels'; did you mean 'level'",
    ),
    ("wavenet_audio", {"data.audio.rate": 8000}, "config.data.audio: unknown key 'rate'"),
    ("pixel_cnn_digits", {"model.network.name": "x"}, "config.model.network: unknown key 'name'"),
    # sections of another kind
    *[
        ("vae_digits", {section: value}, rf"config\.{section} must be a dict")
        for section in (
            "model",
            "data",
            "train",
            "eval",
            "mesh",
            "optimizer",
            "learner",
            "model.encoder",
            "model.prior",
        )
        for value in (3, "mlp", [1])
    ],
    ("vae_digits", {"optimizer.schedule": 3}, r"config\.optimizer\.schedule must be a dict"),
    ("vae_digits", {"model.objective": None}, r"config\.model\.objective must be a dict"),
    ("pixel_cnn_digits", {"model.network": None}, r"config\.model\.network must be a dict"),
    # what is missing
    *[
        ("vae_digits", {key: DELETED}, f"config: missing key '{key}'")
        for key in ("seed", "family", "model", "data", "eval")
    ],
    ("vae_digits", {"optimizer": DELETED}, "config.optimizer is missing"),
    ("vae_digits", {"eval.num_test": DELETED}, "config.eval: missing key 'num_test'"),
    ("vae_digits", {"data.batch_size": DELETED}, "config.data: missing key 'batch_size'"),
    ("vae_digits", {"learner.name": DELETED}, "config.learner: missing key 'name'"),
    ("vae_digits", {"optimizer.name": DELETED}, "config.optimizer: missing key 'name'"),
    ("vae_digits", {"model.encoder": DELETED}, "config.model: missing key 'encoder'"),
    ("vae_digits", {"model.encoder.name": DELETED}, "config.model.encoder.name: unknown value None"),
    (
        "autoencoder_digits:sparse",
        {"model.penalties.l1.weight": DELETED},
        "config.model.penalties.l1: missing key 'weight'",
    ),
]


@pytest.mark.parametrize(("name", "changes", "words"), WORDS, ids=lambda value: spec.shown(value)[:60])
def test_a_word_that_is_not_known_a_key_or_a_section_is_refused(name, changes, words, refused):
    assert re.match(words, message := refused(name, changes)), message


@pytest.mark.parametrize("config", [None, 3, "vae", [1], []])
def test_a_config_of_another_kind_is_refused(config):
    with pytest.raises(ValueError, match=r"^config must be a dict, such as config.json holds, got"):
        build.build(config)


def test_configs_of_earlier_versions_are_still_taken():
    config = smoke("vae_digits", "")
    for path in ("learner", "start_from", "mesh", "data.leave_out", "data.num_workers", "train.keep"):
        config = changed(config, {path: DELETED})
    assert build.build(json.loads(json.dumps(config))).model.latent
    assert build.build(changed(config, {"data.max_value": 0})).model.latent


@pytest.mark.parametrize("name", CONFIGS)
def test_an_argument_that_a_config_does_not_know_is_refused(name):
    get_config = importlib.import_module(f"vae_jax.configs.{name}").get_config
    for arg in ("foo", "smok", "foo,smoke", "smoke,smok", "Smoke"):
        with pytest.raises(ValueError, match=r"unknown value .*allowed: .*smoke") as error:
            get_config(arg)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"'smok'; did you mean 'smoke'\?"):
        get_config("smok")
    assert get_config("") == get_config()
    assert get_config("smoke").train.num_steps <= 20


# ------------------------------------------------------------------------------------------------------- activations


def elementwise(name):
    function = getattr(jax.nn, name)
    x = np.linspace(-8.0, 8.0, 9, dtype=np.float32)
    try:
        whole = np.asarray(function(jnp.asarray(x)))
        return whole.shape == x.shape and np.allclose(
            whole, [function(jnp.asarray(v)) for v in x], rtol=1e-5, atol=1e-6
        )
    except Exception:
        return False


def test_the_activations_are_the_elementwise_functions_of_jax():
    names = [name for name in dir(jax.nn) if callable(getattr(jax.nn, name))]
    assert {"softmax", "glu", "one_hot", "logsumexp", "standardize", "relu", "tanh", "identity"} <= set(names)
    for name in names:
        if elementwise(name):
            assert activation_function(name) is getattr(jax.nn, name)
        else:
            with pytest.raises(spec.BadOption, match=f"^activation: unknown value '{name}'"):
                activation_function(name)


@pytest.mark.parametrize(
    "activation", ["softmax", "glu", "one_hot", "reluu", "initializers", "__doc__", "", None, 3, ["relu"]]
)
@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("vae_digits", "model.encoder.activation"),
        ("flow_prior_mnist", "model.prior.activation"),
        ("flow_posterior_mnist:iaf", "model.posterior.activation"),
        ("flow_posterior_mnist", "model.decoder.activation"),
        ("belief_network_digits", "model.network.activation"),
        ("belief_network_mnist:made", "model.network.activation"),
    ],
)
def test_other_activations_are_refused_in_every_network(name, path, activation, refused):
    message = refused(name, {path: activation})
    assert message.startswith(f"config.{path}: unknown value ") and "relu, " in message


# ---------------------------------------------------------------------------------------------- optimisers, schedules

OPTIMISERS = [
    name
    for name, function in sorted(vars(optax).items())
    if inspect.isfunction(function) and "learning_rate" in inspect.signature(function).parameters
]


def squared_error(params, key, batch, step):
    return jnp.sum(jnp.square(batch["x"] @ params["w"] + params["b"][None] - 1.0), 1), Aux({})


LINEAR = Model(
    init=lambda key, batch: {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)},
    loss=squared_error,
    judge=by_loss(squared_error),
)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_optimiser_of_optax_makes_a_step_or_is_refused(name):
    batch = {"x": jax.random.normal(jax.random.key(1), (4, 3))}
    try:
        with spec.under("config.optimizer"):
            learner = gradient.gradient(LINEAR, gradient.optimizer(name=name, learning_rate=0.01))
    except spec.BadOption as error:
        assert name in ("lbfgs", "_deprecated_dpsgd"), error
        assert str(error).startswith("config.optimizer") and "\n" not in str(error)
        return
    state = learner.init(jax.random.key(0), batch)
    new, metrics = jax.jit(learner.step)(state, batch)
    assert np.isfinite(metrics["loss"]) and metrics["skipped"] == 0
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, state)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(new.params))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "lbfgs"}, r"config.optimizer \(lbfgs\) cannot make a step from a gradient"),
        ({"name": "adam", "b1": NAN}, "config.optimizer.b1 must be one finite number"),
        ({"name": "adam", "mu_dtype": "no such type"}, r"config.optimizer \(adam\): TypeError"),
        ({"name": "sgd", "momentum": "much"}, "config.optimizer.momentum must be a number"),
        ({"name": "adamw", "weight_decay": -1.0}, "config.optimizer.weight_decay must be at least 0"),
        ({"name": "adam", "weight_decay": 1.0}, r"config.optimizer \(adam\): unknown key 'weight_decay'"),
    ],
)
def test_an_optimiser_that_cannot_work_is_refused(options, words):
    with pytest.raises(spec.BadOption, match=f"^{words}") as error, spec.under("config.optimizer"):
        gradient.optimizer(learning_rate=1e-3, **options)
    assert "\n" not in str(error.value)


SCHEDULES = [
    ({"name": "join_schedules"}, "schedule.name: unknown value 'join_schedules'"),
    ({"name": "inject_hyperparams"}, "schedule.name: unknown value"),
    ({"name": "Schedule"}, "schedule.name: unknown value"),
    ({"name": "constant_schedule"}, "schedule: missing key 'value'"),
    ({"name": "constant_schedule", "value": -1.0}, "schedule must be at least 0 at every step, got -1 at step 0"),
    ({"name": "constant_schedule", "value": NAN}, "schedule.value must be one finite number"),
    ({"name": "constant_schedule", "value": "1"}, "schedule"),
    ({"name": "constant_schedule", "value": [1.0, 2.0]}, "schedule is no schedule that can be computed"),
    ({"name": "cosine_decay_schedule", "init_value": 1.0, "decay_steps": 0}, "schedule.decay_steps must be at least 1"),
    (
        {"name": "cosine_decay_schedule", "init_value": 1.0, "decay_steps": 9, "alpha": -0.5},
        "schedule must be at least 0",
    ),
    ({"name": "linear_schedule", "init_value": 1.0, "end_value": -1.0, "transition_steps": 5}, "must be at least 0"),
    (
        {"name": "exponential_decay", "init_value": 1.0, "decay_rate": 0.5, "transition_steps": 0},
        "transition_steps must",
    ),
    ({"name": "exponential_decay", "init_value": 1.0, "decay_rate": -0.5, "transition_steps": 1}, "must be at least 0"),
    (
        {"name": "piecewise_constant_schedule", "init_value": 1.0, "boundaries_and_scales": {"x": 1.0}},
        "its keys must be steps",
    ),
    (
        {"name": "piecewise_constant_schedule", "init_value": 1.0, "boundaries_and_scales": {"5": -1}},
        "must be at least 0",
    ),
    ({"name": "piecewise_constant_schedule", "init_value": 1.0, "boundaries_and_scales": 3}, "schedule"),
    ({"name": "sgdr_schedule", "cosine_kwargs": [3]}, "schedule"),
    ({"name": "sgdr_schedule", "cosine_kwargs": 3}, "schedule"),
]


@pytest.mark.parametrize(("schedule", "words"), SCHEDULES, ids=lambda value: spec.shown(value)[:70])
def test_a_schedule_that_cannot_be_computed_or_turns_negative_is_refused(schedule, words):
    with (
        pytest.raises(spec.BadOption, match=rf"^config\.optimizer\..*{words}") as error,
        spec.under("config.optimizer"),
    ):
        gradient.optimizer(name="adam", learning_rate=1e-3, schedule=schedule)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ({"name": "linear", "steps": 5, "start": -1.0}, "beta, at step 0, must be at least 0, got -1.0"),
        ({"name": "linear", "steps": 5, "end": -1.0}, "beta, at step 1, must be at least 0"),
        ({"name": "logistic", "midpoint": 5, "width": 0}, "beta.width must be above 0, got 0"),
        ({"name": "cyclical", "steps": 0}, "beta.steps must be at least 1, got 0"),
        ({"name": "cyclical", "steps": 5, "ratio": 2}, "beta.ratio must be above 0 and at most 1, got 2"),
        ({"name": "constant", "value": -1.0}, "beta, at step 0, must be at least 0"),
        ({"name": "sine"}, "beta.name: unknown value 'sine'"),
        ({}, "beta.name: unknown value None"),
    ],
)
def test_a_schedule_of_the_objective_out_of_range_is_refused(schedule, words, refused):
    assert refused("vae_digits", {"model.objective.beta": schedule}).startswith(f"config.model.objective.{words}")


# --------------------------------------------------------------------------------------------- shapes that do not fit


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        (
            "flow_posterior_mnist",
            {"data.name": "digits", "data.path": "", "model.encoder.channels": (4,) * 4},
            "config.model.encoder.channels: an image of 8x8 cannot be halved 4 times",
        ),
        (
            "flow_posterior_mnist",
            {"model.decoder.channels": (4, 4, 4)},
            "config.model.decoder.channels: an image of 28x28 cannot",
        ),
        (
            "hvae_mnist",
            {"model.levels.z2.encoder": {"name": "conv_encoder"}, "model.inference": "bottom_up"},
            "config.model.encoder.channels: a convolutional network requires images",
        ),
        (
            "hvae_mnist",
            {"model.levels.z2.decoder": {"name": "resnet_decoder"}},
            "config.model.levels.z2.decoder.name: a convolutional network requires images",
        ),
        (
            "vae_digits",
            {"model.decoder": {"name": "conv_decoder", "channels": (4, 4, 4, 4)}},
            "config.model.decoder.channels: an image of 8x8",
        ),
        (
            "wavenet_audio",
            {"family": "pixel_cnn", "model.network": {}},
            "config.model: the family 'pixel_cnn'",
        ),
        (
            "pixel_cnn_digits",
            {"family": "wavenet", "model.network": {}},
            "config.model: the family 'wavenet'",
        ),
        (
            "vae_digits",
            {"model.latent_dim": 1, "model.prior": {"name": "flow"}, "model.objective.name": "elbo_sampled_kl"},
            "config.model.prior.name: 'flow' needs at least two dimensions",
        ),
        (
            "vae_digits",
            {"model.latent_dim": 1, "model.posterior.name": "von_mises_fisher"},
            "config.model.posterior.name: 'von_mises_fisher' needs at least 2 dimensions",
        ),
        (
            "discrete_mnist",
            {"model.prior": {"name": "pixel_cnn", "shape": (2, 2, 2)}},
            "config.model.prior.shape must be",
        ),
        (
            "discrete_mnist",
            {"model.prior": {"name": "pixel_cnn", "shape": 16}},
            "config.model.prior.shape must be a tuple",
        ),
        (
            "bernoulli_mixture_digits",
            {"model.num_components": 500},
            "config.model.num_components must be at most the 399",
        ),
        (
            "lagging_encoder_digits",
            {"learner.encoder": ("coder",)},
            "config.learner.encoder: .* parts decoder, encoder",
        ),
        ("lagging_encoder_digits", {"learner.encoder": "encoder"}, "config.learner.encoder must be a tuple of names"),
        (
            "pixel_cnn_digits",
            {"learner": {"name": "aggressive", "window": 1, "max_steps": 1, "check_every": 1}},
            "config.",
        ),
        (
            "autoencoder_digits",
            {"learner": {"name": "aggressive", "window": 1, "max_steps": 1, "check_every": 1}},
            "config.",
        ),
        (
            "naive_bayes_digits",
            {"learner": {"name": "aggressive", "window": 1, "max_steps": 1, "check_every": 1}},
            "config.",
        ),
        (
            "vae_digits",
            {"model.objective": {"name": "renyi", "alpha": 1}},
            "config.model.objective.alpha must differ from 1",
        ),
        (
            "vae_digits",
            {"model.objective": {"name": "wae", "lambda_mmd": 1.0, "scales": ()}},
            "config.model.objective.scales must be",
        ),
        (
            "vae_digits",
            {"model.objective": {"name": "wae", "lambda_mmd": -1.0}},
            "config.model.objective.lambda_mmd must be at least 0",
        ),
        (
            "vae_digits",
            {"model.objective": {"name": "info_vae", "alpha": 0, "lambda_mmd": 1, "kernel": "x"}},
            "config.model.objective.kernel: unknown",
        ),
        (
            "vae_digits",
            {"model.objective": {"name": "dip_vae", "kind": 1, "lambda_od": 1, "lambda_d": 1}},
            "config.model.objective.kind: unknown",
        ),
        (
            "vae_digits",
            {"model.objective": {"name": "ciwae", "elbo_weight": 2}},
            "config.model.objective.elbo_weight must be between 0 and 1",
        ),
        (
            "vae_digits",
            {"model.objective": {"name": "miwae", "num_outer": 0}},
            "config.model.objective.num_outer must be at least 1",
        ),
        (
            "vae_digits",
            {"model.objective": {"name": "capacity", "gamma": -1, "nats": 1}},
            "config.model.objective.gamma must be at least 0",
        ),
        (
            "vae_digits",
            {"model.objective": {"name": "capacity", "gamma": 1, "nats": {"name": "linear", "steps": 3, "end": -5}}},
            "config.model.objective.nats, at step 1,",
        ),
        (
            "vae_digits",
            {"model.objective": {"name": "iwae", "num_samples": {"name": "linear", "steps": 3}}},
            "config.model.objective.num_samples, at step 0, must be a whole number",
        ),
        *[  # an array of 10^9 x 10^9: no machine has it
            (
                name,
                {key: 10**9},
                "config.model: its parameters and the optimiser's state need .* GiB on each",
            )
            for name, key in (("wavenet_audio", "model.network.width"), ("vae_digits", "model.latent_dim"))
        ],
    ],
)
def test_what_does_not_fit_together_is_refused(name, changes, words, refused):
    assert re.match(words, message := refused(name, changes)), message


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: networks.conv_encoder(((2,),), channels=(0,)), "channels: each entry must be at least 1"),
        (lambda: networks.resnet_encoder(((2,),), num_blocks=-1), "num_blocks must be at least 0"),
        (lambda: networks.resnet_decoder(((8, 8, 1),), num_blocks=1.5), "num_blocks must be a whole number"),
        (lambda: networks.resnet_decoder(((8, 8, 1),), channels=()), "channels must have at least one entry"),
        (
            lambda: networks.resnet_decoder(((7, 8, 1),), channels=(4,)),
            "channels: an image of 7x8 cannot be halved 1 times",
        ),
        (lambda: networks.mlp(((2,),), zero_output="yes"), "zero_output must be True or False"),
    ],
)
def test_a_network_refuses_its_options_when_it_is_made(make, words):
    with pytest.raises(spec.BadOption, match=f"^{words}"):
        make()


# ------------------------------------------------------------------------------------------------------------ fuzzing


def numeric_paths():
    """{path: the first config that has a number there}, of all configs."""

    def walk(config, path=()):
        for key, value in config.items():
            if isinstance(value, dict):
                yield from walk(value, (*path, key))
            elif isinstance(value, int | float | tuple) and not isinstance(value, bool):
                yield ".".join((*path, key))

    kinds = ("KINDS", "NETWORKS", "OBJECTIVES", "POSTERIORS", "LIKELIHOODS")
    found = {}
    for name in CONFIGS:
        module = importlib.import_module(f"vae_jax.configs.{name}")
        args = ["", *(arg for kind in kinds for arg in getattr(module, kind, ()))]
        for arg in args:
            for path in walk(smoke(f"{name}:{arg}", "")):
                found.setdefault(path, f"{name}:{arg}")
    return {path: name for path, name in sorted(found.items()) if not path.split(".")[-1].isdigit()}


PATHS = numeric_paths()
MAY_BE_NONE = ("model.layout.levels", "model.decoder.residual", "data.files.held_out")  # whose default is None
NUMBER = st.one_of(
    st.sampled_from(
        [-1, 0, 1, 2, 3, 7, 10**5, 10**9, -0.5, 0.0, 0.5, 1.0, 2.5, 1e-12, 1e30, 1e300, 2**31, HUGE, -HUGE, 10**400]
    ),
    st.sampled_from(
        [NAN, math.inf, -math.inf, True, False, None, "", "1", "nan", {}, [], [0], [1], [-1, 2], [1.5], [[1]]]
    ),
)


def test_every_numeric_key_is_fuzzed():
    assert len(PATHS) > 100


def outcome(config, path, step=False):
    """None where the config can be trained, else the one line of the error, which names the key."""
    try:
        experiment = build.build(config)
    except (ValueError, FileNotFoundError) as error:
        message = str(error)
        assert message and "\n" not in message and len(message) < 1000, message
        section = path.split(".")[0]
        assert path.rsplit(".", 1)[-1] in message or re.match(rf"config\.{section}\b", message), message
        return message
    if step:
        state = jax.eval_shape(experiment.learner.init, jax.random.key(0), experiment.split("valid"))
        jax.eval_shape(experiment.learner.step, state, experiment.split("valid"))
    return None


def fuzzed(max_examples):
    return hypothesis.settings(
        max_examples=max_examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


@fuzzed(120)
@hypothesis.given(path=st.sampled_from(sorted(PATHS)), value=NUMBER)
def test_any_value_at_any_numeric_key_gives_one_line_or_a_run(path, value, images):
    outcome(changed(smoke(PATHS[path], images), {path: value}), path)


@pytest.mark.every
@pytest.mark.parametrize("path", sorted(PATHS))
def test_many_values_at_every_numeric_key_give_one_line_or_a_run(path, images):
    config = smoke(PATHS[path], images)

    @fuzzed(40)
    @hypothesis.given(value=NUMBER)
    def check(value):
        outcome(changed(config, {path: value}), path, step=True)

    check()


@pytest.mark.parametrize("path", sorted(PATHS))
def test_no_numeric_key_takes_a_word_nothing_or_what_no_array_can_hold(path, images):
    config = smoke(PATHS[path], images)
    nothing = () if path in MAY_BE_NONE else (None,)
    for value in ("x", NAN, {}, [None], HUGE, -HUGE, *nothing):
        assert outcome(changed(config, {path: value}), path), value
