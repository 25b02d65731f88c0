"""Multinomial logistic regression on handwritten digits, with one regularization strength or up to 650."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from selftune.objectives.common.linear_models import Groups, WeightPenalty, mean_square

from selftune.errors import SettingError
from selftune.lower_level.finite_sum import Examples, FiniteSum
from selftune.lower_level.objective import tasks
from selftune.lower_level.smooth_objective import Constants, SmoothObjective, Tree, check_device
from selftune.shapes import Float, Int, Tensor

EXAMPLES = 1797
CLASSES = 10


class SoftmaxRegression(SmoothObjective):
    """A linear classifier with quadratic penalties on any data; the hyperparameter is ``logistic.strength``.

    Lower level: mean cross-entropy of ``softmax(inputs @ weight)`` plus ``0.5 sum(strength weight^2)`` on the
    training data; upper level: mean cross-entropy on the validation data. A bias is a feature that is always 1,
    penalised like the others, which keeps the lower level strongly convex.

    Args:
        train, validation, test: pairs of inputs (examples, features) and integer labels (examples,).
        classes: number of classes.
        groups: one strength, or one per class, feature or weight.
        start: the strength at the start.
        features: names of the features; None numbers them.

    >>> data = torch.randn(8, 3), torch.randint(2, (8,))
    >>> SoftmaxRegression(data, data, data, classes=2, groups="per_class").hyperparameters[0].names
    ('logistic.strength[0]', 'logistic.strength[1]')
    """

    def __init__(
        self,
        train: tuple[Tensor, Tensor],
        validation: tuple[Tensor, Tensor],
        test: tuple[Tensor, Tensor],
        classes: int,
        groups: Groups = "one",
        start: float = 0.01,
        features: tuple[str, ...] | None = None,
    ) -> None:
        self._train, self._validation, self._test = train, validation, test
        self._inputs = train[0]
        self._targets = F.one_hot(train[1], classes).to(self._inputs)
        self._shape = (self._inputs.shape[1], classes)
        names = features or tuple(str(index) for index in range(self._shape[0]))
        self._penalty = WeightPenalty("logistic.strength", self._shape, groups, names, start)
        self.hyperparameters = (self._penalty.hyperparameter,)
        self._moment = mean_square(self._inputs)[1]
        self._longest = float(self._inputs.norm(dim=1).max())
        self._upper_moment = mean_square(validation[0])[1]

    def parameters(self) -> dict[str, Tensor]:
        return {"weight": self._inputs.new_zeros(self._shape)}

    def lower(self, parameters: Tree, values: Mapping[str, Any]) -> Float[Tensor, ""]:
        weight = parameters["weight"]
        penalty = (self._penalty.strength(values) * weight.square()).sum()
        return F.cross_entropy(self._inputs @ weight, self._train[1]) + 0.5 * penalty

    def upper(self, parameters: Tree, values: Mapping[str, Any]) -> Float[Tensor, ""]:
        inputs, labels = self._validation
        return F.cross_entropy(inputs @ parameters["weight"], labels)

    def finite_sum(self) -> FiniteSum:
        def loss(split: tuple[Tensor, Tensor], weight: Tensor, examples: Examples) -> Float[Tensor, ""]:
            inputs, labels = split if examples is None else (part[examples] for part in split)
            return F.cross_entropy(inputs @ weight, labels)

        def lower(parameters: Tree, values: Mapping[str, Any], examples: Examples) -> Float[Tensor, ""]:
            weight = parameters["weight"]
            penalty = (self._penalty.strength(values) * weight.square()).sum()
            return loss(self._train, weight, examples) + 0.5 * penalty

        def upper(parameters: Tree, values: Mapping[str, Any], examples: Examples) -> Float[Tensor, ""]:
            return loss(self._validation, parameters["weight"], examples)

        return FiniteSum(lower, upper, len(self._train[1]), len(self._validation[1]))

    def lower_gradient(self, parameters: Tree, values: Mapping[str, Any]) -> Tree:
        weight = parameters["weight"]
        excess = torch.softmax(self._inputs @ weight, dim=1) - self._targets
        return {"weight": self._inputs.T @ excess / len(self._inputs) + self._penalty.strength(values) * weight}

    def hessian_product(self, parameters: Tree, values: Mapping[str, Any]) -> Callable[[Tree], Tree]:
        probabilities = torch.softmax(self._inputs @ parameters["weight"], dim=1)
        scaled = self._inputs.T / len(self._inputs)
        strength = self._penalty.strength(values)

        def product(v: Tree) -> Tree:
            logits = probabilities * (self._inputs @ v["weight"])
            change = logits - probabilities * logits.sum(dim=1, keepdim=True)
            return {"weight": scaled @ change + strength * v["weight"]}

        return product

    def constants(self, values: Mapping[str, Any], slopes: Mapping[str, Tensor]) -> Constants:
        weakest, strongest = self._penalty.range(values)
        # diag(p) - pp' has eigenvalues up to 1/2 and is sqrt(2)/2-Lipschitz in the logits
        return Constants(
            strong_convexity=weakest,
            smoothness=0.5 * self._moment + strongest,
            hessian_lipschitz=math.sqrt(0.5) * self._longest * self._moment,
            jacobian_lipschitz=self._penalty.jacobian_lipschitz(slopes),
            upper_smoothness=0.5 * self._upper_moment,
            upper_convex=True,
            certified=True,
        )

    def jacobian_norm(self, parameters: Tree, values: Mapping[str, Any], slopes: Mapping[str, Tensor]) -> float:
        return self._penalty.jacobian_norm(parameters["weight"], slopes)

    def metrics(self, parameters: Tree, values: Mapping[str, Any]) -> dict[str, float]:
        measured = {}
        for split, (inputs, labels) in (("validation", self._validation), ("test", self._test)):
            logits = inputs @ parameters["weight"]
            measured[f"{split}_loss"] = float(F.cross_entropy(logits, labels))
            measured[f"{split}_accuracy"] = float((logits.argmax(dim=1) == labels).double().mean())
        return measured


@dataclass
class LogisticRegression(SoftmaxRegression):
    """Logistic regression on scikit-learn's digits: 64 pixels and a bias, ten classes, 650 weights.

    Pixels are standardised by the mean and the standard deviation of the training split.

    Args:
        groups: one strength, or one per class (10), feature (65) or weight (650).
        train_examples, validation_examples: sizes of the two splits; the rest of the 1797 is the test split.
        split_seed: decides which images go into which split.
        dtype, device: of all tensors.

    Raises:
        SettingError: if a split is empty, or the device is not there.

    >>> len(LogisticRegression(groups="per_feature").hyperparameters[0].names)
    65
    """

    groups: Groups = "one"
    train_examples: int = 400
    validation_examples: int = 400
    split_seed: int = 0
    dtype: Literal["float64", "float32"] = "float64"
    device: str = "cpu"

    def __post_init__(self) -> None:
        left = EXAMPLES - self.train_examples - self.validation_examples
        if min(self.train_examples, self.validation_examples, left) < 1:
            raise SettingError(
                "train_examples",
                f"{self.train_examples} training and {self.validation_examples} validation examples leave {left}"
                f" of {EXAMPLES} for the test split; every split needs at least one",
            )
        check_device(self.device)
        inputs, labels = _load(self.train_examples, self.split_seed)
        inputs = inputs.to(dtype=getattr(torch, self.dtype), device=self.device)
        labels = labels.to(self.device)
        sizes = [self.train_examples, self.validation_examples, left]
        train, validation, test = zip(torch.split(inputs, sizes), torch.split(labels, sizes), strict=True)
        names = (*(f"{row}:{column}" for row in range(8) for column in range(8)), "bias")
        super().__init__(train, validation, test, CLASSES, self.groups, features=names)


tasks.register("logistic_regression", LogisticRegression)


def _load(train: int, seed: int) -> tuple[Float[Tensor, "1797 65"], Int[Tensor, "1797"]]:
    from sklearn.datasets import load_digits

    data = load_digits()
    order = torch.randperm(EXAMPLES, generator=torch.Generator().manual_seed(seed))
    pixels, labels = torch.tensor(data.data)[order], torch.tensor(data.target, dtype=torch.int64)[order]
    pixels = (pixels - pixels[:train].mean()) / pixels[:train].std()
    return torch.cat([pixels, torch.ones(EXAMPLES, 1)], dim=1), labels
