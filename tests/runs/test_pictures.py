"""Figures of what there is: odd images, few of them, numbers that are none; and what is said of one that fails."""

import importlib
import json
import logging as python_logging

import jax
import numpy as np
import pytest
from absl import logging
from matplotlib.image import imread

from vae_jax.data import sources, values
from vae_jax.data.columns import Columns
from vae_jax.distributions import Normal, is_standard_normal
from vae_jax.runs import build, evaluate, image_figures, pictures, report, scene, train

THREE = lambda n: np.arange(n) % 3  # noqa: E731
FEW = {"num_steps": 2, "log_every": 1, "eval_every": 2, "checkpoint_every": 2}
ALWAYS = {"reconstructions", "reconstruction_samples", "samples", "samples_of_pixels", "latents"}
ALWAYS |= {"rate_per_dimension", "training", "nearest", "traversals"}


OTHERS = [  # three with -m slow, the others with -m every
    ((1, 9, 1), 3, np.zeros, True, 1),
    ((4, 3, 2), 11, THREE, True, 3),
    ((9, 1, 3), 11, THREE, False, 2),
    ((4, 4, 1), 2, None, False, 1),
    ((4, 4, 1), 120, np.arange, False, 2),
    ((4, 4, 1), 120, lambda n: np.arange(n) // 2 + 100, True, 2),
]


@pytest.fixture
def said(caplog):
    """The lines that a user sees."""
    logger = python_logging.getLogger("absl")
    logger.propagate, before = True, logger.propagate
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    yield lambda: [record.getMessage() for record in caplog.records if record.levelno >= python_logging.WARNING]
    logging.set_verbosity(verbosity)
    logger.propagate = before


def config_of(family="vae_digits", *, context=False, latent_dim=3, **model):
    config = importlib.import_module(f"vae_jax.configs.{family}").get_config("smoke").to_dict()
    config["data"] |= {"context": context, "batch_size": 4}
    network = {"name": "mlp", "hidden": (8,), "activation": "relu"}
    config["model"] |= {"latent_dim": latent_dim, "encoder": network, "decoder": network, **model}
    config["train"] |= FEW
    config["eval"] |= {"num_samples": 2, "num_test": 0}
    return config


def dataset(shape=(4, 4, 1), num_test=12, label=THREE, class_names=None):
    rng = np.random.default_rng(0)

    def images(n):
        names = None if label is None else label(n).astype(np.int32)
        return values.Split(rng.integers(0, 256, (n, *shape)).astype(np.uint8), names)

    classes = None if label is None else 200 if class_names is None else len(class_names)
    return values.Dataset("odd", images(8), images(8), images(num_test), 255, classes, class_names=class_names)


@pytest.fixture
def opened(monkeypatch):
    """(config, data) -> the experiment and parameters as NumPy arrays."""

    def open_experiment(config, data):
        monkeypatch.setattr(sources, "load", lambda *_, **__: data)
        experiment = build.build(config)
        batch = jax.tree.map(lambda a: a[:4], experiment.split("valid"))
        return experiment, jax.device_get(jax.jit(experiment.model.init)(jax.random.key(0), batch))

    return open_experiment


@pytest.fixture(scope="module")
def plain():
    """The experiment and parameters of an ordinary VAE, which is compiled once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "load", lambda *_, **__: dataset())
        experiment = build.build(config_of())
    batch = jax.tree.map(lambda a: a[:4], experiment.split("valid"))
    return experiment, jax.device_get(jax.jit(experiment.model.init)(jax.random.key(0), batch))


@pytest.fixture
def drawn(opened, tmp_path, said):
    """(config, data) -> the names of the figures, all of which can be read, and what was said. `prepare(params)` may
    spoil the parameters.
    """

    def draw(config, data, prepare=lambda params: params):
        experiment, params = opened(config, data)
        (tmp_path / "metrics.jsonl").write_text('{"step": 1, "train/bound": -1.0, "valid/bound": null}\n')
        folder = pictures.figures(experiment, prepare(params), tmp_path)
        assert all(imread(path).min() < 1.0 for path in folder.iterdir())
        return {path.stem for path in folder.iterdir()}, said()

    return draw


def makers(experiment, params, **options):
    """{name: function that draws it} of a model of images."""
    return image_figures.makers(scene.Scene(experiment, params, **options))


def said_below(figure):
    """The caption of a figure."""
    return " ".join(figure.texts[-1].get_text().split())


@pytest.mark.parametrize(
    ("shape", "num_test", "label", "context", "latent_dim"),
    [
        ((3, 4, 4), 2, None, False, 3),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in OTHERS[:3]),
        *(pytest.param(*case, marks=pytest.mark.every) for case in OTHERS[3:]),
    ],
)
def test_what_there_is_is_drawn(shape, num_test, label, context, latent_dim, drawn):
    names, said = drawn(config_of(context=context, latent_dim=latent_dim), dataset(shape, num_test, label))
    manifold = {"manifold", "manifold_quantiles"} if latent_dim == 2 else set()
    assert names == ALWAYS | manifold | {"interpolations"} and not said


@pytest.mark.slow
@pytest.mark.parametrize("context", [False, True])
def test_a_path_needs_two_images(context, drawn):
    names, said = drawn(config_of(context=context), dataset(num_test=1))
    assert names == ALWAYS and len(said) == 2
    assert said[0] == "figure interpolations was not drawn: a path needs two test images, and the test set has 1"
    assert "vae-jax evaluate --workdir=" in said[1]


def test_numbers_that_are_none_spoil_their_own_figures_only(plain, tmp_path, said):
    experiment, params = plain
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "train/bound": -1.0, "valid/bound": null}\n')
    folder = pictures.figures(experiment, jax.tree.map(lambda a: np.full_like(a, np.nan), params), tmp_path)
    assert "figure latents was not drawn: no code is finite" in said()
    assert {path.stem for path in folder.iterdir()} >= ALWAYS - {"latents"}


@pytest.mark.parametrize(
    ("family", "model", "standard"),
    [
        ("vae_digits", {"latent_dim": 2}, True),
        ("autoencoder_digits", {"latent_dim": 2}, False),
        (
            "vae_digits",
            {
                "latent_dim": 2,
                "prior": {"name": "vamp", "num_components": 3},
                "objective": {"name": "elbo_sampled_kl", "num_samples": 1, "beta": 1.0},
            },
            False,
        ),
    ],
    ids=["vae", "autoencoder", "vamp"],
)
def test_only_a_standard_normal_prior_is_drawn(family, model, standard, opened):
    experiment, params = opened(config_of(family, **model), dataset())
    of_run = makers(experiment, params)
    assert ({"manifold", "manifold_quantiles"} <= set(of_run)) == standard
    assert ("samples" in of_run) == (family != "autoencoder_digits")
    circles = pictures._codes(scene.Scene(experiment, params)).axes[0].patches
    assert [circle.radius for circle in circles] == ([1, 2] if standard else [])
    unit = "p(z)" if standard else "the test codes, around their mean"
    assert of_run["traversals"]().axes[1].get_xlabel() == f"standard deviations of {unit}"
    *_, plane, norms = of_run["interpolations"]().axes
    assert len(plane.patches) == standard and len(norms.patches) == standard  # the circle, the band
    labels = [text.get_text() for text in norms.get_legend().get_texts()]
    assert labels == [*(["prior, middle 90 %", r"$\sqrt{D}$"] if standard else []), "linear", "spherical"]


def test_standard_is_a_property_of_the_distribution():
    assert is_standard_normal(Normal.standard((3,)))
    assert not is_standard_normal(Normal(np.zeros(3), np.full(3, 0.1)))
    assert not is_standard_normal(Normal(np.ones(3), np.zeros(3)))


def test_a_conditional_model_decodes_a_path_as_each_of_two_classes(opened):
    """The ends of the two rows are the reconstructions of the two images, each with its own class."""
    data = dataset(label=lambda n: np.resize([1, 0, 0, 2], n), class_names=("cat", "$dog", "bird"))
    experiment, params = opened(config_of(context=True, latent_dim=2), data)
    shown = scene.Scene(experiment, params)
    of_run = image_figures.makers(shown)
    figure = of_run["interpolations"]()
    blocks = figure.axes
    assert [(first.get_ylabel(), last.get_ylabel()) for first, last in zip(blocks[::3], blocks[2::3], strict=True)] == [
        (r"\$dog", "cat"),
        ("cat", r"\$dog"),
        ("cat", "bird"),
        ("bird", "cat"),
    ]
    left, right = scene.different_classes(shown.context, 4, 12)
    for index, row, column in ((left[0], 0, 0), (right[0], 1, -1)):
        rebuilt = np.uint8(255 * shown.reconstruct([index])[0, ..., 0] + 0.5)
        np.testing.assert_array_equal(cells(blocks[1], 2, 9, 4)[row, column], rebuilt)
    assert "no class between two classes" in said_below(figure)
    samples = of_run["samples"]()
    assert [text.get_text() for text in samples.axes[0].get_yticklabels()] == ["cat", r"\$dog", "bird"]
    assert of_run["manifold"]().axes[0].get_title() == r"\$dog"  # that of the first image
    legend = pictures._codes(shown).axes[0].get_legend().get_texts()
    assert [text.get_text() for text in legend] == ["cat", r"\$dog", "bird"]


def cells(axes, nrows, ncols, side):
    """The images [nrows, ncols, side, side] that a sheet shows, of one colour."""
    sheet = np.asarray(axes.images[0].get_array())[..., 0]
    height, width = (len(sheet) - 2) // nrows, (sheet.shape[1] - 2) // ncols  # each with its gutter
    scale = (height - 2) // side
    rows = 2 + np.arange(nrows)[:, None] * height + scale // 2 + scale * np.arange(side)
    columns = 2 + np.arange(ncols)[:, None] * width + scale // 2 + scale * np.arange(side)
    return sheet[rows.ravel()][:, columns.ravel()].reshape(nrows, side, ncols, side).swapaxes(1, 2)


def test_a_row_of_a_traversal_changes_one_dimension(plain):
    experiment, params = plain
    shown = scene.Scene(experiment, params)
    shown.codes = shown.codes * np.array([1.0, 100.0, 1.0], np.float32)  # the second varies most
    figure = image_figures.makers(shown)["traversals"]()
    rows = figure.axes[1]
    names = [text.get_text() for text in rows.get_yticklabels()]
    assert names[0] == "$z_{2}$"
    drawn = cells(rows, len(names), 13, 4)
    for row, name in enumerate(names):
        for column, value in ((0, -3.0), (6, 0.0), (12, 3.0)):
            z = shown.codes[:1].copy()
            z[0, int(name[4]) - 1] = value
            np.testing.assert_array_equal(drawn[row, column], np.uint8(255 * shown.decode(z)[0, ..., 0] + 0.5))


def test_the_nearest_training_images_are_those_of_brute_force(monkeypatch):
    rng = np.random.default_rng(0)
    stored, rows = rng.integers(0, 256, (50, 3, 2, 1)).astype(np.uint8), rng.random((4, 6)).astype(np.float32)
    for at_once in (6 * 7, 2**23):  # in parts of seven, and all together
        monkeypatch.setattr(image_figures, "AT_ONCE", at_once)
        index, distance = image_figures._nearest(rows, stored, np.float32(255), 3)
        apart = np.sqrt(np.mean((rows[:, None] - stored.reshape(50, 6) / 255.0) ** 2, axis=2))
        np.testing.assert_array_equal(index, np.argsort(apart, axis=1)[:, :3])
        np.testing.assert_allclose(distance, np.sort(apart, axis=1)[:, :3], rtol=1e-4)


def test_a_model_that_repeats_its_training_images_is_seen(plain):
    experiment, params = plain
    shown = scene.Scene(experiment, params)
    copies = np.asarray(experiment.dataset.train.x, np.float32) / 255
    shown.draws = {"x": copies, "mean": copies}
    figure = image_figures.makers(shown)["nearest"]()
    assert [text.get_text() for text in figure.axes[1].get_xticklabels()] == ["0.00"] * 8
    np.testing.assert_array_equal(cells(figure.axes[0], 1, 8, 4)[0], cells(figure.axes[1], 3, 8, 4)[0])
    assert "0.00 for samples and 0." in said_below(figure)


def test_the_best_and_the_worst_test_images_are_drawn_with_their_numbers(plain):
    experiment, params = plain
    log_prob = np.array([-5.0, -1.0, -9.0, -2.5])  # of the first four
    shown = scene.Scene(experiment, params, log_prob=log_prob)
    figure = image_figures.makers(shown)["best_and_worst"]()
    numbers = [[text.get_text() for text in axes.get_xticklabels()] for axes in figure.axes]
    assert numbers == [["−1.0", "−2.5"], ["−9.0", "−5.0"]]
    for axes, indices in zip(figure.axes, ((1, 3), (2, 0)), strict=True):
        np.testing.assert_array_equal(cells(axes, 1, 2, 4)[0], 255 * shown.x[list(indices), ..., 0])
    assert "best_and_worst" not in makers(experiment, params)


def test_the_components_of_a_mixture_are_drawn_from_the_heaviest_on(opened):
    config = importlib.import_module("vae_jax.configs.bernoulli_mixture_digits").get_config("smoke").to_dict()
    config["data"]["batch_size"], config["model"]["num_components"] = 8, 3
    experiment, params = opened(config, dataset())
    params["logits"] = np.log(np.array([0.2, 0.7, 0.1], np.float32))
    figure = makers(experiment, params)["components"]()
    means = np.asarray(experiment.model.density(params).components.mean()).reshape(3, 4, 4)
    np.testing.assert_array_equal(cells(figure.axes[0], 1, 3, 4)[0], np.uint8(255 * means[[1, 0, 2]] + 0.5))
    assert said_below(figure) == "Means of all 3 components, heaviest first: weights from 70.0% to 10.0%."


def numbers(dim, columns=None):
    """A data set of vectors [N, dim]."""
    rng = np.random.default_rng(0)
    draws = [rng.normal(size=(n, dim)).astype(np.float32) for n in (20, 8, 12)]
    if columns:
        draws = [np.where([kind == "binary" for kind in columns.kinds], x > 0, x).astype(np.float32) for x in draws]
    splits = [values.Split(x) for x in draws]
    return values.Dataset("numbers", *splits, 1, columns=columns)


COLUMNS = Columns(("age", "$ income"), ("real", "binary"), (None, ("low", "high")), (40.0, 0.0), (10.0, 1.0))


def of_vectors(data):
    """A config for `numbers` or for a table."""
    table = data.columns is not None
    config = config_of(likelihood={"name": "columns"} if table else {"name": "normal"})
    config["data"]["transform"] = "columns" if table else "real"
    return config


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (numbers(9), {"samples", "reconstructions", "best_and_worst"}),
        (numbers(2, COLUMNS), {"samples"}),
    ],
    ids=["series", "table"],
)
def test_vectors_are_lines_and_tables_are_pairs_of_columns(data, expected, opened, tmp_path, said):
    experiment, params = opened(of_vectors(data), data)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "train/bound": -1.0}\n')
    report.write_log_prob(tmp_path, np.linspace(-3.0, -1.0, 12))
    folder = pictures.figures(experiment, params, tmp_path)
    assert {path.stem for path in folder.iterdir()} == expected | {"latents", "rate_per_dimension", "training"}
    assert not said()


def test_a_table_is_drawn_in_its_own_units(opened):
    from vae_jax.runs import vector_figures

    experiment, params = opened(of_vectors(numbers(2, COLUMNS)), numbers(2, COLUMNS))
    figure = vector_figures.makers(scene.Scene(experiment, params))["samples"]()
    below = figure.axes[1]
    assert (below.get_xlabel(), below.get_ylabel()) == ("age", r"\$ income")
    points = np.asarray(below.collections[0].get_offsets())
    x = experiment.dataset.test.x
    np.testing.assert_allclose(points[:, 0], 40 + 10 * x[:, 0], rtol=1e-5)
    np.testing.assert_allclose(points[:, 1], x[:, 1], atol=0.25)  # codes, spread a little
    assert [text.get_text() for text in below.get_yticklabels()] == ["low", "high"]


@pytest.mark.parametrize("broken", ["_makers", "save", "savefig"])
def test_no_failure_of_drawing_comes_out(broken, tmp_path, monkeypatch, said, plain):
    """Neither of what lists the figures, nor of what draws them, nor of the disk."""

    def fail(*_, **__):
        raise {"_makers": TypeError, "save": OSError, "savefig": MemoryError}[broken]("no\nroom")

    experiment, params = plain
    target = {"_makers": "vae_jax.runs.pictures._makers", "save": "vae_jax.plotting.save"}
    monkeypatch.setattr(target.get(broken, "matplotlib.figure.Figure.savefig"), fail)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "train/bound": -1.0}\n')
    monkeypatch.setattr(image_figures, "makers", lambda scene: {"a": lambda: image_figures.reconstructions(scene)})
    pictures.figures(experiment, params, tmp_path)
    kind = {"_makers": "TypeError: ", "save": "", "savefig": "MemoryError: "}[broken]
    lines = [line for line in said() if "not drawn" in line]
    first = "figures were not drawn" if broken == "_makers" else "figure a was not drawn"
    assert lines[0] == f"{first}: {kind}no" and not any("\n" in line for line in lines)
    assert "to draw them again" in said()[-1]


def test_figures_are_written_in_every_format_that_is_asked_for(tmp_path, plain, monkeypatch):
    experiment, params = plain
    monkeypatch.setattr(pictures, "_makers", lambda *_: {})
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "train/bound": -1.0}\n')
    folder = pictures.figures(experiment, params, tmp_path, formats=("pdf", "svg"))
    assert {path.name for path in folder.iterdir()} == {"training.pdf", "training.svg"}
    assert (folder / "training.pdf").read_bytes().startswith(b"%PDF")
    before = [path.read_bytes() for path in sorted(folder.iterdir())]
    pictures.figures(experiment, params, tmp_path, formats=("pdf", "svg"))
    assert [path.read_bytes() for path in sorted(folder.iterdir())] == before
    for wrong, message in ((("pgn",), "unknown value 'pgn'; did you mean 'png'"), ((), "must name one or more")):
        with pytest.raises(ValueError, match=message):
            pictures.check_formats(wrong)


def test_what_is_measured_again_is_drawn_with_its_own_numbers(tmp_path, monkeypatch):
    """log_prob.npy stays that of the results: another K gives the figures other numbers, and leaves the file."""
    seen = []
    monkeypatch.setattr(pictures, "_makers", lambda *arguments: seen.append(arguments[-1]) or {})
    config = importlib.import_module("vae_jax.configs.vae_digits").get_config("smoke").to_dict()
    train.complete(config, tmp_path / "a run")
    stored = np.load(tmp_path / "a run" / "log_prob.npy")
    evaluate.again(tmp_path / "a run", num_samples=3, num_test=20)
    first, again = seen
    np.testing.assert_array_equal(first, stored)
    np.testing.assert_array_equal(np.load(tmp_path / "a run" / "log_prob.npy"), stored)
    measured = json.loads((tmp_path / "a run" / "evaluation.json").read_text())
    assert again.shape == (20,) and np.isclose(again.mean(), measured["test/log_prob"])


def test_a_figure_that_fails_loses_neither_results_nor_the_others(tmp_path, monkeypatch, said):
    written = []

    def samples_of_pixels(scene):
        written.append(json.loads((tmp_path / "results.json").read_text()))  # before anything is drawn
        raise RuntimeError("\nlatex could not be found\nand a page of reasons")

    for name in ("nearest", "best_and_worst"):
        monkeypatch.setattr(image_figures, name, lambda scene: None)
    monkeypatch.setattr(image_figures, "samples_of_pixels", samples_of_pixels)
    config = importlib.import_module("vae_jax.configs.chow_liu_digits").get_config("smoke").to_dict()
    results = train.complete(config, tmp_path)
    expected = "figure samples_of_pixels was not drawn: RuntimeError: latex could not be found"
    assert said() == [expected, f"to draw them again: vae-jax evaluate --workdir={tmp_path}"]
    assert written == [results] and json.loads((tmp_path / "results.json").read_text()) == results
    assert np.isclose(np.load(tmp_path / "log_prob.npy").mean(), results["test/log_prob"])
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["training.png"]
    assert train.complete(config, tmp_path) == results and len(said()) == 2  # complete: nothing is done again


def test_a_folder_that_cannot_be_written_is_one_line_a_figure(tmp_path, said):
    (tmp_path / "figures").write_text("a file, not a folder")
    assert not pictures.drawn(
        "a", lambda: importlib.import_module("matplotlib.figure").Figure(), tmp_path / "figures/a"
    )
    assert len(said()) == 1 and "figure a was not drawn: " in said()[0] and "\n" not in said()[0]


def test_metrics_of_no_line_and_of_null():
    assert pictures.curves([]) == ({}, {})
    train, valid = pictures.curves([{"step": 1, "train/bound": None}, {"step": 2, "train/bound": -3.0}])
    np.testing.assert_array_equal(train["bound"], [[1, 2], [np.nan, -3.0]])
    assert not valid


@pytest.mark.parametrize("shape", [(1, 3), (2, 3), (5, 1), (1, 1), (7, 4)])
def test_codes_of_any_number_have_two_coordinates(shape):
    codes = np.random.default_rng(0).normal(size=shape)
    plane, names = pictures.to_plane(codes)
    assert len(names) == 2
    assert plane.shape == (shape[0], 2) and np.isfinite(plane).all()
    spoiled = np.concatenate([codes, np.full((1, shape[1]), np.nan)])
    np.testing.assert_allclose(pictures.to_plane(spoiled)[0][:-1], plane)


def test_the_axes_tell_how_much_of_the_variance_they_explain():
    """Against the explained variance of scikit-learn's PCA."""
    from sklearn.decomposition import PCA

    codes = np.random.default_rng(0).normal(size=(200, 4)) * [5.0, 3.0, 1.0, 0.5]
    shares = PCA(2).fit(codes).explained_variance_ratio_
    names = [
        f"{rank} principal component ({share:.0%} of the variance)"
        for rank, share in zip(("first", "second"), shares, strict=True)
    ]
    assert list(pictures.to_plane(codes)[1]) == names
    assert pictures.to_plane(codes[:, :2])[1] == ("$z_1$", "$z_2$")
