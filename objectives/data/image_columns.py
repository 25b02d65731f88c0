"""Which columns of a Parquet file hold images and their labels, whatever they are called."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from selftune.objectives.data.data_files import check_column

from selftune.errors import SettingError

IMAGE, LABEL = "image", "label"
IMAGE_NAMES = (IMAGE, "img", "images", "picture", "photo")
"""What columns of images are called."""

LABEL_NAMES = (LABEL, "labels", "fine_label", "coarse_label", "class", "target", "category")
"""What columns of class numbers or names are called."""

HUGGING_FACE = b"huggingface"
"""Key of the schema's metadata under which Hugging Face describes columns."""


def has_images(schema: Any) -> bool:
    """Whether a schema of ``pyarrow`` has a column of images."""
    return IMAGE in schema.names or bool(_images(schema))


def image_column(schema: Any, path: Path, chosen: str | None = None) -> str:
    """The column that holds images: the bytes of image files, or structs with the field ``bytes``.

    Args:
        schema: of ``pyarrow``.
        path: of the file, for a refusal.
        chosen: its name, where it is given.

    Raises:
        SettingError: under the key ``image`` if the chosen column is not there, or there are several; under
            ``path`` if there is none, or it holds something else.
    """
    name = _column("image", "images", schema, path, chosen, _images(schema), IMAGE_NAMES)
    kind = schema.field(name).type
    if not _holds_images(kind):
        raise SettingError("path", f"{path}: the column {name} holds {kind}; store the bytes of image files")
    return name


def label_column(schema: Any, path: Path, chosen: str | None = None) -> str:
    """The column that holds labels: one of ``LABEL_NAMES``, or one that Hugging Face calls one of classes.

    Raises:
        SettingError: as ``image_column``, under the key ``label``.
    """
    of_classes = [name for name, one in features_of(schema, path).items() if one.get("_type") == "ClassLabel"]
    found = [name for name in schema.names if name in (*LABEL_NAMES, *of_classes)]
    return _column("label", "labels", schema, path, chosen, found, LABEL_NAMES)


def features_of(schema: Any, path: Path) -> Mapping[str, Mapping[str, Any]]:
    """What Hugging Face says of every column; nothing where it has not written the file.

    Raises:
        SettingError: under the key ``path``, if that is damaged.
    """
    metadata = schema.metadata or {}
    if HUGGING_FACE not in metadata:
        return {}
    try:
        features = json.loads(metadata[HUGGING_FACE])["info"]["features"]
    except (ValueError, LookupError, TypeError) as error:
        raise damaged_names(path) from error
    if not isinstance(features, Mapping) or not all(isinstance(one, Mapping) for one in features.values()):
        raise damaged_names(path)
    return features


def damaged_names(path: Path) -> SettingError:
    """The refusal of metadata that cannot be read."""
    return SettingError("path", f"{path}: the names of classes in its metadata are damaged; write them anew")


def _column(
    key: str, what: str, schema: Any, path: Path, chosen: str | None, found: list[str], names: Iterable[str]
) -> str:
    if chosen is not None:
        check_column(key, chosen, schema.names, path)
        return chosen
    usual = next(iter(names))
    if usual in schema.names:
        return usual
    if len(found) > 1:
        raise SettingError(
            key,
            f"{path} has several columns of {what}, {', '.join(found)}; choose one, by `{key}: {found[0]}` in a"
            f" study, or by `--{key} {found[0]}` of `selftune data`",
        )
    if not found:
        raise SettingError(
            "path",
            f"{path} has no column of {what} ({', '.join(names)}), only {', '.join(schema.names)}; choose one, by"
            f" `{key}:` in a study, or by `--{key}` of `selftune data`",
        )
    return found[0]


def _images(schema: Any) -> list[str]:
    """Columns that hold structs of bytes, and those of bytes that are called as images are."""
    return [
        field.name
        for field in schema
        if _holds_images(field.type) and (field.name in IMAGE_NAMES or _is_nested(field.type))
    ]


def _is_nested(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_struct(kind) and kind.get_field_index("bytes") >= 0)


def _holds_images(kind: Any) -> bool:
    from pyarrow import types

    return _is_nested(kind) or bool(types.is_binary(kind) or types.is_large_binary(kind))
