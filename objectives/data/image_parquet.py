"""Parquet files of labelled images: a column of images, one of labels and perhaps one of splits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from selftune.objectives.data.classes import check_every_class
from selftune.objectives.data.data_files import opened_parquet, rows_of
from selftune.objectives.data.image_columns import damaged_names, features_of, image_column, label_column
from selftune.objectives.data.image_sources import ImageSource
from selftune.objectives.data.parquet_shards import Shard, shards_of
from selftune.objectives.data.splits import named_splits

from selftune.errors import SettingError
from selftune.fields import shown
from selftune.shapes import Int, Tensor

CLASSES = b"classes"
"""Key of the schema's metadata: names of the classes as a JSON list, or with commas between them."""
_SPLIT = "split"


@dataclass(frozen=True)
class ImageShards:
    """The files of a data set of images, and the columns that matter.

    Attributes:
        shards: the files in their order.
        image: column of the bytes of image files, or of structs with the field ``bytes`` as Hugging Face has them.
        label: column of class numbers, or of names.
    """

    shards: tuple[Shard, ...]
    image: str
    label: str


def image_shards(path: Path, image: str | None = None, label: str | None = None) -> ImageShards:
    """The files of a data set of images: one, or a folder of them.

    Args:
        image, label: the columns; None finds them by their usual names.

    Raises:
        SettingError: under the key ``path``, ``image`` or ``label``, if a file is damaged or lacks a column, or
            several columns could be meant.
    """
    shards = shards_of(path)
    schema = opened_parquet(shards[0].path).schema_arrow
    found = ImageShards(
        shards, image_column(schema, shards[0].path, image), label_column(schema, shards[0].path, label)
    )
    for shard in shards[1:]:
        schema = opened_parquet(shard.path).schema_arrow
        image_column(schema, shard.path, found.image)
        label_column(schema, shard.path, found.label)
    return found


def image_parquet(found: ImageShards) -> ImageSource:
    """The pictures of Parquet files; images are read from them a row group at a time.

    Splits are those that the names of the files say, or those of a column ``split`` with train, validation and
    test, or there are none. Names of the classes are in the schema's metadata: under ``classes``, or where Hugging
    Face writes them. Without them the labels that occur, sorted, are the classes.

    Raises:
        SettingError: under the key ``path``, if a file is damaged, or holds a label that is none of its classes,
            or classes without an image.
    """
    labels: list[Any] = []
    names: list[str | None] = []
    places: list[tuple[Path, int]] = []
    for shard in found.shards:
        rows, splits = _rows(shard, found.label)
        labels += rows
        names += splits
        places += [(shard.path, row) for row in range(len(rows))]
    first = found.shards[0].path
    whole = first if len(found.shards) == 1 else first.parent
    if not labels:
        raise SettingError("path", f"{whole} has no rows; bring some")
    numbers, classes = _numbered(labels, _class_names(found), places)
    given = named_splits(names, str(whole)) if any(names) else {}
    check_every_class(numbers, classes, given.get("train"), str(whole))

    def contents() -> Iterator[tuple[str, object]]:
        for shard in found.shards:
            file = opened_parquet(shard.path)
            row = 0
            for group in range(file.num_row_groups):
                for content in images_of(file, shard.path, found.image, group):
                    yield f"{shard.path}, row {row}", content
                    row += 1

    return ImageSource(contents, numbers, classes, given)


def images_of(file: Any, path: Path, column: str, group: int) -> list[object]:
    """The bytes of the images of a row group.

    Raises:
        SettingError: under the key ``path``, if the file is damaged there.
    """
    images = rows_of(file, path, [column], group)[column].to_pylist()
    return [image.get("bytes") if isinstance(image, dict) else image for image in images]


def _rows(shard: Shard, label: str) -> tuple[list[Any], list[str | None]]:
    """The labels and the splits of a file's rows."""
    file = opened_parquet(shard.path)
    has_column = _SPLIT in file.schema_arrow.names and shard.split is None
    rows = rows_of(file, shard.path, [label, _SPLIT] if has_column else [label])
    if not has_column:
        return rows[label].to_pylist(), [shard.split] * len(rows)
    splits = rows[_SPLIT].to_pylist()
    named_splits(splits, str(shard.path))
    return rows[label].to_pylist(), splits


def _class_names(found: ImageShards) -> tuple[str, ...] | None:
    """The names of the classes that the files agree on; None where they hold none."""
    every = {shard.path: _names_in(shard.path, found.label) for shard in found.shards}
    first = found.shards[0].path
    other = next((path for path, names in every.items() if names != every[first]), None)
    if other is not None:
        raise SettingError("path", f"{other} names other classes than {first.name}; write them anew")
    names = every[first]
    if names is not None and len({*names}) < len(names):
        double = next(name for name in names if names.count(name) > 1)
        raise SettingError("path", f"{first}: two classes of its metadata are named {double!r}; rename one")
    return names


def _names_in(path: Path, label: str) -> tuple[str, ...] | None:
    schema = opened_parquet(path).schema_arrow
    metadata = schema.metadata or {}
    if CLASSES not in metadata:
        names = features_of(schema, path).get(label, {}).get("names")
        return None if names is None else tuple(map(str, names))
    text = metadata[CLASSES].decode(errors="replace")
    if not text.startswith("["):
        return tuple(text.split(","))
    try:
        return tuple(map(str, json.loads(text)))
    except ValueError as error:
        raise damaged_names(path) from error


def _numbered(
    labels: list[Any], names: tuple[str, ...] | None, places: list[tuple[Path, int]]
) -> tuple[Int[Tensor, "images"], tuple[str, ...]]:
    for label, (path, row) in zip(labels, places, strict=True):
        if not isinstance(label, int | str) or isinstance(label, bool):
            raise SettingError(
                "path", f"{path}, row {row}: the label is {shown(label)}; write the number or the name of a class"
            )
        if isinstance(label, str) != isinstance(labels[0], str):
            raise SettingError(
                "path",
                f"{path}, row {row}: the label is {label!r}, and others are like {labels[0]!r}; write all"
                " by number, or all by name",
            )
    if names is None:
        found = sorted({*labels})
        names = tuple(map(str, found))
        numbers = {label: number for number, label in enumerate(found)}
    else:
        numbered = isinstance(labels[0], int)
        numbers = {number if numbered else name: number for number, name in enumerate(names)}
    for label, (path, row) in zip(labels, places, strict=True):
        if label not in numbers:
            known = f"{len(names)} classes, from {names[0]!r} to {names[-1]!r}"
            raise SettingError("path", f"{path}, row {row}: label {label!r} is none of its {known}")
    return torch.tensor([numbers[label] for label in labels]), names
