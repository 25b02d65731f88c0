"""Text files as one stream of tokens: characters, or words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from selftune.objectives.data.data_files import (
    AnyPath,
    check_column,
    existing,
    is_parquet,
    opened_parquet,
    reason,
    rows_of,
)
from selftune.objectives.data.splits import Splits, check_not_given, consecutive, named_splits, split_called

from selftune.data import SPLITS
from selftune.errors import SettingError
from selftune.shapes import Int, Tensor

UNKNOWN = "<unknown>"
"""The token of all that is not in the vocabulary."""

LAYOUT = "a text file in UTF-8, or a folder of *.txt files"
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
        path: a text file in UTF-8, a folder of ``*.txt`` files, or a Parquet file with the columns ``text`` and
            perhaps ``split``, whose rows are joined.
        unit: what a token is: a character, or a word. Punctuation marks and ends of lines are words, too.
        vocabulary: number of tokens to tell apart; rarer ones are one unknown token, which counts. None takes all.
        split: fractions for validation and test, where files do not name their splits: the end of the text is for
            the test, what is before it for validation.

    Raises:
        SettingError: under the key ``path``, if nothing is there, or it is no text; under ``unit``,
            ``vocabulary`` or ``split``, if these are out of range.

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
    parts = [(name, tokens_of(text, unit)) for name, text in texts]
    stream = [token for _, tokens in parts for token in tokens]
    if not stream:
        raise SettingError("path", f"{path} holds no text; bring some")
    splits = _splits(parts, len(stream), split, path)
    known = _vocabulary([stream[at] for at in splits["train"].tolist()], stream, vocabulary)
    numbers = {token: number for number, token in enumerate(known)}
    unknown = len(known) - 1
    return Text(torch.tensor([numbers.get(token, unknown) for token in stream]), known, splits)


def tokens_of(text: str, unit: Unit) -> list[str]:
    """The tokens of a text.

    >>> tokens_of("don't stop!", "words")
    ["don't", 'stop', '!']
    """
    return list(text) if unit == "characters" else _WORDS.findall(text)


def text_parts(path: AnyPath) -> list[tuple[str | None, str]]:
    """Texts in their order, each with its split, or None for all of them where there are no splits.

    Raises:
        SettingError: under the key ``path``, if nothing is there, or it is no text.
    """
    found = existing(path, LAYOUT)
    if found.is_dir():
        return _folder(found)
    return _parquet(found) if is_parquet(found) else [(None, _content(found))]


def split_parts(
    parts: list[tuple[str | None, str]], split: Mapping[str, float] | None, where: AnyPath
) -> list[tuple[str, str]]:
    """Texts with their splits; a text without is cut at ends of lines near to the fractions of ``split``.

    Raises:
        SettingError: under the key ``split`` or ``path``, if a split would be empty.
    """
    length = sum(len(text) for _, text in parts)
    splits = _splits([(name, list(text)) for name, text in parts], length, split, where)
    if parts[0][0] is not None:
        return [(str(name), text) for name, text in parts]
    text = "".join(text for _, text in parts)
    ends = [int(positions[-1]) + 1 for positions in splits.values()]
    lines = [text.find("\n", end - 1) + 1 for end in ends[:-1]]
    if 0 < lines[0] < lines[1] < length:
        ends[:-1] = lines
    return [(name, text[start:end]) for name, start, end in zip(splits, [0, *ends], ends, strict=False)]


def _folder(folder: Path) -> list[tuple[str | None, str]]:
    files = sorted(file for file in folder.glob("*.txt") if not file.name.startswith("."))
    if not files:
        raise SettingError("path", f"{folder} holds no *.txt file; give {LAYOUT}")
    names = [next(filter(None, map(split_called, re.split(r"[._-]", file.stem))), None) for file in files]
    if any(names) and not all(names):
        other, named = files[names.index(None)], files[[bool(name) for name in names].index(True)]
        raise SettingError(
            "path", f"{other} does not say its split, as {named.name} does; rename it to train, validation or test"
        )
    return [(name, _content(file)) for name, file in zip(names, files, strict=True)]


def _parquet(path: Path) -> list[tuple[str | None, str]]:
    file = opened_parquet(path)
    names = file.schema_arrow.names
    check_column("path", "text", names, path)
    rows = rows_of(file, path, [name for name in ("text", "split") if name in names])
    texts = rows["text"].to_pylist()
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise SettingError("path", f"{path}, row {row}: the column text holds {text!r}; write a text")
    if "split" not in names:
        return [(None, text) for text in texts]
    splits = rows["split"].to_pylist()
    named_splits(splits, str(path))
    return [(split_called(name), text) for name, text in zip(splits, texts, strict=True)]


def _content(file: Path) -> str:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingError("path", f"{file} is no text in UTF-8 (byte {error.start}); convert it") from error
    except OSError as error:
        raise SettingError("path", f"{file} cannot be read: {reason(error)}") from error
    if "\0" in text:
        raise SettingError("path", f"{file} holds zero bytes, so it is no text; convert it to UTF-8")
    return text.replace("\r\n", "\n")


def _splits(
    parts: list[tuple[str | None, list[str]]], length: int, split: Mapping[str, float] | None, path: AnyPath
) -> Splits:
    if parts[0][0] is None:
        return consecutive(length, split)
    check_not_given(split, [str(name) for name, _ in parts])
    stretches: dict[str, list[Tensor]] = {}
    start = 0
    for name, tokens in parts:
        stretches.setdefault(str(name), []).append(torch.arange(start, start + len(tokens)))
        start += len(tokens)
    for name in SPLITS:
        if not sum(map(len, stretches.get(name, []))):
            raise SettingError("path", f"{path} has no text of the {name} split beside the others; add some")
    return {name: torch.cat(stretches[name]) for name in SPLITS}


def _vocabulary(train: list[str], stream: list[str], size: int | None) -> tuple[str, ...]:
    counts = Counter(train)
    tokens = sorted(counts, key=lambda token: (-counts[token], token))
    if (size is None or len(tokens) <= size) and counts.keys() >= {*stream}:
        return tuple(tokens)
    return (*tokens[: None if size is None else size - 1], UNKNOWN)
