"""A member of a sweep is the run that it would be alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.core import Aux, Model, by_loss
from vae_jax.data import pipeline, transforms
from vae_jax.data.values import Split
from vae_jax.runs import writers
from vae_jax.training import gradient, loop, sweep
from vae_jax.training.checkpoint import Checkpoints

RATES = (0.1, 0.02, 0.1, 1e6, 0.02)  # the fourth explodes
SEEDS = (0, 0, 1, 0, 1)
STEPS = 12


def model():
    """loss = |θ - x|² + noise·θ, with θ of one number a pixel: descent that depends on data, order and keys."""

    def loss(params, key, batch, step):
        noise = jax.random.normal(key, params["theta"].shape)
        value = jnp.sum(jnp.square(params["theta"][None] - batch["x"].reshape(len(batch["x"]), -1)), axis=-1)
        value = value + 0.1 * jnp.sum(noise * params["theta"])
        return value, Aux({"bound": -value})

    def init(key, batch):
        return {"theta": jax.random.normal(key, (batch["x"][0].size,))}

    return Model(init=init, loss=loss, judge=by_loss(loss))


def learner_of(values):
    rate = values.get("optimizer.learning_rate", 0.1)
    return gradient.gradient(model(), gradient.optimizer(name="adam", learning_rate=rate), average_decay=0.9)


def stream_of(seed, memory_limit=2**30):
    x = np.random.default_rng(3).integers(0, 256, (40, 2, 3, 1)).astype(np.uint8)
    images = Split(x, None)
    return pipeline.stream(
        images, seed=seed, batch_size=4, transform=transforms.binarize, max_value=255, memory_limit=memory_limit
    )


def alone(seed, rate, **options):
    given = {"num_steps": STEPS, "log_every": 4, "progress": False, **options}
    learner = learner_of({"optimizer.learning_rate": rate})
    return loop.fit(learner, stream_of(seed), key=jax.random.key(seed), **given)


def together(seeds=SEEDS, rates=RATES, memory_limit=2**30, devices=None, **options):
    given = {"num_steps": STEPS, "log_every": 4, "progress": False, **options}
    mesh, missing = sweep.mesh_for(len(seeds)) if devices is None else (sweep.sharding.member_mesh(devices), 0)
    seeds, rates = (values + values[-1:] * missing for values in (tuple(seeds), tuple(rates)))
    learner = sweep.together(learner_of, {"optimizer.learning_rate": jnp.asarray(rates, jnp.float32)})
    stream = sweep.streams_together([stream_of(seed, memory_limit) for seed in seeds])
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    return loop.fit(learner, stream, key=keys, mesh=mesh, **given)


@pytest.fixture(scope="module")
def swept():
    return together()


@pytest.mark.parametrize("member", [0, 1, 2, 4])
def test_a_member_is_the_run_it_would_be_alone(swept, member):
    own = alone(SEEDS[member], RATES[member])
    taken = sweep.take(swept, member)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), own.params, taken.params)
    np.testing.assert_array_equal(jax.random.key_data(own.state.key), jax.random.key_data(taken.state.key))
    assert taken.record["steps"] == own.record["steps"] == STEPS
    assert taken.record["first_loss"] == pytest.approx(own.record["first_loss"], rel=1e-5)


def test_a_member_that_diverges_is_frozen_and_the_others_do_not_notice(swept):
    assert swept.record["diverged"][: len(SEEDS)] == [False, False, False, True, False]
    assert swept.record["steps"][3] == 4  # it stood still from the end of the chunk in which it exploded
    without = together([s for i, s in enumerate(SEEDS) if i != 3], [r for i, r in enumerate(RATES) if i != 3])
    for i, j in ((0, 0), (1, 1), (2, 2), (4, 3)):
        theirs, ours = sweep.take(swept, i).params["theta"], sweep.take(without, j).params["theta"]
        np.testing.assert_allclose(theirs, ours, rtol=2e-5, atol=1e-6)


def test_where_all_diverge_the_run_ends():
    with pytest.raises(loop.Diverged, match="the loss has grown"):
        together((0, 1), (1e6, 1e6))


def test_one_device_or_eight_give_the_same_numbers():
    seeds, rates = (0, 1, 2, 3, 4, 5, 6, 7), (0.1,) * 8
    one, eight = together(seeds, rates, devices=1), together(seeds, rates, devices=8)
    np.testing.assert_allclose(one.params["theta"], eight.params["theta"], rtol=1e-6)
    assert len(eight.state.state.params["theta"].sharding.device_set) == 8


def test_data_read_in_batches_are_each_members_own():
    resident, streamed = together((0, 1), (0.1, 0.1)), together((0, 1), (0.1, 0.1), memory_limit=0)
    np.testing.assert_array_equal(resident.params["theta"], streamed.params["theta"])


def test_early_stopping_stops_each_member_at_its_own_step(tmp_path):
    bounds = iter(np.array([[-3.0, -3.0], [-4.0, -2.0], [-4.0, -3.0], [9.0, -3.0]]))
    seen = []

    def validate(params, step):
        seen.append(np.array(params["theta"]))
        return {"bound": next(bounds)}

    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    writer = writers.MemberWriters([tmp_path / "a", tmp_path / "b"])
    fitted = together(
        (0, 1), (0.1, 0.1), num_steps=40, log_every=2, eval_every=2, patience=2, validate=validate, writer=writer
    )
    writer.close()
    assert fitted.record["steps"] == [6, 8]
    assert fitted.record["best_step"] == [2, 4]
    np.testing.assert_array_equal(fitted.params["theta"][0], seen[0][0])
    np.testing.assert_array_equal(fitted.params["theta"][1], seen[1][1])
    lines = [writers.read_metrics(tmp_path / name / "metrics.jsonl") for name in "ab"]
    assert [[line["step"] for line in own] for own in lines] == [[2, 4, 6], [2, 4, 6, 8]]


def test_a_resumed_sweep_is_the_same_sweep_bit_for_bit(swept, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    together(num_steps=8, checkpoints=checkpoints, checkpoint_every=4)
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path)
    resumed = together(checkpoints=checkpoints)
    checkpoints.close()
    np.testing.assert_array_equal(swept.params["theta"], resumed.params["theta"])
    assert resumed.record["diverged"] == swept.record["diverged"]


def test_what_may_be_traced_is_found_out():
    def branching(values):
        return learner_of(values) if values.get("width", 1.0) > 0 else None

    batch = {"x": jnp.zeros((4, 6))}
    assert sweep.is_traceable(learner_of, "optimizer.learning_rate", batch)
    assert not sweep.is_traceable(branching, "width", batch)


def test_parse_reads_ranges_lists_and_words():
    axes = sweep.parse("seed=0:3, optimizer.learning_rate=1e-3|3e-4,model.encoder.activation=relu|tanh,a=(1,2)")
    assert axes == {
        "seed": [0, 1, 2],
        "optimizer.learning_rate": [1e-3, 3e-4],
        "model.encoder.activation": ["relu", "tanh"],
        "a": [(1, 2)],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "is empty"), ("seed", "'seed' is not KEY"), ("seed=", "not KEY"), ("seed=3:3", "empty range")]
    + [("seed=0|0", "the value 0 twice"), ("a=1,a=2", "a is given twice"), ("a=1|", "an empty value")],
)
def test_what_cannot_be_read_is_shown(text, message):
    with pytest.raises(ValueError, match=message):
        sweep.parse(text)


def test_programs_hold_what_can_run_side_by_side_in_even_parts():
    axes = {"seed": [0, 1, 2], "rate": [0.1, 0.2], "width": [8, 16]}
    programs = sweep.programs(axes, {"seed", "rate"}, 4)
    assert [len(program) for program in programs] == [3, 3, 3, 3]
    assert all(len({member["width"] for member in program}) == 1 for program in programs)
    members = [member for program in programs for member in program]
    assert sorted(map(str, members)) == sorted(map(str, sweep.product(axes)))
    assert len(set(map(sweep.name_of, members))) == 12
