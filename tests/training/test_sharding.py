"""Arrays cut over eight host devices: the same numbers, another place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from vae_jax.core import Aux, Model, by_loss
from vae_jax.data import pipeline, transforms
from vae_jax.data.values import Split
from vae_jax.evaluation.devices import mesh_of, over_devices
from vae_jax.spec import BadOption
from vae_jax.training import gradient, loop, sharding
from vae_jax.training.checkpoint import Checkpoints

WIDE = 2**13


def model():
    """A wide regression: its one matrix is LARGE, its offset is not."""

    def init(key, batch):
        return {"matrix": 0.01 * jax.random.normal(key, (12, WIDE)), "offset": jnp.zeros(12)}

    def loss(params, key, batch, step):
        x = batch["x"].reshape(len(batch["x"]), -1)
        back = jnp.tanh(x @ params["matrix"]) @ params["matrix"].T + params["offset"][None]
        value = jnp.sum(jnp.square(back - x), axis=-1)
        return value, Aux({"bound": -value})

    return Model(init=init, loss=loss, judge=by_loss(loss))


def stream(memory_limit=2**30):
    x = np.random.default_rng(3).integers(0, 256, (80, 2, 6, 1)).astype(np.uint8)
    options = {"seed": 0, "batch_size": 8, "transform": transforms.binarize, "max_value": 255}
    return pipeline.stream(Split(x, None), memory_limit=memory_limit, **options)


LEARNER = gradient.gradient(model(), gradient.optimizer(name="adam", learning_rate=1e-3))


def fit(data, model, memory_limit=2**30, **options):
    mesh = sharding.make_mesh(data=data, model=model, batch_size=8)
    given = {"num_steps": 8, "log_every": 4, "progress": False, **options}
    return loop.fit(LEARNER, stream(memory_limit), key=jax.random.key(0), mesh=mesh, **given)


def close(a, b):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5), a, b)


@pytest.fixture(scope="module")
def alone():
    return fit(1, 1)


@pytest.mark.parametrize(("data", "pieces"), [(8, 1), (4, 2), (1, 8)])
def test_the_numbers_do_not_depend_on_the_mesh(alone, data, pieces):
    spread = fit(data, pieces)
    close(alone.params, spread.params)
    assert len(spread.params["matrix"].sharding.device_set) == 8
    wanted = P(None, "model") if pieces > 1 else P()
    for tree in (spread.params, spread.state.opt_state[0].mu, spread.state.opt_state[0].nu):
        assert tree["matrix"].sharding.spec == wanted and tree["offset"].sharding.spec == P()
    assert spread.params["matrix"].addressable_shards[0].data.shape == (12, WIDE // pieces)


def test_data_read_in_batches_are_cut_over_devices_too(alone):
    close(alone.params, fit(8, 1, memory_limit=0).params)


def test_a_run_goes_on_on_other_devices(alone, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    fit(4, 2, num_steps=4, checkpoints=checkpoints, checkpoint_every=4)
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path)
    fitted = fit(1, 1, checkpoints=checkpoints)
    checkpoints.close()
    close(alone.params, fitted.params)
    assert len(fitted.params["matrix"].sharding.device_set) == 1


def test_by_default_as_many_devices_as_divide_the_batch():
    assert dict(sharding.make_mesh(batch_size=12).shape) == {"data": 6, "model": 1}
    assert dict(sharding.make_mesh(model=2, batch_size=12).shape) == {"data": 4, "model": 2}
    assert dict(sharding.make_mesh(batch_size=7).shape) == {"data": 7, "model": 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": 9}, "model must be between 1 and 8, the number of devices, got 9"),
        ({"model": 0}, "model must be at least 1"),
        ({"data": 8, "model": 2}, "data x model is 8 x 2, and there are only 8 devices"),
        ({"data": 0}, "data must be at least 1, or -1"),
        ({"data": 5}, "data: 5 devices do not divide the batch_size 8"),
    ],
)
def test_a_mesh_that_cannot_be_is_refused(options, message):
    with pytest.raises(BadOption, match=message):
        sharding.make_mesh(**{"batch_size": 8, **options})


def test_evaluation_spreads_its_examples_where_the_parameters_are():
    mesh = sharding.make_mesh(batch_size=8)
    params = jax.device_put({"a": jnp.arange(3.0)}, sharding.replicated(mesh))
    seen = []

    def function(params, x):
        seen.append(x.shape)
        return {"y": x * params["a"].sum()}

    assert mesh_of(params) == mesh and mesh_of({"a": jnp.zeros(3)}) is None
    out = jax.jit(lambda params, x: over_devices(function, mesh, params, x))(params, jnp.arange(21.0))
    np.testing.assert_allclose(out["y"], 3.0 * np.arange(21.0))
    assert seen[-1] == (3,)  # 21 examples over 8 devices: three each, the last three filled up
