"""Update maps of the lower level, x <- Phi(x, u), with the products that hypergradients through them take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, final

import torch

from selftune.errors import SettingError
from selftune.hypergradients.oracle import Oracle
from selftune.shapes import Float, Tensor


class UpdateMap(Protocol):
    """One step of a lower-level solver, and its derivatives A = dPhi/dx (n, n), B = dPhi/du (n, d).

    A solver with memory, such as momentum, is a map of its whole state: x is then parameters and memory in one.
    """

    def __call__(self, x: Float[Tensor, "n"], u: Float[Tensor, "d"]) -> Float[Tensor, "n"]:
        """Phi(x, u)."""
        ...

    def pull_x(self, x: Float[Tensor, "n"], u: Float[Tensor, "d"]) -> Callable[[Tensor], Tensor]:
        """q -> A'q, linearised once."""
        ...

    def pull_u(self, x: Float[Tensor, "n"], u: Float[Tensor, "d"], q: Float[Tensor, "n"]) -> Float[Tensor, "d"]:
        """B'q."""
        ...

    def push(
        self, x: Float[Tensor, "n"], u: Float[Tensor, "d"], tangents: Float[Tensor, "n d"]
    ) -> Float[Tensor, "n d"]:
        """A Z + B for tangents Z."""
        ...


@final
@dataclass(frozen=True)
class GradientStep:
    """Phi(x, u) = x - length * grad_x h(x, u), by an oracle that counts: A = I - length H, B = -length J.

    Raises:
        SettingError: if the lower level has a term that is not smooth, which this step leaves out.

    >>> from selftune.objectives.tasks.quadratic_bilevel import QuadraticBilevel
    >>> oracle = Oracle(QuadraticBilevel(parameter_count=4, hyperparameter_count=2))
    >>> step = GradientStep(oracle, length=1.0)
    >>> x, u = oracle.start_x(), oracle.start_u()
    >>> bool((step(x, u) == x - oracle.grad_x(x, u)).all())
    True
    """

    oracle: Oracle
    length: float

    def __post_init__(self) -> None:
        if self.oracle.nonsmooth:
            raise SettingError("oracle", "a gradient step leaves out the lower level's term that is not smooth")

    def __call__(self, x: Float[Tensor, "n"], u: Float[Tensor, "d"]) -> Float[Tensor, "n"]:
        return x - self.length * self.oracle.grad_x(x, u)

    def pull_x(self, x: Float[Tensor, "n"], u: Float[Tensor, "d"]) -> Callable[[Tensor], Tensor]:
        hvp = self.oracle.hvp(x, u)
        return lambda q: q - self.length * hvp(q)

    def pull_u(self, x: Float[Tensor, "n"], u: Float[Tensor, "d"], q: Float[Tensor, "n"]) -> Float[Tensor, "d"]:
        return -self.length * self.oracle.JT(x, u, q)

    def push(
        self, x: Float[Tensor, "n"], u: Float[Tensor, "d"], tangents: Float[Tensor, "n d"]
    ) -> Float[Tensor, "n d"]:
        hvp = self.oracle.hvp(x, u)
        units = torch.eye(len(u)).to(u)
        columns = [hvp(z) + self.oracle.J(x, u, e) for z, e in zip(tangents.T, units, strict=True)]
        return tangents - self.length * torch.stack(columns, dim=1)


@final
@dataclass(frozen=True)
class DifferentiableMap:
    """Any Phi written in differentiable torch operations, its products by ``torch.func``.

    Gradients inside Phi must be taken by ``torch.func.grad``, so that they can be differentiated again.

    >>> step = DifferentiableMap(lambda x, u: 0.5 * x + u)
    >>> step.push(torch.zeros(1), torch.ones(1), torch.ones(1, 1))
    tensor([[1.5000]])
    """

    function: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, x: Float[Tensor, "n"], u: Float[Tensor, "d"]) -> Float[Tensor, "n"]:
        return self.function(x, u).detach()

    def pull_x(self, x: Float[Tensor, "n"], u: Float[Tensor, "d"]) -> Callable[[Tensor], Tensor]:
        pull = torch.func.vjp(lambda at: self.function(at, u), x)[1]
        return lambda q: pull(q)[0].detach()

    def pull_u(self, x: Float[Tensor, "n"], u: Float[Tensor, "d"], q: Float[Tensor, "n"]) -> Float[Tensor, "d"]:
        pull = torch.func.vjp(lambda at: self.function(x, at), u)[1]
        pulled: Tensor = pull(q)[0]
        return pulled.detach()

    def push(
        self, x: Float[Tensor, "n"], u: Float[Tensor, "d"], tangents: Float[Tensor, "n d"]
    ) -> Float[Tensor, "n d"]:
        units = torch.eye(len(u)).to(u)
        columns = [
            torch.func.jvp(self.function, (x, u), (z.contiguous(), e))[1]
            for z, e in zip(tangents.T, units, strict=True)
        ]
        return torch.stack(columns, dim=1).detach()
