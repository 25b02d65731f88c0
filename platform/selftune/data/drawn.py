"""A batch as it was drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch  # noqa: F401  (of the example)

from selftune.data.nested import cut, rows_of
from selftune.shapes import Int, Tensor


@dataclass(frozen=True)
class Drawn:
    """A batch on the device.

    Attributes:
        index: positions of its examples in the training data; None where nobody knows them, or where the batch is
            all of the data in their own order.
        batch: tensors, alone or in tuples, lists and mappings, examples along the first axis.
    """

    index: Int[Tensor, "batch"] | None
    batch: Any

    def part(self, rows: Int[Tensor, "rows"]) -> Drawn:
        """Some of its examples.

        >>> Drawn(torch.tensor([7, 9]), torch.zeros(2, 3)).part(torch.tensor([1])).index
        tensor([9])
        """
        return Drawn(None if self.index is None else self.index[rows], rows_of(self.batch, rows))

    def cut(self, part: slice) -> Drawn:
        """Neighbouring examples of it, as views.

        >>> Drawn(torch.tensor([7, 9, 4]), torch.zeros(3, 3)).cut(slice(1, 3)).index
        tensor([9, 4])
        """
        index = None if self.index is None else self.index[part]
        return Drawn(index, cut(self.batch, part.start, part.stop))
