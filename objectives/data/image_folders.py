"""Folders of images: one folder per class, in folders of splits or not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from selftune.objectives.data.classes import check_every_class
from selftune.objectives.data.data_files import reason
from selftune.objectives.data.image_sources import ImageSource
from selftune.objectives.data.pictures import SUFFIXES
from selftune.objectives.data.splits import split_called

from selftune.data import SPLITS
from selftune.errors import SettingError

LAYOUT = "FOLDER/<class>/*.png, or FOLDER/<train|validation|test>/<class>/*.png"


def image_folder(folder: Path) -> ImageSource:
    """The pictures of a folder: ``FOLDER/<class>/*`` or ``FOLDER/<split>/<class>/*``.

    Classes are numbered in the order of their names, pictures come in the order of splits, classes and names.
    Hidden files are passed over.

    Raises:
        SettingError: under the key ``path``, if it has another layout, an empty class, or a class that is not in
            the train split.
    """
    splits = _split_folders(folder)
    files: list[Path] = []
    names: list[str] = []
    left_out: list[str] = []
    counts = {}
    for split, part in splits.items():
        for name, found in _class_folders(part, left_out):
            files += found
            names += [name] * len(found)
        counts[split] = len(files)
    classes = tuple(sorted({*names}))
    numbers = {name: number for number, name in enumerate(classes)}
    labels = torch.tensor([numbers[name] for name in names])
    starts = [0, *counts.values()]
    positions = {
        split: torch.arange(start, end) for split, start, end in zip(splits, starts, counts.values(), strict=False)
    }
    given = {} if "" in positions else {split: positions[split] for split in SPLITS if split in positions}
    if given and "train" not in given:
        raise SettingError("path", f"{folder} has no folder train beside {', '.join(given)}; add one")
    check_every_class(labels, classes, given.get("train"), str(folder))

    def contents() -> Iterator[tuple[str, object]]:
        for file in files:
            yield str(file), _content(file)

    return ImageSource(contents, labels, classes, given, left_out)


def _split_folders(folder: Path) -> dict[str, Path]:
    """The folder of each split; the folder itself by an empty name where there are none."""
    inside = _folders(folder)
    # a folder `train` that holds images is a class of that name, such as of vehicles
    parts = [part for part in inside if split_called(part.name) and _folders(part) and not _images(part)]
    if not parts:
        return {"": folder}
    if len(parts) < len(inside):
        other = next(part for part in inside if part not in parts)
        raise SettingError(
            "path", f"{folder} has folders of splits ({parts[0].name}) beside {other.name!r}; use {LAYOUT}"
        )
    found: dict[str, Path] = {}
    for part in parts:
        split = split_called(part.name) or ""
        if split in found:
            raise SettingError(
                "path", f"{folder} has two folders of the {split} split, {found[split].name} and {part.name}"
            )
        found[split] = part
    return {split: found[split] for split in SPLITS if split in found}


def _class_folders(folder: Path, left_out: list[str]) -> Iterator[tuple[str, list[Path]]]:
    stray = _images(folder)
    if stray:
        raise SettingError("path", f"{stray[0]} lies in no folder of a class; use {LAYOUT}")
    classes = _folders(folder)
    if not classes:
        raise SettingError("path", f"{folder} has no folders of classes; use {LAYOUT}")
    left_out += _others(folder)
    for one in classes:
        deeper = next(iter(_folders(one)), None)
        if deeper is not None:
            raise SettingError("path", f"{deeper} is a folder inside the folder of a class; use {LAYOUT}")
        images = _images(one)
        if not images:
            raise SettingError("path", f"{one} holds no image; add some, or remove the folder")
        left_out += _others(one)
        yield one.name, images


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise SettingError("path", f"{folder} cannot be read: {reason(error)}") from error


def _folders(folder: Path) -> list[Path]:
    return [entry for entry in _entries(folder) if entry.is_dir()]


def _images(folder: Path) -> list[Path]:
    return [entry for entry in _entries(folder) if _is_image(entry)]


def _others(folder: Path) -> list[str]:
    return [str(entry) for entry in _entries(folder) if not entry.is_dir() and not _is_image(entry)]


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingError("path", f"{file} cannot be read: {reason(error)}") from error
