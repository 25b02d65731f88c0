"""Along which axis a module sees the examples, from the inputs that it was given in passes of several sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch

from selftune.shapes import Tensor


@dataclass(frozen=True)
class ModuleUse:
    """What a pass shows of one module.

    Attributes:
        batch_axis: which axis of the first tensor that its forward is given runs over the examples, in every call;
            None where none does.
        folded: None, or how examples lie in a first axis that is several times as long as the batch, because the
            network has put another axis into it: "outer" if the entries of an example follow one another, as in
            ``x.flatten(0, 1)`` of (batch, time, features), "inner" if those of a time do. ``batch_axis`` is 0.
        without_examples: whether that tensor looks the same however many examples there are, as positions do.
    """

    batch_axis: int | None = None
    without_examples: bool = False
    folded: Literal["outer", "inner"] | None = None


@dataclass
class InputsSeen:
    """What passes have shown of the first tensors that a module is given."""

    axes: set[int] | None = None
    """Axes that were as long as the batch in every call so far; None before the first."""
    shapes: dict[int, set[tuple[int, ...]]] = field(default_factory=dict)
    """Shapes that the first tensor had, by the number of examples."""

    inputs: dict[int, list[Tensor]] = field(default_factory=dict)
    """The first tensors whose first axis was a multiple of the number of examples, by that number."""
    otherwise: bool = False
    """Whether there were calls with others."""

    def note(self, given: Tensor, size: int) -> None:
        """A call in a pass on so many examples."""
        axes = {axis for axis, length in enumerate(given.shape) if length == size}
        self.axes = axes if self.axes is None else self.axes & axes
        self.shapes.setdefault(size, set()).add(tuple(given.shape))
        if given.ndim and 0 not in axes and len(given) % size == 0:
            self.inputs.setdefault(size, []).append(given.detach().clone())
        else:
            self.otherwise = True

    def use(self) -> ModuleUse:
        shapes, folded = list(self.shapes.values()), None if self.axes else self._folded()
        return ModuleUse(
            batch_axis=min(self.axes) if self.axes else (None if folded is None else 0),
            folded=folded,
            without_examples=not self.axes and len(shapes) > 1 and all(shapes[0] == other for other in shapes),
        )

    def _folded(self) -> Literal["outer", "inner"] | None:
        """What the entries of the same examples in a larger and a smaller batch show, if they show one thing."""
        if self.otherwise or len(self.inputs) != 2:
            return None
        (many, large), (few, small) = sorted(self.inputs.items(), reverse=True)
        pairs = list(zip(large, small, strict=False))  # a pass in another mode may have come after these
        outer = all(_alike(one[: len(other)], other) for one, other in pairs)
        inner = all(
            _alike(one.reshape(-1, many, *one.shape[1:])[:, :few], other.reshape(-1, few, *other.shape[1:]))
            for one, other in pairs
        )
        return None if outer == inner else ("outer" if outer else "inner")


def _alike(one: Tensor, other: Tensor) -> bool:
    """Equal up to the rounding of batches of other sizes."""
    if one.shape != other.shape:
        return False
    if not one.is_floating_point():
        return torch.equal(one, other)
    return torch.allclose(one, other, rtol=1e-3, atol=1e-3 * float(other.abs().max()))
