"""The contract of a family, on the first of them; and every error of its config."""

import copy
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import kind

from vae_jax import models, objectives
from vae_jax.conditionals import conditional, heads
from vae_jax.conditionals.conditional import abstract
from vae_jax.core import Event
from vae_jax.distributions import Normal, has_closed_form
from vae_jax.models.vae import vae
from vae_jax.networks.network import COMPUTE_DTYPES, Network, compute_in
from vae_jax.objectives import elbo
from vae_jax.objectives.bounds import plain_elbo
from vae_jax.support import Levels, Real

SHAPE, SIZE, LATENT = (4, 4, 1), 5, 2
CONFIG = {
    "latent_dim": LATENT,
    "encoder": {"name": "mlp", "hidden": (8,)},
    "decoder": {"name": "mlp", "hidden": (8,)},
    "posterior": {"name": "normal"},
    "likelihood": {"name": "bernoulli"},
    "objective": {"name": "elbo"},
}
OF_BATCH = {
    "beta_tcvae": {"beta": 2.0, "num_data": 100},
    "factor_vae": {"gamma": 2.0, "discriminator": {"name": "mlp", "hidden": (4,)}},
    "dip_vae": {"kind": "II", "lambda_od": 1.0, "lambda_d": 1.0},
    "info_vae": {"alpha": 0.5, "lambda_mmd": 2.0},
    "wae": {"lambda_mmd": 2.0},
}
CRITIC = {"weight": 1.0, "critic": {"name": "mlp", "hidden": (4,)}}
PLAYERS = {"adversarial_autoencoder": CRITIC, "vae_gan": CRITIC}
OPTIONS = {  # of each objective for a Gaussian posterior, as small as they go
    **{name: {"num_samples": 2} for name in objectives.__all__ if name not in ("gumbel_softmax", *OF_BATCH, *PLAYERS)},
    "capacity": {"num_samples": 2, "gamma": 1.0, "nats": 1.0},
    "ciwae": {"num_samples": 2, "elbo_weight": 0.5},
    "free_bits": {"num_samples": 2, "free_nats": 0.1},
    "nvil": {"num_samples": 2, "baseline": {"name": "mlp", "hidden": (4,)}, "running_mean": 0.9},
    "miwae": {"num_samples": 2, "num_outer": 2},
    "piwae": {"num_samples": 2, "num_outer": 2},
    "renyi": {"num_samples": 2, "alpha": 0.5},
}


def build(num_classes=0, support=None, **changes):
    return models.from_config("vae", {**CONFIG, **changes}, **kind(SHAPE, num_classes, support=support))


def a_batch(seed=0, conditional=False):
    rng = np.random.default_rng(seed)
    x = {"x": jnp.asarray(rng.integers(2, size=(SIZE, *SHAPE)), jnp.float32)}
    return {**x, "context": jnp.asarray(rng.integers(3, size=SIZE), jnp.int32)} if conditional else x


@pytest.fixture(scope="module", params=[0, 3], ids=["plain", "conditional"])
def fitted(request):
    model, batch = build(request.param), a_batch(conditional=request.param > 0)
    params = jax.jit(model.init)(jax.random.key(0), batch)
    return model._replace(loss=jax.jit(model.loss)), params, batch


def test_loss_and_terms_are_per_example_and_agree(fitted):
    model, params, batch = fitted
    loss, (terms, state) = model.loss(params, jax.random.key(1), batch, 0)
    assert state is None and loss.shape == (SIZE,) and set(terms) == {"bound", "rate", "distortion"}
    assert all(term.shape == (SIZE,) for term in terms.values())
    np.testing.assert_allclose(loss, -terms["bound"], rtol=1e-6)
    np.testing.assert_allclose(loss, terms["rate"] + terms["distortion"], rtol=1e-5)


def test_the_loss_is_minus_the_objective_of_its_latent(fitted):
    model, params, batch = fitted
    loss, _ = model.loss(params, jax.random.key(1), batch, 0)
    one = jax.jit(lambda key, x, context: elbo(model.latent, params, key, x, context)[0])
    for i, key in enumerate(jax.random.split(jax.random.key(1), SIZE)):
        x, context = jax.tree.map(lambda a, i=i: a[i], (batch["x"], batch.get("context")))
        np.testing.assert_allclose(loss[i], -one(key, x, context), rtol=1e-5)


def test_jit_is_eager(fitted):
    model, params, batch = fitted
    compiled = model.loss(params, jax.random.key(1), batch, 0)
    with jax.disable_jit():
        eager = model.loss(params, jax.random.key(1), batch, 0)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), eager, compiled)


def test_examples_do_not_touch_each_other(fitted):
    model, params, batch = fitted
    other = a_batch(1, "context" in batch)
    changed = jax.tree.map(lambda a, b: a.at[2].set(b[2]), batch, other)
    before, after = (model.loss(params, jax.random.key(1), b, 0)[0] for b in (batch, changed))
    untouched = np.arange(SIZE) != 2
    np.testing.assert_array_equal(before[untouched], after[untouched])
    assert before[2] != after[2]


def test_the_loss_is_a_function_of_its_key(fitted):
    model, params, batch = fitted
    losses = [model.loss(params, jax.random.key(seed), batch, 0)[0] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(losses[0], losses[1])
    assert np.all(losses[0] != losses[2])


def test_gradients_reach_every_parameter(fitted):
    model, params, batch = fitted
    gradient = jax.jit(jax.grad(lambda p: model.loss(p, jax.random.key(1), batch, 0)[0].sum()))(params)
    for path, leaf in jax.tree.leaves_with_path(gradient):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0, path


def test_sample_and_the_three_distributions_have_the_shapes_of_one_example(fitted):
    model, params, batch = fitted
    context = batch["context"][0] if "context" in batch else None
    x = model.sample(params, jax.random.key(0), context)
    assert x.shape == SHAPE and set(np.unique(x)) <= {0.0, 1.0}
    q = model.latent.posterior(params, x, context)
    assert q.mean().shape == model.latent.prior(params, context).mean().shape == (LATENT,)
    assert model.latent.likelihood(params, q.mean(), context).mean().shape == SHAPE
    assert model.log_prob is None


def test_the_bound_is_an_unbiased_elbo(fitted, assert_mean):
    model, params, batch = fitted
    example = jax.tree.map(lambda a: a[0], batch)
    x, context = example["x"], example.get("context")

    @jax.jit
    @jax.vmap
    def difference(key):
        key_bound, key_value = jax.random.split(key)
        return model.bound(params, key_bound, x, context) - elbo(model.latent, params, key_value, x, context)[0]

    assert_mean(difference(jax.random.split(jax.random.key(0), 3000)), 0.0)


def test_a_conditional_model_uses_its_context_and_wants_one():
    model, batch = build(num_classes=3), a_batch(conditional=True)
    params = jax.jit(model.init)(jax.random.key(0), batch)
    encode = lambda c: model.latent.posterior(params, batch["x"][0], c).mean()  # noqa: E731
    decode = lambda c: model.latent.likelihood(params, jnp.zeros(LATENT), c).mean()  # noqa: E731
    for function in (encode, decode):
        given = np.asarray(jax.vmap(function)(jnp.arange(3)))
        assert np.abs(given[0] - given[1]).max() > 1e-3 and np.abs(given[1] - given[2]).max() > 1e-3
    words = r"conditional on \d+ classes: a context is needed"
    with pytest.raises(ValueError, match=words):
        model.init(jax.random.key(0), a_batch())
    with pytest.raises(ValueError, match=words):
        model.loss(params, jax.random.key(0), a_batch(), 0)
    with pytest.raises(ValueError, match=words):
        model.sample(params, jax.random.key(0))


def test_an_unconditional_model_refuses_a_context():
    model, batch = build(), a_batch(conditional=True)
    x, c = batch["x"][0], batch["context"][0]
    params = jax.eval_shape(model.init, jax.random.key(0), a_batch())
    for function in (
        lambda params, key: model.init(key, batch),
        lambda params, key: model.loss(params, key, batch, 0),
        lambda params, key: model.judge(params, key, x, c),
        lambda params, key: model.sample(params, key, c),
        lambda params, key: model.bound(params, key, x, c),
    ):
        with pytest.raises(ValueError, match="this model takes no context, and one was given; leave it out"):
            jax.eval_shape(function, params, jax.random.key(0))


def test_a_schedule_moves_with_the_step():
    annealed = build(objective={"name": "elbo", "beta": {"name": "linear", "steps": 10, "start": 0.0, "end": 2.0}})
    batch = a_batch()
    params, annealed_loss = jax.jit(annealed.init)(jax.random.key(0), batch), jax.jit(annealed.loss)
    for step, beta in ((0, 0.0), (5, 1.0), (50, 2.0)):
        loss, (terms, _) = annealed_loss(params, jax.random.key(1), batch, jnp.int32(step))
        np.testing.assert_allclose(loss, terms["distortion"] + beta * terms["rate"], rtol=1e-5)


def test_every_objective_for_gaussians_is_tested_here():
    of_bits = {"gumbel_softmax"}  # `test_estimators.py`
    assert {*OPTIONS, *OF_BATCH, *PLAYERS, *of_bits} == set(objectives.__all__)


@pytest.mark.parametrize("objective", [*PLAYERS, *OPTIONS, *OF_BATCH])
def test_every_objective_trains(objective):
    options = {**PLAYERS, **OPTIONS, **OF_BATCH}[objective]
    model, batch = build(objective={"name": objective} | options), a_batch()
    params = jax.jit(model.init)(jax.random.key(0), batch)
    loss, gradient = jax.jit(jax.value_and_grad(lambda p: model.loss(p, jax.random.key(1), batch, 0)[0].sum()))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((loss, gradient)))


@pytest.mark.parametrize("objective", ["beta_tcvae", "wae", "nvil", "iwae"])
def test_an_example_is_judged_alone(objective):
    """By the ELBO, if the equation is one of a whole batch; by the terms of the loss otherwise."""
    model, batch = build(objective={"name": objective} | {**OPTIONS, **OF_BATCH}[objective]), a_batch()
    params = jax.jit(model.init)(jax.random.key(0), batch)
    one, key = jax.tree.map(lambda a: a[:1], batch), lambda: jax.random.key(1)

    @jax.jit
    def terms(params, x):
        if objective in OF_BATCH:
            expected = plain_elbo(model.latent, params, key(), x[0], num_samples=1)[1]
        else:
            expected = jax.tree.map(lambda a: a[0], model.loss(params, key(), {"x": x}, 0)[1].terms)
        return model.judge(params, key(), x[0], None), expected

    judged, expected = terms(params, one["x"])
    assert set(judged) >= {"bound", "rate", "distortion"} and "running_mean" not in judged
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), judged, expected)


# --------------------------------------------------------------------------------------------------------- precision

FAR = (-1e4, -100.0, 0.0, 100.0, 1e4)
TOP = {
    "bernoulli": 1.0,
    "beta": 1.0,
    "continuous_bernoulli": 1.0,
    "categorical": 255.0,
    "discretized_logistic": 255.0,
    "discretized_logistic_mixture": 255.0,
}


def far_outputs(shapes, size=60):
    """Arrays [size, *shape] of extremes: of every event, some arrays hold one value and the others mix them."""
    rng = np.random.default_rng(0)
    for shape in shapes:
        mixed, constant = rng.choice(FAR, (size, *shape)), rng.choice(FAR, (size, *[1] * len(shape)))
        yield jnp.asarray(np.where(rng.random(constant.shape) < 0.5, mixed, constant), jnp.float32)


RICH = ("multivariate_normal", "low_rank_normal", "normal_mixture", "planar_flow", "coupling_flow")
OF_CODES = ("low_rank_normal", "planar_flow", "coupling_flow", "sylvester_flow", "von_mises_fisher")
WITH_NETWORKS = ("inverse_autoregressive_flow", "pixel_cnn", "columns", "normal_shared_scale")  # or weights
WITH_NETWORKS += ("negative_binomial", "zero_inflated_negative_binomial")
LIKELIHOODS = [name for name in heads.__all__ if name not in (*OF_CODES, *WITH_NETWORKS)]
ALL_PAIRS = [("normal", likelihood) for likelihood in LIKELIHOODS] + [(posterior, "bernoulli") for posterior in RICH]
SLOW = ("normal", "discretized_logistic_mixture")
PAIRS = [pytest.param(*pair, marks=pytest.mark.slow if pair == SLOW else pytest.mark.every) for pair in ALL_PAIRS]


@pytest.mark.parametrize("posterior, likelihood", PAIRS)
def test_no_output_of_a_network_breaks_an_objective(posterior, likelihood):
    """All objectives and their gradients, at outputs up to 1e4 and both ends of the data, in either precision."""
    latent_dim = 24  # where L⁻¹ of a full covariance is beyond float32
    q, p = getattr(heads, posterior)((latent_dim,)), getattr(heads, likelihood)((3,))
    far = {"encoder": list(far_outputs(q.shapes)), "decoder": list(far_outputs(p.shapes))}
    closed = has_closed_form(abstract(q), Normal.standard((latent_dim,)))
    outputs = Network(None, lambda raws, x, context, dropout_key=None: tuple(raw + jnp.mean(x) for raw in raws))
    event = Event((3,), abstract(p).support)

    @jax.vmap  # and no jit: the operations of one pair are compiled for the next
    def evaluate(raws, keys, x):
        def values(raws, dtype, keys):
            network = compute_in(dtype, outputs)
            parts = (conditional(network, q), conditional(network, p))
            latent = vae(*parts, event=event, latent_dim=latent_dim).latent
            options = {**OPTIONS, "nvil": {"baseline": lambda x: x[:1], "running_mean": -1e4}}
            equations = [functools.partial(getattr(objectives, name), **options[name]) for name in names]
            given = [equation(latent, raws, key, x) for equation, key in zip(equations, keys, strict=True)]
            return sum(value for value, _ in given), given

        return [
            jax.value_and_grad(values, has_aux=True)(raws, *pair) for pair in zip(COMPUTE_DTYPES, keys, strict=True)
        ]

    # Of a full covariance the KL does not split, and L⁻¹ of a given z is beyond float32 (`objectives/estimators.py`).
    given_z = ("dreg", "free_bits", "nvil", "rloo", "score_function", "sticking_the_landing", "vimco")
    names = [name for name in OPTIONS if posterior == "normal" or name not in given_z]
    names = [name for name in names if closed or name not in ("elbo", "capacity")]
    keys = jax.random.split(jax.random.key(0), (60, len(COMPUTE_DTYPES), len(names)))
    x = jnp.where(jnp.arange(60) % 2, TOP.get(likelihood, 3.0), 0.0)[:, None] * jnp.ones((1, 3))
    for path, leaf in jax.tree.leaves_with_path(evaluate(far, keys, x)):
        assert leaf.dtype == jnp.float32 and np.isfinite(leaf).all(), jax.tree_util.keystr(path)


# Those that differentiate z.
@pytest.mark.parametrize(
    "objective",
    ["elbo", "dreg", *(pytest.param(name, marks=pytest.mark.every) for name in ("elbo_sampled_kl", "iwae"))],
)
def test_bfloat16_is_close_to_float32_and_ends_at_the_networks(objective):
    options = {"name": objective, **OPTIONS[objective]}
    half, full = (build(objective=options, compute_dtype=dtype) for dtype in ("bfloat16", "float32"))
    batch = a_batch()
    params = jax.jit(half.init)(jax.random.key(0), batch)
    jax.tree.map(np.testing.assert_array_equal, params, jax.jit(full.init)(jax.random.key(0), batch))

    def evaluate(model):
        return jax.jit(jax.value_and_grad(lambda p: model.loss(p, jax.random.key(1), batch, 0)[0].mean()))(params)

    (loss, gradient), (expected, wanted) = evaluate(half), evaluate(full)
    assert {leaf.dtype for leaf in jax.tree.leaves((params, loss, gradient))} == {jnp.dtype("float32")}
    np.testing.assert_allclose(loss, expected, rtol=1e-2)
    assert loss != expected  # the products were rounded
    for given, exact in zip(jax.tree.leaves(gradient), jax.tree.leaves(wanted), strict=True):
        assert np.isfinite(given).all() and np.linalg.norm(given - exact) < 0.05 * np.linalg.norm(exact)


def test_the_likelihood_sees_all_of_x():
    """256 levels are more than bfloat16 tells apart between 128 and 255: only what the encoder sees is rounded."""
    model = build(likelihood={"name": "discretized_logistic"}, compute_dtype="bfloat16")
    params = jax.jit(model.init)(jax.random.key(0), {"x": jnp.zeros((1, *SHAPE))})
    pixels = jax.jit(model.latent.likelihood)(params, jnp.zeros(LATENT))
    log_p = jax.jit(jax.vmap(lambda v: pixels.log_prob(jnp.full(SHAPE, v))))(jnp.arange(200.0, 256.0))
    assert len(np.unique(log_p)) == 56


def test_the_encoder_sees_levels_on_the_scale_of_its_network():
    """Levels 0..255 and the same image in [-1, 1] give one posterior."""
    model = build(likelihood={"name": "discretized_logistic"}, support=Levels(256))
    plain = build(likelihood={"name": "normal"}, support=Real())
    batch = {"x": jnp.asarray(np.random.default_rng(0).integers(256, size=(SIZE, *SHAPE)), jnp.float32)}
    params = jax.jit(model.init)(jax.random.key(0), batch)
    q = model.latent.posterior(params, batch["x"][0])
    same = plain.latent.posterior(params, batch["x"][0] / 127.5 - 1.0)
    np.testing.assert_allclose(q.loc, same.loc, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------------ errors of a config


@pytest.mark.parametrize(
    "path, value, words",
    [
        ("latent_dim", 0, r"model.latent_dim must be at least 1, got 0"),
        ("latent_dim", -2, r"got -2"),
        ("latent_dim", 2.5, r"got 2.5"),
        ("latnt_dim", 2, r"^model: unknown key 'latnt_dim'; did you mean 'latent_dim'"),
        ("event_shape", (3,), r"^model: unknown key 'event_shape'"),
        ("encoder.hiden", (3,), r"model.encoder: unknown key 'hiden'; did you mean 'hidden'"),
        ("encoder.name", "mpl", r"model.encoder.name: unknown value 'mpl'; did you mean 'mlp'"),
        ("encoder.outputs", ((2,),), r"model.encoder: unknown key 'outputs'"),
        ("encoder.parent", None, r"model.encoder: unknown key 'parent'"),
        ("decoder.name", "conv_decodr", r"model.decoder.name: .*did you mean 'conv_decoder'"),
        ("decoder.chanels", (3,), r"model.decoder: unknown key 'chanels'"),
        ("posterior.name", "gaussian", r"model.posterior.name: unknown value 'gaussian' \(allowed: .*normal"),
        ("posterior.scale", 1.0, r"model.posterior: unknown key 'scale'"),
        ("likelihood.name", "bernouli", r"model.likelihood.name: .*did you mean 'bernoulli'"),
        ("likelihood.num_levels", 3, r"model.likelihood: unknown key 'num_levels'"),
        (
            "compute_dtype",
            "float16",
            r"model.compute_dtype: unknown value 'float16'; did you mean 'bfloat16'\? \(allowed: bfloat16, float32\)",
        ),
        ("objective.name", "ebo", r"model.objective.name: unknown value 'ebo'; did you mean 'elbo'"),
        ("objective.bta", 2.0, r"model.objective: unknown key 'bta'; did you mean 'beta'"),
        ("objective.beta", {"name": "liner"}, r"model.objective.beta.name: .*did you mean 'linear'"),
        ("objective.beta", {"name": "linear"}, r"model.objective.beta: missing key 'steps'"),
        ("objective.beta", {"name": "linear", "steps": 0}, r"steps must be at least 1, got 0"),
        ("objective.beta", {"name": "linear", "step": 9}, r"unknown key 'step'; did you mean 'steps'"),
    ],
)
def test_a_wrong_key_is_named(path, value, words):
    config = copy.deepcopy(CONFIG)
    *parents, key = path.split(".")
    place = config
    for parent in parents:
        place = place[parent]
    place[key] = value
    with pytest.raises(ValueError, match=words):
        models.from_config("vae", config, **kind(SHAPE))


@pytest.mark.parametrize("key", CONFIG)
def test_a_missing_key_is_named(key):
    config = {k: v for k, v in CONFIG.items() if k != key}
    with pytest.raises(ValueError, match=f"^model: missing key '{key}'"):
        models.from_config("vae", config, **kind(SHAPE))


@pytest.mark.parametrize("key", ["encoder", "decoder", "posterior", "likelihood", "objective"])
def test_a_part_without_a_name_is_named(key):
    with pytest.raises(ValueError, match=rf"model.{key}.name: unknown value None"):
        build(**{key: {}})


def test_an_estimator_is_no_objective():
    with pytest.raises(ValueError, match=r"model.objective.name: unknown value 'log_weight'"):
        build(objective={"name": "log_weight"})


def test_unknown_families_are_refused():
    with pytest.raises(ValueError, match=r"family: unknown value 'vea' \(allowed: .*vae"):
        models.from_config("vea", CONFIG, **kind(SHAPE))


def test_building_leaves_the_config_alone():
    config = copy.deepcopy(CONFIG)
    models.from_config("vae", config, **kind(SHAPE))
    assert config == CONFIG
