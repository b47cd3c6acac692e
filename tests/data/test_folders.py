"""Folders of image files: what is in them, how images become alike, and the cache of what was decoded."""

import concurrent.futures
import io
import struct
import zlib

import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags
from PIL import Image

from vae_jax.data import cache, decoded, folders, image_files, on_demand
from vae_jax.data.sources import load
from vae_jax.runs import configs
from vae_jax.runs.migrate import migrate

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("VAE_JAX_CACHE", str(tmp_path / "cache"))


def noise(*shape, dtype=np.uint8):
    return RNG.integers(np.iinfo(dtype).max + 1, size=shape, dtype=dtype)


def write(folder, images, suffix=".png", **options):
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i:03}{suffix}", **options)
    return folder


def rows(*splits):
    return sorted(np.asarray(row).tobytes() for split in splits for row in np.asarray(split.x))


def png16(x):
    """A PNG of 16 bits, which Pillow does not write in colour."""
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in x)
    header = struct.pack(">IIBBBBB", x.shape[1], x.shape[0], 16, {1: 0, 3: 2}[x.shape[2]], 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    whole = (struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(whole)


def decode(content, **options):
    return image_files.decode(content, "image", image_files.options(**options))[0]


def saved(image, suffix, **options):
    file = io.BytesIO()
    image.save(file, suffix, **options)
    return file.getvalue()


# ----------------------------------------------------------------------------------------------- the folder's structure


def test_a_flat_folder_is_its_images(tmp_path):
    images = noise(24, 6, 5, 3)
    data = load("images", str(write(tmp_path / "flat", images)))
    assert data.name == "flat" and data.max_value == 255 and data.num_classes is data.class_names is None
    assert [len(split.x) for split in data[1:4]] == [17, 3, 4]  # test: a sixth of 24, valid: a sixth of the rest
    assert rows(*data[1:4]) == sorted(image.tobytes() for image in images)
    again = load("images", str(tmp_path / "flat"))
    assert all(np.array_equal(a.x, b.x) for a, b in zip(data[1:4], again[1:4], strict=True))


def test_folders_are_classes(tmp_path, caplog):
    """Ten comes after nine; what lies deeper belongs to the class; other files and hidden ones are passed over."""
    of = {name: noise(12, 4, 4) for name in ("9", "10", "cat")}
    for name, images in of.items():
        write(tmp_path / name / "deeper", images[:5])
        write(tmp_path / name, images[5:])
    (tmp_path / "readme.txt").write_text("x")
    (tmp_path / ".hidden.png").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "10" / "back").symlink_to(tmp_path)  # a link that leads back
    with caplog.at_level("INFO", logger="absl"):
        data = load("images", str(tmp_path))
    assert data.class_names == ("9", "10", "cat") and data.num_classes == 3
    for i, name in enumerate(data.class_names):
        chosen = [x.tobytes() for split in data[1:4] for x, n in zip(split.x, split.label, strict=True) if n == i]
        assert sorted(chosen) == sorted(image.tobytes() for image in of[name])
    assert "passed over: 1 .txt" in caplog.text and "have no image: empty" in caplog.text
    assert "the training labels are sorted" in caplog.text
    assert load("images", str(tmp_path), files={"label": False}).num_classes is None


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "validation", "Testing"), ("train", "test")])
@pytest.mark.parametrize("classes", [True, False])
def test_folders_of_splits(tmp_path, names, classes, caplog):
    of = {name: noise(12, 4, 4) for name in names}
    for name, images in of.items():
        for i in range(2):
            write(tmp_path / name / f"c{i}" if classes else tmp_path / name / "", images[6 * i : 6 * i + 6], f"{i}.png")
    write(tmp_path / "extra", noise(2, 4, 4))
    data = load("images", str(tmp_path))
    assert "2 images lie beside" in caplog.text
    valid = [data.valid] if len(names) == 3 else []
    assert rows(data.test) == sorted(image.tobytes() for image in of[names[-1]])
    assert rows(data.train, *([] if valid else [data.valid])) == sorted(image.tobytes() for image in of[names[0]])
    if valid:
        assert rows(data.valid) == sorted(image.tobytes() for image in of[names[1]])
    assert data.class_names == (("c0", "c1") if classes else None)
    if classes:
        assert "the test labels are sorted: its first examples are of the first classes only" in caplog.text


def remove_train(folder):
    (folder / "train").rename(folder / "other")


STRUCTURES = {
    "no train": (["train/a", "test/a"], remove_train, r"a folder 'test' and none called train; rename"),
    "twice": (["train", "val", "valid"], None, r"the folders train, val, valid give a split twice"),
    "loose": (["", "a"], None, r"files.label must be False .* 8 images lie beside the folders"),
    "flat test": (
        ["train/a", "train/b", "test"],
        None,
        r"files.label must be False .* whose test split has no folders",
    ),
}


@pytest.mark.parametrize("case", STRUCTURES)
def test_a_structure_with_two_readings_is_refused(tmp_path, case):
    places, change, words = STRUCTURES[case]
    for place in places:
        write(tmp_path / place, noise(8, 4, 4))
    if change:
        change(tmp_path)
    with pytest.raises(ValueError, match=words):
        load("images", str(tmp_path))


def test_what_is_no_folder_of_images(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"images: no folder .*nowhere"):
        load("images", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="images needs a path"):
        load("images")
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(FileNotFoundError, match=r"no \.png, .* its files are 1 \.npy: name 'arrays' reads arrays"):
        load("images", str(tmp_path))
    with pytest.raises(ValueError, match="this is a file; name 'arrays' reads arrays"):
        load("images", str(tmp_path / "x.npy"))
    with pytest.raises(ValueError, match=r"6 training examples are too few; give at least 7"):
        load("images", str(write(tmp_path / "few", noise(6, 4, 4))))


def test_one_class_is_no_label(tmp_path, caplog):
    write(tmp_path / "only", noise(12, 4, 4))
    assert load("images", str(tmp_path)).num_classes is None
    assert "all examples have the label only: it is dropped" in caplog.text


# -------------------------------------------------------------------------------------------------- channels and bits


@pytest.mark.parametrize("suffix", ["PNG", "TIFF", "BMP", "GIF", "WEBP"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_format_without_loss_is_read_exactly(suffix, channels):
    x = np.repeat(noise(9, 8, 1), channels, axis=-1)  # few colours: a GIF has 256
    options = {"lossless": True} if suffix == "WEBP" else {}
    image = Image.fromarray(x[..., 0] if channels == 1 else x)
    np.testing.assert_array_equal(decode(saved(image, suffix, **options), channels=channels), x)


def test_jpeg_is_what_pillow_decodes_and_is_turned_upright():
    x = noise(8, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    data = saved(Image.fromarray(x), "JPEG", exif=exif)
    np.testing.assert_array_equal(decode(data), np.rot90(np.asarray(Image.open(io.BytesIO(data))), -1))


@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_a_channel_or_dropped(channels):
    x = noise(7, 6, channels)
    data = saved(Image.fromarray(x), "PNG")
    np.testing.assert_array_equal(decode(data), x)
    np.testing.assert_array_equal(decode(data, channels=channels - 1), x[..., :-1])


def test_palettes_become_colours():
    image = Image.fromarray(noise(8, 8, 3)).quantize(16)
    np.testing.assert_array_equal(decode(saved(image, "PNG")), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("suffix", ["PNG", "TIFF"])
def test_sixteen_bits_are_kept_or_reduced(suffix):
    x = noise(7, 6, 1, dtype=np.uint16)
    data = saved(Image.fromarray(x[..., 0]), suffix)
    np.testing.assert_array_equal(decode(data), x)
    np.testing.assert_array_equal(decode(data, bits=8), x // 256)


def test_colour_of_sixteen_bits():
    x = noise(7, 6, 3, dtype=np.uint16)
    with pytest.raises(ValueError, match=r"bits must be 8 to read image: Pillow has no colour of 16 bits"):
        decode(png16(x))
    np.testing.assert_array_equal(decode(png16(x), bits=8), x // 256)
    np.testing.assert_array_equal(decode(png16(x[..., :1])), x[..., :1])


@pytest.mark.parametrize(("channels", "dtype"), [(2, "u1"), (2, "u2"), (3, "u2"), (5, "u1"), (5, "u2"), (7, "f4")])
def test_tiff_of_any_channels_and_bits(channels, dtype):
    tifffile = pytest.importorskip("tifffile")
    x = (noise(7, 6, channels, dtype=np.uint16) % 200).astype(dtype)
    for planar, stored in (("contig", x), ("separate", np.moveaxis(x, -1, 0))):
        file = io.BytesIO()
        tifffile.imwrite(file, stored, photometric="minisblack", planarconfig=planar)
        y = decode(file.getvalue())
        assert y.dtype == x.dtype
        np.testing.assert_array_equal(y, x)


def test_pages_of_a_tiff_are_channels_if_there_are_so_many(tmp_path, caplog):
    x = noise(12, 7, 6, 5, dtype=np.uint16)
    for i, image in enumerate(x):
        pages = [Image.fromarray(image[..., c]) for c in range(5)]
        pages[0].save(tmp_path / f"{i:02}.tif", save_all=True, append_images=pages[1:])
    data = load("images", str(tmp_path), files={"channels": 5}, max_value=65535)
    assert rows(*data[1:4]) == sorted(image.tobytes() for image in x)
    assert data.train.x.dtype == np.uint16 and data.max_value == 65535
    first = load("images", str(tmp_path), max_value=65535)
    assert rows(*first[1:4]) == sorted(image[..., :1].tobytes() for image in x)
    assert "12 files hold several images, of which the first one is read" in caplog.text


def test_black_and_white_is_binary(tmp_path):
    x = noise(12, 7, 6) > 127
    data = load("images", str(write(tmp_path, x)))
    assert data.max_value == 1 and rows(*data[1:4]) == sorted(image.tobytes() for image in x)
    assert load("images", str(tmp_path), files={"bits": 8}).max_value == 255


def test_dark_images_ask_only_if_they_may_be_levels(tmp_path):
    write(tmp_path / "dark", noise(12, 4, 4) // 3)  # of a photo: the format says 0..255
    assert load("images", str(tmp_path / "dark")).max_value == 255
    write(tmp_path / "levels", noise(12, 4, 4) // 16)
    with pytest.raises(ValueError, match=r"^max_value must be given .* 15 for levels 0..15 or 255 for dark images"):
        load("images", str(tmp_path / "levels"))
    assert load("images", str(tmp_path / "levels"), max_value=15).max_value == 15
    write(tmp_path / "twelve", noise(12, 4, 4, dtype=np.uint16) // 16)
    with pytest.raises(ValueError, match=r"^max_value must be given .* or 65535 for dark images"):
        load("images", str(tmp_path / "twelve"))


# --------------------------------------------------------------------------------------------------------------- size


@pytest.mark.parametrize("fit", ["resize", "crop", "pad"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_constant_stays_constant(fit, dtype):
    x = np.full((20, 31), 200, dtype)
    y = decode(saved(Image.fromarray(x), "PNG"), size=(8, 8), fit=fit)
    assert y.shape == (8, 8, 1) and y.dtype == dtype
    inner = y[1:6] if fit == "pad" else y  # 8 / 31 of 20 rows are 5
    assert np.all(inner == 200) and (fit != "pad" or (not y[0].any() and not y[6:].any()))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_reducing_is_antialiased(dtype):
    """Lines of a pixel, finer than the new pixels, become grey and no pattern."""
    x = (np.indices((64, 64)).sum(0) % 2 * 200).astype(dtype)
    y = decode(saved(Image.fromarray(x), "PNG"), size=(9, 9)).astype(float)
    assert np.all(np.abs(y - 100) < 5)


def test_a_crop_is_the_middle():
    x = np.zeros((12, 20, 3), np.uint8)
    x[:, 4:16] = noise(12, 12, 3)
    np.testing.assert_array_equal(decode(saved(Image.fromarray(x), "PNG"), size=12, fit="crop"), x[:, 4:16])


def test_bands_are_resized_as_pillow_resizes_bytes():
    x = noise(31, 17)
    bands = image_files._fitted_bands(x[..., None], image_files.options(size=(8, 8)))
    np.testing.assert_allclose(bands.astype(int), decode(saved(Image.fromarray(x), "PNG"), size=8).astype(int), atol=1)


ALIKE = {  # images beside which one is different: what is refused, and what is the remedy
    "size": (noise(5, 4), r"files\.size must be given, such as \(4, 4\), .*0\.png has 4x4 pixels, .*z\.png 5x4", 4),
    "channels": (noise(4, 4, 3), r"files\.channels must be given, such as 1, .* has 1, .*z\.png 3", 1),
    "bits": (noise(4, 4, dtype=np.uint16), r"files\.bits must be 8, .* is uint8, .*z\.png uint16", 8),
}


@pytest.mark.parametrize("option", ALIKE)
def test_images_that_differ_are_refused_with_the_remedy(tmp_path, option):
    image, words, remedy = ALIKE[option]
    write(tmp_path, noise(11, 4, 4))
    Image.fromarray(image).save(tmp_path / "z.png")
    with pytest.raises(ValueError, match=words):
        load("images", str(tmp_path))
    data = load("images", str(tmp_path), files={option: remedy})
    assert sum(len(split.x) for split in data[1:4]) == 12 and data.train.x.shape[1:] == (4, 4, 1)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"size": 0}, r"files\.size: each entry must be .*at least 1, got 0"),
        ({"size": (3,)}, r"files\.size must be \(height, width\)"),
        ({"size": "8"}, r"files\.size must be a tuple"),
        ({"fit": "squeeze"}, r"files\.fit: unknown value 'squeeze'.*allowed: crop, pad, resize"),
        ({"channels": 0}, r"files\.channels must be .*at least 1"),
        ({"channels": 5}, r"files\.channels must be 1 or None for .*0\.png, an image of 1 channels"),
        ({"bits": 16}, r"files\.bits must be 8"),
        ({"label": "yes"}, r"files\.label must be True or False"),
        ({"sise": 8}, r"files: unknown key 'sise'; did you mean 'size'\?"),
        ({"max_value": 8}, r"files: unknown key 'max_value'"),
    ],
)
def test_options_are_refused_by_their_names(tmp_path, files, words):
    write(tmp_path, noise(8, 4, 4))
    with pytest.raises(ValueError, match=f"^{words}") as error:
        load("images", str(tmp_path), files=files)
    assert "\n" not in str(error.value)
    with pytest.raises(
        ValueError, match=r"^files must be empty for digits: it is for arrays, dsprites_by_rule, huggingface, images"
    ):
        load("digits", files={"size": 8})


# ------------------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".gif", ".bmp"])
def test_truncated_files_are_one_line_with_their_number(tmp_path, suffix):
    write(tmp_path, noise(9, 30, 30), suffix)
    for i in (0, 4):
        file = tmp_path / f"00{i}{suffix}"
        file.write_bytes(file.read_bytes()[: 60 if suffix == ".tif" else -200])
    with pytest.raises(ValueError, match=rf"000{suffix}: .*; so are 1 more files") as error:
        load("images", str(tmp_path))
    assert "\n" not in str(error.value)
    assert list((tmp_path / "cache").glob("[!.]*")) == []


def test_other_files_with_the_suffix(tmp_path):
    write(tmp_path, noise(9, 4, 4))
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty.png: an empty file"):
        load("images", str(tmp_path))
    (tmp_path / "empty.png").write_text("<svg/>" * 9)
    with pytest.raises(ValueError, match=r"empty.png: not readable as an image of PNG, JPEG"):
        load("images", str(tmp_path))


# -------------------------------------------------------------------------------------------------------------- cache


@pytest.fixture
def decodings(monkeypatch):
    """A list that grows by every file that is decoded."""
    calls, decode = [], image_files.decode

    def watched(content, where, chosen):
        calls.append(where)
        return decode(content, where, chosen)

    monkeypatch.setattr(decoded.image_files, "decode", watched)
    return calls


def test_images_are_decoded_once_and_mapped(tmp_path, decodings):
    folder = write(tmp_path / "set", noise(12, 8, 8))
    data = load("images", str(folder))
    assert len(decodings) == 13 and data.train.x.array.filename.is_relative_to(tmp_path / "cache")
    again = load("images", str(folder))
    assert len(decodings) == 13
    np.testing.assert_array_equal(np.asarray(again.test.x), np.asarray(data.test.x))
    load("images", str(folder), files={"size": 4})
    assert len(decodings) == 26  # another option
    Image.fromarray(noise(8, 8)).save(folder / "000.png")
    changed = load("images", str(folder))
    assert len(decodings) == 39 and rows(*changed[1:4]) != rows(*data[1:4])


@pytest.mark.parametrize("damage", ["cut", "bit", "sums", "gone"])
def test_a_damaged_cache_is_made_again(tmp_path, decodings, damage, caplog):
    folder = write(tmp_path / "set", noise(12, 8, 8))
    expected = rows(*load("images", str(folder))[1:4])
    (stored,) = (tmp_path / "cache").glob("set-*")
    whole = (stored / "train.npy").read_bytes()
    match damage:
        case "cut":
            (stored / "train.npy").write_bytes(whole[:-1])
        case "bit":
            (stored / "train.npy").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        case "sums":
            (stored / "sums.json").write_text("[")
        case "gone":
            (stored / "train.npy").unlink()
    assert rows(*load("images", str(folder))[1:4]) == expected
    assert len(decodings) == 26 and "is damaged and is made again" in caplog.text
    assert [file.name for file in (tmp_path / "cache").iterdir()] == [stored.name]


def test_many_at_once_leave_one_cache(tmp_path, monkeypatch):
    def make(folder):
        np.save(folder / "x.npy", np.arange(1000))

    with monkeypatch.context() as patch, concurrent.futures.ThreadPoolExecutor(8) as pool:
        patch.setattr(np, "load", lambda file, **_: file)  # Python 3.11 may not parse the headers in several threads
        found = list(pool.map(lambda _: cache.arrays("x", [1], make)["x"], range(16)))
    assert all(np.array_equal(np.load(file), np.arange(1000)) for file in found)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_the_log_says_how_far_the_decoding_is(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(on_demand, "SECONDS", 0)
    monkeypatch.setattr(on_demand, "TOGETHER", 8)
    with caplog.at_level("INFO", logger="absl"):
        load("images", str(write(tmp_path / "set", noise(12, 4, 4))))
    assert "set: 12 images are decoded once, into" in caplog.text
    assert "set, train: decoded 8 of 12 (66 %)" in caplog.text and "decoded 12 of 12 (100 %)" in caplog.text


def test_a_cache_that_cannot_be_made_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VAE_JAX_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(OSError, match=r"no cache can be made there .* set VAE_JAX_CACHE"):
        load("images", str(write(tmp_path / "set", noise(8, 4, 4))))
    monkeypatch.setenv("VAE_JAX_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=r"need 1,000,000,000,000,000 bytes, and .* are left; set VAE_JAX_CACHE"):
        cache.check_space(10**15)


# -------------------------------------------------------------------------------------------------------------- flags


@pytest.mark.parametrize("name", ["vae_digits", "vae_digits:smoke", "pixel_cnn_digits", "wavenet_audio", "vae_mnist"])
def test_flags_set_any_option_of_a_reader(name):
    stem, _, arg = name.partition(":")
    argv = ["x", f"--config=experiments/configs/{stem}.py" + (f":{arg}" if arg else "")]
    argv += ["--config.data.files.size=(8, 6)", "--config.data.files.fit=crop", "--config.data.files.channels=1"]
    argv += ["--config.data.files.label=false", "--config.data.name=images"]
    values = flags.FlagValues()
    chosen = config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    values(argv)
    data = chosen.value.to_dict()["data"]
    assert data["files"] == {"size": (8, 6), "fit": "crop", "channels": 1, "label": False} and data["name"] == "images"
    assert configs.find(name).to_dict()["data"]["files"] == {}


def test_a_config_without_the_section_is_brought_up_to_date():
    assert migrate({"data": {}})["data"]["files"] == {}


def test_the_reader_takes_its_options_as_keywords(tmp_path):
    data = folders.load(write(tmp_path, noise(9, 6, 6)), size=(3, 4))
    assert data.train.x.shape[1:] == (3, 4, 1)
