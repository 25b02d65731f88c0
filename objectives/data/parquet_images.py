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
from selftune.objectives.data.image_files import parquet_source
from selftune.objectives.data.image_parquet import images_of
from selftune.objectives.data.pictures import check_same_size, checked_size, decoded
from selftune.objectives.data.splits import completed
from torch.utils.data import Dataset

from selftune.data import SPLITS
from selftune.errors import SettingError, suggestion
from selftune.shapes import Tensor

Item = tuple[Any, int]


class ParquetImages(Dataset[Item]):
    """One split of a Parquet file of images; row groups are read when one of their images is asked for.

    An item is a pair of pixels and the number of the class. Several items asked for at once, as a batch, are read
    row group by row group. The file that ``selftune data import`` writes has small row groups, so that few other
    images are read besides.

    Args:
        path: a Parquet file with the columns ``image``, ``label`` and perhaps ``split``.
        split: train, validation or test.
        size: height and width to which images are resized; None takes images of one size.
        channels: 1 or 3; None takes those of the first image. Grey images get three where it says so.
        transform: makes pixels (uint8, of shape (channels, height, width)) what the network takes; without one
            they become real numbers from 0 to 1. With workers it has to be picklable.
        fractions: of the training images that are held out, where the file has no such split.
        seed: decides which images these are.
        cached: row groups kept in memory, still encoded.

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
        self._opened: tuple[int, Any] | None = None
        self._groups: OrderedDict[int, list[object]] = OrderedDict()
        source = parquet_source(self.path)
        self.classes = source.classes
        self._rows = completed(source.splits, len(source.labels), fractions, seed, source.labels)[split]
        self._labels = source.labels[self._rows]
        about = self._file().metadata
        self._ends = [*accumulate(about.row_group(group).num_rows for group in range(about.num_row_groups))]
        first = decoded(self._contents([0])[0], f"{self.path}, row 0", self.size)
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
        where = f"{self.path}, row {row}"
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
        for group, places in by_group.items():
            images = self._group(group)
            start = self._ends[group] - len(images)
            for place in places:
                contents[place] = images[rows[place] - start]
        return contents

    def _group(self, group: int) -> list[object]:
        if group not in self._groups:
            self._groups[group] = images_of(self._file(), self.path, group)
            if len(self._groups) > self.cached:
                self._groups.popitem(last=False)
        self._groups.move_to_end(group)
        return self._groups[group]

    def _file(self) -> Any:
        if self._opened is None or self._opened[0] != os.getpid():  # a worker opens its own
            self._opened = os.getpid(), opened_parquet(self.path)
        return self._opened[1]
