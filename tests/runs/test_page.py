"""The pages of runs: their structure, what they say, and a browser in which the decoder computes the model's pixels."""

import base64
import html.parser
import io
import json
import logging as python_logging
import os
import re
import shutil
import types

import jax
import numpy as np
import pytest
import scipy.stats
from absl import logging
from PIL import Image

from vae_jax.configs import autoencoder_digits, vae_digits
from vae_jax.data import description, values
from vae_jax.evaluation import latents
from vae_jax.runs import build, comparison, decoder, embedded, evaluate, facts, page, pictures, report, train
from vae_jax.runs.compare import Row
from vae_jax.runs.migrate import migrate
from vae_jax.training import loop

NAMES = ("</script><b>zero", 'a "quoted" & <one>', "tw'o")
CASES = {
    "dense": {},
    "gated": {
        "decoder": {"name": "mlp", "hidden": (7,), "branches": (6,), "gated": True, "activation": "tanh"},
        "likelihood": {"name": "normal"},
        "data": {"transform": "dequantize", "context": {"name": "label"}},
    },
    "softmax": {
        "decoder": {"name": "mlp", "hidden": (), "activation": "relu"},
        "likelihood": {"name": "categorical", "num_levels": 256},
        "data": {"transform": "levels"},
        "shape": (2, 3, 1),
    },
    "logistic": {
        "decoder": {"name": "mlp", "hidden": (8,), "activation": "gelu"},
        "likelihood": {"name": "discretized_logistic"},
        "data": {"transform": "levels"},
        "shape": (3, 2, 3),
    },
    "convolutions": {
        "decoder": {"name": "conv_decoder", "channels": (5, 4), "hidden": (6,), "activation": "elu"},
        "likelihood": {"name": "discretized_logistic_mixture", "num_components": 2},
        "data": {"transform": "levels", "context": {"name": "label"}},
        "shape": (8, 4, 3),
    },
    "autoencoder": {"config": autoencoder_digits, "decoder": {"name": "mlp", "hidden": (8,), "activation": "softplus"}},
}


def dataset(shape=(4, 4, 1)):
    rng = np.random.default_rng(0)

    def split(n):
        return values.Split(rng.integers(256, size=(n, *shape)).astype(np.uint8), np.arange(n, dtype=np.int32) % 3)

    sizes = {"train": 32, "valid": 12, "test": 12}
    splits = {name: split(n) for name, n in sizes.items()}
    return values.Dataset("noise", **splits, max_value=255, num_classes=3, class_names=NAMES)


def config_of(config=vae_digits, *, data=None, shape=None, **model):
    config = migrate(config.get_config("smoke").to_dict())
    config["data"] |= {"batch_size": 4, **(data or {})}
    encoder = {"name": "mlp", "hidden": (8,), "activation": "relu"}
    config["model"] |= {"latent_dim": 3, "encoder": encoder, "decoder": encoder, **model}
    config["train"] |= {"num_steps": 4, "log_every": 2, "eval_every": 2, "checkpoint_every": 4}
    config["eval"] |= {"num_samples": 2, "num_test": 0}
    return config


def opened(shape=(4, 4, 1), **options):
    """Return an experiment and parameters larger than the initial ones, so that pixels differ from code to code."""
    experiment = build.build(config_of(**options), dataset(shape))
    return experiment, initial(experiment)


def initial(experiment):
    batch = jax.tree.map(lambda a: a[:2], experiment.split("valid"))
    params = jax.jit(experiment.model.init)(jax.random.key(0), batch)
    return jax.tree.map(lambda a: np.asarray(a) + 0.3 * np.sign(a), params)


@pytest.fixture(scope="module")
def cases():
    """{name: (experiment, params, what the page is given)} of every supported decoder."""
    made = {name: opened(**options) for name, options in CASES.items()}
    return {name: (*pair, decoder.of(*pair)) for name, pair in made.items()}


RESULTS = {"test/kind": "≥ IW-3", "test/log_prob": -44.25, "test/log_prob_se": 0.5, "test/num_examples": 300}
RESULTS |= {"test/num_samples": 3, "test/effective_samples": 2.5, "test/elbo": -45.0, "test/rate": 1.0}
RESULTS |= {
    "test/distortion": 44.0,
    "test/active_units": 2,
    "test/mutual_information": 2.0,
    "test/verdict": "not collapsed",
}
TRAINED = {"train/steps": 20, "train/seconds": 3.0, "train/compile_s": 1.0}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The workdir of a run that `train.complete` wrote, the experiment and its parameters; nothing was trained."""
    folder, made = tmp_path_factory.mktemp("runs") / "vae_digits-smoke", []

    def fit(experiment, folder, **_):
        params = initial(experiment)
        made.extend([experiment, params])
        lines = ({"step": n, "train/bound": -50.0 / n, "valid/bound": None if n % 2 else -n} for n in range(1, 21))
        (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        return loop.Fit(None, params, {})

    def figures(experiment, params, folder, **_):
        (folder / "figures").mkdir(exist_ok=True)
        for n, name in enumerate(("samples", "latents", "training")):
            noise(folder / "figures" / f"{name}.png", (20, 30 + n))

    config = vae_digits.get_config("smoke")
    config.model.latent_dim = 2
    config.eval.num_samples = 3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "train", fit)
        patch.setattr(report, "evaluate", lambda *_, **__: RESULTS)
        patch.setattr(report, "training", lambda *_: TRAINED)
        patch.setattr(pictures, "figures", figures)
        train.complete(config.to_dict(), folder)
    return folder, *made


def noise(path, size):
    pixels = np.random.default_rng(0).integers(256, size=(*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


# ------------------------------------------------------------------------------------------------------- structure


class Structure(html.parser.HTMLParser):
    """The elements of a page; raises if they are not nested."""

    VOID = ("meta", "img", "input", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes, self.scripts, self.text = [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag == "script":
            self.scripts.append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif "style" not in self.open:
            self.text += data


def check(path):
    """Check that a page is whole, small and uses nothing outside itself. Return its structure and its data."""
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) < 3_000_000
    structure = Structure(text)
    ids = [value for _, name, value in structure.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    for _, name, value in structure.attributes:
        if name in ("src", "href", "action", "poster", "srcset", "data"):
            kind, encoded = re.fullmatch(r"data:(image/png|audio/wav);base64,([\w+/=]+)", value).groups()
            content = base64.b64decode(encoded, validate=True)
            if kind == "image/png":
                Image.open(io.BytesIO(content)).load()
        if name == "aria-labelledby":
            assert value in ids
    images = [tag for tag, name, _ in structure.attributes if tag == "img" and name == "src"]
    assert len(images) == len(
        [tag for tag, name, value in structure.attributes if (tag, name) == ("img", "alt") and value]
    )
    style = re.search(r"<style>(.*?)</style>", text, re.S)[1]
    code = structure.scripts[-1]
    assert "url(" not in style and "@import" not in style
    assert not re.search(r"fetch\(|XMLHttp|WebSocket|import\(|eval\(", code)
    assert set(re.findall(r"https?://[^\s\"'<]+", style + code)) <= {"http://www.w3.org/2000/svg"}
    return structure, json.loads(structure.scripts[0])


def test_a_run_has_a_page(run):
    folder, *_ = run
    structure, data = check(folder / page.NAME)
    assert "−44.25 ± 0.50" in structure.text and "≥ IW-3" in structure.text
    assert "2 latent dimensions" in structure.text and "images of digits" in structure.text
    assert "2 of " in structure.text and "differ from the config file vae_digits:smoke" in " ".join(
        structure.text.split()
    )
    changes = ("config.model.latent_dim = 2", "config.eval.num_samples = 3")
    assert all(change in structure.text for change in changes)
    assert json.loads((folder / "environment.json").read_text())[-1]["jaxlib"] in structure.text
    assert [curve["name"] for curve in data["curves"]["bound"]] == ["training", "validation"]
    assert [curve["steps"] for curve in data["curves"]["bound"]] == [[*range(1, 21)], [*range(2, 21, 2)]]
    assert len([1 for tag, name, _ in structure.attributes if (tag, name) == ("img", "src")]) == 2  # curves are no PNG
    assert data["decoder"]["plane"] == [0, 1] and len(data["decoder"]["images"]) == 16


def test_names_are_escaped(cases, tmp_path):
    experiment, params, _ = cases["gated"]
    folder = tmp_path / "<i>run"
    folder.mkdir()
    experiment.config["start_from"], before = '</script><script>alert("x")</script>', experiment.config["start_from"]
    try:
        structure, data = check(page.write(folder, experiment, params))
    finally:
        experiment.config["start_from"] = before
    assert len(structure.scripts) == 3 and data["decoder"]["classes"] == list(NAMES)
    assert "<i>run" in structure.text and 'alert(\\"x\\")</script>' in structure.text
    assert "There are no results yet." in structure.text


def test_a_page_is_rewritten_without_the_data(cases, tmp_path):
    experiment, params, with_data = cases["dense"]
    stand_in = description.stand_in(json.loads(json.dumps(description.describe(experiment.dataset))))
    data = check(page.write(tmp_path, experiment._replace(dataset=stand_in), params))[1]["decoder"]
    assert data["layers"] == with_data["layers"] and data["classes"] == list(NAMES)
    assert data["images"] == data["codes"] == [] and sorted(data["order"]) == [0, 1, 2]
    assert len(with_data["images"]) == len(with_data["codes"]) == 12


def test_an_evaluation_writes_the_page_again(run, tmp_path, monkeypatch):
    folder, experiment, params = run
    shutil.copytree(folder, tmp_path / "run")
    monkeypatch.setattr(report, "table", str)
    again = RESULTS | {"test/log_prob": -43.5}
    state = types.SimpleNamespace(step=7)
    monkeypatch.setattr(build, "build_trained", lambda *_, **__: experiment)
    monkeypatch.setattr(build, "restore", lambda *_, **__: loop.Fit(state, params, {}))
    monkeypatch.setattr(report, "evaluate", lambda *_, **__: again)
    text = evaluate.again(tmp_path / "run", figures=False)
    assert text.endswith(f"page in {tmp_path / 'run' / 'report.html'}")
    structure, _ = check(tmp_path / "run" / page.NAME)
    assert "−43.50 ± 0.50" in structure.text and "from the checkpoint of step 7" in structure.text
    assert "trained for 20 steps" in structure.text


def test_a_page_is_written_from_the_workdir_itself(cases, tmp_path, monkeypatch):
    """As by `vae-jax report`, where the data are gone."""
    experiment, params, _ = cases["dense"]
    stand_in = experiment._replace(dataset=description.stand_in(description.describe(experiment.dataset)))

    def build_trained(folder, with_data=True):
        if with_data:
            raise ValueError("config.data.path: no such folder")
        return stand_in

    monkeypatch.setattr(build, "build_trained", build_trained)
    monkeypatch.setattr(build, "restore", lambda *_, **__: loop.Fit(None, params, {}))
    assert check(page.write(tmp_path))[1]["decoder"]["images"] == []


def test_the_command_outlives_a_new_page(cases, tmp_path, monkeypatch):
    experiment, params, _ = cases["dense"]
    argv = ["/bin/python3", "-m", "experiments.train", "--config=a/vae_digits.py:smoke", "--config.model.latent_dim=3"]
    monkeypatch.setattr("sys.orig_argv", argv)
    command = "python -m experiments.train --config=a/vae_digits.py:smoke --config.model.latent_dim=3"
    for _ in range(2):
        text = " ".join(check(page.write(tmp_path, experiment, params))[0].text.split())
        assert command in text and "differ from the config file vae_digits:smoke" in text
        monkeypatch.setattr("sys.orig_argv", ["/bin/python3", "-m", "experiments.evaluate"])
    (tmp_path / page.NAME).unlink()
    text = check(page.write(tmp_path, experiment, params))[0].text
    assert "experiments.train --config" not in text and "from the config file" not in text


def test_large_figures_are_made_smaller(tmp_path):
    for n in range(3):
        noise(tmp_path / f"{n}.png", (200, 300))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) > 500_000
    parts, left_out = embedded.figures(tmp_path, 100_000)
    assert len(parts) == 3 and left_out == 0 and sum(len(part.content) for part in parts) <= 100_000
    assert [part.name for part in embedded.figures(tmp_path, 10**7)[0]] == ["0", "1", "2"]
    small, left_out = embedded.figures(tmp_path, 5_000)
    assert len(small) + left_out == 3 and left_out > 0 and sum(len(part.content) for part in small) <= 5_000


def test_text_and_sound_are_parts_of_a_page(tmp_path):
    (tmp_path / "samples.txt").write_text("a <b> sentence .\n" * 100)
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "draw_0.wav").write_bytes(b"RIFF" + bytes(100))
    text, sound = embedded.figures(tmp_path, 10_000)[0]
    assert text.content.count("\n") == embedded.TEXT_LINES and sound.content.startswith("data:audio/wav;base64,UklGR")


def test_a_page_that_fails_is_one_line(cases, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(python_logging.getLogger("absl"), "propagate", True)
    logging.set_verbosity(logging.WARNING)
    experiment, params, _ = cases["dense"]
    (tmp_path / page.NAME).mkdir()
    assert not page.report(tmp_path, experiment, params)
    assert len(caplog.messages) == 1 and f"{page.NAME} was not drawn" in caplog.messages[0]
    monkeypatch.setattr(decoder, "of", lambda *_: 1 / 0)
    (tmp_path / page.NAME).rmdir()
    assert page.report(tmp_path, experiment, params)  # without the part that fails
    assert "report.html has no decoder: ZeroDivisionError" in caplog.messages[1]
    assert check(tmp_path / page.NAME)[1]["decoder"] is None


def test_results_of_other_kinds_have_their_kind():
    exact = {"test/kind": "=", "test/log_prob": -3.0, "test/log_prob_se": None, "test/num_examples": 1}
    (row,) = facts.result_rows(exact | {"test/novel": float("nan")})
    assert (row.kind, row.value) == ("=", "−3.00") and row.note.startswith("exact; mean over 1 test example")
    rows = {
        row.name: row
        for row in facts.result_rows(
            {"test/kind": "≥", "test/num_samples": 7, "test/log_prob": -1.0, "test/bits_per_dim": 2.0, "test/fid": 3.5}
        )
    }
    assert rows["log p(x)"].note.startswith("lower bound, mean of 7 estimates") and rows["bits/dim"].kind == "≤"
    assert rows["test/fid"].value == "3.50"
    assert all(row.note for row in rows.values() if row.name != "test/fid")


@pytest.mark.parametrize(
    ("results", "names"),
    [
        ({"num_points": 60, "bits_per_point": 7.7}, ["bits/point"]),
        ({"log_prob_original": -4.0}, ["log p, original"]),
        (
            {"active_units": 3, "active_units_z1": 3, "active_units_z2": 1, "rate_1": 2.0, "rate_2": 0.5},
            ["active units", "active units of z1", "active units of z2", "rate of z1", "rate of z2"],
        ),
    ],
)
def test_results_of_drawings_tables_and_hierarchies_have_a_meaning(results, names):
    rows = facts.result_rows({f"test/{name}": value for name, value in results.items()})
    assert [row.name for row in rows] == names and all(row.note for row in rows)


# --------------------------------------------------------------------------------------------------- the decoder


def model_pixels(experiment, params, z, classes):
    """Return the mean of p(x|z) of the model itself, in [0, 1], [N, pixels]."""
    likelihood, context = experiment.model.latent.likelihood, experiment.context
    means = [likelihood(params, z[n], np.int32(classes[n]) if context else None).mean() for n in range(len(z))]
    return pictures.to_unit(experiment)(np.stack(means)).reshape(len(z), -1)


def codes(spec, number=4):
    z = np.random.default_rng(1).normal(size=(number, len(spec["low"])))
    return z.astype(np.float32), np.arange(number) % len(spec["contexts"] or [0])


def unpacked(spec):
    dtype = {16: "<f2", 32: "<f4"}[spec["bits"]]

    def array(text, shape=(-1,)):
        return np.frombuffer(base64.b64decode(text), dtype).reshape(shape).astype(np.float64)

    return [
        layer
        | (
            {"kernel": array(layer["kernel"], layer["shape"]), "bias": array(layer["bias"])}
            if "kernel" in layer
            else {}
        )
        for layer in spec["layers"]
    ]


@pytest.mark.parametrize("name", CASES)
def test_the_layers_are_the_model(name, cases):
    experiment, params, spec = cases[name]
    z, classes = codes(spec)
    pixels = decoder.decode(unpacked(spec), z, np.array(spec["contexts"])[classes] if spec["contexts"] else None)
    expected = model_pixels(experiment, params, z, classes)
    assert expected.std(axis=0).max() > 2 / 255  # the code matters
    np.testing.assert_allclose(pixels, expected, atol=1 / 255)


@pytest.mark.parametrize(
    "options",
    [
        {"decoder": {"name": "resnet_decoder", "channels": (2,), "num_blocks": 1, "activation": "elu"}},
        {"decoder": {"name": "mlp", "hidden": (4,), "activation": "soft_sign"}},
        {
            "decoder": {"name": "mlp", "hidden": (4,), "activation": "relu"},
            "compute_dtype": "bfloat16",
            "shape": (2, 2, 2),
        },
    ],
)
def test_other_decoders_have_no_place_in_a_page(options):
    assert decoder.of(*opened(**options)) is None


def test_pixels_that_are_not_the_models_are_not_shown(cases, monkeypatch):
    experiment, params, _ = cases["dense"]
    monkeypatch.setitem(decoder._OPERATIONS, "sigmoid", lambda h, layer, context: np.clip(h, 0, 1))
    assert decoder.of(experiment, params) is None
    monkeypatch.undo()
    assert decoder.of(experiment, jax.tree.map(lambda a: np.full_like(a, np.nan), params)) is None


def test_the_most_active_dimensions_are_those_of_the_plane(run):
    _, experiment, params = run
    spec = decoder.of(experiment, params)
    rates = latents.rate_per_dimension(experiment.model, params, experiment.split("test"))
    np.testing.assert_allclose(spec["activity"], rates, atol=1e-4)
    assert spec["order"] == np.argsort(-np.asarray(rates)).tolist() and spec["activity_unit"] == "nats"


# -------------------------------------------------------------------------------------------------------- many runs


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A page of four models that nothing was trained for, and the numbers behind it."""
    folder, rng = tmp_path_factory.mktemp("compared"), np.random.default_rng(0)
    easy = rng.normal(-90, 20, 400)
    shifts = {"best <b>": 0.0, "equal": -0.02, "worse": -1.0, "bound": -0.5}
    each = {name: easy + shift + rng.normal(size=400) for name, shift in shifts.items()}
    kinds = {"bound": "≥ IW-10"}
    rows = [
        Row(name, kinds.get(name, "="), values.mean(), 1.0, 0.5, 10 ** (n + 2), 1.0 + n, 1.0)
        for n, (name, values) in enumerate(each.items())
    ]
    rows.append(Row("codes", "-", None, None, None, 7, 1.0, 1.0, frechet=2.5, frechet_se=0.25))
    folders = {}
    for row in rows:
        folders[row.model] = folder / row.model.strip("<b> ")
        folders[row.model].mkdir()
        line = '{{"step": {0}, "train/loss": {0}, "valid/bound": -{0}}}\n'
        (folders[row.model] / "metrics.jsonl").write_text("".join(line.format(step) for step in (1, 2, 3)))
    samples = {comparison.TEST_IMAGES: rng.random((16, 4, 4, 1))} | {"equal": rng.random((16, 4, 4, 3))}
    options = {"samples": samples, "folders": folders, "note": "Of pixels."}
    path = comparison.write(folder, "noise, 400 test images", rows, each, **options)
    return path, rows, each


def test_distances_of_samples_have_a_column(compared):
    text = compared[0].read_text()
    assert "Fréchet distance</th>" in text and "Of pixels." in text
    assert text.count('data-sort="2.5"') == 1 and "2.50 ± 0.25" in text


def test_differences_are_those_of_a_paired_test(compared):
    _, rows, each = compared
    pairs = comparison.differences(rows[:4], each)
    assert len(pairs) == 12
    for (a, b), difference in pairs.items():
        test = scipy.stats.ttest_rel(each[a], each[b])
        assert difference.mean / difference.error == pytest.approx(test.statistic)
        assert difference.is_significant == (abs(test.statistic) > 2)
    assert pairs["equal", "bound"].is_open and pairs["bound", "equal"].is_open  # the bound's model may be as good
    assert not pairs["bound", "worse"].is_open  # log p(x) of the bound's model is even larger
    one = {name: values[:1] for name, values in each.items()}
    assert comparison.differences(rows[:4], one) == {}


def test_only_what_is_significant_is_bold(compared):
    path, rows, each = compared
    structure, data = check(path)
    pairs = comparison.differences(rows[:4], each)
    bold = re.findall(r"<strong>([^<]*±[^<]*)</strong>", path.read_text(encoding="utf-8"))
    best = max(rows[:4], key=lambda row: row.log_prob).model
    significant = [pair for pair, difference in pairs.items() if difference.is_significant]
    assert sorted(bold) == sorted(str(pairs[p]) for p in [*significant, *(p for p in significant if p[1] == best)])
    text = " ".join(structure.text.split())
    assert "This page makes 6 comparisons." in text and "These are 2 kinds of numbers." in text
    assert data["names"][0] == "best <b>" and list(data["curves"]) == ["bound, validation", "loss, training"]


# -------------------------------------------------------------------------------------------------------- a browser


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'vae_jax[test]'")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("needs a browser: apt-get install chromium")
    arguments = ["--no-sandbox"] if os.getuid() == 0 else []
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def show(browser):
    """Return a function that opens a page; at the end there was no error, and no request but for the page itself."""
    opened, said, asked = [], [], []

    def open_page(path, **options):
        view = browser.new_page(viewport={"width": 1000, "height": 900}, **options)
        view.on("console", lambda message: said.append(message.text))
        view.on("pageerror", lambda error: said.append(str(error)))
        view.on("request", lambda request: request.url.startswith("data:") or asked.append(request.url))
        view.goto(path.as_uri())
        opened.append((view, path.as_uri()))
        return view

    yield open_page
    assert said == [] and asked == [uri for _, uri in opened]
    for view, _ in opened:
        view.close()


def canvas(view, selector):
    return view.eval_on_selector(selector, "canvas => canvas.toDataURL()")


def test_a_drag_changes_the_image(run, show):
    view = show(run[0] / page.NAME)
    plane = view.locator(".plane canvas")
    before, box = canvas(view, ".decoded canvas"), plane.bounding_box()
    view.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    view.mouse.down()
    view.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 0.2 * box["height"], steps=3)
    view.mouse.up()
    after = canvas(view, ".decoded canvas")
    shown = view.locator(".sliders output").all_inner_texts()
    spec = view.evaluate("DATA.decoder")
    place = [low + share * (high - low) for low, high, share in zip(spec["low"], spec["high"], (0.9, 0.8), strict=True)]
    assert after != before
    for d, text in zip(spec["order"], shown, strict=True):
        assert float(text.replace("−", "-")) == pytest.approx(place[d], abs=0.02 * (spec["high"][d] - spec["low"][d]))
    view.mouse.move(box["x"], box["y"])  # the button is up: nothing moves
    assert canvas(view, ".decoded canvas") == after
    view.get_by_role("button", name="Mean of p(z)").click()
    assert canvas(view, ".decoded canvas") == before
    plane.press("ArrowRight")
    view.locator(".sliders input").last.fill("-1")
    assert canvas(view, ".decoded canvas") != before


def test_a_walk_ends_at_the_code_of_the_other_image(run, show):
    view = show(run[0] / page.NAME)
    spec = view.evaluate("DATA.decoder")
    view.locator(".thumbs").nth(1).locator("button").nth(3).click()
    texts = view.locator(".sliders output").all_inner_texts()
    expected = [f"{spec['images'][3]['z'][d]:.2f}".replace("-", "−") for d in spec["order"]]
    assert texts == expected
    assert view.locator(".thumbs").nth(1).locator("button").nth(3).get_attribute("aria-pressed") == "true"


def test_the_browser_computes_the_pixels_of_the_model(run, show, cases):
    view = show(run[0] / page.NAME)
    own = (*run[1:], view.evaluate("DATA.decoder"))
    for name, (experiment, params, spec) in {**cases, "run": own}.items():
        z, classes = codes(spec)
        arguments = [json.loads(json.dumps(spec)), z.astype(float).tolist(), classes.tolist()]
        run_it = "([spec, z, classes]) => z.map((one, n) => [...decoderOf(spec)(one, classes[n])])"
        pixels = np.array(view.evaluate(run_it, arguments))
        expected = model_pixels(experiment, params, z, classes)
        np.testing.assert_allclose(pixels, expected, atol=1 / 255, err_msg=name)


def test_a_class_is_chosen_by_name(cases, show, tmp_path):
    experiment, params, _ = cases["convolutions"]
    view = show(page.write(tmp_path, experiment, params), color_scheme="dark")
    before = canvas(view, ".decoded canvas")
    view.locator(".class select").select_option(label=NAMES[2])
    assert canvas(view, ".decoded canvas") != before


def test_a_phone_needs_no_sideways_scrolling(run, compared, show):
    for path in (run[0] / page.NAME, compared[0]):
        view = show(path)
        view.set_viewport_size({"width": 360, "height": 700})
        assert view.evaluate("document.documentElement.scrollWidth") <= 360


def test_curves_are_read_and_toggled(compared, show):
    view = show(compared[0])
    assert view.locator("#curves path.curve").count() == 5
    view.get_by_role("button", name="equal", exact=True).click()
    assert view.locator("#curves path.curve").count() == 4
    view.locator("#curves svg").press("ArrowRight")
    view.locator("#curves svg").press("ArrowRight")
    assert view.locator("#curves .readout").inner_text().startswith("step 2: best <b> −2, worse −2, ")
    view.locator("#curves select").select_option("loss, training")
    assert view.locator("#curves path.curve").count() == 4


def test_a_table_sorts_within_kinds_unless_told_otherwise(compared, show):
    path, rows, _ = compared
    view = show(path)

    def order():
        return view.locator("#results tbody th").all_inner_texts()

    by_number = [row.model for row in sorted(rows[:4], key=lambda row: -row.log_prob)]
    exact = [name for name in by_number if name != "bound"]
    head = lambda name: view.locator("#results thead button", has_text=name)  # noqa: E731
    head("parameters").click()
    assert order() == ["codes", *(row.model for row in rows[:4])]
    head("parameters").click()
    assert order() == [*(row.model for row in rows[3::-1]), "codes"]
    head("log p(x)").click()  # the largest first
    assert [name for name in order() if name != "codes"] == [*exact, "bound"]
    assert view.locator("#results th[aria-sort=descending]").inner_text().startswith("log p(x)")
    view.locator(".across").check()
    assert order() == [*by_number, "codes"]
