"""Models of data with missing values, and of the rows of a table: laws, refusals, and that nothing else has changed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax import models
from vae_jax.core import Event
from vae_jax.data import values
from vae_jax.distributions import Observed, kl_divergence
from vae_jax.support import Binary, Columns, Counts, Real

RNG = np.random.default_rng(0)
TABLE = Columns(("real", "categorical:3", "count", "binary", "real"))
ROWS = np.stack(
    [RNG.normal(size=6), RNG.integers(3, size=6), RNG.poisson(4, size=6), RNG.integers(2, size=6), RNG.normal(size=6)],
    1,
).astype(np.float32)
MASK = RNG.random(ROWS.shape) < 0.4
HIDDEN = np.where(MASK, np.nan, ROWS).astype(np.float32)
CONFIG = {
    "latent_dim": 2,
    "encoder": {"name": "mlp", "hidden": (4,)},
    "decoder": {"name": "mlp", "hidden": (4,)},
    "posterior": {"name": "normal"},
    "likelihood": {"name": "columns"},
    "objective": {"name": "elbo"},
}


def build(support=TABLE, missing=True, context=None, family="vae", shape=(5,), **changes):
    return models.from_config(family, CONFIG | changes, event=Event(shape, support, missing), context=context)


@pytest.fixture(scope="module")
def table():
    model = build()
    return model, jax.jit(model.init)(jax.random.key(0), {"x": jnp.asarray(HIDDEN)})


def test_a_model_of_a_table_with_holes_learns_in_every_parameter(table):
    model, params = table
    loss = lambda params: jnp.mean(model.loss(params, jax.random.key(1), {"x": jnp.asarray(HIDDEN)}, 0)[0])  # noqa: E731
    value, gradient = jax.jit(jax.value_and_grad(loss))(params)
    assert np.isfinite(value)
    for leaf in jax.tree.leaves(gradient):
        assert np.isfinite(leaf).all() and np.any(leaf != 0)


def test_the_elbo_of_nothing_is_minus_the_rate(table):
    model, params = table
    terms = jax.jit(lambda params, x: model.judge(params, jax.random.key(2), x))(params, jnp.full(5, jnp.nan))
    assert float(terms["distortion"]) == 0.0
    q = model.latent.posterior(params, jnp.full(5, jnp.nan))
    rate = float(kl_divergence(q, model.latent.prior(params)))
    np.testing.assert_allclose([terms["rate"], -terms["bound"]], rate, rtol=1e-5)


def test_values_that_are_missing_have_no_influence(table):
    """The encoder sees a zero and the mask; the likelihood sees nothing."""
    model, params = table
    sizes = params["encoder"]["params"]["Dense_0"]["kernel"].shape
    assert sizes == (1 + 3 + 1 + 1 + 1 + 5, 4)  # real, one-hot, log count, bit, real, and the mask
    z, x = jnp.array([0.3, -0.5]), jnp.asarray(HIDDEN[0])
    likelihood = model.latent.likelihood(params, z)
    assert isinstance(likelihood, Observed)
    each = np.asarray(likelihood.base.log_probs(jnp.asarray(ROWS[0])))
    np.testing.assert_allclose(likelihood.log_prob(x), each[~MASK[0]].sum(), rtol=1e-5)


def test_a_model_of_complete_data_is_the_one_it_was():
    """The same program and the same parameters, whatever stands in `missing` of other models."""
    event, x = Event((5,), Binary()), jnp.asarray(RNG.integers(2, size=(4, 5)), jnp.float32)
    config = CONFIG | {"likelihood": {"name": "bernoulli"}}
    model = models.from_config("vae", config, event=event)
    params = model.init(jax.random.key(0), {"x": x})
    assert params["encoder"]["params"]["Dense_0"]["kernel"].shape == (5, 4)
    assert not isinstance(model.latent.likelihood(params, jnp.zeros(2)), Observed)
    program = str(jax.make_jaxpr(lambda p: model.loss(p, jax.random.key(1), {"x": x}, 0)[0])(params))
    assert "is_finite" not in program and " ne " not in program  # of NaN


def test_complete_examples_have_the_same_likelihood_in_both_models():
    whole, holes = (
        build(Binary(), False, likelihood={"name": "bernoulli"}),
        build(likelihood={"name": "bernoulli"}, support=Binary()),
    )
    x = jnp.asarray(RNG.integers(2, size=(4, 5)), jnp.float32)
    params = holes.init(jax.random.key(0), {"x": x})
    z = jnp.array([0.1, 0.7])
    given = holes.latent.likelihood(params, z).log_prob(x[0])
    np.testing.assert_allclose(given, whole.latent.likelihood(params, z).log_prob(x[0]), rtol=1e-6)


def test_a_hierarchy_and_a_vamp_prior_take_missing_values():
    level = {"latent_dim": 2, "encoder": CONFIG["encoder"], "decoder": CONFIG["decoder"]}
    parts = {name: CONFIG[name] for name in ("posterior", "likelihood")}
    hierarchy = models.from_config(
        "hierarchical_vae",
        parts
        | {"levels": {"z1": level, "z2": level}, "inference": "bottom_up", "skip": False}
        | {"conditional": {"name": "normal"}, "objective": {"name": "elbo_sampled_kl"}},
        event=Event((5,), TABLE, True),
        context=None,
    )
    real = {"likelihood": {"name": "normal"}, "objective": {"name": "elbo_sampled_kl"}}
    vamp = build(Real(), prior={"name": "vamp", "num_components": 3}, **real)
    for model, x in ((hierarchy, HIDDEN), (vamp, HIDDEN)):
        batch = {"x": jnp.asarray(x)}
        params = jax.jit(model.init)(jax.random.key(0), batch)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
        assert np.isfinite(jax.jit(lambda p, m=model, b=batch: m.loss(p, jax.random.key(1), b, 0)[0])(params)).all()


def test_counts_given_their_total():
    x = jnp.asarray(RNG.poisson(6, size=(4, 5)), jnp.float32)
    batch = {"x": x, "context": jnp.sum(x, axis=1, keepdims=True)}
    model = build(Counts(), False, values.library(), likelihood={"name": "negative_binomial", "library": True})
    params = jax.jit(model.init)(jax.random.key(0), batch)
    assert set(params["decoder"]) == {"network", "weights"}
    z = jnp.zeros(2)
    for total in (10.0, 5000.0):
        mean = model.latent.likelihood(params, z, jnp.array([total])).mean()
        np.testing.assert_allclose(jnp.sum(mean), total, rtol=1e-4)
    loss = jax.jit(jax.value_and_grad(lambda p: jnp.mean(model.loss(p, jax.random.key(1), batch, 0)[0])))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(loss(params)))
    with pytest.raises(
        ValueError, match=r"likelihood.library: True needs the total count .* data.context.name to 'lib"
    ):
        build(Counts(), False, likelihood={"name": "negative_binomial", "library": True})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"likelihood": {"name": "normal"}},
            r"likelihood.name: 'normal' is over values that are real, .* use 'columns'",
        ),
        ({"support": Real(), "likelihood": {"name": "columns"}}, r"likelihood.name: 'columns' is for tables"),
        (
            {"support": Real(), "likelihood": {"name": "multivariate_normal"}},
            r"'multivariate_normal' cannot leave out missing values, because its entries depend on one another",
        ),
        (
            {"likelihood": {"name": "columns", "real": {"name": "bernoulli"}}},
            r"real.name: 'bernoulli' is no head of sin",
        ),
        (
            {"likelihood": {"name": "columns", "count": {"name": "poison"}}},
            r"likelihood.count.name: .*did you mean 'poi",
        ),
        (
            {"likelihood": {"name": "columns", "count": {"name": "poisson", "library": True}}},
            r"count.name: 'poisson' is",
        ),
        (
            {"likelihood": {"name": "columns", "real": {"name": "multivariate_normal"}}},
            r"real.name: 'multivariate_norm",
        ),
        ({"likelihood": {"name": "columns", "support": 3}}, r"likelihood: unknown key 'support'"),
        (
            {"likelihood": {"name": "negative_binomial", "dispersion": "gene"}, "support": Counts()},
            r"dispersion: unknown",
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        build(**changes)


def test_families_without_missing_values_or_columns_say_so():
    options = {"family": "multivariate_normal"}

    def event(support, missing):
        return {"event": Event((5,), support, missing)}

    with pytest.raises(ValueError, match="family: 'multivariate_normal' cannot leave out missing values"):
        models.from_config(options["family"], {"shrinkage": 0.1}, **event(Real(), True))
    with pytest.raises(
        ValueError, match=r"takes columns of one kind.*the kinds binary, categorical:3, count, real; use"
    ):
        models.from_config(options["family"], {"shrinkage": 0.1}, **event(TABLE, False))
    model = models.from_config(options["family"], {"shrinkage": 0.1}, **event(Columns(("real",) * 5), False))
    assert np.isfinite(model.fit(ROWS)["mean"]).all() if model.fit else model.sums
