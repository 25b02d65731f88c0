"""The quadratic bilevel problem: both levels least squares, every answer in closed form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from selftune.errors import SettingError
from selftune.hyperparameters import Hyperparameter, Interval
from selftune.lower_level.objective import tasks
from selftune.lower_level.smooth_objective import Constants, SmoothObjective, Tree, check_device
from selftune.shapes import Float, Tensor

MOST = 100_000  # parameters; a square matrix of so many rows is made


@dataclass
class QuadraticBilevel(SmoothObjective):
    """min over t of ``0.5 |A1 x(t) - b1|^2``, where ``x(t)`` minimises ``0.5 |A2 x + A3 t - b2|^2``.

    The matrices are random, A2'A2 has eigenvalues from ``1 / condition`` to 1, and t, the hyperparameter
    ``quadratic.coefficients``, ranges over the real numbers. The response, the hypergradient and the optimum are
    known: ``response``, ``hypergradient``, ``optimum``.

    Args:
        parameter_count: length of x.
        hyperparameter_count: length of t.
        condition: condition number of the lower level.
        noise: standard deviation of the part of b1 that no x explains.
        seed: decides the matrices.
        dtype, device: of all tensors.

    Raises:
        SettingError: if a count, the condition or the noise is out of range, or the device is not there.

    Source: "An adaptively inexact first-order method for bilevel optimization with application to hyperparameter
    learning" (arXiv 2308.10098), its quadratic problem.

    >>> problem = QuadraticBilevel(parameter_count=6, hyperparameter_count=3)
    >>> bool(problem.hypergradient(problem.optimum()).norm() < 1e-12)
    True
    """

    parameter_count: int = 20
    hyperparameter_count: int = 10
    condition: float = 25.0
    noise: float = 0.1
    seed: int = 0
    dtype: Literal["float64", "float32"] = "float64"
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("parameter_count", "hyperparameter_count"):
            if getattr(self, name) < 1:
                raise SettingError(name, f"must be at least 1, got {getattr(self, name)}")
            if getattr(self, name) > MOST:
                raise SettingError(name, f"must be at most {MOST}, got {getattr(self, name)}")
        if self.hyperparameter_count > self.parameter_count:
            raise SettingError(
                "hyperparameter_count",
                f"must be at most parameter_count = {self.parameter_count}, or the optimum is not unique; got"
                f" {self.hyperparameter_count}",
            )
        if not 1 <= self.condition < float("inf"):
            raise SettingError("condition", f"must be a number of at least 1, got {self.condition}")
        if not 0 <= self.noise < float("inf"):
            raise SettingError("noise", f"must be a number of at least 0, got {self.noise}")
        check_device(self.device)
        self._draw()
        parts = tuple(str(index) for index in range(self.hyperparameter_count))
        zeros = (0.0,) * self.hyperparameter_count
        self.hyperparameters = (
            Hyperparameter("quadratic.coefficients", Interval(), zeros, parts, tuned=True, shared=True),
        )

    def _draw(self) -> None:
        n, d = self.parameter_count, self.hyperparameter_count
        generator = torch.Generator().manual_seed(self.seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        left, right = (torch.linalg.qr(normal(n, n)).Q for _ in range(2))
        singular = torch.logspace(0, -0.5, n, base=self.condition, dtype=torch.float64)
        a2 = left * singular @ right.T
        a3 = normal(n, d) / n**0.5
        b2 = normal(n)
        a1 = torch.eye(n, dtype=torch.float64) + 0.3 * normal(n, n) / n**0.5
        coefficients = normal(d)  # the optimum, but for the noise
        b1 = a1 @ torch.linalg.solve(a2, b2 - a3 @ coefficients) + self.noise * normal(n)
        like = {"dtype": getattr(torch, self.dtype), "device": self.device}
        self.a1, self.b1, self.a2, self.a3, self.b2 = (m.to(**like) for m in (a1, b1, a2, a3, b2))
        self._hessian = (a2.T @ a2).to(**like)
        self._mixed = (a2.T @ a3).to(**like)
        self._offset = (a2.T @ b2).to(**like)
        self._strong_convexity, self._smoothness = self.condition**-1.0, 1.0
        self._upper_smoothness = float(torch.linalg.matrix_norm(a1, 2)) ** 2

    # Closed forms -----------------------------------------------------------------------------------

    def response(self, coefficients: Float[Tensor, "d"]) -> Float[Tensor, "n"]:
        """The lower level's minimiser."""
        minimiser: Tensor = torch.linalg.solve(self._hessian, self._offset - self._mixed @ coefficients)
        return minimiser

    def hypergradient(self, coefficients: Float[Tensor, "d"]) -> Float[Tensor, "d"]:
        """Gradient in t of the upper level at the response."""
        residual = self.a1 @ self.response(coefficients) - self.b1
        gradient: Tensor = -self._mixed.T @ torch.linalg.solve(self._hessian, self.a1.T @ residual)
        return gradient

    def optimum(self) -> Float[Tensor, "d"]:
        """The t with the smallest upper level."""
        slope = self.a1 @ torch.linalg.solve(self._hessian, self._mixed)
        at_zero = self.response(self._mixed.new_zeros(self._mixed.shape[1]))
        best: Tensor = torch.linalg.lstsq(slope, self.a1 @ at_zero - self.b1).solution
        return best

    # The objective ----------------------------------------------------------------------------------

    def parameters(self) -> dict[str, Tensor]:
        return {"x": self._offset.new_zeros(self.parameter_count)}

    def lower(self, parameters: Tree, values: Mapping[str, Any]) -> Float[Tensor, ""]:
        residual = self.a2 @ parameters["x"] + self.a3 @ values["quadratic.coefficients"] - self.b2
        half_square: Tensor = 0.5 * residual @ residual
        return half_square

    def upper(self, parameters: Tree, values: Mapping[str, Any]) -> Float[Tensor, ""]:
        residual = self.a1 @ parameters["x"] - self.b1
        return 0.5 * residual @ residual

    def lower_gradient(self, parameters: Tree, values: Mapping[str, Any]) -> Tree:
        coefficients = values["quadratic.coefficients"]
        return {"x": self._hessian @ parameters["x"] + self._mixed @ coefficients - self._offset}

    def hessian_product(self, parameters: Tree, values: Mapping[str, Any]) -> Callable[[Tree], Tree]:
        return lambda v: {"x": self._hessian @ v["x"]}

    def constants(self, values: Mapping[str, Any], slopes: Mapping[str, Tensor]) -> Constants:
        return Constants(
            strong_convexity=self._strong_convexity,
            smoothness=self._smoothness,
            hessian_lipschitz=0.0,
            jacobian_lipschitz=0.0,
            upper_smoothness=self._upper_smoothness,
            upper_convex=True,
            certified=True,
        )

    def jacobian_norm(self, parameters: Tree, values: Mapping[str, Any], slopes: Mapping[str, Tensor]) -> float:
        if "quadratic.coefficients" not in slopes:
            return 0.0
        return float(torch.linalg.matrix_norm(self._mixed * slopes["quadratic.coefficients"], 2))


tasks.register("quadratic_bilevel", QuadraticBilevel)
