"""Folders and files of data made into one Parquet file: what ``selftune data import`` does."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import islice, tee
from pathlib import Path
from typing import Literal, NamedTuple

from selftune.objectives.data.counted import Say, counted
from selftune.objectives.data.data_files import existing, is_parquet, opened_parquet
from selftune.objectives.data.image_columns import has_images
from selftune.objectives.data.image_files import image_source
from selftune.objectives.data.image_parquet import CLASSES
from selftune.objectives.data.image_sources import ImageSource
from selftune.objectives.data.image_statistics import ImageStatistics
from selftune.objectives.data.parquet_shards import is_sharded, shards_of
from selftune.objectives.data.pictures import Pixels, Size, all_decoded, checked_size
from selftune.objectives.data.splits import Splits, completed
from selftune.objectives.data.table_files import SPLIT, read_columns
from selftune.objectives.data.tables import table_of
from selftune.objectives.data.text_sources import split_parts, text_parts

from selftune.errors import SettingError
from selftune.fields import check_fields

TARGET = b"target"
"""Key of the schema's metadata: the column of a table that is predicted."""

ROWS = 64
"""Images in a row group: few, so that one image can be had without reading many others."""

LAYOUTS = (
    "a folder of images or of *.txt files, a table (*.csv, *.tsv), a text (*.txt), or Parquet of these: a file, or"
    " a folder of files"
)
Sort = Literal["images", "text", "table"]


@dataclass(frozen=True)
class ImportSettings:
    """How data are imported.

    Args:
        target: the column of a table that is predicted.
        categorical: columns of numbers that are categories.
        ignore: columns of a table to leave out.
        size: height and width to which images are resized.
        split: fractions for validation and test, where the data have no such splits.
        seed: decides which examples these are.
        image, label: columns of Parquet that hold images and their labels.

    Raises:
        SettingError: if a value is not of its type.

    >>> ImportSettings(size=(32, 32)).size
    (32, 32)
    """

    target: str | None = None
    categorical: Sequence[str] = ()
    ignore: Sequence[str] = ()
    size: Sequence[int] | None = None
    split: Mapping[str, float] | None = None
    seed: int = 0
    image: str | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        checked_size(self.size)


_USED = {
    "images": ("size", "split", "seed", "image", "label"),
    "text": ("split",),
    "table": ("target", "categorical", "ignore", "split", "seed"),
}


class Imported(NamedTuple):
    """What was left out, and what is known of the training images."""

    left_out: tuple[str, ...]
    images: ImageStatistics | None = None


def import_data(source: str, file: Path, settings: ImportSettings, say: Say | None = None) -> Imported:
    """Writes what ``source`` holds to a Parquet file that the readers of this package read, with its splits.

    Images keep their bytes, or become PNG files where they are resized; their row groups are small.

    Args:
        say: is told of every image.

    Raises:
        SettingError: if the source cannot be used, or a setting does not go with it.
        OSError: if the file cannot be written.
    """
    sort = "images" if settings.image is not None else sort_of(source)
    for field in dataclasses.fields(settings):
        if getattr(settings, field.name) != field.default and field.name not in _USED[sort]:
            raise SettingError(field.name, f"does not go with {source}, which is taken as {sort}; leave it out")
    if sort == "images":
        return _import_images(source, file, settings, say)
    if sort == "text":
        return _import_text(source, file, settings)
    return _import_table(source, file, settings)


def sort_of(source: str) -> Sort:
    """What a folder or file holds: images, text or a table.

    Raises:
        SettingError: under the key ``path``, if nothing is there, or nobody can tell.
    """
    found = existing(source, LAYOUTS)
    sharded = found.is_dir() and is_sharded(found)
    if found.is_dir() and not sharded:
        return "text" if any(found.glob("*.txt")) else "images"
    if sharded or is_parquet(found):
        schema = opened_parquet(shards_of(found)[0].path).schema_arrow
        return "images" if has_images(schema) else "text" if {*schema.names} <= {"text", SPLIT} else "table"
    suffixes = {suffix.lower() for suffix in found.suffixes}
    if suffixes & {".csv", ".tsv"}:
        return "table"
    if suffixes & {".txt", ".text", ".md"}:
        return "text"
    raise SettingError("path", f"{found} says by no suffix what it is; give {LAYOUTS}")


def _import_images(source: str, file: Path, settings: ImportSettings, say: Say | None) -> Imported:
    import pyarrow
    import pyarrow.parquet

    images = image_source(source, settings.image, settings.label)
    splits = completed(images.splits, len(images.labels), settings.split, settings.seed, images.labels)
    names = _names(splits, len(images.labels))
    schema = pyarrow.schema(
        [("image", pyarrow.binary()), ("label", pyarrow.int64()), (SPLIT, pyarrow.string())],
        {CLASSES: json.dumps(images.classes)},
    )
    statistics = ImageStatistics()
    contents = counted(_encoded(images, checked_size(settings.size), names, statistics), len(names), say)
    with pyarrow.parquet.ParquetWriter(
        file, schema, compression={"image": "none", "label": "zstd", SPLIT: "zstd"}
    ) as out:
        for start in range(0, len(names), ROWS):
            some = list(islice(contents, ROWS))
            labels = images.labels[start : start + ROWS].tolist()
            out.write_table(pyarrow.table([some, labels, names[start : start + ROWS]], schema=schema), ROWS)
    return Imported(tuple(images.left_out), statistics)


def _encoded(
    images: ImageSource, size: Size | None, splits: Sequence[str], statistics: ImageStatistics
) -> Iterator[object]:
    pictures, again = tee(images.contents())
    for pixels, (_, content), split in zip(all_decoded(pictures, size), again, splits, strict=True):
        statistics.add(pixels, split == "train")
        yield content if size is None else _png(pixels)


def _png(pixels: Pixels) -> bytes:
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def _import_text(source: str, file: Path, settings: ImportSettings) -> Imported:
    import pyarrow
    import pyarrow.parquet

    parts = split_parts(text_parts(source), settings.split, source)
    columns = {
        "text": pyarrow.array([text for _, text in parts], pyarrow.large_string()),
        SPLIT: [name for name, _ in parts],
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), file, compression="zstd")
    return Imported(())


def _import_table(source: str, file: Path, settings: ImportSettings) -> Imported:
    import pyarrow
    import pyarrow.parquet

    path = Path(source).expanduser()
    rows = read_columns(path)
    if settings.target is None:
        names = rows.column_names
        known = ", ".join(names[-10:])
        raise SettingError("target", f"name the column to predict, such as one of the last of {source}: {known}")
    table = table_of(
        rows, path, settings.target, settings.categorical, None, settings.ignore, settings.split, settings.seed
    )
    columns = {name: rows[name] for name in rows.column_names if name not in {SPLIT, *settings.ignore}}
    for name in settings.categorical:
        columns[name] = columns[name].cast(pyarrow.string())  # texts are categories to every reader
    columns[SPLIT] = _names(table.splits, len(rows))
    written = pyarrow.table(columns).replace_schema_metadata({TARGET: settings.target})
    pyarrow.parquet.write_table(written, file, compression="zstd")
    return Imported(tuple(f"column {name}" for name in settings.ignore))


def _names(splits: Splits, examples: int) -> list[str]:
    names = [""] * examples
    for name, positions in splits.items():
        for position in positions.tolist():
            names[position] = name
    return names
