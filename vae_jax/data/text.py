"""Text as arrays of token ids, and back: `load(path)`, `of_lines`, `Vocabulary`.

A sentence of L tokens is the row (w_1, ..., w_L, `<eos>`, `<pad>`, ..., `<pad>`) of max_length + 1 ids. All ids except
`<pad>` (0) are predicted: L + 1 tokens, with the end. No model predicts `<pad>`, so 0 before w_1 can mean the
beginning, and there is no `<bos>`. A token that is not in the vocabulary is `<unk>`.

Text is brought to Unicode's normal form C: canonically equal texts have the same tokens. Words follow the boundaries of
Unicode (UAX #29): a combining mark, a joiner or another invisible format character belongs to the character before it.
Three things differ:

* English hyphens join ("well-beloved").
* Full stops and commas separate, also in numbers.
* A run of letters without spaces is one word. Thai and Chinese have no spaces between words, and Unicode refers to
  dictionaries there: use characters, or put spaces or U+200B (zero width space) between the words.
"""

import collections
import dataclasses
import functools
import re
import unicodedata
from pathlib import Path

import numpy as np
from absl import logging

from vae_jax.data import files, synthetic
from vae_jax.spec import BadOption, integers, one_of

PAD, EOS, UNK = range(3)
SPECIAL = ("<pad>", "<eos>", "<unk>")
LEVELS = ("word", "character")
SPLIT_SEED = 0
HELD_OUT = 20  # one of so many distinct sentences is for validation, one for test

_ASCII_WORD = re.compile(r"<unk>|\w+(?:['-]\w+)*|[^\w\s]")  # the words of `_word`, four times faster
_CLOSING = re.compile(r" (?=[.,;:?!)])")


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The tokens of a text: `tokens[i]` is the string of id i, the special three first; `level` is one of `LEVELS`."""

    tokens: tuple
    level: str

    def __len__(self):
        return len(self.tokens)

    @functools.cached_property
    def ids(self):
        """The id of each token."""
        return {token: i for i, token in enumerate(self.tokens)}

    def encode(self, tokens, length):
        """Return the row [length] of a sentence. Raise `ValueError` if the sentence and its end do not fit."""
        if len(tokens) >= length:
            raise ValueError(f"a sentence of {len(tokens)} tokens and <eos> do not fit into {length}")
        row = np.full(length, PAD, np.int32)
        row[: len(tokens) + 1] = [*(self.ids.get(token, UNK) for token in tokens), EOS]
        return row

    def decode(self, row):
        """Return the string of a row up to its end. Words are separated by spaces, except before a closing mark."""
        row = np.asarray(row)
        ends = np.flatnonzero((row == EOS) | (row == PAD))
        tokens = [self.tokens[i] for i in (row[: ends[0]] if len(ends) else row)]
        return _CLOSING.sub("", " ".join(tokens)) if self.level == "word" else "".join(tokens)


def load(path=None, *, level="word", min_count=1, max_length=32):
    """Return `of_lines` of a file with a sentence on each line.

    Args:
      path: a text in UTF-8; the sentences of a .tsv are in its last column. None for those of `synthetic.grammar`.
      level: "word" or "character", the kind of a token.
      min_count: how often the training split must have a token that is in the vocabulary.
      max_length: the largest number of tokens of a sentence; longer ones are left out.

    Raises FileNotFoundError for a missing file, `ValueError` for a file that is not text, and the errors of `of_lines`.
    """
    options = {"level": level, "min_count": min_count, "max_length": max_length}
    if path is None:
        return of_lines({name: synthetic.grammar(name) for name in synthetic.GRAMMAR_SIZES}, "the grammar", **options)
    return of_lines({"train": read_lines(path)}, path, **options)


def of_lines(lines, where, *, level="word", min_count=1, max_length=32):
    """Return {split: ids int32 [N, max_length + 1]} and the `Vocabulary` of {split: lines}.

    Letters become lower case. Empty lines and sentences of more than `max_length` tokens are left out; the log gives
    their number. Missing splits are held out of "train" (`split`).

    Args:
      lines: {split: lines}, at least of "train".
      where: the name of the text, for messages.
      level: "word" or "character", the kind of a token.
      min_count: a token is in the vocabulary if the training split has it at least so often, the most frequent first.
      max_length: the largest number of tokens of a sentence.

    Raises `BadOption` for options that are out of range, `ValueError` if no sentence is left.
    """
    one_of(LEVELS, level=level)
    integers(min_count=min_count, max_length=max_length)
    parts = {
        name: _fitting([tokenize(line, level=level) for line in part], max_length, where)
        for name, part in lines.items()
    }
    parts |= split(parts["train"], [name for name in ("test", "valid") if name not in parts], where=where)
    rows = sum(map(len, parts.values()))
    remedy = f"lower max_length, which is {max_length}"
    files.check_memory(
        f"{where}: {rows} sentences in rows of {max_length + 1} tokens", 4 * rows * (max_length + 1), remedy
    )
    words = vocabulary(parts["train"], level=level, min_count=min_count, where=where)
    ids = {name: np.stack([words.encode(s, max_length + 1) for s in sentences]) for name, sentences in parts.items()}
    return ids, words


def rows(lines, vocabulary, length):
    """Return the ids of sentences [N, length] in a given vocabulary. An unknown token is `<unk>`.

    Raises `ValueError` for a sentence without a token, and for one that does not fit with its end.
    """
    sentences = [tokenize(line, level=vocabulary.level) for line in lines]
    if empty := [line for line, tokens in zip(lines, sentences, strict=True) if not tokens]:
        raise ValueError(f"{empty[0]!r} has no token; a sentence needs at least one")
    return np.stack([vocabulary.encode(tokens, length) for tokens in sentences])


def tokenize(line, *, level):
    """Return the tokens of a line, a tuple of strings: words and punctuation marks, or characters.

    A character is a code point of normal form C. A letter with a mark is two characters if there is no composed form.
    """
    line = unicodedata.normalize("NFC", unicodedata.normalize("NFC", line).lower())  # lower case may be decomposed
    if level == "character":
        return tuple(" ".join(line.split()))
    return tuple((_ASCII_WORD if line.isascii() else _word()).findall(line))


@functools.cache
def _word():
    """Return the pattern of a word: well-beloved, john's, क्षत्रिय. A punctuation mark or a symbol is a word, too.

    `extend` holds the characters that never begin a word (UAX #29: Extend, Format, ZWJ): marks, format characters and
    the skin tones of emoji. Zero width spaces separate words; format characters that follow no character are dropped.
    """
    kinds = {"M": [], "Cf": []}
    for code in (*range(0x20000), *range(0xE0000, 0xE0200)):
        category = unicodedata.category(chr(code))
        if category[0] == "M" or (category == "Cf" and code != 0x200B):
            kinds["Cf" if category == "Cf" else "M"].append(chr(code))
    format_ = "".join(map(re.escape, kinds["Cf"]))
    extend = "".join(map(re.escape, kinds["M"])) + format_ + "\U0001f3fb-\U0001f3ff"
    letters = rf"\w+(?:[{extend}]+\w*)*"
    joined = rf"(?:['’·\u05f3\u05f4-]{letters})*"  # also Catalan col·lecció and Hebrew abbreviations
    flag = "[\U0001f1e6-\U0001f1ff]{2}"
    symbol = rf"[^\w\s\u200b{format_}][{extend}]*"
    family = rf"{symbol}(?:(?<=\u200d){symbol})*"  # joined emoji are one word
    return re.compile(rf"<unk>|{letters}{joined}|{flag}[{extend}]*|{family}")


def read_lines(path):
    """Return the lines of a file. In a .tsv, the sentence is the text after the last tab."""
    path = Path(path).expanduser()
    if not path.exists() or path.is_dir():
        raise FileNotFoundError(f"text: no file {path}; give a text in UTF-8 with a sentence on each line, or a .tsv")
    files.regular(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text in UTF-8 ({error})") from error
    if wrong := [n for n, line in enumerate(lines, 1) if "\0" in line]:
        raise ValueError(f"{path}, line {wrong[0]}: a zero byte; this file is no text")
    if path.suffix.lower() != ".tsv":
        return lines
    if wrong := [n for n, line in enumerate(lines, 1) if line.strip() and "\t" not in line]:
        raise ValueError(f"{path}, line {wrong[0]}: no tab, and a sentence is after the last tab; is it cut short?")
    return [line.rpartition("\t")[2] for line in lines]


def split(sentences, held_out=("test", "valid"), *, where="text"):
    """Return {split: sentences}: a random twentieth of the distinct ones for each of `held_out`, the rest for "train".

    The permutation has the seed `SPLIT_SEED`. Copies of a sentence are in one split.
    """
    if not held_out:
        return {"train": sentences}
    distinct = list(dict.fromkeys(sentences))
    size = len(distinct) // HELD_OUT
    if not size:
        raise ValueError(
            f"{where}: {len(distinct)} distinct sentences are too few for three splits; give at least {HELD_OUT}"
        )
    order = np.random.default_rng(SPLIT_SEED).permutation(len(distinct))
    names = np.repeat([*held_out, "train"], [*[size] * len(held_out), len(distinct) - size * len(held_out)])
    place = {distinct[i]: name for i, name in zip(order, names, strict=True)}
    return {name: [s for s in sentences if place[s] == name] for name in ("train", *held_out)}


def vocabulary(sentences, *, level, min_count, where="text") -> Vocabulary:
    """Return the tokens that occur at least `min_count` times, by decreasing count and then by the alphabet."""
    counts = collections.Counter(token for sentence in sentences for token in sentence)
    counts.pop(SPECIAL[UNK], None)  # in texts where it already replaces rare words
    frequent = sorted(
        (token for token, n in counts.items() if n >= min_count), key=lambda token: (-counts[token], token)
    )
    if not frequent:
        most = max(counts.values(), default=0)
        raise BadOption(f"min_count must be at most {most}, the count of the most frequent token, got {min_count}")
    return Vocabulary((*SPECIAL, *frequent), level)


def num_predicted(x):
    """Return the number of tokens in the rows x [..., T] that a model predicts, with the ends."""
    return int(np.sum(np.asarray(x) != PAD))


def _fitting(sentences, max_length, where):
    """Return the sentences of 1 to `max_length` tokens."""
    fitting = [s for s in sentences if 0 < len(s) <= max_length]
    if not fitting:
        raise ValueError(f"{where}: none of {len(sentences)} lines has 1 to {max_length} tokens")
    if len(fitting) < len(sentences):
        empty = sum(not s for s in sentences)
        longer = len(sentences) - len(fitting) - empty
        logging.info("%s: %d empty lines and %d of more than %d tokens left out", where, empty, longer, max_length)
    return fitting
