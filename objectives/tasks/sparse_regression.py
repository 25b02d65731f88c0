"""Sparse linear regression: Lasso, elastic net and group lasso, with one regularization strength or many."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from selftune.objectives.common.linear_models import mean_square
from selftune.objectives.data.diabetes import diabetes

from selftune.errors import SettingError
from selftune.hyperparameters import Hyperparameter, Positive
from selftune.lower_level.objective import tasks
from selftune.lower_level.proximal_terms import GroupNorm, L1Norm, ProximalTerm
from selftune.lower_level.smooth_objective import Constants, SmoothObjective, Tree
from selftune.shapes import Float, Int, Tensor

Penalty = Literal["lasso", "elastic_net", "group_lasso"]


class SparseLinearRegression(SmoothObjective):
    """Least squares with penalties that make weights zero, on any data.

    Lower level ``mean(0.5 (x w - y)^2) + 0.5 ridge |w|^2 + sum(strength |w|)`` on the training data, upper level
    ``mean(0.5 (x w - y)^2)`` on the validation data. With ``group_lasso`` the last term is ``sum over groups of
    strength sqrt(size) |w_group|``. The hyperparameters are ``sparse.strength`` and ``sparse.ridge``; the elastic
    net tunes both, the others hold the ridge, which keeps the lower level strongly convex. There is no intercept:
    centre the data, or add a feature.

    Args:
        train, validation, test: pairs of inputs (examples, features) and targets (examples,), of one type.
        penalty: which term makes zeros.
        strengths: one, or one per feature (per group, with ``group_lasso``).
        strength, ridge: at the start; positive.
        features: names of the features; None numbers them.
        groups: the number of each feature's group, from 0; needed by ``group_lasso``.

    Raises:
        SettingError: if a group lasso has no groups, or a start is not positive.

    >>> data = torch.randn(8, 3), torch.randn(8)
    >>> SparseLinearRegression(data, data, data, strengths="each").hyperparameters[0].names
    ('sparse.strength[0]', 'sparse.strength[1]', 'sparse.strength[2]')
    """

    def __init__(
        self,
        train: tuple[Tensor, Tensor],
        validation: tuple[Tensor, Tensor],
        test: tuple[Tensor, Tensor],
        penalty: Penalty = "lasso",
        strengths: Literal["one", "each"] = "one",
        strength: float = 0.1,
        ridge: float = 0.01,
        features: tuple[str, ...] | None = None,
        groups: Int[Tensor, "features"] | None = None,
        group_names: tuple[str, ...] | None = None,
    ) -> None:
        inputs, targets = train
        names = features or tuple(str(index) for index in range(inputs.shape[1]))
        self._groups = self._sizes = None
        if penalty == "group_lasso":
            if groups is None:
                raise SettingError("groups", "are needed by group_lasso: the number of each feature's group")
            self._groups = groups
            self._sizes = torch.bincount(groups).to(inputs)
            names = group_names or tuple(str(index) for index in range(len(self._sizes)))
        self._train, self._validation, self._test = train, validation, test
        parts = names if strengths == "each" else ()
        self.hyperparameters = (
            Hyperparameter(
                "sparse.strength", Positive(), (strength,) * len(parts) or strength, parts, tuned=True, shared=True
            ),
            Hyperparameter("sparse.ridge", Positive(), ridge, tuned=penalty == "elastic_net", shared=True),
        )
        self._moment = inputs.T @ inputs / len(inputs)
        self._correlation = inputs.T @ targets / len(inputs)
        self._lowest, self._highest = mean_square(inputs)
        self._upper_smoothness = mean_square(validation[0])[1]

    def parameters(self) -> dict[str, Tensor]:
        return {"weight": torch.zeros_like(self._correlation)}

    def terms(self, values: Mapping[str, Any], slopes: Mapping[str, Tensor]) -> Mapping[str, ProximalTerm]:
        strength, slope = values["sparse.strength"], slopes.get("sparse.strength", 0.0)
        if self._groups is None or self._sizes is None:
            return {"weight": L1Norm(strength, slope)}
        weights = self._sizes.sqrt()
        return {"weight": GroupNorm(strength * weights, self._groups, slope * weights)}

    def lower(self, parameters: Tree, values: Mapping[str, Any]) -> Float[Tensor, ""]:
        weight = parameters["weight"]
        penalty = values["sparse.ridge"] * weight.square().sum()
        loss: Tensor = 0.5 * ((self._train[0] @ weight - self._train[1]).square().mean() + penalty)
        return loss

    def upper(self, parameters: Tree, values: Mapping[str, Any]) -> Float[Tensor, ""]:
        inputs, targets = self._validation
        return 0.5 * (inputs @ parameters["weight"] - targets).square().mean()

    def lower_gradient(self, parameters: Tree, values: Mapping[str, Any]) -> Tree:
        weight = parameters["weight"]
        return {"weight": self._moment @ weight - self._correlation + values["sparse.ridge"] * weight}

    def hessian_product(self, parameters: Tree, values: Mapping[str, Any]) -> Callable[[Tree], Tree]:
        ridge = values["sparse.ridge"]
        return lambda v: {"weight": self._moment @ v["weight"] + ridge * v["weight"]}

    def constants(self, values: Mapping[str, Any], slopes: Mapping[str, Tensor]) -> Constants:
        ridge = float(values["sparse.ridge"])
        return Constants(
            strong_convexity=self._lowest + ridge,
            smoothness=self._highest + ridge,
            hessian_lipschitz=0.0,
            jacobian_lipschitz=_size(slopes),
            upper_smoothness=self._upper_smoothness,
            upper_convex=True,
            certified=True,
        )

    def jacobian_norm(self, parameters: Tree, values: Mapping[str, Any], slopes: Mapping[str, Tensor]) -> float:
        return _size(slopes) * float(parameters["weight"].norm())

    def metrics(self, parameters: Tree, values: Mapping[str, Any]) -> dict[str, float]:
        inputs, targets = self._test
        error = (inputs @ parameters["weight"] - targets).square().mean()
        return {
            "test_loss": 0.5 * float(error),
            "test_explained_variance": 1 - float(error / targets.square().mean()),
        }


def _size(slopes: Mapping[str, Tensor]) -> float:
    """Derivative of the ridge in its unconstrained coordinate."""
    return float(slopes["sparse.ridge"].abs()) if "sparse.ridge" in slopes else 0.0


@dataclass
class SparseRegression(SparseLinearRegression):
    """Sparse regression on scikit-learn's diabetes data: 442 patients, ten measurements and their products.

    Features and targets are standardised by the training split. Of the 65 quadratic features few are needed. The
    groups of ``group_lasso`` are each measurement with its products with itself and the later ones.

    Args:
        penalty: ``lasso``, ``elastic_net`` (the ridge is tuned, too) or ``group_lasso``.
        strengths: one, or one for each feature (or group).
        strength, ridge: at the start; positive.
        features: the ten measurements, or also their squares and products.
        train_examples, validation_examples: sizes of the two splits; the rest of the 442 is the test split.
        split_seed: decides which patients go into which split.
        dtype, device: of all tensors.

    Raises:
        SettingError: if a split is empty, the training split has fewer than two examples, or the device is not
            there.

    >>> [h.name for h in SparseRegression(penalty="elastic_net").hyperparameters if h.tuned]
    ['sparse.strength', 'sparse.ridge']
    """

    penalty: Penalty = "lasso"
    strengths: Literal["one", "each"] = "one"
    strength: float = 0.1
    ridge: float = 0.01
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
        measurements = tuple(dict.fromkeys(name.split("*")[0] for name in data.names))
        groups = torch.tensor([measurements.index(name.split("*")[0]) for name in data.names], device=self.device)
        super().__init__(
            data.train,
            data.validation,
            data.test,
            self.penalty,
            self.strengths,
            self.strength,
            self.ridge,
            data.names,
            groups,
            measurements,
        )


tasks.register("sparse_regression", SparseRegression)
