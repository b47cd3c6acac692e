"""The VQ-VAE on worlds whose images and code maps can be counted, measured as the tables measure."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vae_jax import models
from vae_jax.configs import vq_vae_digits, vq_vae_prior
from vae_jax.core import Event
from vae_jax.evaluation import yardstick
from vae_jax.evaluation.code_use import code_use
from vae_jax.objectives import quantization
from vae_jax.runs import build
from vae_jax.spec import BadOption
from vae_jax.support import Binary, Real
from vae_jax.training import gradient

K = 3
PRIOR = {"name": "pixel_cnn", "channels": (4, 4), "first_kernel": 3, "hidden": (4,), "embedding": 2}
PRIOR |= {"context_features": 2}
NETWORKS = {"channels": (4,), "num_blocks": 1}
WORLDS = {  # the shape of images, and the shapes of the code maps, the bottom first
    "one": ((4, 2, 1), [(2, 1)], {}),
    "two": ((4, 4, 1), [(2, 2), (1, 1)], {"top": {"channels": (4,), "prior": PRIOR}}),
}
BOTH = ["one", pytest.param("two", marks=pytest.mark.slow)]


def config(world, **options):
    codes = {"name": "vq", "num_codes": K if world == "one" else 2, "dim": 2, "decay": 0.9}
    model = {"encoder": NETWORKS, "decoder": NETWORKS, "quantizer": codes, "prior": PRIOR}
    return {**model, "likelihood": {"name": "bernoulli"}, **WORLDS[world][2], **options}


@functools.cache
def model_of(world, **options):
    return models.from_config("vq_vae", config(world, **options), event=Event(WORLDS[world][0], Binary()))


def images(world, number=None):
    shape = WORLDS[world][0]
    if number is None:
        return np.array(list(itertools.product((0.0, 1.0), repeat=int(np.prod(shape))))).reshape(-1, *shape)
    return np.random.default_rng(0).integers(0, 2, (number, *shape)).astype(np.float64)


@functools.cache
def params_of(world):
    """Parameters after the start from data, with noise everywhere: no conditional is uniform any more."""
    batch = {"x": jnp.asarray(images(world, 40), jnp.float32)}
    params = jax.jit(model_of(world).init)(jax.random.key(0), batch)
    noise = np.random.default_rng(1)
    noisy = lambda a: np.asarray(a + noise.normal(scale=0.5, size=a.shape), np.float32)  # noqa: E731
    return {name: tree if name == "state" else jax.tree.map(noisy, tree) for name, tree in params.items()}


def code_maps(world):
    """Return all codes z of the model, stacked: a map [N, h, w], or a tuple of them."""
    num_codes, shapes = (K if world == "one" else 2), WORLDS[world][1]
    places = [int(np.prod(shape)) for shape in shapes]
    rows = np.array(list(itertools.product(range(num_codes), repeat=sum(places))), np.int32)
    maps = np.split(rows, np.cumsum(places)[:-1], axis=1)
    maps = tuple(part.reshape(-1, *shape) for part, shape in zip(maps, shapes, strict=True))
    return maps[0] if len(maps) == 1 else maps


@functools.cache
def exact(world, number=None):
    """Return log p(k) of every code map, and log p(x) = log Σ_k p(k) p(x|k) of every image."""
    latent, params = model_of(world).latent, params_of(world)

    @jax.jit
    def terms(x, codes):
        prior = latent.prior(params)
        log_prior = jax.lax.map(prior.log_prob, codes)
        log_lik = jax.lax.map(lambda k: jax.vmap(latent.likelihood(params, k).log_prob)(x), codes)
        return log_prior, log_lik

    log_prior, log_lik = terms(jnp.asarray(images(world, number), jnp.float32), code_maps(world))
    return np.asarray(log_prior), np.asarray(jax.nn.logsumexp(log_prior[:, None] + log_lik, axis=0))


def measured(world, x, num_samples=1, **options):
    data = {"x": jnp.asarray(x, jnp.float32)}
    model = model_of(world, **options)
    return yardstick.measure(model, params_of(world), jax.random.key(3), data, num_samples=num_samples)


@pytest.mark.parametrize("world", BOTH)
def test_the_prior_sums_to_one_over_all_code_maps(world):
    log_prior, _ = exact(world, 30)
    np.testing.assert_allclose(np.exp(log_prior).sum(), 1.0, rtol=1e-5)
    assert log_prior.std() > 0.1


def test_the_bound_is_below_log_p_and_no_more_than_a_distribution():
    _, log_p = exact("one")
    found = measured("one", images("one"))
    assert found.kind == "≥ IW-1"
    np.testing.assert_allclose(np.exp(log_p).sum(), 1.0, rtol=1e-5)
    assert np.all(found.log_prob <= log_p + 1e-5) and np.exp(found.log_prob).sum() <= 1.0
    np.testing.assert_allclose(found.log_prob, found.terms["elbo"], atol=1e-5)  # one code is all
    np.testing.assert_allclose(found.log_prob, -found.terms["rate"] - found.terms["distortion"], atol=1e-5)


@pytest.mark.slow
def test_samples_of_many_codes_tighten_the_bound():
    _, log_p = exact("one")
    found = measured("one", images("one"))
    np.testing.assert_allclose(measured("one", images("one"), 7).log_prob, found.log_prob, atol=1e-5)
    softened = measured("one", images("one"), 300, temperature=2.0)
    gaps = [np.mean(log_p - bound) for bound in (found.log_prob, softened.log_prob)]
    assert gaps[1] < 0.2 * gaps[0] and abs(gaps[1]) < 0.1


@pytest.mark.slow
def test_the_bound_of_two_levels_is_below_log_p():
    x = images("two", 30)
    _, log_p = exact("two", 30)
    found = measured("two", x)
    assert np.all(found.log_prob <= log_p + 1e-5)
    softened = measured("two", x, 300, temperature=2.0)
    assert np.mean(found.log_prob) < np.mean(softened.log_prob) < np.mean(log_p) + 0.1


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
def test_the_number_of_an_image_does_not_depend_on_the_others(world):
    x = images(world, 30)
    np.testing.assert_allclose(measured(world, x[:4]).log_prob, measured(world, x).log_prob[:4], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
def test_draws_are_codes_and_images(world):
    model, params, keys = model_of(world), params_of(world), jax.random.split(jax.random.key(0), (2, 100))
    draw = lambda pair: (model.latent.prior(params).sample(pair[0]), model.sample(params, pair[1]))  # noqa: E731
    k, x = jax.jit(jax.vmap(draw))((keys[0], keys[1]))
    for codes, of_all in zip(jax.tree.leaves(k), jax.tree.leaves(code_maps(world)), strict=True):
        assert codes.dtype == jnp.int32 and codes.shape[1:] == of_all.shape[1:]
        assert set(np.unique(codes)) <= set(np.unique(of_all))
    assert x.shape[1:] == WORLDS[world][0] and set(np.unique(x)) == {0.0, 1.0}


@pytest.mark.parametrize("only", [("prior",), pytest.param(("encoder", "decoder"), marks=pytest.mark.slow)])
def test_the_codebook_rests_while_only_the_prior_learns(only):
    model, batch = model_of("one"), {"x": jnp.asarray(images("one", 40), jnp.float32)}
    learner = gradient.gradient(model, optax.sgd(0.1), only=only)
    before = jax.jit(learner.init)(jax.random.key(0), batch)
    after, metrics = jax.jit(learner.step)(before, batch)
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), before.params, after.params)
    moved = {name: any(jax.tree.leaves(tree)) for name, tree in moved.items()}
    assert moved == {name: name in only or (name == "state" and "encoder" in only) for name in before.params}
    assert metrics["grad_norm"] > 0


def test_the_prior_does_not_reach_the_encoder():
    model, params, batch = model_of("one"), params_of("one"), {"x": jnp.asarray(images("one", 8), jnp.float32)}
    mean = lambda params: jnp.mean(model.loss(params, jax.random.key(0), batch, 0)[0])  # noqa: E731
    slopes = jax.jit(jax.grad(lambda learned, rest: mean({**rest, **learned})))
    learned = {name: params[name] for name in ("encoder", "decoder")}
    other = {**params, "prior": jax.tree.map(lambda a: 2.0 * a, params["prior"])}
    jax.tree.map(np.testing.assert_array_equal, slopes(learned, params), slopes(learned, other))


@pytest.mark.slow
def test_perplexity_is_counted_over_the_whole_set():
    model, params, x = model_of("two"), params_of("two"), jnp.asarray(images("two", 60), jnp.float32)
    use = code_use(model, params, {"x": x})
    bottom, top = jax.jit(jax.vmap(lambda x: model.latent.posterior(params, x).mean()))(x)
    for name, codes in (("bottom", bottom), ("top", top)):
        counts = sum(np.bincount(np.ravel(part), minlength=2) for part in np.array_split(codes, 7))
        np.testing.assert_allclose(use[f"code_perplexity_{name}"], quantization.perplexity(counts), rtol=1e-6)
        assert use[f"used_codes_{name}"] + use[f"dead_codes_{name}"] == use[f"num_codes_{name}"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"encoder": {"channels": (4,) * 3}, "decoder": {"channels": (4,) * 3}},
            "encoder.channels: .*cannot be halved",
        ),
        ({"decoder": {"channels": (4, 4)}}, r"decoder.channels: 2 doublings do not undo the 1 halvings"),
        ({"quantizer": {"name": "fsq", "levels": (3, 1)}}, "quantizer.levels: each entry must be at least 2, got 1"),
        ({"quantizer": {"name": "lfq"}}, "quantizer.name: unknown value 'lfq'"),
        ({"top": {"channels": (4, 4), "prior": PRIOR}}, "top.channels: .*cannot be halved 2 times"),
        ({"top": {"channels": (4,)}}, "top: missing key 'prior'"),
        ({"encoder": {"num_blocks": 1}}, "encoder: missing key 'channels'"),
        ({"beta": -1.0}, "beta must be at least 0"),
        ({"temperature": -1.0}, "temperature must be at least 0"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(BadOption, match=message):
        models.from_config("vq_vae", config("one", **options), event=Event((4, 2, 1), Binary()))


def test_vectors_have_no_code_maps():
    with pytest.raises(BadOption, match="models images"):
        models.from_config("vq_vae", config("one"), event=Event((8,), Real()))


def test_a_codebook_larger_than_the_first_batch_is_refused_before_training():
    settings = vq_vae_digits.get_config("smoke").to_dict()
    settings["model"]["quantizer"]["num_codes"] = 1000
    with pytest.raises(ValueError, match=r"config.model.*a codebook of 1000 codes cannot start from 128 vectors"):
        build.build(settings)


def test_the_second_command_builds_the_model_of_the_first():
    for kind, (first, kind_of_first, _) in vq_vae_prior.FIRST.items():
        first, second = first.get_config(kind_of_first), vq_vae_prior.get_config(kind)
        assert first.model == second.model and first.data == second.data
        assert second.learner.only == ("prior",)
