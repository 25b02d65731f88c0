"""Lower-level solvers: one file each, one signature, one certificate."""

from selftune.hypergradients.lower_solvers.accelerated_gradient import AcceleratedGradient
from selftune.hypergradients.lower_solvers.lbfgs import LimitedMemoryBFGS
from selftune.hypergradients.lower_solvers.lower_solver import (
    MAX_ITERATIONS,
    Certificate,
    LowerSolution,
    LowerSolver,
    Reject,
)
from selftune.hypergradients.lower_solvers.newton import Newton
from selftune.hypergradients.lower_solvers.proximal_gradient import ProximalGradient

lower_solvers: dict[str, type[LowerSolver]] = {
    "accelerated_gradient": AcceleratedGradient,
    "lbfgs": LimitedMemoryBFGS,
    "newton": Newton,
    "proximal_gradient": ProximalGradient,
}
"""Solvers by the name that settings use."""

__all__ = [
    "MAX_ITERATIONS",
    "AcceleratedGradient",
    "Certificate",
    "LimitedMemoryBFGS",
    "LowerSolution",
    "LowerSolver",
    "Newton",
    "ProximalGradient",
    "Reject",
    "lower_solvers",
]
