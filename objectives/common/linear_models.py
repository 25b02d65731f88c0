"""Quadratic penalties on the weights of linear models: one strength, or one per group of weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch

from selftune.hyperparameters import Hyperparameter, Positive
from selftune.shapes import Float, Tensor

Groups = Literal["one", "per_feature", "per_class", "per_weight"]


class WeightPenalty:
    """``0.5 * sum(strength * weight^2)`` with the strengths of a hyperparameter, tuned as logarithms.

    Args:
        name: of the hyperparameter.
        shape: of the weight, (features,) or (features, classes).
        groups: which weights share a strength.
        features: names of the features, for the parts' labels.
        start: strength of every group at the start.

    >>> penalty = WeightPenalty("ridge.strength", (3,), "per_feature", ("a", "b", "c"), 0.1)
    >>> penalty.hyperparameter.names
    ('ridge.strength[a]', 'ridge.strength[b]', 'ridge.strength[c]')
    """

    def __init__(
        self, name: str, shape: tuple[int, ...], groups: Groups, features: tuple[str, ...], start: float
    ) -> None:
        classes = tuple(str(index) for index in range(shape[-1]))
        parts: dict[str, tuple[str, ...]] = {
            "one": (),
            "per_feature": features,
            "per_class": classes,
            "per_weight": tuple(f"{feature},{label}" for feature in features for label in classes),
        }
        self._name = name
        self._groups = groups
        self._shape = shape
        value = (start,) * len(parts[groups]) or start
        self.hyperparameter = Hyperparameter(name, Positive(), value, parts[groups], tuned=True, shared=True)

    def strength(self, values: Mapping[str, Any]) -> Tensor:
        """The strengths in a shape that multiplies the weight."""
        strength: Tensor = values[self._name]
        if self._groups == "per_weight":
            return strength.view(self._shape)
        if self._groups == "per_feature":
            return strength.view(-1, *[1] * (len(self._shape) - 1))
        return strength

    def range(self, values: Mapping[str, Any]) -> tuple[float, float]:
        """Smallest and largest strength."""
        return float(values[self._name].min()), float(values[self._name].max())

    def jacobian_lipschitz(self, slopes: Mapping[str, Tensor]) -> float:
        """A column of the Jacobian is slope times the group's weights, so the largest slope bounds its change."""
        return float(slopes[self._name].abs().max()) if self._name in slopes else 0.0

    def jacobian_norm(self, weight: Tensor, slopes: Mapping[str, Tensor]) -> float:
        """Columns have disjoint support: the spectral norm is the largest norm of a column."""
        if self._name not in slopes:
            return 0.0
        column = (self.strength(slopes) * weight).square()
        axes = {"one": None, "per_class": 0, "per_feature": tuple(range(1, weight.ndim)), "per_weight": ()}
        axis = axes[self._groups]
        squared = column if axis == () else column.sum(dim=axis)
        norm: float = float(squared.max()) ** 0.5
        return norm


def mean_square(inputs: Float[Tensor, "examples features"]) -> tuple[float, float]:
    """Smallest and largest eigenvalue of the inputs' second-moment matrix X'X / n.

    >>> mean_square(torch.eye(2, dtype=torch.float64))
    (0.5, 0.5)
    """
    eigenvalues = torch.linalg.eigvalsh(inputs.double().T @ inputs.double() / len(inputs))
    return max(float(eigenvalues[0]), 0.0), float(eigenvalues[-1])
