"""Least squares with terms that are not smooth, of every kind, and their hypergradients by finite differences."""

import torch
from smooth_problems import normal

from selftune.hypergradients.lower_solvers import ProximalGradient
from selftune.hypergradients.oracle import Oracle
from selftune.hyperparameters import Hyperparameter, Interval, Positive
from selftune.lower_level.proximal_terms import Box, GroupNorm, L1Norm, Simplex
from selftune.lower_level.smooth_objective import Constants, SmoothObjective

GROUPS = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 3])


class LeastSquares(SmoothObjective):
    """0.5 |Xw - y|^2 / n + 0.5 ridge |w|^2 below, 0.5 |Xw - y|^2 / n on other data above."""

    hyperparameters = (Hyperparameter("ridge", Positive(), 0.1, tuned=True),)

    def __init__(self, seed=0, examples=30, width=12):
        weight = normal(seed + 1, width) * (normal(seed + 2, width) > 0)
        self.inputs, self.other = normal(seed, examples, width), normal(seed + 3, examples, width)
        self.targets = self.inputs @ weight + 0.3 * normal(seed + 4, examples)
        self.wanted = self.other @ weight + 0.3 * normal(seed + 5, examples)
        self.spectrum = torch.linalg.eigvalsh(self.inputs.T @ self.inputs / examples)
        self.upper_spectrum = torch.linalg.eigvalsh(self.other.T @ self.other / examples)

    def parameters(self):
        return {"w": torch.zeros(self.inputs.shape[1], dtype=torch.float64)}

    def lower(self, parameters, values):
        fit = (self.inputs @ parameters["w"] - self.targets).square().mean()
        return 0.5 * (fit + values["ridge"] * parameters["w"].square().sum())

    def upper(self, parameters, values):
        return 0.5 * (self.other @ parameters["w"] - self.wanted).square().mean()

    def constants(self, values, slopes):
        ridge = float(values["ridge"])
        return Constants(
            strong_convexity=float(self.spectrum[0]) + ridge,
            smoothness=float(self.spectrum[-1]) + ridge,
            hessian_lipschitz=0.0,
            jacobian_lipschitz=float(slopes.get("ridge", torch.zeros(()))),
            upper_smoothness=float(self.upper_spectrum[-1]),
            upper_convex=True,
            certified=True,
        )

    def jacobian_norm(self, parameters, values, slopes):
        return float(slopes.get("ridge", torch.zeros(()))) * float(parameters["w"].norm())


class Lasso(LeastSquares):
    """One strength; the ridge is not tuned."""

    def __init__(self, seed=0, start=0.2, **shape):
        super().__init__(seed, **shape)
        self.hyperparameters = (
            Hyperparameter("ridge", Positive(), 0.01),
            Hyperparameter("lasso", Positive(), start, tuned=True),
        )

    def terms(self, values, slopes):
        return {"w": L1Norm(values["lasso"], slopes.get("lasso"))}


class WeightedLasso(LeastSquares):
    """A strength per weight."""

    def __init__(self, seed=0):
        super().__init__(seed)
        width = self.inputs.shape[1]
        parts = tuple(str(number) for number in range(width))
        starts = tuple(0.1 * (1 + number % 3) for number in range(width))
        self.hyperparameters = (
            Hyperparameter("ridge", Positive(), 0.01),
            Hyperparameter("lasso", Positive(), starts, parts, tuned=True),
        )

    def terms(self, values, slopes):
        return {"w": L1Norm(values["lasso"], slopes.get("lasso"))}


class ElasticNet(LeastSquares):
    """One strength in the proximal map, one in the smooth part."""

    hyperparameters = (
        Hyperparameter("ridge", Positive(), 0.1, tuned=True),
        Hyperparameter("lasso", Positive(), 0.2, tuned=True),
    )

    def terms(self, values, slopes):
        return {"w": L1Norm(values["lasso"], slopes.get("lasso"))}


class GroupLasso(LeastSquares):
    """A strength per group, and the ridge."""

    hyperparameters = (
        Hyperparameter("ridge", Positive(), 0.1, tuned=True),
        Hyperparameter("group", Positive(), (0.2, 0.5, 0.8, 0.2), ("a", "b", "c", "d"), tuned=True),
    )

    def terms(self, values, slopes):
        return {"w": GroupNorm(values["group"], GROUPS, slopes.get("group"))}


class Boxed(LeastSquares):
    """Bounds that move with hyperparameters, and the ridge."""

    hyperparameters = (
        Hyperparameter("ridge", Positive(), 0.1, tuned=True),
        Hyperparameter("lower", Interval(-2.0, 0.0), -0.3, tuned=True),
        Hyperparameter("upper", Positive(), 0.4, tuned=True),
    )

    def terms(self, values, slopes):
        return {"w": Box(values["lower"], values["upper"], slopes.get("lower"), slopes.get("upper"))}


class OnSimplex(LeastSquares):
    """A total that is tuned, and the ridge."""

    hyperparameters = (
        Hyperparameter("ridge", Positive(), 0.1, tuned=True),
        Hyperparameter("total", Positive(), 1.5, tuned=True),
    )

    def terms(self, values, slopes):
        return {"w": Simplex(values["total"], slopes.get("total"))}


class TwoParts(LeastSquares):
    """A matrix with a strength per column, a vector on a simplex as large as their sum, a number that is free."""

    hyperparameters = (
        Hyperparameter("ridge", Positive(), 0.1, tuned=True),
        Hyperparameter("lasso", Positive(), (0.2, 0.3), ("left", "right"), tuned=True),
    )

    def parameters(self):
        shapes = {"matrix": (3, 2), "simplex": (5,), "free": ()}
        return {name: torch.zeros(shape, dtype=torch.float64) for name, shape in shapes.items()}

    @staticmethod
    def joined(parameters):
        return {"w": torch.cat([parameters[name].reshape(-1) for name in ("matrix", "simplex", "free")])}

    def lower(self, parameters, values):
        return super().lower(self.joined(parameters), values)

    def upper(self, parameters, values):
        return super().upper(self.joined(parameters), values)

    def jacobian_norm(self, parameters, values, slopes):
        return super().jacobian_norm(self.joined(parameters), values, slopes)

    def terms(self, values, slopes):
        strength, slope = values["lasso"], slopes.get("lasso")
        total = strength.sum()
        return {
            "matrix": L1Norm(strength, slope),
            "simplex": Simplex(total, None if slope is None else slope.norm()),
        }


class OwnMap(LeastSquares):
    """An elastic net whose two strengths stand in a proximal map of the user's own."""

    hyperparameters = (
        Hyperparameter("ridge", Positive(), 0.01),
        Hyperparameter("lasso", Positive(), 0.2, tuned=True),
        Hyperparameter("shrink", Positive(), 0.1, tuned=True),
    )

    def proximal(self, parameters, values, step):
        w, level = parameters["w"], step * values["lasso"]
        return {"w": w.sign() * (w.abs() - level).clamp(min=0) / (1 + step * values["shrink"])}


class OwnGroupMap(GroupLasso):
    """A group lasso by a map of the user's own: each group's block in turn."""

    def terms(self, values, slopes):
        return {}

    def proximal(self, parameters, values, step):
        blocks = []
        for number, block in enumerate(parameters["w"].split([3, 3, 2, 4])):
            scale = 1 - step * values["group"][number] / block.norm()
            blocks.append(block * scale.clamp(min=0))
        return {"w": torch.cat(blocks)}


KINDS = {
    "lasso": Lasso,
    "weighted_lasso": WeightedLasso,
    "elastic_net": ElasticNet,
    "group_lasso": GroupLasso,
    "box": Boxed,
    "simplex": OnSimplex,
    "two_parts": TwoParts,
}
OWN = {"own_map": OwnMap, "own_group_map": OwnGroupMap}


def solve(oracle, u, error=1e-13):
    """The minimiser, as closely as float64 allows."""
    return ProximalGradient().solve(oracle, u, oracle.start_x(), error)


def level(oracle, u):
    """f(u): the upper level at the minimiser."""
    return oracle.upper(solve(oracle, u).x, u)


def differences(oracle, u, width=1e-5):
    """The gradient of f by central differences."""
    steps = width * torch.eye(oracle.d, dtype=torch.float64)
    slopes = [(level(oracle, u + s) - level(oracle, u - s)) / (2 * width) for s in steps]
    return torch.tensor(slopes, dtype=torch.float64)


def start(make, seed=0, spread=0.0):
    """An oracle and hyperparameters near the objective's start."""
    oracle = Oracle(make(seed))
    return oracle, oracle.start_u() + spread * normal(seed + 7, oracle.d)
