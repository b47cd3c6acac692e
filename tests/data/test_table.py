"""Tables: what is found in a file, what is left out or refused, and the way back to the units of the file."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from vae_jax.data import columns as table_columns
from vae_jax.data import description, pipeline, ranges, sources, table, transforms
from vae_jax.data.columns import Columns
from vae_jax.data.values import event_of
from vae_jax.spec import BadOption
from vae_jax.support import Columns as Support

RNG = np.random.default_rng(0)
N = 60
TABLE = {
    "height": np.round(170 + 10 * RNG.normal(size=N), 2),
    "smokes": np.array(["no", "yes"])[RNG.integers(2, size=N)],
    "town": np.array(["Aachen", "Bern", "Chur"])[RNG.integers(3, size=N)],
    "visits": RNG.poisson(3, size=N),
    "sick": RNG.integers(2, size=N),
}
HEADER, BODY = "height,smokes,town,visits,sick", [",".join(map(str, row)) for row in zip(*TABLE.values(), strict=True)]


def write(path, *lines, header=HEADER):
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "people.csv", *BODY)


def test_the_kinds_of_a_csv_are_found_and_said(file, caplog):
    with caplog.at_level("INFO", logger="absl"):
        data = sources.load("table", str(file))
    assert data.columns.names == tuple(TABLE)
    assert data.columns.kinds == ("real", "binary", "categorical:3", "count", "binary")
    assert data.columns.categories == (None, ("no", "yes"), ("Aachen", "Bern", "Chur"), None, ("0", "1"))
    assert (len(data.train.x), len(data.valid.x), len(data.test.x)) == (40, 10, 10)
    assert data.train.x.dtype == np.float32 and not data.missing and data.name == "people"
    assert event_of(data, "columns") == ((5,), Support(data.columns.kinds), False)
    words = (
        "people: 40 / 10 / 10 rows of 1 real (height), 2 binary (smokes, sick), 1 categorical (town), 1 count (visits)"
    )
    assert words in caplog.text and "0.0% of the values are missing" in caplog.text


def test_real_columns_are_standardised_by_the_training_split_and_come_back(file):
    data = sources.load("table", str(file))
    np.testing.assert_allclose([data.train.x[:, 0].mean(), data.train.x[:, 0].std()], [0, 1], atol=1e-5)
    rows = [tuple(row) for split in data[1:4] for row in zip(*data.columns.to_original(split.x).values(), strict=True)]
    original = zip(*TABLE.values(), strict=True)
    assert sorted((f"{a:.2f}", b, c, int(d), e) for a, b, c, d, e in rows) == sorted(
        (f"{a:.2f}", b, c, int(d), str(e)) for a, b, c, d, e in original
    )
    back = data.columns.to_model(data.columns.to_original(data.test.x))
    np.testing.assert_allclose(back, data.test.x, atol=1e-5)
    by_row = data.columns.to_model([(180.0, "yes", "Bern", 2, 1), (None, "?", None, float("nan"), 0)])
    np.testing.assert_allclose(by_row[0, 1:], [1, 1, 2, 1])
    np.testing.assert_array_equal(np.isnan(by_row[1]), [True, True, True, True, False])


def test_densities_in_the_original_units():
    """log p(x) of a normal column, standardised and not: the change of variables."""
    described = Columns(("a", "b", "c"), ("real", "real", "count"), (None,) * 3, (5.0, -1.0, 0.0), (2.0, 0.1, 1.0))
    original = np.array([[6.0, -1.2, 3.0], [4.0, np.nan, 1.0]])
    x = described.to_model(original)
    standard = np.nansum(scipy.stats.norm.logpdf(x[:, :2]), axis=1)
    expected = np.nansum(scipy.stats.norm([5.0, -1.0], [2.0, 0.1]).logpdf(original[:, :2]), axis=1)
    np.testing.assert_allclose(standard - described.log_volume(x), expected, rtol=1e-4)
    np.testing.assert_allclose(described.log_volume(x[1]), np.log(2.0))


@pytest.mark.parametrize("end", [".parquet", ".feather", ".arrow"])
def test_files_of_arrow_are_the_same_table(file, tmp_path, end):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import feather, ipc, parquet

    arrow, path = pyarrow.table({name: values.tolist() for name, values in TABLE.items()}), tmp_path / f"people{end}"
    if end == ".arrow":
        with ipc.new_file(path, arrow.schema) as writer:
            writer.write_table(arrow)
    else:
        (parquet.write_table if end == ".parquet" else feather.write_feather)(arrow, path)
    given, expected = (sources.load("table", str(p)) for p in (path, file))
    assert given.columns == expected.columns
    np.testing.assert_array_equal(given.train.x, expected.train.x)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=rf"people{end}"):
        sources.load("table", str(path))


def test_missing_values_are_nan_and_said(tmp_path, caplog):
    marks = ["", "NA", "NaN", "?", "nan", "-9"]
    lines = [f"{mark},{row.partition(',')[2]}" for mark, row in zip(marks, BODY, strict=False)] + BODY[6:]
    path = write(tmp_path / "a.csv", *lines)
    with caplog.at_level("INFO", logger="absl"):
        data = table.load(path, missing_values="-9")
    assert data.missing and event_of(data, "columns").missing
    assert sum(np.isnan(split.x).sum() for split in data[1:4]) == 6
    assert f"{6 / 300:.1%} of the values are missing" in caplog.text
    x = pipeline.fixed_split(data, "train", transform=transforms.columns)["x"]
    np.testing.assert_array_equal(x, data.train.x)
    ranges.check(data.train.x, transforms.columns, 1, missing=True)


def test_a_share_of_the_entries_is_hidden_and_the_rest_is_the_same():
    holes, whole = (table.of_columns("t", TABLE, hide=hide) for hide in (0.3, 0.0))
    assert holes.missing and not whole.missing
    hidden = np.concatenate([np.isnan(split.x) for split in holes[1:4]])
    assert 0.2 < hidden.mean() < 0.4
    seen = ~np.isnan(holes.test.x)
    truth = holes.columns.to_model(whole.columns.to_original(whole.test.x))
    np.testing.assert_allclose(holes.test.x[seen], truth[seen], atol=1e-5)


def test_splits_are_those_of_the_seed_or_of_the_files(tmp_path, file):
    first, again, other = (table.load(file, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.train.x, again.train.x)
    assert not np.array_equal(first.train.x, other.train.x)
    folder = tmp_path / "split"
    folder.mkdir()
    write(folder / "train.csv", *BODY[:40])
    write(folder / "test.csv", *BODY[40:])
    data = table.load(folder)
    assert (len(data.train.x), len(data.valid.x), len(data.test.x)) == (34, 6, 20)
    np.testing.assert_allclose(data.columns.to_original(data.test.x)["height"], TABLE["height"][40:], rtol=1e-5)
    write(folder / "valid.csv", "1,2", header="a,b")
    with pytest.raises(ValueError, match="the columns of valid are not those of train"):
        table.load(folder)
    with pytest.raises(FileNotFoundError, match=r"no file train.csv"):
        table.load(tmp_path)


def test_a_label_is_no_column(file):
    data = table.load(file, label="town")
    assert "town" not in data.columns.names and data.class_names == ("Aachen", "Bern", "Chur") and data.num_classes == 3
    assert data.train.label.dtype == np.int32 and set(data.train.label) == {0, 1, 2}


def test_kinds_can_be_chosen(file):
    chosen = {"visits": "real", "sick": "categorical", "town": "leave_out"}
    data = table.load(file, columns=chosen)
    assert dict(zip(data.columns.names, data.columns.kinds, strict=True)) == {
        "height": "real",
        "smokes": "binary",
        "visits": "real",
        "sick": "categorical:2",
    }


def test_what_says_nothing_is_left_out_and_said(caplog):
    useless = {
        "empty": ["?"] * N,
        "constant": [3] * N,
        "copy": TABLE["height"],
        "id": [f"p{n}" for n in range(N)],
        "row": range(N),
    }
    data = table.of_columns("t", TABLE | useless)
    assert data.columns.names == tuple(TABLE)
    for name, reason in (
        ("empty", "all its values are missing"),
        ("constant", "it is constant, '3'"),
        ("copy", "it is a copy of 'height'"),
        ("id", "all its values are different strings, such as names or ids"),
        ("row", "it numbers the rows"),
    ):
        assert f"t: column {name!r} is left out: {reason}; to keep it, name its kind in `columns`" in caplog.text
    kept = table.of_columns("t", TABLE | useless, columns={"constant": "real", "row": "count"})
    assert kept.columns.names == (*TABLE, "constant", "row") and kept.columns.scale[-2] == 1.0
    table.of_columns("t", {"few": [0.5, 1.5, 2.5, 3.5] * 50, "other": RNG.normal(size=200)})
    assert "the real column 'few' has only 4 distinct values" in caplog.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "a,b\n1,2\n3\n",
            r"row 3 has 1 cells and the header 2: all rows must have the same number; the delimiter is ','",
        ),
        ("1.5,2\n3,4\n5,6\n", r"the first row holds '1.5' and looks like data: a header"),
        ("a,a\n1,2\n", "two columns are called 'a'"),
        ("a,b\n", "a header and at least one row are required"),
        ("", "a header and at least one row are required"),
        ('a,b\n"1,2\n', r"not a CSV of UTF-8 \("),
        (
            "a,b\n1,x\n" + "2,3\n3,4\n4,5\n" * 3,
            "column 'b' holds 'x' among numbers: add it to missing_values, correct it, or set",
        ),
        (
            "a,b\n" + "".join(f"{n},{n / 7}\n" for n in range(30)) + "9,-\n",  # all different, as measurements are
            "column 'b' holds '-' among numbers",
        ),
        ("a,b\n" + "1,2\n" * 9, "no column is left to be modelled"),
        ("a,b\n1,2\n3,4\n", "2 rows are too few: the valid split would be empty"),
        ("a\n" + "\n".join(f"w{n}\nw{n}" for n in range(101)), "column 'a' has 101 different strings, too many"),
    ],
)
def test_files_that_are_no_table(tmp_path, text, words):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=words) as error:
        table.load(path)
    assert "\n" not in str(error.value)


def test_csv_in_other_dialects(tmp_path, file):
    expected = table.load(file)
    for name, lines in {
        "semicolon.csv": [line.replace(",", ";") for line in (HEADER, *BODY)],
        "tab.tsv": [line.replace(",", "\t") for line in (HEADER, *BODY)],
        "spaces.csv": [line.replace(",", " , ") for line in (HEADER, *BODY)],
        "quoted.csv": [",".join(f'"{cell}"' for cell in line.split(",")) for line in (HEADER, *BODY)],
    }.items():
        path = tmp_path / name
        path.write_bytes(("\ufeff" + "\r\n".join(lines)).encode())  # as spreadsheets write
        given = table.load(path)
        assert given.columns == expected.columns, name
        np.testing.assert_array_equal(given.test.x, expected.test.x)
    path.write_bytes("a,b\nMünchen,1\n".encode("latin-1"))
    with pytest.raises(ValueError, match="not a CSV of UTF-8"):
        table.load(path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"columns": {"hight": "real"}}, r"columns: unknown column 'hight'; did you mean 'height'\?"),
        ({"columns": {"height": "reel"}}, r"columns: 'height' has the unknown kind 'reel'; did you mean 'real'\?"),
        ({"columns": "real"}, r"columns must be a dict \{name: kind\}"),
        ({"columns": {"town": "binary"}}, r"columns: 'town' is not binary: it has 3 values"),
        ({"columns": {"height": "count"}}, r"columns: 'height' is no column of counts: it holds"),
        ({"columns": {"town": "real"}}, r"column 'town' holds '(Aachen|Bern|Chur)', which is no finite number"),
        ({"label": "city"}, "label: unknown column 'city'"),
        ({"label": "height"}, "label: 'height' has .* values in 60 rows, which are no classes"),
        ({"hide": 1.0}, "hide must be at least 0 and below 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"delimiter": ",,"}, "delimiter must be one character or None"),
        ({"missing_values": (3,)}, "missing_values must be a tuple of strings"),
    ],
)
def test_options_out_of_range(file, options, words):
    with pytest.raises(ValueError, match=words):
        table.load(file, **options)


def test_sources_name_the_options(file, tmp_path):
    with pytest.raises(BadOption, match="files: unknown key 'colums'; did you mean 'columns'"):
        sources.load("table", str(file), files={"colums": {}})
    with pytest.raises(BadOption, match="files must be empty for digits"):
        sources.load("digits", files={"hide": 0.3})
    with pytest.raises(FileNotFoundError, match="no such file"):
        sources.load("table", str(tmp_path / "none.csv"))
    with pytest.raises(BadOption, match=r"transform: a table needs 'columns', .*; people is a table, got 'real'"):
        event_of(sources.load("table", str(file)), "real")


def test_rows_that_do_not_fit_the_columns():
    columns = table.of_columns("t", TABLE).columns
    for rows, words in (
        ({"height": [1.0]}, "the column 'smokes' is not there"),
        ({name: [] for name in (*TABLE, "age")}, "the table has no column 'age'"),
        ([(1, 2)], "a row has 2 values, and the table has 5 columns"),
        ([(1.0, "maybe", "Bern", 1, 0)], "column 'smokes': unknown value 'maybe'"),
        ([("tall", "no", "Bern", 1, 0)], "column 'height' holds 'tall', which is no finite number"),
    ):
        with pytest.raises(ValueError, match=words):
            columns.to_model(rows)
    assert columns.to_model([(1.0, "no", "Bern", 1, 1.0)])[0, 4] == 1.0  # 1.0 is the category '1'


def test_a_described_table_is_the_table_without_its_rows():
    data = table.of_columns("t", TABLE, hide=0.2, label="town")
    described = json.loads(json.dumps(description.describe(data)))
    stand_in = description.stand_in(described)
    assert stand_in.columns == data.columns and stand_in.missing and stand_in.class_names == data.class_names
    assert event_of(stand_in, "columns") == event_of(data, "columns")
    assert stand_in.columns.to_dict() == data.columns.to_dict()


def test_without_a_path_it_is_the_tumours_of_scikit_learn():
    data = sources.load("table", files={"hide": 0.3})
    assert data.name == "breast_cancer" and set(data.columns.kinds) == {"real"} and len(data.columns) == 30
    assert data.class_names == ("benign", "malignant") and data.missing
    assert (len(data.train.x), len(data.valid.x), len(data.test.x)) == (381, 94, 94)


def test_numbers_and_strings():
    assert table_columns.texts_of([1, 2.5, None, float("nan"), " ? ", "x "]) == ["1", "2.5", None, None, None, "x"]
    assert [table_columns.number_of(text) for text in ("1", "-2e3", "inf", "x")] == [1.0, -2000.0, None, None]
    rows = jnp.asarray([[0.0, 1.0, 2.0, 3.0, 1.0]])
    back = table.of_columns("t", TABLE).columns.to_original(rows)
    assert back["town"].tolist() == ["Chur"] and back["visits"].tolist() == [3.0]


def test_a_string_that_only_python_reads_as_a_number_is_none():
    codes = [f"{n % 5}_{n % 3}" for n in range(N)]
    assert table.of_columns("t", {"code": codes, "x": TABLE["height"]}).columns.kinds == ("categorical:15", "real")


def test_columns_of_a_data_frame_are_those_of_the_file():
    """What a data frame makes of missing values: floats of whole numbers, and a value that equals nothing."""

    class NAType:
        def __ne__(self, other):
            raise TypeError("boolean value of NA is ambiguous")

    visits = TABLE["visits"].tolist()
    as_floats = [float("nan"), *map(float, visits[1:])]
    for cells in (as_floats, [NAType(), *visits[1:]], [None, *visits[1:]]):
        data = table.of_columns("t", {"height": TABLE["height"], "visits": cells})
        assert data.columns.kinds == ("real", "count") and data.missing


@pytest.mark.parametrize("label", [None, "b"])
def test_columns_of_other_lengths_are_refused(label):
    with pytest.raises(ValueError, match="t: column 'b' has 61 values, and 'a' has 60; give all columns one length"):
        table.of_columns("t", {"a": TABLE["height"], "b": [1, 2] * 30 + [1]}, label=label)


def test_large_whole_numbers_are_no_counts(caplog):
    data = table.of_columns("t", {"income": RNG.integers(10_000_000, 90_000_000, N), "visits": TABLE["visits"]})
    assert data.columns.kinds == ("real", "count")
    assert "'income' holds whole numbers up to" in caplog.text


def test_rows_like_those_of_another_table_have_its_columns_and_scale(tmp_path, caplog):
    """A column that is constant, missing or new in these rows makes no difference; an unknown value is an error."""
    model = table.of_columns("t", TABLE, label="sick").columns
    rows = {name: values[:12].tolist() for name, values in TABLE.items() if name != "sick"}
    rows |= {"smokes": ["yes"] * 12, "visits": [None] * 12, "row": list(range(12))}
    data = table.of_columns("own", rows, label="sick", like=model)
    assert data.columns is model and data.class_names is None
    assert "own: columns that the model does not have are left out: row" in caplog.text
    x = np.concatenate([data.train.x, data.valid.x, data.test.x])
    assert np.isnan(x[:, 3]).all() and (x[:, 1] == 1).all() and not np.isnan(x[:, [0, 2]]).any()
    np.testing.assert_allclose(np.sort(model.to_original(x)["height"]), np.sort(rows["height"]), rtol=1e-6)
    with pytest.raises(BadOption, match=r"like must be the `Columns` of a data set, or None, got 'people\.csv'"):
        table.of_columns("own", rows, like="people.csv")
    with pytest.raises(ValueError, match="own: column 'town': unknown value 'Basel'"):
        table.of_columns("own", rows | {"town": ["Basel"] * 12}, like=model)
    with pytest.raises(ValueError, match="own: the column 'town' is not there"):
        table.of_columns("own", {name: cells for name, cells in rows.items() if name != "town"}, like=model)
