"""Which classes labelled data have, and whether they can be learned."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from selftune.errors import SettingError
from selftune.shapes import Int, Tensor


def check_every_class(
    labels: Int[Tensor, "examples"],
    classes: Sequence[str],
    train: Int[Tensor, "examples"] | None,
    where: str,
    what: str = "image",
) -> None:
    """Refuses classes that cannot be learned.

    Args:
        labels: classes of all examples by number.
        train: positions of the training split, where the data have one.
        where: names the data in a refusal.
        what: an example's name.

    Raises:
        SettingError: under the key ``path``, if there are fewer than two classes, or one has no training example.
    """
    if len(classes) < 2:
        raise SettingError("path", f"{where} has a single class, {classes[0]!r}; bring at least two")
    counts = torch.bincount(labels if train is None else labels[train], minlength=len(classes))
    if not counts.all():
        among = "" if train is None else " in the train split"
        name = classes[int(counts.argmin())]
        raise SettingError("path", f"{where}: class {name!r} has no {what}{among}; add some or remove the class")
