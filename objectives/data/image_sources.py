"""Labelled pictures on disk, still encoded: what folders of images and Parquet files have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from selftune.shapes import Int, Tensor


@dataclass(frozen=True)
class ImageSource:
    """Pictures with their classes.

    Attributes:
        contents: goes through all pictures in their order: what names one in a refusal, and its bytes.
        labels: their classes by number.
        classes: names of the classes.
        splits: positions by split; empty where there are no splits.
        left_out: files beside them that are no pictures.
    """

    contents: Callable[[], Iterator[tuple[str, object]]]
    labels: Int[Tensor, "images"]
    classes: tuple[str, ...]
    splits: Mapping[str, Int[Tensor, "examples"]]
    left_out: Sequence[str] = ()
