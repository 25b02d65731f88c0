"""Parquet files of labelled images: columns ``image``, ``label`` and perhaps ``split``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from selftune.objectives.data.classes import check_every_class
from selftune.objectives.data.data_files import check_column, opened_parquet, rows_of
from selftune.objectives.data.image_sources import ImageSource
from selftune.objectives.data.splits import named_splits

from selftune.errors import SettingError
from selftune.shapes import Int, Tensor

CLASSES = b"classes"
"""Key of the schema's metadata: names of the classes as a JSON list, or with commas between them."""
_HUGGING_FACE = b"huggingface"


def image_parquet(path: Path) -> ImageSource:
    """The pictures of a Parquet file; images are read from it a row group at a time.

    ``image`` holds the bytes of image files, or a struct with the field ``bytes`` as Hugging Face writes them.
    ``label`` holds class numbers, or names. ``split``, if it is there, holds train, validation or test.

    Names of the classes are in the schema's metadata: under ``classes``, or where Hugging Face writes them.
    Without them the labels that occur, sorted, are the classes.

    Raises:
        SettingError: under the key ``path``, if it is damaged, lacks a column, or holds a label that is none of
            its classes, or classes without an image.
    """
    import pyarrow.types

    file = opened_parquet(path)
    schema = file.schema_arrow
    for name in ("image", "label"):
        check_column("path", name, schema.names, path)
    kind = schema.field("image").type
    nested = pyarrow.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    if not nested and not (pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)):
        raise SettingError("path", f"{path}: the column image holds {kind}; store the bytes of image files")
    columns = ["label", *(["split"] if "split" in schema.names else [])]
    rows = rows_of(file, path, columns)
    if not len(rows):
        raise SettingError("path", f"{path} has no rows; bring some")
    labels, classes = _labels(rows["label"].to_pylist(), _class_names(schema.metadata or {}, path), path)
    splits = named_splits(rows["split"].to_pylist(), str(path)) if "split" in schema.names else {}
    check_every_class(labels, classes, splits.get("train"), str(path))

    def contents() -> Iterator[tuple[str, object]]:
        row = 0
        for group in range(file.num_row_groups):
            for content in images_of(file, path, group):
                yield f"{path}, row {row}", content
                row += 1

    return ImageSource(contents, labels, classes, splits)


def images_of(file: Any, path: Path, group: int) -> list[object]:
    """The bytes of the images of a row group.

    Raises:
        SettingError: under the key ``path``, if the file is damaged there.
    """
    images = rows_of(file, path, ["image"], group)["image"].to_pylist()
    return [image.get("bytes") if isinstance(image, dict) else image for image in images]


def _class_names(metadata: Mapping[bytes, bytes], path: Path) -> tuple[str, ...] | None:
    try:
        names = _names_in(metadata)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise SettingError(
            "path", f"{path}: the names of classes in its metadata are damaged; write them anew"
        ) from error
    if names is not None and len({*names}) < len(names):
        double = next(name for name in names if names.count(name) > 1)
        raise SettingError("path", f"{path}: two classes of its metadata are named {double!r}; rename one")
    return names


def _names_in(metadata: Mapping[bytes, bytes]) -> tuple[str, ...] | None:
    if CLASSES in metadata:
        text = metadata[CLASSES].decode()
        return tuple(map(str, json.loads(text))) if text.startswith("[") else tuple(text.split(","))
    if _HUGGING_FACE not in metadata:
        return None
    label = json.loads(metadata[_HUGGING_FACE])["info"]["features"]["label"]
    return tuple(map(str, label["names"])) if "names" in label else None


def _labels(
    labels: list[Any], names: tuple[str, ...] | None, path: Path
) -> tuple[Int[Tensor, "images"], tuple[str, ...]]:
    for row, label in enumerate(labels):
        if not isinstance(label, int | str) or isinstance(label, bool):
            raise SettingError(
                "path", f"{path}, row {row}: the label is {label!r}; write the number or the name of a class"
            )
    numbered = isinstance(labels[0], int)
    if names is None:
        found = sorted({*labels})
        names = tuple(map(str, found))
        numbers = {label: number for number, label in enumerate(found)}
    else:
        numbers = {number if numbered else name: number for number, name in enumerate(names)}
    for row, label in enumerate(labels):
        if label not in numbers:
            known = f"{len(names)} classes, from {names[0]!r} to {names[-1]!r}"
            raise SettingError("path", f"{path}, row {row}: label {label!r} is none of its {known}")
    return torch.tensor([numbers[label] for label in labels]), names
