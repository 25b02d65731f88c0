"""What must fit together before a smooth lower level is solved: one set of checks for study files and calls."""

from __future__ import annotations

from collections.abc import Iterator

from selftune.errors import SettingError
from selftune.hypergradients.derivative_check import check_derivatives
from selftune.hypergradients.oracle import Oracle
from selftune.lower_level.smooth_objective import NotStronglyConvex, SmoothObjective


def problem_mistakes(objective: SmoothObjective, solver: str) -> Iterator[SettingError]:
    """What is wrong with an objective by itself, or with its solver."""
    oracle = Oracle(objective)
    try:
        oracle.constants(oracle.start_u())
    except NotStronglyConvex as error:
        yield SettingError("objective", str(error))
        return
    try:
        check_derivatives(objective)
    except SettingError as error:
        yield SettingError("objective", f"{error.key} {error.message}")
        return
    except FloatingPointError as error:
        yield SettingError("objective", str(error))
        return
    proximal = solver == "proximal_gradient"
    if not proximal and oracle.nonsmooth:
        yield SettingError(
            "method.solver", "must be proximal_gradient, because the lower level has a term that is not smooth"
        )
