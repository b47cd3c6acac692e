"""Pen drawings in nats: counts of moves, general coders and runs, and the same characters as strokes and as pixels.

    python -m experiments.benchmarks.drawings --drawings=omniglot_strokes.npz [--runs=DIR,DIR] [--write=FOLDER]

Rows of `strokes` are of the test points as they are: every offset, the order and the direction of the strokes. The
n-gram of moves is P(Δx, Δy, pen | the n - 1 moves before), by counting (`log_probs`), its smoothing chosen on
validation. gzip, xz and bz2 have the points as int16, three numbers each, all drawings in one piece.

Rows of `grid` are of the same drawings on a grid of 28 x 28 (`on_grid`): the order and the direction of the strokes
remain, exact coordinates do not. Rows of `pixels` are of 28 x 28 bits (`raster`), a function of the drawing on the
grid: only its ink. Coders have eight pixels in a byte.

Bits a point divide by the points of `strokes` in all rows, so that rows can be compared. --write writes both as data
sets: `grid.npz` for `strokes`, and `pixels.npz` for `arrays`. Runs on any of the three are given by --runs.

The PixelCNN of the results is `likelihood_mnist` with data.name=arrays, data.max_value=1, six layers of 32, 2,500 steps
and a learning rate of 3e-3. The LSTM on the grid is `strokes_omniglot` with a width of 128, a scale of 2, no atoms and
2,500 steps. The average of the parameters decays by 0.99 in both.
"""

import json
import math
from pathlib import Path

import numpy as np
from absl import app, flags

from vae_jax.runs.launching import launched, parse_flags
from vae_jax.support import END

DRAWINGS = flags.DEFINE_string(
    "drawings", None, "An .npz of drawings, as in `vae_jax/data/drawings.py`.", required=True
)
RUNS = flags.DEFINE_list("runs", [], "Folders of runs on the same characters.")
WRITE = flags.DEFINE_string("write", None, "A folder for the drawings on the grid and as pixels.")
ORDERS = flags.DEFINE_list("orders", ["1", "2", "3"], "n of the n-grams of moves.")

SIDE = 28  # pixels
STEP = 0.25  # pixels between two points of a line
# Discounts and strengths; those of validation lie inside for the orders 2 and 3.
SMOOTHINGS = tuple((d, a) for d in (0.0, 0.3, 0.5, 0.7) for a in (1.0, 5.0, 30.0, 120.0, 500.0))
BEFORE = END + 1  # the pen of the moves before the first


# ------------------------------------------------------------------------------------------------------------ counting


def log_probs(train, query, *, order, limit, smoothings=SMOOTHINGS):
    """Return the log-probability of every point of `query` under an n-gram of moves, in nats: [S, 3, P].

    The axis of three is Δx, Δy given Δx, and the pen given both; their sum is log P of the point. Each is

        P_k(s | h) = [max(c(hs) - d, 0) + (d u(h) + a) P_{k-1}(s | h')] / (c(h) + a)

    the predictive rule of a hierarchical Pitman-Yor process with one table a word, doi:10.3115/1220175.1220299. c
    counts the training points, u(h) the different symbols after h, and h' is h without its last context. P_0 of an
    offset is proportional to exp(-|Δ| / b) on {-R, ..., R}, b the mean of |Δ|; P_0 of the pen is uniform.

    Args:
      train: (points [P, 3], lengths [N]), counted; the pen of the last point of a drawing is `END`.
      query: the same, of the drawings to measure.
      order: n.
      limit: R, the largest offset.
      smoothings: pairs of a discount d in [0, 1) and a strength a > 0, [S].
    """
    counted, asked = _contexts(*train, order), _contexts(*query, order)
    mean = max(float(np.abs(train[0][:, :2]).mean()), 1e-3)
    decay = np.exp(-np.abs(np.arange(-limit, limit + 1)) / mean)
    first = [np.log(decay / decay.sum())[query[0][:, n] + limit] for n in range(2)]
    first.append(np.full(len(query[0]), -math.log(END + 1)))
    parts = [_backed_off(*pair, np.exp(p), smoothings) for *pair, p in zip(counted, asked, first, strict=True)]
    return np.log(np.stack(parts, axis=1))


def _contexts(points, lengths, order):
    """Return [(symbols [P], contexts [K, P])] of Δx, Δy and the pen; the last context is the first to be dropped."""
    points = points.astype(np.int64)
    place = np.arange(len(points)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    history = []
    for back in range(1, order):
        earlier = np.roll(points, back, axis=0)
        earlier[place < back] = (0, 0, BEFORE)
        history += [earlier[:, 2], earlier[:, 0], earlier[:, 1]]
    (x, y, pen), (size_x, size_y, _) = points.T, _magnitude(points).T
    last_pen, last_x, last_y = ([values] for values in history[:3]) if history else ([], [], [])
    of_y = [size_x, *last_pen, *last_y, x, *last_x, *history[3:]]  # each axis sees its own last offset first
    return [(x, history), (y, of_y), (pen, [size_x, size_y, *history])]


def _magnitude(v):
    return (np.sign(v) * np.ceil(np.log2(1 + np.abs(v)))).astype(np.int64)


def _backed_off(counted, asked, first, smoothings):
    """Return P(s | contexts) of the symbols of `asked`, [S, P], from P_0 = `first` [P]."""
    (symbols, contexts), (asked_symbols, asked_contexts) = counted, asked
    number, symbol = len(symbols), np.concatenate([symbols, asked_symbols])
    history = np.zeros_like(symbol)
    discount, strength = (np.array(a)[:, None] for a in zip(*smoothings, strict=True))
    p = np.broadcast_to(first, (len(smoothings), len(first)))
    for level in (None, *zip(contexts, asked_contexts, strict=True)):
        if level is not None:
            history = _joined(history, np.concatenate(level))
        gram = _joined(history, symbol)
        count = np.bincount(gram[:number], minlength=gram.max() + 1)
        total = np.bincount(history[:number], minlength=history.max() + 1)
        before = np.zeros_like(count)
        before[gram] = history
        different = np.bincount(before[count > 0], minlength=len(total))
        c, n, u = count[gram[number:]], total[history[number:]], different[history[number:]]
        p = (np.maximum(c - discount, 0.0) + (discount * u + strength) * p) / (n + strength)
    return p


def _joined(ids, values):
    """Return new ids, 0, 1, ..., of the pairs of ids and integers."""
    low = values.min()
    return np.unique(ids * (values.max() - low + 1) + values - low, return_inverse=True)[1]


def ngram(splits, order) -> dict:
    """Return {"valid", "test"}: log P of every point [P] in nats, under the n-gram whose smoothing is best on valid."""
    limit = max(int(np.abs(points[:, :2]).max()) for points, _ in splits.values())
    train, valid, test = (splits[name] for name in ("train", "valid", "test"))
    both = tuple(np.concatenate(pair) for pair in zip(valid, test, strict=True))
    found = log_probs(train, both, order=order, limit=limit)
    number = len(valid[0])
    best = found[:, :, :number].sum(axis=2).argmax(axis=0)  # of each of Δx, Δy and the pen
    each = sum(found[s, part] for part, s in enumerate(best))
    return {"valid": each[:number], "test": each[number:]}


def mixed(counts, network) -> tuple:
    """Return log Σ_k w_k P_k of every test point [P] and the weight of the network, which is the best on valid.

    At every point P is the mixture of the n-gram `counts` and the run `network`, both as `ngram` returns them. Both see
    the points before, so that the product over points sums to one.
    """

    def of(weight, split):
        return np.logaddexp(np.log1p(-weight) + counts[split], np.log(weight) + network[split])

    weight = max(np.linspace(0.02, 0.98, 49), key=lambda weight: of(weight, "valid").sum())
    return of(weight, "test"), weight


def of_points(folder) -> dict:
    """Return {"valid", "test"}: the points [P, 3] of the run in `folder`, and its log P of each [P], nats."""
    import jax

    from vae_jax.distributions.drawings import predicted
    from vae_jax.runs import build

    experiment = build.build_trained(folder)
    params = build.restore(folder, experiment).params

    @jax.jit
    def log_probs(params, data):
        def one(example):
            density = experiment.model.density(params, example.get("context"))
            return density.conditionals(density.params, example["x"]).log_probs(example["x"])

        return jax.lax.map(one, data, batch_size=50)

    found = {}
    for split in ("valid", "test"):
        data = experiment.split(split)
        x, each = data["x"], np.asarray(log_probs(params, data))
        known = np.asarray(jax.vmap(predicted)(x))
        found[split] = np.asarray(x)[known], each[known]
    return found


# ------------------------------------------------------------------------------------------------------ grid and pixels


def on_grid(points, lengths, side=SIDE):
    """Return drawings (points [P, 3], lengths [N]) on a grid of `side` x `side` points.

    The longer side of the box around the strokes becomes `side` - 1, and positions are rounded. Repeated positions of
    a stroke become one point; the first offset is (0, 0).
    """
    drawings = []
    for part in np.split(points, np.cumsum(lengths)[:-1]):
        place = np.cumsum(part[:, :2].astype(np.int64), axis=0)
        place = place - place.min(axis=0)
        place = np.floor(place * ((side - 1) / max(int(place.max()), 1)) + 0.5).astype(np.int64)
        repeated = np.append((part[:-1, 2] == 0) & (place[:-1] == place[1:]).all(axis=1), False)
        place, pen = place[~repeated], part[~repeated, 2]
        drawings.append(np.column_stack([np.diff(place, axis=0, prepend=place[:1]), pen]))
    return np.concatenate(drawings).astype(np.int16), np.array([len(drawing) for drawing in drawings], np.int32)


def raster(points, lengths, side=SIDE):
    """Return images [N, `side`, `side`] of 0 and 1 of drawings `on_grid`, the shorter side of the box in the middle.

    A pixel is 1 if a point of a line rounds to it. The points are taken at most every quarter of a pixel.
    """
    images = np.zeros((len(lengths), side, side), np.uint8)
    for image, part in zip(images, np.split(points, np.cumsum(lengths)[:-1]), strict=True):
        place = np.cumsum(part[:, :2].astype(float), axis=0)
        place -= place.min(axis=0)
        place += (side - 1 - place.max(axis=0)) // 2
        inked = np.append(False, part[:-1, 2] == 0)
        dense = [place]
        for a, b in zip(place[:-1][inked[1:]], place[1:][inked[1:]], strict=True):
            t = np.linspace(0.0, 1.0, 1 + math.ceil(np.abs(b - a).max() / STEP))
            dense.append(a + t[:, None] * (b - a))
        column, row = np.floor(np.concatenate(dense) + 0.5).astype(int).T
        image[row, column] = 1
    return images


# ----------------------------------------------------------------------------------------------------------- the table


def rows(splits, runs=(), orders=(1, 2, 3)) -> list:
    """Return (what, model, nats of a test drawing) of coders, n-grams of moves and runs."""
    from vae_jax.runs.compressed import CODERS

    grids = {name: on_grid(*split) for name, split in splits.items()}
    pixels = raster(*grids["test"])
    found = []
    for what, content in (("strokes", splits), ("grid", grids)):
        data = content["test"][0].astype("<i2" if what == "strokes" else np.int8).tobytes()
        found += [(what, name, 8 * math.log(2) * len(coder(data))) for name, coder in CODERS.items()]
        counts = {n: ngram(content, n) for n in orders}
        found += [(what, f"{n}-gram of moves", -each["test"].sum()) for n, each in counts.items()]
        for folder in runs if orders else ():
            folder, config = _read(folder, "config.json")
            if config["family"] == "strokes" and _what(config) == what:
                log_prob, weight = _with_counts(folder, content, counts[max(orders)])
                model = f"`{folder.name}` and the {max(orders)}-gram, mixed at every point ({weight:.2f} the network)"
                found.append((what, model, -log_prob.sum()))
    data = np.packbits(pixels).tobytes()
    found += [("pixels", name, 8 * math.log(2) * len(coder(data))) for name, coder in CODERS.items()]
    found += [("pixels", "each pixel by itself", _independent(raster(*grids["train"]), pixels))]
    number = len(splits["test"][1])
    return [(what, model, nats / number) for what, model, nats in found] + [_of_run(folder) for folder in runs]


def _with_counts(folder, content, counts):
    """Return `mixed` of counts and a run. Raises `ValueError` for a run on other drawings."""
    network = of_points(folder)
    if not all(np.array_equal(points, content[split][0]) for split, (points, _) in network.items()):
        raise ValueError(f"{folder} is a run on other drawings than --drawings; leave it out of --runs")
    return mixed(counts, {split: each for split, (_, each) in network.items()})


def _independent(train, test):
    """Return -log p in nats of pixels, each with its own mean over the training images and one of each value added."""
    p = (train.sum(axis=0) + 1.0) / (len(train) + 2.0)
    return -float(np.sum(test * np.log(p) + (1 - test) * np.log1p(-p)))


def _of_run(folder):
    """Return the row of a run: the name of its data, its own name and kind, and -log p(x) of its results.json."""
    folder, config = _read(folder, "config.json")
    results = _read(folder, "results.json")[1]
    kind = results["test/kind"]
    name = f"`{folder.name}`, {config['family']}" + ("" if kind == "=" else f", {kind}")
    return _what(config), name, -results["test/log_prob"]


def _read(folder, name):
    folder = Path(folder).expanduser()
    return folder, json.loads((folder / name).read_text())


def _what(config):
    stem = Path(config["data"]["path"] or "").stem
    return stem if stem in ("grid", "pixels") else "strokes"


def table(found, points) -> str:
    """Return a Markdown table, the best row of each kind last; `points` is the mean number of a test drawing."""
    lines = ["| what | model | nats a drawing | bits a point |", "| --- | --- | --- | --- |"]
    order = {"strokes": 0, "grid": 1, "pixels": 2}
    for what, model, nats in sorted(found, key=lambda row: (order[row[0]], -row[2])):
        lines.append(f"| {what} | {model} | {nats:.1f} | {nats / math.log(2) / points:.2f} |")
    return "\n".join(lines)


def read(path) -> dict:
    """Return {split: (points int16 [P, 3], lengths [N])} of a data set of drawings; the last pen is `END`."""
    from vae_jax.data import drawings

    dataset = drawings.load(path)
    splits = {}
    for name in ("train", "valid", "test"):
        x = getattr(dataset, name).x
        lengths = drawings.lengths_of(x)
        splits[name] = x[np.arange(x.shape[1]) < lengths[:, None]], lengths
    return splits


def write(splits, folder):
    """Write `grid.npz`, the drawings on the grid, and `pixels.npz`, their images of 0 and 1, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    grids = {name: on_grid(*split) for name, split in splits.items()}
    arrays = {}
    for name, (points, lengths) in grids.items():
        pen = np.where(points[:, 2] == END, 1, points[:, 2])
        arrays |= {f"{name}_points": np.column_stack([points[:, :2], pen]), f"{name}_lengths": lengths}
    np.savez_compressed(folder / "grid.npz", **arrays)
    np.savez_compressed(folder / "pixels.npz", **{f"x_{name}": raster(*split) for name, split in grids.items()})


@launched
def main(argv):
    del argv
    splits = read(DRAWINGS.value)
    if WRITE.value:
        write(splits, Path(WRITE.value).expanduser())
    points, lengths = splits["test"]
    print(f"{len(lengths):,} test drawings, {len(points):,} points\n")
    found = rows(splits, RUNS.value, tuple(map(int, ORDERS.value)))
    print(table(found, len(points) / len(lengths)))


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
