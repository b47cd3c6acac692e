"""Which example stands in which batch: a permutation, a pure function of (seed, step), the same on either path."""

import functools
import gc
import multiprocessing
import os
import pickle
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from vae_jax.data import contexts, idx, pipeline, reading, sources, transforms
from vae_jax.data.values import Dataset, Split, event_of
from vae_jax.training import sweep

SIZE, BATCH = 23, 5  # 4 steps an epoch, 3 examples left out


def numbered(size=SIZE):
    """Images that carry their own number, and a label made of it."""
    x = np.arange(size, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 1), np.uint8)
    return Split(x, (np.arange(size) * 3 % 10).astype(np.int32))


def labelled():
    dataset = Dataset("numbered", *[numbered()] * 3, max_value=255, num_classes=10)
    return contexts.label(dataset, event_of(dataset, "levels"))


def stream(**options):
    given = {"seed": 0, "batch_size": BATCH, "transform": transforms.levels, "max_value": 255, **options}
    return pipeline.stream(numbered(), **given)


def batches(stream, start, length):
    """The batches of steps [start, start + length), as a compiled chunk makes them."""
    feed = stream.feed(start, length)
    make = jax.jit(stream.batch)
    return [jax.tree.map(np.asarray, make(feed, jnp.int32(start + i), i)) for i in range(length)]


def numbers(batch):
    return batch["x"][:, 0, 0, 0].astype(int).tolist()


# ---------------------------------------------------------------------------------------------------- the permutation


@functools.partial(jax.jit, static_argnums=1)
def permutations(keys, size):
    return jax.vmap(lambda key: pipeline.shuffled(key, jnp.arange(size), size))(keys)


@pytest.mark.parametrize("size", [1, 2, 3, 10, 1197, 1198, 50_000])
def test_shuffled_is_a_permutation(size):
    for order in np.asarray(permutations(jax.random.split(jax.random.key(0), 3), size)):
        np.testing.assert_array_equal(np.sort(order), np.arange(size))


@pytest.mark.parametrize("size", [2, 7, 40])
def test_every_element_is_equally_often_at_every_position(size):
    draws = 4000
    order = np.asarray(permutations(jax.random.split(jax.random.key(1), draws), size))
    for position in range(size):
        assert scipy.stats.chisquare(np.bincount(order[:, position], minlength=size)).pvalue > 1e-6


def test_neighbours_are_equally_often_any_pair():
    size, draws = 7, 8000
    order = np.asarray(permutations(jax.random.split(jax.random.key(2), draws), size))
    pairs = np.bincount(order[:, 2] * size + order[:, 3], minlength=size**2).reshape(size, size)
    assert np.all(np.diag(pairs) == 0)
    assert scipy.stats.chisquare(pairs[~np.eye(size, dtype=bool)]).pvalue > 1e-6


def test_a_long_order_is_not_correlated_with_the_place():
    order = np.asarray(permutations(jax.random.split(jax.random.key(0), 1), 50_000))[0]
    for other in (np.arange(50_000), np.roll(order, 1)):
        assert abs(np.corrcoef(order, other)[0, 1]) < 5 / np.sqrt(50_000)


# ------------------------------------------------------------------------------------------------------------ batches


def test_an_epoch_covers_each_example_at_most_once():
    given = stream()
    assert (given.steps_per_epoch, given.batch_size) == (4, BATCH)
    epochs = [[n for b in batches(given, 4 * epoch, 4) for n in numbers(b)] for epoch in range(12)]
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch) == 20 and set(epoch) <= set(range(SIZE))
    assert len({tuple(epoch) for epoch in epochs}) == 12
    assert set().union(*epochs) == set(range(SIZE))  # what is left out changes


def sentences(size=103):
    """Rows of 1 to 12 tokens, the first of which is the row's own number."""
    x = np.arange(12) < np.random.default_rng(0).integers(1, 13, size=size)[:, None]
    return Split(np.where(np.arange(12) == 0, 3 + np.arange(size)[:, None], x).astype(np.int32), None)


def of_sentences(buckets, size=103, **options):
    given = {"seed": 0, "batch_size": 8, "transform": transforms.tokens, "max_value": 255, **options}
    return pipeline.stream(sentences(size), buckets=buckets, **given)


def test_buckets_hold_sentences_of_like_length():
    given = of_sentences(4)
    assert given.steps_per_epoch == 4 * (25 // 8) and given.lengths[-1] == 12
    epochs = [batches(given, 12 * epoch, 12) for epoch in range(8)]
    rows = [[n for batch in epoch for n in batch["x"][:, 0].tolist()] for epoch in epochs]
    assert all(len(set(own)) == len(own) == 96 for own in rows)
    assert len({tuple(own) for own in rows}) == 8 and set().union(*rows) == set(range(3, 106))
    every = [batch["x"] for epoch in epochs for batch in epoch]
    fitting = [np.searchsorted(given.lengths, (x != 0).sum(1).max()) for x in every]
    assert np.all(np.bincount(fitting) == 8 * 3) and np.any(np.diff(fitting) < 0)  # as many of each, in no order
    padded = [np.mean(x[:, : given.lengths[k]] == 0) for x, k in zip(every, fitting, strict=True)]
    assert np.mean(padded) < 0.6 * np.mean(sentences().x == 0)


def test_every_sentence_is_as_likely_in_a_bucket():
    """The mean of a batch's mean, over an epoch that leaves none out, is that of all."""
    given = of_sentences(3, size=96)
    lengths = [(batch["x"] != 0).sum(1) for batch in batches(given, 12, 12)]
    assert np.mean(lengths) == (sentences(96).x != 0).sum(1).mean()
    assert len({batch.tobytes() for batch in np.concatenate([b["x"] for b in batches(given, 0, 12)])}) == 96


def seen(step, batch):
    """A step that tells the width of its batch and what is in it."""
    return step + 1, {"width": jnp.asarray(batch["x"].shape[-1]), "sum": jnp.sum(batch["x"], axis=(-2, -1))}


def test_a_step_sees_no_token_behind_its_bucket():
    given = of_sentences(4)
    run = jax.jit(given.without_padding(seen))
    for batch in batches(given, 0, 12):
        _, told = run(0, batch)
        longest = (batch["x"] != 0).sum(1).max()
        assert told["width"] == min(length for length in given.lengths if length >= longest)
        assert told["sum"] == batch["x"].sum()
    assert of_sentences(1).without_padding(seen) is seen


def test_members_of_a_sweep_go_by_the_longest():
    both = sweep.streams_together([of_sentences(4, seed=seed) for seed in (0, 1)])
    make, feed, widths = jax.jit(both.batch), both.feed(0, 12), []
    for step in range(12):
        batch = make(feed, jnp.full(2, step), step)
        _, told = both.without_padding(seen)(0, batch)
        widths.append((batch["x"] != 0).sum(2).max(1))
        assert told["width"] >= max(widths[-1])
        np.testing.assert_array_equal(told["sum"], batch["x"].sum((1, 2)))
    assert any(a != b for a, b in widths)


def test_buckets_that_cannot_be_are_refused():
    for wrong in (0, 13):
        with pytest.raises(ValueError, match=rf"^buckets must be between 1 and 12, .* in batches of 8; got {wrong}"):
            of_sentences(wrong)
    with pytest.raises(ValueError, match=r"^buckets must be 1, because these data are not text .*; got 4"):
        stream(buckets=4)
    with pytest.raises(ValueError, match=r"^buckets must be 1 .*; or raise memory_limit, which is 100, to the 4944 "):
        of_sentences(2, memory_limit=100)


def test_a_batch_is_a_function_of_seed_and_step():
    one, same, other = (batches(stream(seed=seed), 0, 8) for seed in (0, 0, 1))
    assert [numbers(b) for b in one] == [numbers(b) for b in same] != [numbers(b) for b in other]
    late = batches(stream(seed=0), 5, 2)
    assert [numbers(b) for b in late] == [numbers(b) for b in one[5:7]]


def test_labels_travel_with_their_images():
    for memory_limit in (2**30, 0):
        for batch in batches(stream(conditioning=labelled(), memory_limit=memory_limit), 0, 5):
            np.testing.assert_array_equal(batch["context"], numbered().label[numbers(batch)])


@pytest.mark.parametrize("transform", [transforms.levels, transforms.binarize, transforms.dequantize])
def test_data_read_from_disk_are_the_resident_ones_bit_for_bit(transform, tmp_path):
    resident = stream(transform=transform, conditioning=labelled())
    assert resident.feed(0, 1)["stored"]["x"].shape[0] == SIZE
    np.save(tmp_path / "x.npy", numbered().x)
    images = numbered()._replace(x=np.load(tmp_path / "x.npy", mmap_mode="r"))
    streamed = pipeline.stream(
        images, seed=0, batch_size=BATCH, transform=transform, max_value=255, conditioning=labelled(), memory_limit=0
    )
    assert streamed.feed(0, 1)["stored"]["x"].shape == (1, BATCH, 2, 3, 1)
    # From the start, on, from the middle of an epoch (a resumed run), and back.
    for start, length in ((0, 3), (3, 4), (6, 2), (101, 3), (0, 1)):
        for a, b in zip(batches(resident, start, length), batches(streamed, start, length), strict=True):
            jax.tree.map(np.testing.assert_array_equal, a, b)


def test_the_transform_draws_anew_at_every_step():
    images = Split(np.full((10, 8, 8, 1), 8, np.uint8), None)
    given = pipeline.stream(images, seed=0, batch_size=10, transform=transforms.binarize, max_value=16)
    first, second = (b["x"] for b in batches(given, 0, 2))
    assert set(np.unique(first)) == {0.0, 1.0}
    assert abs(np.mean(first == second) - 0.5) < 5 * 0.5 / np.sqrt(640)
    assert len({image.tobytes() for image in first}) == 10  # and for every example


@pytest.mark.parametrize("batch_size", [0, -1, SIZE + 1])
def test_batches_larger_than_the_data_are_refused(batch_size):
    with pytest.raises(ValueError, match=f"^batch_size must be between 1 and the 23 .* got {batch_size}"):
        stream(batch_size=batch_size)


def test_a_batch_may_be_all_of_the_data():
    given = stream(batch_size=SIZE)
    assert given.steps_per_epoch == 1
    assert sorted(numbers(batches(given, 0, 1)[0])) == list(range(SIZE))


# ------------------------------------------------------------------------------------------------------ streamed data


@pytest.fixture
def mapped(tmp_path):
    """`numbered`, cut out of the middle of a mapped file, as the held-out end of a set is."""
    x = numbered().x
    np.save(tmp_path / "x.npy", np.concatenate([x[:2], x, x[:3]]))
    return numbered()._replace(x=np.load(tmp_path / "x.npy", mmap_mode="r")[2:-3])


def streamed(images, **options):
    given = {"seed": 0, "batch_size": BATCH, "transform": transforms.levels, "max_value": 255, **options}
    return pipeline.stream(images, memory_limit=0, conditioning=labelled(), **given)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("size", [2, 23, 50_000, 2**30 - 1])
def test_the_order_in_numpy_is_that_in_jax(size):
    key, position = jax.random.key(3), np.arange(min(size, 1000))
    constants = np.asarray(pipeline._constants(jax.random.clone(key)))
    order = jax.jit(pipeline.shuffled, static_argnums=2)(key, position, size)
    np.testing.assert_array_equal(reading.permuted(constants, position, size), order)


def test_epochs_beyond_those_drawn_at_once(monkeypatch):
    long = streamed(numbered()).feed(0, 40)["stored"]
    monkeypatch.setattr(reading, "EPOCHS", 3)
    assert_equal(streamed(numbered()).feed(0, 40)["stored"], long)
    assert_equal(streamed(numbered()).feed(11, 9)["stored"], jax.tree.map(lambda a: a[11:20], long))


def test_processes_read_their_rows_of_the_same_batches():
    whole = streamed(numbered(), batch_size=6).feed(2, 5)["stored"]
    for count in (2, 3):
        rows = [streamed(numbered(), batch_size=6, process=(i, count)).feed(2, 5)["stored"] for i in range(count)]
        assert rows[0]["x"].shape == (5, 6 // count, 2, 3, 1)
        assert_equal(jax.tree.map(lambda *a: np.concatenate(a, axis=1), *rows), whole)
    resident = stream(process=(0, BATCH))
    assert (streamed(numbered()).streamed, resident.streamed) == (True, False)
    assert resident.feed(0, 1)["stored"]["x"].shape[0] == SIZE


def test_rows_are_shared_evenly_or_not_at_all():
    with pytest.raises(ValueError, match=r"^batch_size must be a multiple of the 2 processes that share it, got 5"):
        streamed(numbered(), process=(0, 2))


class Counted(np.ndarray):
    """An array that remembers the rows that were taken from it."""

    def __array_function__(self, function, types, args, kwargs):
        if function is np.take:
            self.taken.append(np.array(args[1]))
        return super().__array_function__(function, types, args, kwargs)


def test_a_resumed_stream_reads_nothing_of_what_was_before():
    x = numbered().x.view(Counted)
    x.taken = []
    feed, whole = streamed(numbered()._replace(x=x)).feed(9, 2)["stored"], streamed(numbered()).feed(0, 11)["stored"]
    assert_equal(feed, jax.tree.map(lambda a: a[9:], whole))
    taken = {tuple(batch) for index in x.taken for batch in index.reshape(-1, BATCH).tolist()}
    read = [tuple(batch) in taken for batch in whole["x"][:, :, 0, 0, 0].tolist()]
    assert read == [False] * 9 + [True] * 2
    x.taken.clear()
    streamed(numbered()._replace(x=x)).feed(7, 1)["stored"]  # the loop's look at the shapes
    assert sum(index.size for index in x.taken) == BATCH


@pytest.mark.parametrize("num_workers", [1, pytest.param(3, marks=pytest.mark.every)])
def test_worker_processes_read_the_same_batches(mapped, num_workers, monkeypatch):
    threads, workers = streamed(mapped), streamed(mapped, num_workers=num_workers)
    for start, length in ((0, 1), (0, 30), (30, 30), (7, 5)):
        assert_equal(workers.feed(start, length)["stored"], threads.feed(start, length)["stored"])
    running = multiprocessing.active_children()
    assert len(running) == num_workers
    del workers
    gc.collect()
    assert not any(process.is_alive() for process in running)


def test_a_worker_maps_the_file_anew(tmp_path):
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (2000, 8, 8, 1))
    x[:] = np.arange(2000)[:, None, None, None] % 251
    images = Split(x[1000::2, :, ::2], None)  # any view of a map
    source = reading.Batches({"x": images.x}, np.zeros((1, 24, 2), np.uint32), 500, BATCH, range(BATCH), 0, 3)
    image = cloudpickle.dumps(source)
    assert len(image) < 2000
    np.testing.assert_array_equal(pickle.loads(image)[7]["x"], source[7]["x"])
    index = reading.permuted(np.zeros((24, 2), np.uint32), np.arange(21 * BATCH, 24 * BATCH).reshape(3, BATCH), 500)
    np.testing.assert_array_equal(source[7]["x"], np.asarray(images.x)[index])


@pytest.fixture
def held_out(mapped):
    """`mapped` behind rows of another file, as a hold-out leaves them, and the index of the rows."""
    x = np.asarray(mapped.x)
    file = str(mapped.x.filename) + ".more.npy"
    index = np.sort(np.random.default_rng(0).permutation(3 * SIZE)[:SIZE])
    more = np.full((3 * SIZE, *x.shape[1:]), 99, np.uint8)
    more[index] = x
    np.save(file, more)
    return mapped._replace(x=reading.Rows(np.load(file, mmap_mode="r"), index))


def test_rows_of_a_map_are_streamed_as_the_array_is(held_out):
    assert_equal(streamed(held_out).feed(2, 40)["stored"], streamed(numbered()).feed(2, 40)["stored"])
    given = {
        "seed": 0,
        "batch_size": BATCH,
        "transform": transforms.levels,
        "max_value": 255,
        "conditioning": labelled(),
    }
    resident = pipeline.stream(held_out, **given)
    assert not resident.streamed
    for a, b in zip(batches(resident, 3, 5), batches(stream(conditioning=labelled()), 3, 5), strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.slow
def test_worker_processes_read_rows_of_a_map(held_out):
    workers = streamed(held_out, num_workers=2)
    for start, length in ((0, 20), (7, 5)):
        assert_equal(workers.feed(start, length)["stored"], streamed(numbered()).feed(start, length)["stored"])


def test_the_rows_of_a_large_set_fit_into_a_workers_pipe(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((10**6, 1), np.uint8))
    images = np.load(tmp_path / "x.npy", mmap_mode="r")
    arrays = {"x": images, "rows": np.arange(10**6, dtype=np.int32)}
    source = reading.Batches(arrays, np.zeros((1, 24, 2), np.uint32), 10**6, BATCH, range(BATCH), 0, 3)
    source.to_files(tmp_path)
    assert len(cloudpickle.dumps(source)) < 2000
    assert source[0]["x"].shape == (3, BATCH, 1) and set(source[0]) == {"x"}


def test_workers_would_copy_images_held_in_memory():
    with pytest.raises(ValueError, match=r"^num_workers must be 0, got 2: these examples are in memory"):
        streamed(numbered(), num_workers=2)


def test_a_worker_that_is_killed_is_an_error(mapped, monkeypatch):
    monkeypatch.setattr(reading, "ITEM_BYTES", 1)
    monkeypatch.setattr(reading, "AHEAD_BYTES", 1)  # else it may have read all that it will ever be asked for
    workers = streamed(mapped, num_workers=2)
    workers.feed(0, 10)
    running = multiprocessing.active_children()
    os.kill(running[0].pid, signal.SIGKILL)
    with pytest.raises(ChildProcessError, match=r"a worker process \(num_workers=2\) has failed.*exit code -9"):
        for start in range(10, 2000, 100):
            workers.feed(start, 100)
    assert not any(process.is_alive() for process in running)
    assert_equal(workers.feed(20, 3), streamed(mapped).feed(20, 3))  # asked again, others start


ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"}
ENVIRONMENT["PYTHONPATH"] = str(Path(__file__).parents[2])
UNGUARDED = """
import sys
import numpy as np
from tests.data.test_pipeline import Split, streamed

images = Split(np.load(sys.argv[1], mmap_mode="r"), np.zeros(10**5, np.int32))  # labels that fill a pipe
streamed(images, num_workers=2).feed(0, 10)
"""


@pytest.mark.slow
def test_workers_that_cannot_start_are_an_error(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((10**5, 2, 3, 1), np.uint8))
    (tmp_path / "run.py").write_text(UNGUARDED)
    command = [sys.executable, tmp_path / "run.py", tmp_path / "x.npy"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "ChildProcessError: a worker process (num_workers=2)" in done.stderr, done.stderr
    assert "if __name__ == '__main__'" in done.stderr


RUN = """
import multiprocessing, os, sys, time
import numpy as np

if __name__ == "__main__":
    from tests.data.test_pipeline import numbered, streamed

    images = numbered()._replace(x=np.load(sys.argv[1], mmap_mode="r"))
    workers = streamed(images, num_workers=2)
    workers.feed(0, 10)
    print(*[process.pid for process in multiprocessing.active_children()], flush=True)
    if sys.argv[2] != "end":
        os.kill(os.getpid(), int(sys.argv[2]))
else:  # what a user's script does before its guard: a worker must not take the run's accelerator
    import jax

    assert jax.default_backend() == os.environ["JAX_PLATFORMS"] == "cpu"
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["end", signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_the_run(end, tmp_path):
    np.save(tmp_path / "x.npy", numbered().x)
    (tmp_path / "run.py").write_text(RUN)
    command = [sys.executable, tmp_path / "run.py", tmp_path / "x.npy", str(getattr(end, "value", end))]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == (0 if end == "end" else -end), done.stderr
    pids = done.stdout.split()
    assert len(pids) == 2
    for _ in range(100):
        if not any(os.path.exists(f"/proc/{pid}") for pid in pids):
            break
        time.sleep(0.1)
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    if end == "end":
        assert "Traceback" not in done.stderr


BIG = """
import sys, threading, time
import numpy as np
from tests.data.test_pipeline import numbered, streamed
from vae_jax.data import sources

def own():  # bytes; pages of mapped files are not counted, since the system takes them back when it needs them
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return 1024 * int(status["RssAnon"].split()[0])

def watch():
    global most
    while True:
        most = max(most, own())
        time.sleep(0.002)

streamed(numbered()).feed(0, 30)
before = most = own()
threading.Thread(target=watch, daemon=True).start()
images = sources.load("idx", sys.argv[1], max_value=255).train  # a look at all of them, too
streamed(images._replace(label=np.zeros(len(images.x), np.int32)), batch_size=64).feed(0, 50)
print(images.x.nbytes, most - before)
"""


def test_a_set_larger_than_the_limit_stays_on_disk(tmp_path):
    with open(tmp_path / "train-images-idx3-ubyte", "wb") as file:
        file.write(struct.pack(">4B3I", 0, 0, 8, 3, 30_000, 100, 100))
        file.truncate(16 + 300 * 10**6)  # zeros that take no room
    idx.write(tmp_path / "t10k-images-idx3-ubyte", np.zeros((6, 100, 100), np.uint8))
    done = subprocess.run(
        [sys.executable, "-c", BIG, tmp_path], env=ENVIRONMENT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    size, grown = map(int, done.stdout.split())
    assert size == 250 * 10**6 and grown < 150 * 10**6, grown


# -------------------------------------------------------------------------------------------------------- whole splits


@pytest.fixture(scope="module")
def digits():
    return sources.load("digits")


@pytest.mark.parametrize("name", sorted({*transforms.__all__} - {"columns", "strokes"}))  # of their own data
def test_a_fixed_split_is_the_same_twice(digits, name):
    one, same = (
        pipeline.fixed_split(
            digits,
            "test",
            transform=getattr(transforms, name),
            conditioning=contexts.label(digits, event_of(digits, name)),
        )
        for _ in range(2)
    )
    np.testing.assert_array_equal(one["x"], same["x"])
    np.testing.assert_array_equal(one["context"], digits.test.label)
    assert one["x"].shape == digits.test.x.shape
    assert one["x"].dtype == (np.int32 if name == "tokens" else np.float32)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_binarised_split_is_the_fixed_draw(digits, split):
    given = pipeline.fixed_split(digits, split, transform=transforms.binarize)
    assert set(given) == {"x"}
    np.testing.assert_array_equal(given["x"], transforms.fixed_draw(getattr(digits, split).x, 16, split))


def test_bits_stay_as_they_are():
    bits = Split(np.random.default_rng(0).integers(2, size=(9, 4, 4, 1), dtype=np.uint8), None)
    dataset = Dataset("bits", bits, bits, bits, 1, None)
    given = pipeline.fixed_split(dataset, "test", transform=transforms.binarize)["x"]
    np.testing.assert_array_equal(given, bits.x)
