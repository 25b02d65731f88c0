"""Images that stay on disk: a data set over a Parquet file, for what is larger than memory."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from selftune.objectives.data.data_files import AnyPath, opened_parquet
from selftune.objectives.data.image_files import parquet_shards
from selftune.objectives.data.image_parquet import image_parquet, images_of
from selftune.objectives.data.pictures import check_same_size, checked_size, decoded
from selftune.objectives.data.splits import completed
from torch.utils.data import Dataset

from selftune.data import SPLITS
from selftune.errors import SettingError, suggestion
from selftune.shapes import Tensor

Item = tuple[Any, int]


class ParquetImages(Dataset[Item]):
    """One split of Parquet files of images; row groups are read when one of their images is asked for.

    An item is a pair of pixels and the number of the class. Several items asked for at once, as a batch, are read
    row group by row group. The file that ``selftune data import`` writes has small row groups, so that few other
    images are read besides.

    Args:
        path: a Parquet file, or a folder of them, see ``read_images``.
        split: train, validation or test.
        size: height and width to which images are resized; None takes images of one size.
        channels: 1 or 3; None takes those of the first image. Grey images get three where it says so.
        transform: makes pixels (uint8, of shape (channels, height, width)) what the network takes; without one
            they become real numbers from 0 to 1. With workers it has to be picklable.
        fractions: of the training images that are held out, where the file has no such split.
        seed: decides which images these are.
        cached: row groups kept in memory, still encoded.
        image, label: columns; None finds them by their usual names.

    Raises:
        SettingError: under the name of the argument; under ``path`` also when an image is read that is damaged.

    >>> from tempfile import mkdtemp
    >>> import io, pyarrow, pyarrow.parquet
    >>> from PIL import Image
    >>> buffer = io.BytesIO()
    >>> Image.new("RGB", (4, 3), "white").save(buffer, "PNG")
    >>> file = Path(mkdtemp()) / "white.parquet"
    >>> columns = {"image": [buffer.getvalue()] * 10, "label": [0, 1] * 5}
    >>> pyarrow.parquet.write_table(pyarrow.table(columns), file)
    >>> train, validation, test = ParquetImages.splits(file)
    >>> len(train), train[0][0].shape, train.classes
    (6, torch.Size([3, 3, 4]), ('0', '1'))
    """

    def __init__(
        self,
        path: AnyPath,
        split: str = "train",
        size: Sequence[int] | None = None,
        channels: int | None = None,
        transform: Callable[[Tensor], Any] | None = None,
        fractions: Mapping[str, float] | None = None,
        seed: int = 0,
        cached: int = 8,
        image: str | None = None,
        label: str | None = None,
    ) -> None:
        if split not in SPLITS:
            raise SettingError("split", f"unknown split {split!r}; {suggestion(str(split), SPLITS)}")
        if channels not in (None, 1, 3):
            raise SettingError("channels", f"must be 1 or 3, got {channels!r}")
        if cached < 1:
            raise SettingError("cached", f"must be at least 1 row group, got {cached!r}")
        self.path = Path(path).expanduser()
        self.size = checked_size(size)
        self.transform = transform
        self.cached = cached
        self._opened: tuple[int, list[Any]] | None = None
        self._groups: OrderedDict[int, list[object]] = OrderedDict()
        self._shards = parquet_shards(self.path, image, label)
        source = image_parquet(self._shards)
        self.classes = source.classes
        self._rows = completed(source.splits, len(source.labels), fractions, seed, source.labels)[split]
        self._labels = source.labels[self._rows]
        abouts = [file.metadata for file in self._files()]
        self._places = [
            (file, group) for file, about in enumerate(abouts) for group in range(about.num_row_groups)
        ]
        self._ends = [*accumulate(abouts[file].row_group(group).num_rows for file, group in self._places)]
        self._firsts = [0, *accumulate(about.num_rows for about in abouts)]
        first = decoded(self._contents([0])[0], self._where(0), self.size)
        self._channels = channels or len(first)
        self._size = first.shape[1:]

    @classmethod
    def splits(cls, path: AnyPath, **settings: Any) -> tuple[ParquetImages, ParquetImages, ParquetImages]:
        """The train, validation and test split, as objectives take them.

        Args:
            settings: of all three.

        Raises:
            SettingError: under the name of the argument.
        """
        train, validation, test = (cls(path, split, **settings) for split in SPLITS)
        return train, validation, test

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, position: int) -> Item:
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: list[int]) -> list[Item]:
        rows = self._rows[positions].tolist()
        labels = self._labels[positions].tolist()
        contents = self._contents(rows)
        return [(self._pixels(*one), label) for *one, label in zip(contents, rows, labels, strict=True)]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None, "_groups": OrderedDict()}

    def _pixels(self, content: object, row: int) -> Any:
        where = self._where(row)
        pixels = torch.from_numpy(decoded(content, where, self.size).copy())
        check_same_size(tuple(pixels.shape[1:]), self._size, where)
        if len(pixels) > self._channels:
            raise SettingError("channels", f"{where} is in colour, and the first image is grey; give 3")
        pixels = pixels.expand(self._channels, -1, -1)
        return pixels / 255 if self.transform is None else self.transform(pixels)

    def _contents(self, rows: list[int]) -> list[object]:
        """The encoded images of rows; every row group is read once."""
        by_group: dict[int, list[int]] = {}
        for place, row in enumerate(rows):
            by_group.setdefault(bisect_right(self._ends, row), []).append(place)
        contents: list[object] = [None] * len(rows)
        for number, places in by_group.items():
            images = self._group(number)
            start = self._ends[number] - len(images)
            for place in places:
                contents[place] = images[rows[place] - start]
        return contents

    def _where(self, row: int) -> str:
        """Names a row in a refusal."""
        file = bisect_right(self._firsts, row) - 1
        return f"{self._shards.shards[file].path}, row {row - self._firsts[file]}"

    def _group(self, number: int) -> list[object]:
        if number not in self._groups:
            file, group = self._places[number]
            path = self._shards.shards[file].path
            self._groups[number] = images_of(self._files()[file], path, self._shards.image, group)
            if len(self._groups) > self.cached:
                self._groups.popitem(last=False)
        self._groups.move_to_end(number)
        return self._groups[number]

    def _files(self) -> list[Any]:
        if self._opened is None or self._opened[0] != os.getpid():  # a worker opens its own
            self._opened = os.getpid(), [opened_parquet(shard.path) for shard in self._shards.shards]
        return self._opened[1]
