"""Strict flags for every test, and a model whose every quantity is known exactly."""

import collections
import gc
import itertools
import mmap
import os
import shutil
import tempfile
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # two processes with two threads each would wait for each other
# Many tests start the launchers as separate processes, which compile the same programs: once is enough.
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ.get("VAE_JAX_TESTS_COMPILED") or tempfile.mkdtemp("vae_jax_tests")
os.environ["VAE_JAX_TESTS_COMPILED"] = os.environ["JAX_COMPILATION_CACHE_DIR"]  # of all workers of pytest-xdist
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest
import scipy.stats
from first_cases import FIRST

from vae_jax.core import Latent
from vae_jax.distributions import MultivariateNormal, Normal

# Tests compile much and compute little. Without the backend's optimisations and its newer emitters of fusions, a
# program compiles in a fraction of the time.
QUICKLY = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": "false",
    "xla_cpu_parallel_codegen_split_count": 1,
}


def known(flag):
    """Return True if XLA knows the flag: one that it does not know ends the process."""
    for library in Path(jaxlib.__file__).parent.glob("libjax_common.*"):
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(flag.encode()) >= 0:
                return True
    return False


# For the processes that tests start, which have one device instead of eight.
os.environ["VAE_JAX_TESTS_XLA_FLAGS"] = " ".join(f"--{flag}={value}" for flag, value in QUICKLY.items() if known(flag))
flags = [os.environ["VAE_JAX_TESTS_XLA_FLAGS"], "--xla_force_host_platform_device_count=8"]
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *flags])  # read when a device is first asked for
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


@pytest.hookimpl(tryfirst=True)  # before cases are chosen by their marks
def pytest_collection_modifyitems(items):
    """Mark as `every` all cases of a test after the first ones that `first_cases` allows."""
    seen = collections.Counter()
    for item in items:
        name, kind = item.originalname, item.nodeid.partition("[")[0]
        most = FIRST.get(item.path.relative_to(Path(__file__).parent).as_posix(), {}).get(name)
        if most is None or item.get_closest_marker("slow") or item.get_closest_marker("every"):
            continue
        seen[kind] += 1
        if seen[kind] > most:
            item.add_marker(pytest.mark.every)


def pytest_collection_finish(session):
    """Search for garbage less often: tracing makes many objects, and few of them are garbage; 8 % of the time."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


@pytest.hookimpl(tryfirst=True)  # before the fixtures of the test
def pytest_runtest_setup(item):
    """Skip what begins after the time VAE_JAX_TESTS_UNTIL, in seconds since 1970: a run of slow tests then ends."""
    if time.time() > float(os.environ.get("VAE_JAX_TESTS_UNTIL", "inf")):
        pytest.skip("no time is left (VAE_JAX_TESTS_UNTIL)")


def pytest_unconfigure(config):
    compiled = os.environ["VAE_JAX_TESTS_COMPILED"]
    if not hasattr(config, "workerinput") and compiled.endswith("vae_jax_tests"):  # the process that made the folder
        shutil.rmtree(compiled, ignore_errors=True)


@pytest.fixture(scope="session")
def assert_mean():
    """A check that the mean of independent draws [N] is the expected one: |z| < 5."""

    def check(draws, expected):
        draws = np.asarray(draws, np.float64)
        standard_error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
        assert np.all(standard_error > 0), "the draws do not vary"
        z = (draws.mean(axis=0) - expected) / standard_error
        assert np.all(np.abs(z) < 5), f"z = {z}, mean {draws.mean(axis=0)}, expected {expected}"

    return check


@pytest.fixture(scope="session")
def all_sentences():
    """(length, vocabulary_size) -> all possible rows: those with an end, and full ones without."""

    def rows(length, vocabulary_size):
        words = range(2, vocabulary_size)
        ended = [(*w, 1, *[0] * (length - n - 1)) for n in range(length) for w in itertools.product(words, repeat=n)]
        return np.array([*ended, *itertools.product(words, repeat=length)], np.int32)

    return rows


class LinearGaussian(NamedTuple):
    """p(z) = N(0, I), p(x|z) = N(W z + b, s² I), hence p(z|x) = N(m(x), S) and p(x) = N(b, W Wᵀ + s² I).

    q(z|x) of `latent` is N(m(x) + shift, stretch² S), of `mean_field` N(m(x) + shift, stretch² diag S), with
    `params` = {"shift": [D], "stretch": []}: `exact` and `wrong` share one compiled function.
    """

    latent: Latent
    mean_field: Latent
    exact: dict
    wrong: dict
    weight: np.ndarray
    bias: np.ndarray
    scale: float

    @property
    def posterior_covariance(self):
        return np.linalg.inv(np.eye(self.weight.shape[1]) + self.weight.T @ self.weight / self.scale**2)

    def posterior_mean(self, x):
        """[N, D] for x [N, X]."""
        return (np.asarray(x, np.float64) - self.bias) @ self.weight @ self.posterior_covariance / self.scale**2

    def log_prob(self, x):
        """Exact log p(x), [N] for x [N, X]."""
        covariance = self.weight @ self.weight.T + self.scale**2 * np.eye(len(self.bias))
        return scipy.stats.multivariate_normal(self.bias, covariance).logpdf(np.asarray(x, np.float64))

    def kl_to_posterior(self, params, mean_field=False):
        """KL(q(z|x) || p(z|x)), the same at every x."""
        target = self.posterior_covariance
        q = float(params["stretch"]) ** 2 * (np.diag(np.diag(target)) if mean_field else target)
        shift = np.asarray(params["shift"], np.float64)
        precision = np.linalg.inv(target)
        log_ratio = np.linalg.slogdet(target)[1] - np.linalg.slogdet(q)[1]
        return 0.5 * (np.trace(precision @ q) + shift @ precision @ shift - len(q) + log_ratio)

    def data(self, size, seed=0):
        rng = np.random.default_rng(seed)
        z = rng.normal(size=(size, self.weight.shape[1]))
        x = z @ self.weight.T + self.bias + self.scale * rng.normal(size=(size, len(self.bias)))
        return jnp.asarray(x, jnp.float32)


@pytest.fixture(scope="session")
def linear_gaussian():
    weight, bias, scale = np.array([[1.0, -0.5], [0.3, 0.8], [-0.7, 0.2]]), np.array([0.5, -1.0, 0.2]), 0.6
    covariance = np.linalg.inv(np.eye(2) + weight.T @ weight / scale**2)
    w, b = jnp.asarray(weight, jnp.float32), jnp.asarray(bias, jnp.float32)
    gain = jnp.asarray(covariance @ weight.T / scale**2, jnp.float32)
    tril = jnp.asarray(np.linalg.cholesky(covariance), jnp.float32)
    log_scale = jnp.asarray(0.5 * np.log(np.diag(covariance)), jnp.float32)

    def full(params, x, context=None):
        return MultivariateNormal(gain @ (x - b) + params["shift"], params["stretch"] * tril)

    def diagonal(params, x, context=None):
        return Normal(gain @ (x - b) + params["shift"], log_scale + jnp.log(params["stretch"]))

    latent = Latent(
        prior=lambda params, context=None: Normal.standard((2,)),
        posterior=full,
        likelihood=lambda params, z, context=None: Normal(w @ z + b, jnp.full(3, np.log(scale), jnp.float32)),
    )
    return LinearGaussian(
        latent,
        latent._replace(posterior=diagonal),
        exact={"shift": jnp.zeros(2), "stretch": jnp.ones(())},
        wrong={"shift": jnp.array([0.2, -0.1]), "stretch": jnp.array(1.3)},
        weight=weight,
        bias=bias,
        scale=scale,
    )
