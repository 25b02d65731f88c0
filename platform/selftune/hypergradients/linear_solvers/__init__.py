"""Linear solvers for hypergradients: H q = b by products with H alone, one solver one file."""

from selftune.hypergradients.linear_solvers.conjugate_gradient import ConjugateGradient
from selftune.hypergradients.linear_solvers.deep_conjugate_direction import DeepConjugateDirection
from selftune.hypergradients.linear_solvers.fixed_point import FixedPoint
from selftune.hypergradients.linear_solvers.gradient_normalized_newton import GradientNormalizedNewton
from selftune.hypergradients.linear_solvers.greedy_block_coordinate_descent import GreedyBlockCoordinateDescent
from selftune.hypergradients.linear_solvers.linear_solver import LinearSolution, LinearSolver, NegativeCurvature
from selftune.hypergradients.linear_solvers.minres import Minres
from selftune.hypergradients.linear_solvers.neumann_series import NeumannSeries

linear_solvers: dict[str, type[LinearSolver] | type[GradientNormalizedNewton]] = {
    "conjugate_gradient": ConjugateGradient,
    "deep_conjugate_direction": DeepConjugateDirection,
    "fixed_point": FixedPoint,
    "gradient_normalized_newton": GradientNormalizedNewton,
    "greedy_block_coordinate_descent": GreedyBlockCoordinateDescent,
    "minres": Minres,
    "neumann_series": NeumannSeries,
}
"""Solvers by name."""

__all__ = [
    "ConjugateGradient",
    "DeepConjugateDirection",
    "FixedPoint",
    "GradientNormalizedNewton",
    "GreedyBlockCoordinateDescent",
    "LinearSolution",
    "LinearSolver",
    "Minres",
    "NegativeCurvature",
    "NeumannSeries",
    "linear_solvers",
]
