"""Text to ids and back, what is left out, what is refused; the grammar against its own entropy."""

import math
import os
import re
import unicodedata

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_jax.data import pipeline, sources, synthetic, text, transforms
from vae_jax.data.text import EOS, PAD, UNK

LINES = [f"The king's {n}th well-beloved son, and he." for n in range(60)]


def written(folder, lines, name="lines.txt"):
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("line", "tokens"),
    [
        ("In the Beginning, God", ("in", "the", "beginning", ",", "god")),
        ("the king's son; (well-beloved)!", ("the", "king's", "son", ";", "(", "well-beloved", ")", "!")),
        ("  ", ()),
        ("été -- 3.5", ("été", "-", "-", "3", ".", "5")),
    ],
)
def test_punctuation_is_apart_and_letters_are_small(line, tokens):
    assert text.tokenize(line, level="word") == tokens


@pytest.mark.parametrize(
    ("line", "tokens"),
    [
        ("हिन्दी में लिखना", ("हिन्दी", "में", "लिखना")),
        ("தமிழ் க்ஷ", ("தமிழ்", "க்ஷ")),
        ("ที่ ดี", ("ที่", "ดี")),
        ("เด็กที่ดี", ("เด็กที่ดี",)),  # no space, one word
        ("เด็ก\u200bที่\u200bดี", ("เด็ก", "ที่", "ดี")),  # zero width spaces
        ("مَدْرَسَةٌ كبيرة", ("مَدْرَسَةٌ", "كبيرة")),
        ("می\u200cخواهم", ("می\u200cخواهم",)),  # zero width non-joiner
        ("שָׁלוֹם צה״ל", (unicodedata.normalize("NFC", "שָׁלוֹם"), "צה״ל")),
        (unicodedata.normalize("NFD", "한국어 말"), ("한국어", "말")),
        ("cafe\u0301s, n\u0303", ("cafés", ",", "ñ")),
        ("x\u0304's x\u0304-ray", ("x\u0304's", "x\u0304-ray")),  # no composed form
        ("👨‍👩‍👧 👍🏽👍 🇩🇪🇫🇷 1️⃣❤️!", ("👨‍👩‍👧", "👍🏽", "👍", "🇩🇪", "🇫🇷", "1️⃣", "❤️", "!")),
        ("\u200e(a)\u200f b", ("(", "a", ")\u200f", "b")),
        ("co\u00adoperate col·lecció", ("co\u00adoperate", "col·lecció")),
    ],
)
def test_marks_belong_to_their_letters(line, tokens):
    assert text.tokenize(line, level="word") == tokens


LETTERS = st.text(st.characters(blacklist_categories=("Cs",)), max_size=30) | st.text(
    "aé e\u0301\u0323한ก็ि'-.️‍🇩👍<", max_size=30
)


@given(LETTERS)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_canonically_equal_lines_have_the_same_tokens(line):
    for level in text.LEVELS:
        tokens = text.tokenize(line, level=level)
        for form in ("NFC", "NFD"):
            assert text.tokenize(unicodedata.normalize(form, line), level=level) == tokens
    words = text.tokenize(line, level="word")
    whole = unicodedata.normalize("NFC", unicodedata.normalize("NFC", line).lower())
    dropped = "".join(c for c in whole if not (c.isspace() or unicodedata.category(c) == "Cf"))
    assert "".join(c for c in "".join(words) if unicodedata.category(c) != "Cf") == dropped  # and no other is lost
    for first in words:  # a mark begins a word only where nothing is before it
        if unicodedata.category(first[0])[0] == "M":
            before = whole[: whole.index(first)].rstrip("".join(c for c in whole if unicodedata.category(c) == "Cf"))
            assert not before or before[-1].isspace() or before.endswith(words[max(0, words.index(first) - 1)])


@given(st.text(st.characters(max_codepoint=127), max_size=60))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_english_is_cut_as_it_always_was(line):
    before = tuple(re.findall(r"<unk>|\w+(?:['’-]\w+)*|[^\w\s]", line.lower()))
    assert text.tokenize(line, level="word") == before == tuple(text._word().findall(line.lower()))
    assert text.tokenize(line, level="character") == tuple(" ".join(line.lower().split()))


def test_characters_are_code_points_of_the_normal_form():
    assert text.tokenize("e\u0301 x\u0304", level="character") == ("é", " ", "x", "\u0304")


def test_characters_are_those_of_the_line_with_single_spaces():
    assert text.tokenize(" A  b.\n", level="character") == ("a", " ", "b", ".")


@pytest.mark.parametrize("level", text.LEVELS)
def test_what_is_decoded_has_the_tokens_that_were_encoded(level, tmp_path):
    lines = [f"{line} <{n}> 'the ({n}) one' . . . - -- a" for n, line in enumerate(LINES)]
    path = written(tmp_path, lines)
    ids, vocabulary = text.load(path, level=level, max_length=100)
    seen = {text.tokenize(line, level=level) for line in lines}
    rows = [row for row in ids["train"] if UNK not in row]
    assert len(rows) == len(ids["train"]) == 54
    for row in rows:
        assert text.tokenize(vocabulary.decode(row), level=level) in seen


def test_a_row_is_its_words_the_end_and_padding():
    vocabulary = text.Vocabulary((*text.SPECIAL, "a", "b"), "word")
    row = vocabulary.encode(("b", "c", "a"), 6)
    np.testing.assert_array_equal(row, [4, UNK, 3, EOS, PAD, PAD])
    assert row.dtype == np.int32 and text.num_predicted(row) == 4
    assert vocabulary.decode(row) == "b <unk> a"
    assert vocabulary.decode(np.array([3, 4])) == "a b"  # a draw that was cut before its end
    with pytest.raises(ValueError, match="3 tokens and <eos> do not fit into 3"):
        vocabulary.encode(("a", "b", "a"), 3)


def test_no_sentence_stands_in_two_splits_and_none_is_lost(tmp_path):
    lines = [*LINES, *LINES[::3], *(line.upper() for line in LINES[::4])]  # copies, some in other letters
    ids, vocabulary = text.load(written(tmp_path, lines), max_length=20)
    own = {name: [vocabulary.decode(row) for row in rows] for name, rows in ids.items()}
    sets = [set(text.split([text.tokenize(line, level="word") for line in lines])[name]) for name in own]
    assert [len(s) for s in sets] == [54, 3, 3] and len(set.union(*sets)) == 60
    assert sum(map(len, own.values())) == len(lines)
    again, _ = text.load(written(tmp_path, lines), max_length=20)
    for name in ids:
        np.testing.assert_array_equal(ids[name], again[name])


def test_the_vocabulary_is_of_the_training_split_alone(tmp_path):
    ids, vocabulary = text.load(written(tmp_path, LINES), max_length=20)
    numbers = {token for token in vocabulary.tokens if token.endswith("th")}
    assert len(numbers) == 54 and len(ids["train"]) == 54  # each line has a word of its own
    assert not (ids["train"] == UNK).any()
    assert np.all((ids["valid"] == UNK).sum(axis=1) == 1) and np.all((ids["test"] == UNK).sum(axis=1) == 1)
    _, frequent = text.load(written(tmp_path, LINES), max_length=20, min_count=2)
    assert frequent.tokens == (*text.SPECIAL, ",", ".", "and", "he", "king's", "son", "the", "well-beloved")


def test_what_somebody_has_made_unknown_is_one_unknown_token(tmp_path):
    ids, words = text.load(written(tmp_path, [f"the <unk> {line}" for line in LINES]), max_length=20)
    assert np.all(ids["train"][:, 1] == UNK) and not {"unk", "<"} & set(words.tokens)
    assert words.tokens.count("<unk>") == 1 and words.decode(ids["train"][0]).startswith("the <unk> ")


def test_long_and_empty_lines_are_left_out_and_counted(tmp_path, caplog):
    with caplog.at_level("INFO", logger="absl"):
        ids, _ = text.load(written(tmp_path, [*LINES, "", "  ", "a " * 11, "a " * 10]), max_length=10)
    assert sum(map(len, ids.values())) == 61 and all(rows.shape[1] == 11 for rows in ids.values())
    assert "2 empty lines and 1 of more than 10 tokens" in caplog.text


def test_a_line_ends_at_its_newline_alone_and_a_mark_of_the_encoding_is_no_token(tmp_path):
    (tmp_path / "marked.txt").write_text("\n".join(f"one{n}\u2028two\x0cthree" for n in range(60)), "utf-8-sig")
    ids, words = text.load(tmp_path / "marked.txt")
    assert sum(map(len, ids.values())) == 60
    assert not any("\ufeff" in token for token in words.tokens)


def test_of_a_tsv_the_last_column_is_read(tmp_path):
    path = written(tmp_path, [f"Genesis 1:{n}\t{line}" for n, line in enumerate(LINES)], "verses.tsv")
    plain = text.load(written(tmp_path, LINES), max_length=20)
    np.testing.assert_array_equal(text.load(path, max_length=20)[0]["train"], plain[0]["train"])
    path.write_text(path.read_text()[:-40] + "\nGene")
    with pytest.raises(ValueError, match=r"verses\.tsv, line 61: no tab.*cut short\?"):
        text.load(path)


def test_what_is_no_text_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"text: no file .*nowhere\.txt; want one in UTF-8"):
        sources.load("text", str(tmp_path / "nowhere.txt"))
    with pytest.raises(FileNotFoundError, match="text: no file"):
        text.load(tmp_path)
    (tmp_path / "image").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ValueError, match="not a text in UTF-8"):
        text.load(tmp_path / "image")
    (tmp_path / "zeros").write_bytes(b"abc\n" + bytes(10))
    with pytest.raises(ValueError, match="line 2: a zero byte"):
        text.load(tmp_path / "zeros")
    with pytest.raises(ValueError, match="none of 2 lines has 1 to 3 tokens"):
        text.load(written(tmp_path, ["", "a b c d"]), max_length=3)
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(ValueError, match=r"pipe\.txt: this is a pipe \(FIFO\); only regular files are read"):
        text.load(tmp_path / "pipe.txt")
    with pytest.raises(ValueError, match=r"lines\.txt: 2 distinct sentences are too few"):
        text.load(written(tmp_path, ["a", "b"] * 30))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": "syllable"}, "level: unknown value 'syllable'"),
        ({"min_count": 0}, "min_count must be at least 1, got 0"),
        ({"max_length": 0}, "max_length must be at least 1, got 0"),
        ({"min_count": 10**6}, r"min_count must be at most \d+, the count of the most frequent token, got 1000000"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        text.load(**options)


def test_images_have_no_tokens():
    with pytest.raises(ValueError, match="tokens must be empty for digits, which is no text"):
        sources.load("digits", tokens={"level": "word"})


def test_text_goes_through_the_pipeline():
    data = sources.load("text", tokens={"max_length": 11})
    assert data.name == "grammar" and data.max_value == len(data.vocabulary) - 1 == data.train.x.max()
    stream = pipeline.stream(data.train, seed=0, batch_size=5, transform=transforms.tokens, max_value=data.max_value)
    batch = jax.jit(stream.batch)(stream.feed(0, 1), 0, 0)["x"]
    assert batch.shape == (5, 12) and batch.dtype == np.int32
    held_out = pipeline.fixed_split(data, "test", transform=transforms.tokens)["x"]
    np.testing.assert_array_equal(held_out, data.test.x)
    assert [data.vocabulary.decode(row) for row in held_out[:9]] == [
        line.replace(" .", ".") for line in synthetic.grammar("test")[:9]
    ]


def every_sentence(state="start"):
    if state == "end":
        yield ()
    for word, (_, then) in synthetic.GRAMMAR.get(state, {}).items():
        for rest in every_sentence(then):
            yield (word, *rest)


def test_the_grammars_entropy_is_that_of_all_its_sentences():
    sentences = [" ".join(sentence) for sentence in every_sentence()]
    log_p = np.array([synthetic.grammar_log_prob(sentence) for sentence in sentences])
    assert len(set(sentences)) == len(sentences) > 1000
    np.testing.assert_allclose(np.exp(log_p).sum(), 1.0, rtol=1e-12)
    np.testing.assert_allclose(-np.exp(log_p) @ log_p, synthetic.grammar_entropy(), rtol=1e-12)
    lengths = np.array([len(sentence.split()) + 1 for sentence in sentences])
    np.testing.assert_allclose(np.exp(log_p) @ lengths, synthetic.grammar_length(), rtol=1e-12)
    assert lengths.max() == 12
    assert synthetic.grammar_log_prob("the cats sleeps .") == -math.inf  # they do not agree
    assert synthetic.grammar_log_prob("the cats near a dog sleep .") > -math.inf


def test_the_grammars_draws_have_its_entropy(assert_mean):
    drawn = synthetic.grammar("train")
    assert_mean([-synthetic.grammar_log_prob(line) for line in drawn], synthetic.grammar_entropy())
    assert_mean([len(line.split()) + 1.0 for line in drawn], synthetic.grammar_length())
    assert drawn[:500] != synthetic.grammar("valid")
