"""Compression to bytes: data come back bit for bit, in about as many bits as the bound says."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax import models
from vae_jax.codecs import container
from vae_jax.core import Event
from vae_jax.evaluation import yardstick
from vae_jax.runs import build, configs
from vae_jax.support import Binary, Columns, Levels, Real
from vae_jax.tasks import compress

# Configs whose smoke version is compressed, and how far above the bound the message may be: 12 examples are few.
FAMILIES = {
    "belief_network_digits": 0.01,
    "bernoulli_mixture_digits": 0.05,
    "chow_liu_digits": 0.01,
    "language_model_text": 0.02,
    "naive_bayes_digits": 0.01,
    "ngram_audio": 0.01,
    "ngram_text": 0.02,
    "pixel_cnn_digits": 0.01,
    "pixel_vae_digits": 0.05,
    "sketch_vae_omniglot": 0.15,
    "strokes_omniglot": 0.02,
    "text_vae_text": 0.15,
    "vae_digits": 0.10,
    "vq_vae_digits": 0.01,
    "wavenet_audio": 0.01,
}
COUNT = 12


def prepared(name):
    """Return the model of a smoke config, parameters that have seen data if that takes no time, and test examples."""
    experiment = build.build(configs.find(f"{name}:smoke").to_dict())
    model, train = experiment.model, jax.tree.map(jnp.asarray, experiment.split("train"))
    if model.fit is not None:
        params = model.fit(np.asarray(train["x"]))
    else:
        params = jax.jit(model.init)(jax.random.key(0), jax.tree.map(lambda a: a[:64], train))
        if model.sums is not None:
            params = jax.jit(lambda p, d: model.sums.maximize(p, model.sums.expect(p, d)[0]))(params, train)
    return model, params, jax.tree.map(lambda a: a[:COUNT], experiment.split("test"))


def payload_bits(data):
    return 32 * len(container.unpack(data)[1])


@pytest.mark.parametrize("name", FAMILIES)
def test_families_come_back_in_about_the_bits_of_their_bound(name):
    model, params, data = prepared(name)
    x, context = np.asarray(data["x"]), data.get("context")
    compressed = compress.measured(model, params, x, context, at_once=5)
    back = compress.decompress(model, params, compressed.data, context)
    assert back.dtype == x.dtype and np.array_equal(back, x)
    measured = yardstick.measure(model, params, jax.random.key(1), data, num_samples=1)
    bound = -np.sum(measured.terms.get("elbo", measured.log_prob)) / math.log(2)
    net = payload_bits(compressed.data) - compressed.initial_bits
    assert 0.8 * bound - 64 <= net <= (1 + FAMILIES[name]) * bound + 96
    assert compressed.net_bits == 8 * len(compressed.data) - compressed.initial_bits


@pytest.mark.parametrize("turns", [0, 1])
def test_squares_of_pixels_come_back(turns):
    network = {"channels": (4, 4), "first_kernel": 3, "kernel": 3, "hidden": (4,)}
    spec = {"network": network, "block": 2, "turns": turns}
    spec |= {"likelihood": {"name": "categorical", "num_levels": 3, "channels": "ordered", "features": 4}}
    model = models.from_config("pixel_cnn", spec, event=Event((4, 6, 2), Levels(3)))
    x = np.random.default_rng(0).integers(0, 3, size=(9, 4, 6, 2)).astype(np.float32)
    params, compressed = round_trip(model, x, at_once=4)
    bound = -float(jax.jit(jax.vmap(model.log_prob, (None, 0)))(params, x).sum()) / math.log(2)
    assert payload_bits(compressed.data) <= 1.01 * bound + 96


# ------------------------------------------------------------------------------------------------------- hierarchies

DIM = 3
MLP = {"name": "mlp", "hidden": (8,)}


def hierarchy(inference, *, skip=False, prior=None, posterior="normal"):
    levels = {f"z{n}": {"latent_dim": DIM, "encoder": MLP, "decoder": MLP} for n in (1, 2, 3)}
    spec = {"levels": levels, "inference": inference, "skip": skip, "posterior": {"name": posterior}}
    spec |= {"conditional": {"name": posterior}, "likelihood": {"name": "bernoulli"}}
    spec |= {"objective": {"name": "elbo_sampled_kl"}, "prior": prior or {"name": "standard"}}
    return models.from_config("hierarchical_vae", spec, event=Event((4, 4, 1), Binary()))


def vae(event_shape=(4, 4, 1), **changes):
    spec = {"latent_dim": 4, "encoder": MLP, "decoder": MLP, "posterior": {"name": "normal"}}
    spec |= {"likelihood": {"name": "bernoulli"}, "objective": {"name": "elbo_sampled_kl"}} | changes
    return models.from_config("vae", spec, event=Event(event_shape, Binary()))


def bits(number=20, shape=(4, 4, 1)):
    return np.random.default_rng(0).integers(0, 2, size=(number, *shape)).astype(np.float32)


def started(model, x):
    """Return parameters with posteriors that differ from the prior."""
    params = jax.jit(model.init)(jax.random.key(0), {"x": jnp.asarray(x)})
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda a: a + 0.3 * rng.normal(size=a.shape).astype(np.float32), params)


def round_trip(model, x, **options):
    params = started(model, x)
    compressed = compress.measured(model, params, x, **options)
    np.testing.assert_array_equal(compress.decompress(model, params, compressed.data), x)
    return params, compressed


def test_a_markov_hierarchy_is_coded_level_by_level():
    x, model = bits(), hierarchy("bottom_up")
    params, compressed = round_trip(model, x, at_once=8)
    steps = compress.coding_of(model, params, x[0]).steps
    assert steps == (("pop", 0), ("push", "x"), ("pop", 1), ("push", 0), ("pop", 2), ("push", 1), ("push", 2))
    assert compressed.initial_bits <= 16 * DIM + 64  # those of one level of one example


@pytest.mark.parametrize(("inference", "skip"), [("top_down", False), ("bottom_up", True)])
def test_other_hierarchies_pop_all_levels_that_later_steps_read(inference, skip):
    x, model = bits(), hierarchy(inference, skip=skip)
    params, _ = round_trip(model, x, at_once=8)
    steps = compress.coding_of(model, params, x[0]).steps
    assert [kind for kind, _ in steps] == ["pop"] * 3 + ["push"] * 4


@pytest.mark.slow  # every level is a program of its own
def test_a_deep_hierarchy_is_coded_block_by_block():
    """All levels are popped from the top down, pushed back from the bottom up; the bytes are those of the ELBO."""
    x, blocks = bits(40), (1, 2)
    spec = {"widths": (2, 3), "blocks": blocks, "latent_dim": 2, "least_scale": 0.1, "encoder_blocks": 0}
    spec |= {"likelihood": {"name": "bernoulli"}, "objective": {"name": "elbo"}}
    model = models.from_config("deep_vae", spec, event=Event((4, 4, 1), Binary()))
    params, compressed = round_trip(model, x, at_once=8)
    number = sum(blocks)
    expected = [("pop", n) for n in reversed(range(number))] + [("push", n) for n in ("x", *range(number))]
    assert compress.coding_of(model, params, x[0]).steps == tuple(expected)
    elbos = [
        yardstick.measure(model, params, jax.random.key(n), {"x": x}, num_samples=1).log_prob.sum() for n in range(8)
    ]
    net = (payload_bits(compressed.data) - compressed.initial_bits) * math.log(2)
    assert abs(net + np.mean(elbos)) <= 0.03 * -np.mean(elbos) + 5 * np.std(elbos) + 96


def test_columns_of_counts_need_their_largest_value():
    rng = np.random.default_rng(0)
    x = np.stack([rng.poisson(30, 40), rng.integers(0, 2, 40), rng.poisson(2, 40)], axis=1).astype(np.float32)
    spec = {"latent_dim": 2, "encoder": {"name": "mlp", "hidden": (4,)}, "decoder": {"name": "mlp", "hidden": (4,)}}
    spec |= {"posterior": {"name": "normal"}, "likelihood": {"name": "columns"}, "objective": {"name": "elbo"}}
    model = models.from_config("vae", spec, event=Event((3,), Columns(("count", "binary", "count"))))
    round_trip(model, x, at_once=8)


@pytest.mark.parametrize(
    "options",
    [
        {"prior": {"name": "mixture", "num_components": 3}},
        {"prior": {"name": "vamp", "num_components": 3}},
        {"posterior": {"name": "multivariate_normal"}},
        {"posterior": {"name": "low_rank_normal", "rank": 2}},
        {
            "posterior": {"name": "bernoulli"},
            "prior": {"name": "autoregressive"},
            "objective": {"name": "rloo", "num_samples": 2},
        },
    ],
    ids=lambda options: "-".join(spec["name"] for spec in options.values()),
)
def test_priors_and_posteriors(options):
    x, model = bits(60), vae(**options)
    params, compressed = round_trip(model, x, at_once=16)
    measured = yardstick.measure(model, params, jax.random.key(1), {"x": x}, num_samples=1)
    elbos = [yardstick.measure(model, params, jax.random.key(n), {"x": x}, num_samples=1).log_prob for n in range(8)]
    bound = -np.mean(np.sum(elbos, axis=1)) / math.log(2)
    assert measured.kind == "≥ IW-1"
    net = payload_bits(compressed.data) - compressed.initial_bits
    spread = np.std(np.sum(elbos, axis=1)) / math.log(2)
    assert abs(net - bound) <= 0.03 * bound + 5 * spread + 96


def test_a_message_that_grows_has_the_initial_bits_of_about_one_example():
    x, model = bits(90), vae()
    params, many = round_trip(model, x, at_once=32)
    one = compress.measured(model, params, x[:1])
    assert 0 < many.initial_bits <= 2 * one.initial_bits + 128
    assert compress.groups(20, 8, [1, 2, 4]) == [(0, 1), (1, 3), (3, 7), (7, 15), (15, 20)]
    assert compress.groups(20, 8) == [(0, 8), (8, 16), (16, 20)]
    assert compress.groups(3, 8, [1, 2]) == [(0, 1), (1, 3)]


# ------------------------------------------------------------------------------------------------------------ errors


@pytest.fixture(scope="module")
def stored():
    """A small VAE, its parameters, data and the bytes of these."""
    x, model = bits(), vae()
    params = started(model, x)
    return model, params, x, compress.compress(model, params, x)


def test_another_model_a_flipped_bit_and_a_truncated_file_have_an_error_each(stored):
    model, params, _, data = stored
    other = jax.tree.map(lambda a: a * 1.001, params)
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 4
    for params_, data_, words in (
        (other, data, "another model"),
        (params, bytes(flipped), "damaged"),
        (params, data[:-7], "truncated"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            compress.decompress(model, params_, data_)
        assert "\n" not in str(error.value)


def test_a_model_with_the_same_parameters_that_computes_other_numbers_is_no_noise_but_an_error(stored):
    _, params, _, data = stored
    other = vae(decoder=MLP | {"activation": "tanh"}, encoder=MLP | {"activation": "tanh"})
    with pytest.raises(ValueError, match="decoding gave other data"):
        compress.decompress(other, params, data)


def test_contexts_must_be_the_same():
    spec = {"latent_dim": 2, "encoder": MLP, "decoder": MLP, "posterior": {"name": "normal"}}
    spec |= {"likelihood": {"name": "bernoulli"}, "objective": {"name": "elbo"}}
    from vae_jax.data.values import label

    model = models.from_config("vae", spec, event=Event((4, 4, 1), Binary()), context=label(3))
    x, c = bits(9), np.arange(9, dtype=np.int32) % 3
    params = jax.jit(model.init)(jax.random.key(0), {"x": jnp.asarray(x), "context": jnp.asarray(c)})
    data = compress.compress(model, params, x, c, at_once=4)
    np.testing.assert_array_equal(compress.decompress(model, params, data, c), x)
    for wrong in (None, c[::-1].copy()):
        with pytest.raises(ValueError, match="other contexts"):
            compress.decompress(model, params, data, wrong)
    with pytest.raises(ValueError, match="one entry for each of the 9 examples"):
        compress.compress(model, params, x, c[:3])


def test_models_and_data_without_a_code_are_refused():
    model, x = vae(), bits()
    params = started(model, x)
    with pytest.raises(ValueError, match="density of 0 and 1 only"):
        compress.compress(model, params, x + 1)
    with pytest.raises(ValueError, match="no example"):
        compress.compress(model, params, x[:0])
    without_prior = model._replace(latent=model.latent._replace(prior=None))
    with pytest.raises(ValueError, match="has neither"):
        compress.compress(without_prior, params, x)
    real = models.from_config("multivariate_normal", {"shrinkage": 0.01}, event=Event((3,), Real()))
    x_real = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    with pytest.raises(ValueError, match="discrete data, and this model is a density of real values"):
        compress.compress(real, real.init(jax.random.key(0), {"x": jnp.asarray(x_real)}), x_real)
    with pytest.raises(ValueError, match="p\\(z\\) is a Transformed"):
        round_trip(vae(prior={"name": "flow", "num_flows": 2}), x)
    flow = models.from_config(
        "flow",
        {
            "layout": {"name": "autoregressive", "depth": 1, "hidden": (8,)},
            "coupling": {"name": "affine"},
            "network": MLP,
        },
        event=Event((4, 4, 1), Levels(4)),
    )
    with pytest.raises(ValueError, match="local bits-back"):
        round_trip(flow, x)
