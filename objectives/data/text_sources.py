"""Where text comes from: a file, a folder, or Parquet, in parts that may say their split."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

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
from selftune.objectives.data.parquet_shards import is_sharded, shards_of
from selftune.objectives.data.splits import Splits, check_not_given, consecutive, named_splits, split_called

from selftune.data import SPLITS
from selftune.errors import SettingError
from selftune.shapes import Tensor

LAYOUT = "a text file in UTF-8, or a folder of *.txt files"


def text_parts(path: AnyPath) -> list[tuple[str | None, str]]:
    """Texts in their order, each with its split, or None for all of them where there are no splits.

    Raises:
        SettingError: under the key ``path``, if nothing is there, or it is no text.
    """
    found = existing(path, LAYOUT)
    if found.is_dir() and not is_sharded(found):
        return _folder(found)
    if not found.is_dir() and not is_parquet(found):
        return [(None, _content(found))]
    parts = [(shard.split, part) for shard in shards_of(found) for part in _parquet(shard.path)]
    if not parts:
        raise SettingError("path", f"{found} has no rows; bring some")
    return [(split or own, text) for split, (own, text) in parts]


def split_parts(
    parts: list[tuple[str | None, str]], split: Mapping[str, float] | None, where: AnyPath
) -> list[tuple[str, str]]:
    """Texts with their splits; a text without is cut at ends of lines near to the fractions of ``split``.

    Raises:
        SettingError: under the key ``split`` or ``path``, if a split would be empty.
    """
    splits = text_splits([(name, len(text)) for name, text in parts], split, where)
    if parts[0][0] is not None:
        return [(str(name), text) for name, text in parts]
    text = "".join(text for _, text in parts)
    ends = [int(positions[-1]) + 1 for positions in splits.values()]
    lines = [text.find("\n", end - 1) + 1 for end in ends[:-1]]
    if 0 < lines[0] < lines[1] < len(text):
        ends[:-1] = lines
    return [(name, text[start:end]) for name, start, end in zip(splits, [0, *ends], ends, strict=False)]


def text_splits(
    parts: Sequence[tuple[str | None, int]], split: Mapping[str, float] | None, where: AnyPath
) -> Splits:
    """The positions of every split in the parts joined.

    Args:
        parts: the split of each, or None for all, and its length.
        split: fractions where parts have no splits.
        where: names the text in a refusal.

    Raises:
        SettingError: under the key ``path`` or ``split``, if there is no text, or a split would be empty.

    >>> text_splits([("train", 3), ("validation", 1), ("test", 2)], None, "a text")["test"]
    tensor([4, 5])
    """
    length = sum(size for _, size in parts)
    if not length:
        raise SettingError("path", f"{where} holds no text; bring some")
    if parts[0][0] is None:
        return consecutive(length, split)
    check_not_given(split, [str(name) for name, _ in parts])
    stretches: dict[str, list[Tensor]] = {}
    start = 0
    for name, size in parts:
        stretches.setdefault(str(name), []).append(torch.arange(start, start + size))
        start += size
    for name in SPLITS:
        if not sum(map(len, stretches.get(name, []))):
            raise SettingError("path", f"{where} has no text of the {name} split beside the others; add some")
    return {name: torch.cat(stretches[name]) for name in SPLITS}


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
