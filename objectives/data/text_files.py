"""Text files as one stream of tokens: characters, or words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from selftune.objectives.data.data_files import AnyPath
from selftune.objectives.data.splits import Splits
from selftune.objectives.data.text_sources import text_parts, text_splits

from selftune.errors import SettingError
from selftune.shapes import Int, Tensor

UNKNOWN = "<unknown>"
"""The token of all that is not in the vocabulary."""

_WORDS = re.compile(r"<\w+>|\w+(?:['’]\w+)*|[^\w\s]|\n")

Unit = Literal["characters", "words"]


@dataclass(frozen=True)
class Text:
    """A stream of tokens.

    Attributes:
        tokens: positions in the vocabulary.
        vocabulary: from the most frequent token on; the last one is ``UNKNOWN`` where some tokens are not in it.
        splits: positions of the train, validation and test tokens, one stretch each.
    """

    tokens: Int[Tensor, "tokens"]
    vocabulary: tuple[str, ...]
    splits: Splits


def read_text(
    path: AnyPath,
    unit: Unit = "characters",
    vocabulary: int | None = None,
    split: Mapping[str, float] | None = None,
) -> Text:
    """Reads text and numbers its tokens.

    Files of a folder are named by their split (``train.txt``, ``validation.txt``, ``test.txt``, or
    ``ptb.train.txt``), or are joined in the order of their names. The vocabulary is that of the train split.

    Args:
        path: a text file in UTF-8, a folder of ``*.txt`` files, or Parquet with the columns ``text`` and
            perhaps ``split``, whose rows are joined: a file, or a folder of files whose names may say their split.
        unit: what a token is: a character, or a word. Punctuation marks and ends of lines are words, too.
        vocabulary: number of tokens to tell apart; rarer ones are one unknown token, which counts. None takes all.
        split: fractions for validation and test, where files do not name their splits: the end of the text is for
            the test, what is before it for validation.

    Raises:
        SettingError: under the key ``path``, if nothing is there, or it is no text; under ``unit``,
            ``vocabulary`` or ``split``, if these are out of range.

    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> file = Path(mkdtemp()) / "song.txt"
    >>> _ = file.write_text("row, row, row your boat")
    >>> text = read_text(file, unit="words", vocabulary=3)
    >>> text.vocabulary, [text.vocabulary[token] for token in text.tokens]
    (('row', ',', '<unknown>'), ['row', ',', 'row', ',', 'row', '<unknown>', '<unknown>'])
    """
    _check(unit, vocabulary)
    return _numbered(text_parts(path), unit, vocabulary, split, path)


def text_in_memory(
    text: str, unit: Unit = "characters", vocabulary: int | None = None, split: Mapping[str, float] | None = None
) -> Text:
    """A text as ``read_text`` reads it from a file.

    Raises:
        SettingError: as there.

    >>> text_in_memory("abcdeabcdeabcde").vocabulary
    ('a', 'b', 'c', 'd', 'e')
    """
    _check(unit, vocabulary)
    return _numbered([(None, text)], unit, vocabulary, split, "the text")


def _check(unit: str, vocabulary: int | None) -> None:
    if unit not in ("characters", "words"):
        raise SettingError("unit", f"must be characters or words, got {unit!r}")
    if vocabulary is not None and (isinstance(vocabulary, bool) or vocabulary < 2):
        raise SettingError("vocabulary", f"must be at least 2 tokens, got {vocabulary!r}")


def _numbered(
    texts: list[tuple[str | None, str]],
    unit: Unit,
    vocabulary: int | None,
    split: Mapping[str, float] | None,
    path: AnyPath,
) -> Text:
    found: dict[str, int] = {}
    parts = [_by_first_occurrence(text, unit, found) for _, text in texts]
    splits = text_splits([(name, len(part)) for (name, _), part in zip(texts, parts, strict=True)], split, path)
    stream = torch.cat(parts)
    frequencies = stream[splits["train"]].bincount(minlength=len(found)).tolist()
    counts = {token: count for token, count in zip(found, frequencies, strict=True) if count}
    known = _vocabulary(counts, len(counts) < len(found), vocabulary)
    numbers = {token: number for number, token in enumerate(known)}
    unknown = len(known) - 1
    return Text(torch.tensor([numbers.get(token, unknown) for token in found])[stream], known, splits)


def _by_first_occurrence(text: str, unit: Unit, found: dict[str, int]) -> Int[Tensor, "tokens"]:
    """The tokens of a text by number; ``found`` has the numbers, and gets those of new tokens."""
    if unit == "words":
        return torch.tensor(
            [found.setdefault(word, len(found)) for word in tokens_of(text, unit)], dtype=torch.int64
        )
    points, places = np.unique(np.frombuffer(text.encode("utf-32-le"), np.uint32), return_inverse=True)
    numbers = [found.setdefault(chr(point), len(found)) for point in points]
    return torch.from_numpy(np.array(numbers, dtype=np.int64)[places])


def tokens_of(text: str, unit: Unit) -> list[str]:
    """The tokens of a text.

    >>> tokens_of("don't stop!", "words")
    ["don't", 'stop', '!']
    """
    return list(text) if unit == "characters" else _WORDS.findall(text)


def _vocabulary(counts: Mapping[str, int], unseen: bool, size: int | None) -> tuple[str, ...]:
    """Tokens from the most frequent on, and the unknown one if something is in none of them."""
    tokens = sorted(counts, key=lambda token: (-counts[token], token))
    if (size is None or len(tokens) <= size) and not unseen:
        return tuple(tokens)
    return (*tokens[: None if size is None else size - 1], UNKNOWN)
