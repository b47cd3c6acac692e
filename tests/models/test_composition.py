"""Every posterior with every prior under every bound: either it trains, or the config is refused with the remedy.

A prior and a posterior over different values are refused when the model is built, all else when its loss is traced.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import kind

from vae_jax import models
from vae_jax.spec import BadOption

OBJECTIVES = {
    **{name: {} for name in ("elbo", "elbo_sampled_kl", "iwae", "stratified_elbo", "miwae", "piwae")},
    **{name: {} for name in ("score_function", "rloo", "vimco", "sticking_the_landing", "dreg")},
    "capacity": {"gamma": 1.0, "nats": 2.0},
    "ciwae": {"elbo_weight": 0.5},
    "free_bits": {"free_nats": 0.1},
    "gumbel_softmax": {"temperature": 0.5},
    "nvil": {"baseline": {"name": "mlp", "hidden": (3,)}, "running_mean": 0.9, "running_variance": 0.9},
    "renyi": {"alpha": 0.5},
}
OF_BATCH = {  # equations of a whole batch, with one sample for each example
    "beta_tcvae": {"beta": 2.0, "num_data": 100},
    "factor_vae": {"gamma": 2.0, "discriminator": {"name": "mlp", "hidden": (3,)}},
    "dip_vae": {"kind": "I", "lambda_od": 1.0, "lambda_d": 1.0},
    "info_vae": {"alpha": 0.5, "lambda_mmd": 2.0},
    "wae": {"lambda_mmd": 2.0},
}
POSTERIORS = {
    "normal": {},
    "multivariate_normal": {},
    "low_rank_normal": {"rank": 1},
    "normal_mixture": {"num_components": 2},
    "planar_flow": {"num_flows": 2},
    "coupling_flow": {"num_flows": 2, "hidden": 2},
    "sylvester_flow": {"num_flows": 1, "num_reflections": 1},
    "von_mises_fisher": {},
    "inverse_autoregressive_flow": {"num_flows": 1, "hidden": (3,), "context_dim": 2},
    "bernoulli": {},
}
PRIORS = {
    "standard": {},
    "mixture": {"num_components": 3},
    "vamp": {"num_components": 3},
    "flow": {"num_flows": 2, "hidden": (3,)},
    "bernoulli": {},
    "autoregressive": {"hidden": (3,)},
    "uniform_sphere": {},
}
LEARNING = ("factor_vae", "nvil")  # equations with a network
BY_SCORE = ("nvil", "rloo", "score_function", "vimco")
# Of every pair of posterior and prior one objective is traced, not the same of each, and of two pairs all. With
# `-m every` all combinations that hold one of these, the plainest of their kinds, are traced: so every pair of
# posterior, prior and objective. Likelihoods with objectives are in `test_vae.py`.
PLAIN = ("normal", "bernoulli", "standard", "uniform_sphere", "elbo_sampled_kl", "stratified_elbo", "rloo")
SUPPORTS = {"bernoulli": "binary", "autoregressive": "binary", "von_mises_fisher": "sphere", "uniform_sphere": "sphere"}
BATCH = {"x": jnp.asarray(np.random.default_rng(0).integers(2, size=(4, 5)), jnp.float32)}


def build(posterior, prior, objective, num_classes=0):
    config = {
        "latent_dim": 2,
        "encoder": {"name": "mlp", "hidden": (4,)},
        "decoder": {"name": "mlp", "hidden": (4,)},
        "posterior": {"name": posterior, **POSTERIORS[posterior]},
        "prior": {"name": prior, **PRIORS[prior]},
        "likelihood": {"name": "bernoulli"},
        "objective": {"name": objective} | (OF_BATCH.get(objective) or {"num_samples": 2, **OBJECTIVES[objective]}),
    }
    return models.from_config("vae", config, **kind((5,), num_classes))


def refusal(posterior, prior, objective):
    """Return what the error must say, None if the combination must train."""
    bits = posterior == "bernoulli"
    # A VampPrior is over whatever its posterior is over.
    if prior != "vamp" and SUPPORTS.get(posterior) != SUPPORTS.get(prior):
        return r"^model\.prior: it is over values that are \w+, and the posterior, a \w+, is over \w+; use '\w+'"
    by_score = objective in BY_SCORE
    if bits and not by_score and objective != "gumbel_softmax":
        return "no gradient passes through draws of binary; use 'rloo', 'vimco' or 'gumbel_softmax'"
    if objective == "gumbel_softmax" and not bits:
        return "its draws need no relaxation; use 'elbo"
    if posterior == "normal_mixture" and not by_score and objective != "stratified_elbo":
        return "no gradient passes through the choice of a component; use 'stratified_elbo'"
    closed = objective in ("elbo", "capacity", "free_bits", "gumbel_softmax")
    if closed and ("flow" in posterior or prior not in ("standard", "bernoulli", "uniform_sphere")):
        return "no closed-form KL; use 'rloo' or 'vimco'" if bits else "no closed-form KL; use 'elbo_sampled_kl'"
    if objective == "free_bits" and posterior != "normal":
        return "the KL does not split by dimension; use 'elbo'"
    if objective in ("beta_tcvae", "dip_vae") and posterior != "normal":
        return "it does not split by dimension; use 'info_vae', or the posterior 'normal'"
    if objective in ("beta_tcvae", "dip_vae", "factor_vae") and prior != "standard":
        return "its dimensions are not independent; use 'info_vae', or the prior 'standard'"
    return None


HIERARCHIES = [
    ("bottom_up", "normal", "standard"),
    ("top_down", "normal", "vamp"),
    ("top_down", "bernoulli", "bernoulli"),
    ("top_down", "normal_mixture", "flow"),
]


def build_hierarchy(inference, head, prior, objective):
    """Two levels; of the prior's levels each has the same head as that of the posterior."""
    head = {"name": head, **POSTERIORS[head]}
    network = {"name": "mlp", "hidden": (4,)}
    level = {"latent_dim": 2, "encoder": network, "decoder": network}
    config = {
        "levels": {"z1": level, "z2": level},
        "inference": inference,
        "skip": inference == "top_down",
        "posterior": head,
        "conditional": head,
        "prior": {"name": prior, **PRIORS[prior]},
        "likelihood": {"name": "bernoulli"},
        "objective": {"name": objective} | (OF_BATCH.get(objective) or {"num_samples": 2, **OBJECTIVES[objective]}),
    }
    return models.from_config("hierarchical_vae", config, **kind((5,)))


def refusal_of_hierarchy(head, objective):
    if objective in BY_SCORE:
        return None
    if head == "bernoulli" and objective != "gumbel_softmax":
        return "no gradient passes through draws of binary; use 'rloo' or 'vimco'"
    if objective == "gumbel_softmax" and head != "bernoulli":
        return "its draws need no relaxation; use 'elbo_sampled_kl'"
    if head == "normal_mixture":
        return "no gradient passes through the choice of a component; use 'rloo'"
    if objective in ("elbo", "capacity", "free_bits", "gumbel_softmax"):
        return f"no closed-form KL; use '{'rloo' if head == 'bernoulli' else 'elbo_sampled_kl'}'"
    return "it is an equation of a single code; use 'elbo_sampled_kl'" if objective in OF_BATCH else None


def step(model):
    """Return the parameters, then the loss, its terms, the next state and the gradient."""

    def run(key, batch):
        key_init, key_loss = jax.random.split(key)
        params = model.init(key_init, batch)

        def mean_loss(params):
            loss, aux = model.loss(params, key_loss, batch, 0)
            return jnp.mean(loss), aux

        return params, jax.value_and_grad(mean_loss, has_aux=True)(params)

    return run


PAIRS = list(itertools.product(POSTERIORS, PRIORS))
ALL = (*OBJECTIVES, *OF_BATCH)


def objectives_of(posterior, prior):
    """The objectives that must train, from another one on for every pair."""
    n = PAIRS.index((posterior, prior))
    return [name for name in (*ALL[n % len(ALL) :], *ALL[: n % len(ALL)]) if not refusal(posterior, prior, name)]


@pytest.mark.parametrize("posterior, prior", PAIRS)
def test_it_trains_or_says_why_not(posterior, prior):
    most = len(ALL) if (posterior, prior) in (("normal", "standard"), ("bernoulli", "bernoulli")) else 1
    trains = objectives_of(posterior, prior)[:most]
    for objective in (*trains, *[name for name in ALL if refusal(posterior, prior, name)]):
        build_it = functools.partial(build, posterior, prior, objective)
        trains_or_refuses(build_it, refusal(posterior, prior, objective), prior, objective)


@pytest.mark.every
@pytest.mark.parametrize("posterior, prior", [pair for pair in PAIRS if objectives_of(*pair)])
def test_every_pair_trains(posterior, prior):
    for objective in objectives_of(posterior, prior):
        traced = {posterior, prior, objective} & set(PLAIN)
        trains_or_refuses(functools.partial(build, posterior, prior, objective), None, prior, objective, traced)


@pytest.mark.parametrize("inference, head, prior", HIERARCHIES)
@pytest.mark.parametrize("most", [2, pytest.param(len(ALL), marks=pytest.mark.every)])
def test_a_hierarchy_trains_or_says_why_not(inference, head, prior, most):
    """At `most` of those that train, not the same of each hierarchy."""
    trains = [name for name in ALL if not refusal_of_hierarchy(head, name)]
    first = HIERARCHIES.index((inference, head, prior)) * 3 % len(trains)
    for objective in [name for name in ALL if name not in trains] + (trains[first:] + trains[:first])[:most]:
        build_it = functools.partial(build_hierarchy, inference, head, prior, objective)
        trains_or_refuses(build_it, refusal_of_hierarchy(head, objective), prior, objective)


@functools.cache
def shapes(build_it, *parts):
    """Return the parameters as shapes; they depend on the objective only if it learns something."""
    return jax.eval_shape(build_it(*parts).init, jax.random.key(0), BATCH)


def trains_or_refuses(build_it, words, prior, objective, traced=True):
    """Shapes and types of a whole step; nothing is compiled."""
    if words and words.startswith("^model"):
        with pytest.raises(BadOption, match=words):
            build_it()
        return
    model = build_it()
    if words:
        params = shapes(build_it.func, *build_it.args[:-1], objective if objective in LEARNING else "rloo")
        with pytest.raises(BadOption, match=rf"^objective\.name: '{objective}' cannot be used with a \w+ .*: {words}"):
            jax.eval_shape(model.loss, params, jax.random.key(0), BATCH, 0)
        return
    if not traced:
        return
    params, ((loss, aux), gradient) = jax.eval_shape(step(model), jax.random.key(0), BATCH)
    assert loss.shape == () and all(term.shape == (4,) for term in aux.terms.values())
    assert jax.tree.structure(aux.state) == jax.tree.structure(params.get("state"))
    assert jax.tree.structure(gradient) == jax.tree.structure(params)
    assert ("prior" in params) == (prior not in ("standard", "uniform_sphere"))
    assert ("objective" in params) == (objective in LEARNING)
    assert ("state" in params) == (objective == "nvil")


QUICK = [
    ("normal", "mixture", "elbo_sampled_kl"),
    ("coupling_flow", "vamp", "iwae"),
    ("normal_mixture", "flow", "stratified_elbo"),
    ("low_rank_normal", "standard", "factor_vae"),
    ("bernoulli", "autoregressive", "vimco"),
]
OTHERS = [
    ("low_rank_normal", "standard", "elbo"),
    ("planar_flow", "vamp", "elbo_sampled_kl"),
    ("sylvester_flow", "standard", "elbo_sampled_kl"),
    ("inverse_autoregressive_flow", "standard", "sticking_the_landing"),
    ("planar_flow", "vamp", "wae"),
    ("von_mises_fisher", "uniform_sphere", "elbo"),
]


@pytest.mark.parametrize(
    "posterior, prior, objective", [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in OTHERS)]
)
def test_a_step_is_finite_and_reaches_every_parameter(posterior, prior, objective):
    model = build(posterior, prior, objective)
    params, ((loss, aux), gradient) = jax.jit(step(model))(jax.random.key(0), BATCH)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((params, loss, aux)))
    for path, leaf in jax.tree.leaves_with_path(gradient):
        assert np.isfinite(leaf).all(), path
        # The hidden layers of conditioners wait for the zero of their last layer to move.
        if not any(name in jax.tree_util.keystr(path) for name in ("couplings", "MaskedDense_0")):
            assert np.abs(leaf).max() > 0, path


def test_a_conditional_vamp_is_a_prior_of_each_class():
    model = build("normal", "vamp", "elbo_sampled_kl", num_classes=3)
    batch = {**BATCH, "context": jnp.array([0, 1, 2, 1])}
    params = jax.jit(model.init)(jax.random.key(0), batch)
    means = jax.jit(jax.vmap(lambda c: model.latent.prior(params, c).mean()))(jnp.arange(3))
    assert np.abs(means[0] - means[1]).max() > 1e-3 and np.abs(means[1] - means[2]).max() > 1e-3
    x = jax.eval_shape(lambda key, c: model.sample(params, key, c), jax.random.key(1), jnp.asarray(2))
    loss, _ = jax.eval_shape(lambda key: model.loss(params, key, batch, 0), jax.random.key(1))
    assert x.shape == (5,) and loss.shape == (4,)
    with pytest.raises(ValueError, match=r"conditional on \d+ classes: a context is needed"):
        model.sample(params, jax.random.key(1))
