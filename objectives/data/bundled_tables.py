"""Tables that come with scikit-learn, by name."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from selftune.objectives.data.splits import completed
from selftune.objectives.data.tables import Table

BUNDLED = ("breast_cancer", "diabetes", "digits", "iris", "wine")
"""Their names, as scikit-learn's ``load_*`` has them; the target of ``diabetes`` is a number."""


def bundled_table(name: str, split: Mapping[str, float] | None = None, seed: int = 0) -> Table:
    """A table of numbers; it has no splits, so that they are drawn.

    Args:
        name: one of ``BUNDLED``.
        split, seed: see ``read_table``.

    Raises:
        SettingError: under the key ``split``.

    >>> bundled_table("wine").numbers.shape
    torch.Size([178, 13])
    """
    from sklearn import datasets

    data = getattr(datasets, f"load_{name}")()
    names = getattr(data, "target_names", None)
    classes = None if names is None else tuple(map(str, names))
    target = torch.tensor(data.target, dtype=torch.float32 if classes is None else torch.int64)
    rows = len(target)
    return Table(
        torch.tensor(data.data, dtype=torch.float32),
        torch.zeros(rows, 0).long(),
        (),
        target,
        tuple(data.feature_names),
        classes,
        completed({}, rows, split, seed, None if classes is None else target),
    )
