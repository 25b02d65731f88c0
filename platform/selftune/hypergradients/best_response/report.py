"""What a conversion did: which layers got gates, which were left plain and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

WEIGHT_SPACE = "weight space"
"""In place of a rule's name."""


@dataclass(frozen=True)
class LayerReport:
    """One module that holds parameters of its own."""

    name: str
    type: str
    rank: int | None
    """Directions per row; None where the layer was left plain."""
    reason: str = ""
    """Why it, or a tensor of it, was left plain."""
    rule: str = ""
    """Name of the rule by which it responds."""

    @property
    def path(self) -> str:
        """``linear rank R`` (the rule, and directions per row) or ``plain``."""
        return "plain" if self.rank is None else f"{self.rule} rank {self.rank}"


@dataclass(frozen=True)
class ConversionReport:
    """The layers of a converted network in its order, and the operations without a forward derivative.

    >>> layers = LayerReport("head", "Linear", 1, rule="linear"), LayerReport("scale", "Scale", None, "no rule")
    >>> print(ConversionReport(layers))
    layer  type    path           reason
    head   Linear  linear rank 1
    scale  Scale   plain          no rule
    """

    layers: tuple[LayerReport, ...]
    fallbacks: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[LayerReport]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __str__(self) -> str:
        table = [("layer", "type", "path", "reason")]
        table += [(layer.name or "(the model)", layer.type, layer.path, layer.reason) for layer in self.layers]
        widths = [max(len(row[column]) for row in table) for column in range(4)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in table]
        if any(layer.rule == WEIGHT_SPACE for layer in self.layers):
            lines.append(
                "all examples of a batch share one draw of the hyperparameters, because of what is in weight space"
            )
        lines += [f"operation {name} is linearised by {way}" for name, way in sorted(self.fallbacks.items())]
        return "\n".join(lines)
