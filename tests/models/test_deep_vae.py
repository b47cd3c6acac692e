"""Deep hierarchies: one path for p and q, exact cases, and what is refused."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax import models, networks
from vae_jax.conditionals import heads
from vae_jax.core import Event
from vae_jax.evaluation import likelihood
from vae_jax.models.deep_vae import deep_vae
from vae_jax.networks import stacks
from vae_jax.networks.network import Network
from vae_jax.networks.top_down import Block, Cell, shapes_of_latents
from vae_jax.objectives import free_bits
from vae_jax.spec import BadOption
from vae_jax.support import Binary, Real

SPEC = {
    "widths": (3, 4),
    "blocks": (2, 1),
    "latent_dim": 2,
    "likelihood": {"name": "bernoulli"},
    "objective": {"name": "elbo"},
}


@functools.cache
def model_of(shape=(4, 4, 1), **changes):
    return models.from_config("deep_vae", SPEC | changes, event=Event(shape, Binary()))


def jittered(model, x, key=0):
    """Parameters at which q and p depend on x and on the levels above."""
    params = model.init(jax.random.key(key), {"x": x[None]})
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(key + 1), len(leaves))
    return tree.unflatten([a + 0.2 * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys, strict=True)])


@pytest.fixture(scope="module")
def case():
    model = model_of()
    x = jnp.asarray(np.random.default_rng(0).integers(2, size=(4, 4, 1)), jnp.float32)
    return model, jittered(model, x), x


def test_one_pass_gives_what_the_three_distributions_give(case):
    model, params, x = case
    latent = model.latent

    @jax.jit
    def both(key):
        e = latent.evidence(params, key, x)
        apart = latent.likelihood(params, e.z).log_prob(x), latent.prior(params).log_prob(e.z)
        return e, (*apart, latent.posterior(params, x).log_prob(e.z))

    e, apart = both(jax.random.key(0))
    np.testing.assert_allclose((e.log_lik, e.log_prior, e.log_q), apart, rtol=1e-5, atol=1e-4)
    assert [part.shape for part in e.z] == [(2, 2, 2, 2), (1, 1, 1, 2)] and e.kl.shape == (3,)
    assert np.all(np.asarray(e.kl) > 0)
    means = jax.jit(lambda: latent.posterior(params, x).mean())()
    assert [part.shape for part in means] == [part.shape for part in e.z]


def test_the_divergences_of_the_levels_are_the_rate(case):
    """In closed form for each level given those above, and as a mean of log q - log p."""
    model, params, x = case
    draws = jax.jit(jax.vmap(lambda key: model.latent.evidence(params, key, x)))(
        jax.random.split(jax.random.key(1), 4000)
    )
    difference = np.asarray(draws.log_q - draws.log_prior - draws.kl.sum(-1), np.float64)
    assert abs(difference.mean()) < 5 * difference.std() / len(difference) ** 0.5
    judged = jax.jit(model.judge)(params, jax.random.key(2), x)
    assert {f"rate_{n}" for n in (1, 2, 3)} < set(judged)


def test_at_the_start_p_and_q_are_standard_normal():
    model = model_of()
    x = jnp.ones((4, 4, 1))
    params = model.init(jax.random.key(0), {"x": x[None]})
    e = jax.jit(model.latent.evidence)(params, jax.random.key(1), x)
    assert np.abs(e.kl).max() < 1e-5
    exact = sum(-0.5 * (np.square(z) + np.log(2 * np.pi)).sum() for z in jax.tree.leaves(jax.device_get(e.z)))
    assert float(e.log_prior) == pytest.approx(exact, rel=1e-5)


def test_the_probabilities_of_all_images_sum_to_one():
    """By importance weights, through the function that measures every run."""
    model = model_of((2, 2, 1), widths=(3,), blocks=(2,))
    x = np.array(list(itertools.product((0, 1), repeat=4)), np.float32).reshape(16, 2, 2, 1)
    params = jittered(model, x[0])
    found = likelihood.log_likelihood(model, params, jax.random.key(3), {"x": x}, num_samples=4000)
    p = np.exp(np.asarray(found["log_prob"], np.float64))
    errors = p / np.sqrt(np.asarray(found["ess"], np.float64))
    assert abs(p.sum() - 1.0) < 5 * np.linalg.norm(errors) and np.linalg.norm(errors) < 0.02
    assert p.max() > 2 * p.min()


A, B, S, T = 0.8, 1.3, 0.5, 0.3  # z_2 ~ N(A z_1, S²), x ~ N(B z_2, T²)


def linear_hierarchy():
    """Two levels whose q is the exact posterior, by the rules for two normal variables."""
    prior = np.array([[1.0, A], [A, A * A + S * S]])  # of (z_1, z_2)
    gain = prior[:, 1] * B / (B * B * prior[1, 1] + T * T)
    posterior = prior - np.outer(gain, B * prior[1])
    slope = posterior[0, 1] / posterior[0, 0]
    scales = posterior[0, 0] ** 0.5, (posterior[1, 1] - slope * posterior[0, 1]) ** 0.5

    def normal(z, mean, scale):
        return -0.5 * jnp.square((z - mean) / scale) - jnp.log(scale) - 0.5 * np.log(2 * np.pi)

    def apply(params, x, noise, z):
        def level(n, mean_p, scale_p, mean_q, scale_q):
            mean, scale = (mean_p, scale_p) if x is None else (mean_q, scale_q)
            value = mean + scale * noise[n].ravel()[0] if z is None else z[n].ravel()[0]
            of_array = lambda a: jnp.reshape(jnp.asarray(a), (1, 1, 1, 1))  # noqa: E731
            log_p, log_q = normal(value, mean_p, scale_p), normal(value, mean, scale)
            ratio = scale / scale_p
            kl = 0.5 * (ratio**2 + ((mean - mean_p) / scale_p) ** 2 - 1.0) - jnp.log(ratio)
            return value, (of_array(mean), of_array(scale)), log_p, log_q, kl

        x0 = 0.0 if x is None else x[0].ravel()[0]
        first = level(0, 0.0, 1.0, gain[0] * x0, scales[0])
        second = level(1, A * first[0], S, gain[1] * x0 + slope * (first[0] - gain[0] * x0), scales[1])
        values, normals, *nats = zip(first, second, strict=True)
        arrays = tuple(jnp.reshape(value, (1, 1, 1, 1)) for value in values)
        normals = tuple(zip(*normals, strict=True))
        return (jnp.reshape(B * values[1], (1, 1, 1)),), arrays, *map(jnp.stack, nats), normals

    path = Network(lambda *inputs: {"none": jnp.zeros(())}, apply)
    bottom_up = Network(lambda *inputs: {}, lambda params, x, context: (x,))
    head = heads.normal_fixed_scale((1, 1, 1), scale=T)
    return deep_vae(bottom_up, path, ((1, 1, 1, 1),) * 2, head, event=Event((1, 1, 1), Real()))


def test_with_the_exact_posterior_every_weight_is_p_of_x():
    model = linear_hierarchy()
    x = jnp.linspace(-3, 3, 7).reshape(7, 1, 1, 1)
    params = model.init(jax.random.key(0), {"x": x})
    found = likelihood.log_likelihood(model, params, jax.random.key(0), {"x": x}, num_samples=5)
    variance = B * B * (A * A + S * S) + T * T
    exact = -0.5 * (np.square(x.ravel()) / variance + np.log(2 * np.pi * variance))
    np.testing.assert_allclose(found["log_prob"], exact, atol=1e-5)
    np.testing.assert_allclose(found["ess"], 5.0, rtol=1e-3)
    rate, distortion = (
        likelihood.elbo_terms(model, params, jax.random.key(1), {"x": x})[k] for k in ("rate", "distortion")
    )
    assert rate.shape == distortion.shape == (7,)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{"cell": "bottleneck", "inference": "plain"}, {"cell": "separable", "inference": "weighted"}], ids=str
)
def test_other_cells_and_posteriors_are_one_path_too(changes):
    """One pass gives what the distributions give, level by level, and the gradient reaches every parameter."""
    model = model_of(blocks=(0, 2), **changes)
    x = jnp.asarray(np.random.default_rng(0).integers(2, size=(4, 4, 1)), jnp.float32)
    params = jittered(model, x)

    @jax.jit
    def both(params, key):
        e, q, p = model.latent.evidence(params, key, x), model.latent.posterior(params, x), model.latent.prior(params)
        z = e.z[0]
        by_level = [(d.conditional(1, ()), d.conditional(0, (z[1],))) for d in (q, p)]
        apart = [one.log_prob(z[1]) + other.log_prob(z[0]) for one, other in by_level]
        gradient = jax.grad(lambda params: model.bound(params, jax.random.clone(key), x))(params)
        return (e.log_q, e.log_prior), apart, gradient

    together, apart, gradient = both(params, jax.random.key(0))
    np.testing.assert_allclose(together, apart, rtol=1e-4, atol=1e-4)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.isfinite(leaf).all() and np.any(leaf != 0), jax.tree_util.keystr(path)


def test_a_weighted_posterior_is_a_product_of_normals():
    block = Block(1, "elu", "gated", "weighted", 0.01, 1.0)
    mean, scale = block._posterior((jnp.float32(0.5), jnp.float32(2.0)), jnp.float32(-1.0), jnp.float32(0.7))
    precision = 1 / 2.0**2 + 1 / 0.7**2
    assert float(scale) == pytest.approx(precision**-0.5, rel=1e-6)
    assert float(mean) == pytest.approx((0.5 / 2.0**2 - 1.0 / 0.7**2) / precision, rel=1e-5)


def test_squeeze_and_excitation_sees_no_batch_mates():
    cell = Cell("separable", "elu", 1.0)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 4, 2)), jnp.float32)
    params = cell.init(jax.random.key(0), x[0])
    together = jax.jit(jax.vmap(lambda x: cell.apply(params, x)[0]))(x)
    np.testing.assert_allclose(together[1], cell.apply(params, x[1])[0], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"unrolled": 0}, {"remat": True}], ids=["as a loop", "remat"])
def test_neither_a_loop_nor_less_memory_changes_the_numbers(changes, monkeypatch, case):
    _, params, x = case
    unrolled = changes.get("unrolled")

    def slopes(remat):
        shape = ((4, 4, 1),)
        options = {"widths": (3, 4), "blocks": (2, 1), "latent_dim": 2}
        path = networks.top_down(shape, **options, remat=remat)
        bottom_up = networks.bottom_up(((2, 2, 3), (1, 1, 4)))
        shapes = shapes_of_latents(shape, (3, 4), (2, 1), 2)
        model = deep_vae(bottom_up, path, shapes, heads.bernoulli((4, 4, 1)), event=Event((4, 4, 1), Binary()))
        return jax.jit(jax.value_and_grad(lambda p: model.bound(p, jax.random.key(0), x)))(params)

    usual = slopes(False)
    if unrolled is not None:
        monkeypatch.setattr(stacks, "UNROLLED", unrolled)
        jax.clear_caches()
    other = slopes("remat" in changes)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), usual, other)


def test_densities_are_float32_in_bfloat16(case):
    model, params, x = case
    short = model_of(compute_dtype="bfloat16")
    exact, rounded = (jax.jit(m.latent.evidence)(params, jax.random.key(0), x) for m in (model, short))
    assert {a.dtype for a in jax.tree.leaves(rounded)} == {jnp.dtype("float32")}
    np.testing.assert_allclose(rounded.log_lik, exact.log_lik, rtol=0.05)
    posterior = short.latent.posterior(params, x)
    np.testing.assert_allclose(posterior.log_prob(rounded.z), rounded.log_q, rtol=1e-3, atol=1e-2)


def test_free_bits_count_levels(case):
    model, params, x = case
    value = jax.jit(lambda nats: free_bits(model.latent, params, jax.random.key(0), x, free_nats=nats))
    kl = jax.jit(model.latent.evidence)(params, jax.random.split(jax.random.key(0), 1)[0], x).kl
    limit = float(np.sort(kl)[1])
    loss, terms = value(limit)
    assert float(terms["free_rate"]) == pytest.approx(float(np.maximum(kl, limit).sum()), rel=1e-5)
    assert float(loss) == pytest.approx(float(-terms["distortion"] - terms["free_rate"]), rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks": (1,)}, r"blocks must have an entry for each of the widths \(3, 4\)"),
        ({"blocks": (0, 0)}, "blocks: a hierarchy needs latents"),
        ({"blocks": (-1, 1)}, "blocks: each entry must be"),
        ({"widths": (3, 4, 5)}, "widths: an image of 4x4 cannot be halved 3 times"),
        ({"latent_dim": 0}, "latent_dim must be"),
        ({"least_scale": 0.0}, "least_scale must be"),
        ({"cell": "dense"}, "cell: unknown value 'dense'"),
        ({"inference": "exact"}, "inference: unknown value 'exact'"),
        ({"objective": {"name": "no_such"}}, "objective.name: unknown value 'no_such'"),
    ],
)
def test_what_is_refused(changes, message):
    with pytest.raises(BadOption, match=message):
        models.from_config("deep_vae", SPEC | changes, event=Event((4, 4, 1), Binary()))


@pytest.mark.parametrize("objective", [{"name": "wae"}, {"name": "info_vae", "alpha": 0.0}])
def test_equations_of_one_code_are_refused(objective):
    model = models.from_config(
        "deep_vae", SPEC | {"objective": objective | {"lambda_mmd": 1.0}}, event=Event((4, 4, 1), Binary())
    )
    batch = {"x": jnp.zeros((3, 4, 4, 1))}
    with pytest.raises(
        BadOption, match="cannot be used with a Hierarchy posterior: it is an equation of a single code"
    ):
        jax.eval_shape(lambda key: model.loss(model.init(key, batch), key, batch, 0), jax.random.key(0))


def test_vectors_and_contexts_are_refused(case):
    with pytest.raises(BadOption, match=r"models images \[H, W, C\]"):
        models.from_config("deep_vae", SPEC, event=Event((16,), Binary()))
    model, params, _ = case
    with pytest.raises(ValueError, match="takes no context"):
        model.latent.prior(params, jnp.zeros(3))
