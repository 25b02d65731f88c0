"""Small smooth objectives of every kind, random points in them, and their exact derivatives as dense matrices."""

import torch
from selftune.objectives.tasks.field_of_experts_denoising import FieldOfExpertsDenoising
from selftune.objectives.tasks.logistic_regression import SoftmaxRegression
from selftune.objectives.tasks.quadratic_bilevel import QuadraticBilevel
from selftune.objectives.tasks.ridge import RidgeRegression
from selftune.objectives.tasks.total_variation_denoising import TotalVariationDenoising

from selftune.hyperparameters import Hyperparameter, Interval, Positive
from selftune.lower_level.smooth_objective import Constants, SmoothObjective

SMALL = {"train_crops": 2, "validation_crops": 1, "test_crops": 1, "crop": 9}


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def regression(groups):
    inputs, weight = normal(0, 60, 6), normal(1, 6)
    targets = inputs @ weight + normal(2, 60)
    splits = list(zip(inputs.split(20), targets.split(20), strict=True))
    return RidgeRegression(*splits, groups=groups)


def classification(groups):
    inputs, weight = normal(3, 90, 5), normal(4, 5, 3)
    labels = (inputs @ weight + normal(5, 90, 3)).argmax(dim=1)
    splits = list(zip(inputs.split(30), labels.split(30), strict=True))
    return SoftmaxRegression(*splits, classes=3, groups=groups, start=0.1)


class Plain(SmoothObjective):
    """Everything by autograd: two named tensors, a fixed hyperparameter, an upper level that depends on the tuned
    ones, which have different domains."""

    def __init__(self):
        self.inputs, self.targets = normal(6, 12, 4), normal(7, 12)
        self.hyperparameters = (
            Hyperparameter("plain.strength", Positive(), (0.2, 0.5), ("weight", "bias"), tuned=True),
            Hyperparameter("plain.fixed", Positive(), 0.5),
            Hyperparameter("plain.shift", Interval(-1.0, 2.0), 0.3, tuned=True),
        )

    def parameters(self):
        return {"weight": torch.zeros(2, 2, dtype=torch.float64), "bias": torch.zeros(3, dtype=torch.float64)}

    def _residual(self, parameters, shift):
        linear = self.inputs @ parameters["weight"].reshape(-1) + parameters["bias"].sum()
        return linear - self.targets - shift

    def lower(self, parameters, values):
        weight, bias = (parameters[name].square().sum() for name in ("weight", "bias"))
        fit = torch.sqrt(1 + self._residual(parameters, values["plain.shift"]).square()).mean()
        penalty = values["plain.strength"] @ torch.stack([weight, bias])
        return fit + 0.5 * penalty + 0.5 * values["plain.fixed"] * weight

    def upper(self, parameters, values):
        return (
            self._residual(parameters, 0.5).square().mean() + values["plain.shift"] ** 2 * parameters["bias"].sum()
        )

    def constants(self, values, slopes):
        strength = values["plain.strength"]
        features = torch.cat([self.inputs, torch.ones(12, 3, dtype=torch.float64)], dim=1)
        moment = float(torch.linalg.eigvalsh(features.T @ features / 12)[-1])
        longest = float(features.norm(dim=1).max())
        mixed = float(slopes["plain.shift"]) * longest
        largest = float(slopes["plain.strength"].max())
        return Constants(
            strong_convexity=float(torch.minimum(strength[0] + values["plain.fixed"], strength[1])),
            smoothness=moment + float(strength.max() + values["plain.fixed"]),
            hessian_lipschitz=0.8587 * longest * moment,
            jacobian_lipschitz=(largest**2 + (mixed * longest) ** 2) ** 0.5,
            upper_smoothness=2 * moment,
            upper_convex=True,
            certified=False,  # its jacobian_norm is estimated
            upper_mixed_smoothness=2 * float((values["plain.shift"] * slopes["plain.shift"]).abs()) * 3**0.5,
        )


PROBLEMS = {
    "quadratic": lambda: QuadraticBilevel(parameter_count=12, hyperparameter_count=5),
    "ridge_one": lambda: regression("one"),
    "ridge_per_feature": lambda: regression("per_feature"),
    "softmax_one": lambda: classification("one"),
    "softmax_per_class": lambda: classification("per_class"),
    "softmax_per_feature": lambda: classification("per_feature"),
    "softmax_per_weight": lambda: classification("per_weight"),
    "total_variation": lambda: TotalVariationDenoising(**SMALL),
    "field_of_experts": lambda: FieldOfExpertsDenoising(experts=2, filter_size=3, **SMALL),
    "plain": Plain,
}


def draw(oracle, seed, spread=0.7):
    """A random point and random hyperparameters around the start."""
    return oracle.start_x() + spread * normal(seed, oracle.n), oracle.start_u() + spread * normal(
        1000 + seed, oracle.d
    )


def hessian(oracle, x, u):
    product = oracle.hvp(x, u)
    return torch.stack([product(row) for row in torch.eye(oracle.n, dtype=x.dtype)], dim=1)


def jacobian(oracle, x, u):
    return torch.stack([oracle.J(x, u, row) for row in torch.eye(oracle.d, dtype=x.dtype)], dim=1)


def relative(found, wanted):
    return float((found - wanted).norm() / wanted.norm())


class WithoutClosedForms(SmoothObjective):
    """Another objective, all derivatives by autograd."""

    def __init__(self, objective):
        self.hyperparameters = objective.hyperparameters
        self.objective = objective

    def parameters(self):
        return self.objective.parameters()

    def lower(self, parameters, values):
        return self.objective.lower(parameters, values)

    def upper(self, parameters, values):
        return self.objective.upper(parameters, values)

    def constants(self, values, slopes):
        return self.objective.constants(values, slopes)
