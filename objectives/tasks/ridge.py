"""Ridge regression with one regularization strength, or one per feature."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from selftune.objectives.common.linear_models import WeightPenalty, mean_square
from selftune.objectives.data.diabetes import diabetes

from selftune.lower_level.finite_sum import Examples, FiniteSum
from selftune.lower_level.objective import tasks
from selftune.lower_level.smooth_objective import Constants, SmoothObjective, Tree
from selftune.shapes import Float, Tensor


class RidgeRegression(SmoothObjective):
    """Least squares with quadratic penalties on any data; the hyperparameter is ``ridge.strength``.

    Lower level ``mean(0.5 (x w - y)^2) + 0.5 sum(strength w^2)`` on the training data, upper level
    ``mean(0.5 (x w - y)^2)`` on the validation data. There is no intercept: centre the data, or add a feature.

    Args:
        train, validation, test: pairs of inputs (examples, features) and targets (examples,), of one type.
        groups: one strength, or one per feature.
        start: the strength at the start.
        features: names of the features; None numbers them.

    >>> data = torch.randn(8, 3), torch.randn(8)
    >>> RidgeRegression(data, data, data, groups="one").parameters()
    {'weight': tensor([0., 0., 0.])}
    """

    def __init__(
        self,
        train: tuple[Tensor, Tensor],
        validation: tuple[Tensor, Tensor],
        test: tuple[Tensor, Tensor],
        groups: Literal["one", "per_feature"] = "per_feature",
        start: float = 0.1,
        features: tuple[str, ...] | None = None,
    ) -> None:
        self._train, self._validation, self._test = train, validation, test
        inputs, targets = train
        width = inputs.shape[1]
        names = features or tuple(str(index) for index in range(width))
        self._penalty = WeightPenalty("ridge.strength", (width,), groups, names, start)
        self.hyperparameters = (self._penalty.hyperparameter,)
        self._moment = inputs.T @ inputs / len(inputs)
        self._correlation = inputs.T @ targets / len(inputs)
        self._lowest, self._highest = mean_square(inputs)
        self._upper_smoothness = mean_square(validation[0])[1]

    def parameters(self) -> dict[str, Tensor]:
        return {"weight": torch.zeros_like(self._correlation)}

    def solution(self, values: Mapping[str, Any]) -> Float[Tensor, "features"]:
        """The lower level's minimiser in closed form."""
        strength = self._penalty.strength(values)
        penalty = torch.diag(strength.expand_as(self._correlation))
        weight: Tensor = torch.linalg.solve(self._moment + penalty, self._correlation)
        return weight

    def lower(self, parameters: Tree, values: Mapping[str, Any]) -> Float[Tensor, ""]:
        weight = parameters["weight"]
        penalty = (self._penalty.strength(values) * weight.square()).sum()
        return 0.5 * ((self._train[0] @ weight - self._train[1]).square().mean() + penalty)

    def upper(self, parameters: Tree, values: Mapping[str, Any]) -> Float[Tensor, ""]:
        inputs, targets = self._validation
        return 0.5 * (inputs @ parameters["weight"] - targets).square().mean()

    def finite_sum(self) -> FiniteSum:
        def loss(split: tuple[Tensor, Tensor], weight: Tensor, examples: Examples) -> Float[Tensor, ""]:
            inputs, targets = split if examples is None else (part[examples] for part in split)
            half: Tensor = 0.5 * (inputs @ weight - targets).square().mean()
            return half

        def lower(parameters: Tree, values: Mapping[str, Any], examples: Examples) -> Float[Tensor, ""]:
            weight = parameters["weight"]
            penalty = (self._penalty.strength(values) * weight.square()).sum()
            return loss(self._train, weight, examples) + 0.5 * penalty

        def upper(parameters: Tree, values: Mapping[str, Any], examples: Examples) -> Float[Tensor, ""]:
            return loss(self._validation, parameters["weight"], examples)

        return FiniteSum(lower, upper, len(self._train[1]), len(self._validation[1]))

    def lower_gradient(self, parameters: Tree, values: Mapping[str, Any]) -> Tree:
        weight = parameters["weight"]
        return {"weight": self._moment @ weight - self._correlation + self._penalty.strength(values) * weight}

    def hessian_product(self, parameters: Tree, values: Mapping[str, Any]) -> Callable[[Tree], Tree]:
        strength = self._penalty.strength(values)
        return lambda v: {"weight": self._moment @ v["weight"] + strength * v["weight"]}

    def constants(self, values: Mapping[str, Any], slopes: Mapping[str, Tensor]) -> Constants:
        weakest, strongest = self._penalty.range(values)
        return Constants(
            strong_convexity=self._lowest + weakest,
            smoothness=self._highest + strongest,
            hessian_lipschitz=0.0,
            jacobian_lipschitz=self._penalty.jacobian_lipschitz(slopes),
            upper_smoothness=self._upper_smoothness,
            upper_convex=True,
            certified=True,
        )

    def jacobian_norm(self, parameters: Tree, values: Mapping[str, Any], slopes: Mapping[str, Tensor]) -> float:
        return self._penalty.jacobian_norm(parameters["weight"], slopes)

    def metrics(self, parameters: Tree, values: Mapping[str, Any]) -> dict[str, float]:
        inputs, targets = self._test
        error = (inputs @ parameters["weight"] - targets).square().mean()
        spread = targets.square().mean()
        return {"test_loss": 0.5 * float(error), "test_explained_variance": 1 - float(error / spread)}


@dataclass
class Ridge(RidgeRegression):
    """Ridge regression on scikit-learn's diabetes data: 442 patients, ten measurements and their products.

    Features and targets are standardised by the training split. The quadratic features (65) are many for the
    training split, so there is something to tune.

    Args:
        groups: one strength, or one per feature.
        features: the ten measurements, or also their squares and products.
        train_examples, validation_examples: sizes of the two splits; the rest of the 442 is the test split.
        split_seed: decides which patients go into which split.
        dtype, device: of all tensors.

    Raises:
        SettingError: if a split is empty, the training split has fewer than two examples, or the device is not
            there.

    >>> len(Ridge(features="linear").hyperparameters[0].names)
    10
    """

    groups: Literal["one", "per_feature"] = "per_feature"
    features: Literal["linear", "quadratic"] = "quadratic"
    train_examples: int = 150
    validation_examples: int = 150
    split_seed: int = 0
    dtype: Literal["float64", "float32"] = "float64"
    device: str = "cpu"

    def __post_init__(self) -> None:
        data = diabetes(
            self.features == "quadratic",
            self.train_examples,
            self.validation_examples,
            self.split_seed,
            self.dtype,
            self.device,
        )
        super().__init__(data.train, data.validation, data.test, self.groups, features=data.names)


tasks.register("ridge", Ridge)
