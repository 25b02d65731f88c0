"""What a data set holds, in lines that people read: what ``selftune data show`` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from selftune.objectives.data.counted import Say, counted
from selftune.objectives.data.data_files import is_parquet, opened_parquet
from selftune.objectives.data.image_files import image_source
from selftune.objectives.data.image_sources import ImageSource
from selftune.objectives.data.image_statistics import ImageStatistics
from selftune.objectives.data.importing import TARGET, sort_of
from selftune.objectives.data.parquet_shards import shards_of
from selftune.objectives.data.pictures import all_decoded
from selftune.objectives.data.splits import named_splits
from selftune.objectives.data.table_columns import is_categorical
from selftune.objectives.data.table_files import SPLIT, read_columns
from selftune.objectives.data.tables import table_of
from selftune.objectives.data.text_files import tokens_of
from selftune.objectives.data.text_sources import text_parts

from selftune.errors import SettingError
from selftune.shapes import Int, Tensor

_SHOWN = 30
"""Classes, columns and files that are listed one by one."""


def summary(
    path: str,
    name: str | None = None,
    images: ImageStatistics | None = None,
    image: str | None = None,
    label: str | None = None,
    say: Say | None = None,
) -> list[str]:
    """What a folder or a file holds.

    Args:
        name: what to call it.
        images: what is known of the training images; without it all images are read and checked.
        image, label: columns of Parquet that hold images and their labels; None finds them.
        say: is told of every image that is looked at.

    Raises:
        SettingError: under the key ``path``, if nothing is there, or it cannot be used; under ``image`` or
            ``label`` if several columns could be meant, or none is.
    """
    sort = "images" if image is not None else sort_of(path)
    if sort == "images":
        source = image_source(path, image, label)
        first, *rest = _images(path, source, images or statistics_of(source, say))
    elif label is not None:
        raise SettingError("label", f"does not go with {path}, which is taken as {sort}; leave it out")
    else:
        first, *rest = _text(path) if sort == "text" else _table(path)
    return [f"{name or path}: {first}", *rest]


def _images(path: str, source: ImageSource, statistics: ImageStatistics) -> Iterator[str]:
    height, width = statistics.size
    colours = "grey" if statistics.channels == 1 else "in colour"
    yield (
        f"{len(source.labels):,} images in {len(source.classes)} classes, {colours}, {height} x {width} pixels"
        f" (height x width), {_bytes(path)}"
    )
    of = "train split" if source.splits else "images"
    mean, deviation = _row(statistics.mean), _row(statistics.deviation)
    yield f"channels of the {of}, from 0 to 1: mean {mean}, standard deviation {deviation}"
    yield from _split_sizes(source.splits)
    yield from _class_counts(source.labels, source.classes, source.splits)
    yield from _left_out(source.left_out)


def statistics_of(source: ImageSource, say: Say | None = None) -> ImageStatistics:
    """Looks at all images; those of the train split count, or all where there are no splits.

    Raises:
        SettingError: if one is damaged or of another size.
    """
    train = {*source.splits.get("train", torch.arange(len(source.labels))).tolist()}
    found = ImageStatistics()
    for position, pixels in enumerate(counted(all_decoded(source.contents()), len(source.labels), say)):
        found.add(pixels, position in train)
    return found


def _text(path: str) -> Iterator[str]:
    parts = text_parts(path)
    length = sum(len(text) for _, text in parts)
    characters = len(set().union(*(text for _, text in parts)))
    words: set[str] = set()
    number = 0
    lengths: dict[str, int] = {}
    for name, text in parts:
        found = tokens_of(text, "words")
        words.update(found)
        number += len(found)
        if name is not None:
            lengths[name] = lengths.get(name, 0) + len(text)
    yield f"text of {length:,} characters ({characters:,} different), {number:,} words ({len(words):,} different)"
    if lengths:
        yield "splits: " + ", ".join(f"{name} {count:,} characters" for name, count in lengths.items())


def _table(path: str) -> Iterator[str]:
    found = Path(path).expanduser()
    rows = read_columns(found)
    in_parquet = found.is_dir() or is_parquet(found)
    metadata = (opened_parquet(shards_of(found)[0].path).schema_arrow.metadata or {}) if in_parquet else {}
    yield f"table of {len(rows):,} rows and {len(rows.column_names)} columns, {_bytes(path)}"
    splits = named_splits(rows[SPLIT].to_pylist(), path) if SPLIT in rows.column_names else {}
    yield from _split_sizes(splits)
    yield "columns:"
    names = [name for name in rows.column_names if name != SPLIT]
    width = max(map(len, names[:_SHOWN]))
    for name in names[:_SHOWN]:
        yield f"  {name:<{width}}  {_described(rows[name])}"
    yield from _more(names)
    if TARGET not in metadata:
        return
    target = metadata[TARGET].decode()
    table = table_of(rows, found, target)
    yield f"target: {target}, {'regression' if table.classes is None else 'classification'}"
    if table.classes is not None:
        yield from _class_counts(table.target, table.classes, splits)


def _described(column: Any) -> str:
    import pyarrow
    import pyarrow.compute as compute

    nulls = column.null_count
    missing = f", {nulls:,} missing" if nulls else ""
    if is_categorical(column):
        values = column.unique().to_pylist()
        return f"{len({*values} - {None}):,} categories{missing}"
    try:
        ends = compute.min_max(column).as_py()
    except pyarrow.ArrowNotImplementedError:  # lists and the like have no order
        return f"{column.type}{missing}"
    low, high = (f"{end:.4g}" if isinstance(end, float) else str(end) for end in (ends["min"], ends["max"]))
    return f"{column.type}, from {low} to {high}{missing}"


def _split_sizes(splits: Mapping[str, Int[Tensor, "examples"]]) -> Iterator[str]:
    if splits:
        yield "splits: " + ", ".join(f"{name} {len(positions):,}" for name, positions in splits.items())
    else:
        yield "splits: none; a part for validation and the test is drawn where it is read"


def _class_counts(
    labels: Int[Tensor, "examples"], classes: Sequence[str], splits: Mapping[str, Int[Tensor, "examples"]]
) -> Iterator[str]:
    columns = {name: labels[positions] for name, positions in splits.items()} or {"all": labels}
    counts = {name: part.bincount(minlength=len(classes)).tolist() for name, part in columns.items()}
    width = max(8, *map(len, classes[:_SHOWN]))
    yield f"  {'class':<{width}}" + "".join(f"{name:>12}" for name in counts)
    for number, one in enumerate(classes[:_SHOWN]):
        yield f"  {one:<{width}}" + "".join(f"{count[number]:>12,}" for count in counts.values())
    yield from _more(classes)


def _left_out(files: Sequence[str]) -> Iterator[str]:
    if files:
        yield f"left out: {len(files)} files that are no images, such as {files[0]}"


def _more(listed: Sequence[str]) -> Iterator[str]:
    if len(listed) > _SHOWN:
        yield f"  and {len(listed) - _SHOWN:,} more"


def _row(values: Any) -> str:
    return " ".join(f"{value:.3f}" for value in values)


def _bytes(path: str) -> str:
    found = Path(path).expanduser()
    files = found.rglob("*") if found.is_dir() else [found]
    size = sum(file.stat().st_size for file in files if file.is_file())
    return f"{size / 1e6:,.1f} MB"
