"""The oracle: both levels of a smooth objective as functions of flat vectors, every call counted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from selftune.hyperparameters import Space
from selftune.lower_level.proximal_terms import ActiveSet
from selftune.lower_level.smooth_objective import Constants, SmoothObjective, Tree
from selftune.shapes import Float, Tensor

Vector = Float[Tensor, "n"]
Product = Callable[[Tensor], Tensor]


@dataclass
class Counts:
    """Calls of an oracle: lower-level gradients, Hessian products, mixed products, upper-level evaluations.

    >>> (Counts(grad=5, hvp=3, jac=1, up=2) - Counts(grad=1)).work
    8
    """

    grad: int = 0
    hvp: int = 0
    jac: int = 0
    up: int = 0

    @property
    def work(self) -> int:
        """Evaluations of derivatives of the lower level, the unit in which methods are compared."""
        return self.grad + self.hvp + self.jac

    def copy(self) -> Counts:
        return replace(self)

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.grad + other.grad, self.hvp + other.hvp, self.jac + other.jac, self.up + other.up)

    def __sub__(self, other: Counts) -> Counts:
        return Counts(self.grad - other.grad, self.hvp - other.hvp, self.jac - other.jac, self.up - other.up)


class Oracle:
    """Lower level h and upper level g of an objective in x, n parameters, and u, d unconstrained hyperparameters.

    Notation: H the Hessian of h in x, J = d(grad_x h)/du of shape (n, d). All vectors are flat, in the type and on
    the device of the objective's parameters; results carry no graph. Every derivative of h is counted in
    ``counts``.

    Args:
        objective: the two levels.
        space: which hyperparameters are tuned; None takes the objective's own.
        seed: of the random directions behind estimated constants; what certified constants give is not random.

    >>> from selftune.objectives.tasks.quadratic_bilevel import QuadraticBilevel
    >>> oracle = Oracle(QuadraticBilevel(parameter_count=4, hyperparameter_count=2))
    >>> x, u = oracle.start_x(), oracle.start_u()
    >>> oracle.grad_x(x, u).shape, oracle.JT(x, u, x).shape
    (torch.Size([4]), torch.Size([2]))
    >>> oracle.counts
    Counts(grad=1, hvp=0, jac=1, up=0)
    """

    def __init__(self, objective: SmoothObjective, space: Space | None = None, seed: int = 0) -> None:
        self.objective = objective
        self.space = Space(objective.hyperparameters) if space is None else space  # an empty one is false
        self.counts = Counts()
        start = objective.parameters()
        self._shapes = {name: tensor.shape for name, tensor in start.items()}
        self._sizes = [tensor.numel() for tensor in start.values()]
        self._start = self.ravel(start).detach().clone()
        self._seen: tuple[Tensor, int, _At] | None = None
        self._generator = torch.Generator().manual_seed(seed)
        self._singular: Tensor | None = None
        self._change = (0.0, 0.0)

    # Vectors and trees ------------------------------------------------------------------------------

    @property
    def n(self) -> int:
        """Number of parameters."""
        return self._start.numel()

    @property
    def d(self) -> int:
        """Number of tuned hyperparameters."""
        return len(self.space)

    def start_x(self) -> Float[Tensor, "n"]:
        """The objective's own start."""
        return self._start.clone()

    def start_u(self) -> Float[Tensor, "d"]:
        """The hyperparameters' start values, unconstrained, in the parameters' type."""
        return self.space.start_as(self._start.dtype).to(self._start.device)

    def ravel(self, tree: Tree) -> Float[Tensor, "n"]:
        """Named tensors as one vector, in the order of the objective's parameters."""
        leaves = [tree[name].reshape(-1) for name in self._shapes]
        return leaves[0] if len(leaves) == 1 else torch.cat(leaves)

    def unravel(self, x: Float[Tensor, "n"]) -> dict[str, Tensor]:
        """The inverse of ``ravel``: views into ``x``."""
        pieces = zip(self._shapes.items(), torch.split(x, self._sizes), strict=True)
        return {name: piece.view(shape) for (name, shape), piece in pieces}

    def values(self, u: Float[Tensor, "d"]) -> dict[str, Any]:
        """Values of all hyperparameters, tuned and fixed, as the objective's functions take them."""
        return self._at(u).values

    def _at(self, u: Tensor) -> _At:
        # a solver asks hundreds of times for one u: remembered until another tensor comes, or this one changes
        if self._seen is None or self._seen[0] is not u or self._seen[1] != u._version:
            with torch.enable_grad():
                leaf = u.detach().requires_grad_()
                constrained = self.space.constrain(leaf)
                slopes = torch.autograd.grad(constrained.sum(), leaf)[0] if len(leaf) else torch.zeros_like(u)
            named = self.space.unpack(slopes)
            at = _At(self.space.unpack(constrained.detach()), {h.name: named[h.name] for h in self.space.tuned})
            self._seen = (u, u._version, at)
        return self._seen[2]

    # Lower level ------------------------------------------------------------------------------------

    def grad_x(self, x: Float[Tensor, "n"], u: Float[Tensor, "d"]) -> Float[Tensor, "n"]:
        """Gradient of h in x."""
        self.counts.grad += 1
        return self._gradient(x.detach(), self.values(u), kept=False)

    def value_and_grad(self, x: Float[Tensor, "n"], u: Float[Tensor, "d"]) -> tuple[float, Float[Tensor, "n"]]:
        """h and its gradient in x, counted as one gradient."""
        self.counts.grad += 1
        values = self.values(u)
        tree = self.unravel(x.detach())
        closed = self.objective.lower_gradient(tree, values)
        if closed is not None:
            return float(self.objective.lower(tree, values)), self.ravel(closed)
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            value = self.objective.lower(self.unravel(leaf), values)
            return float(value.detach()), torch.autograd.grad(value, leaf)[0]

    def _gradient(self, x: Tensor, values: Mapping[str, Any], kept: bool) -> Tensor:
        """Gradient of h in x; ``kept`` with its graph, for a second derivative."""
        closed = self.objective.lower_gradient(self.unravel(x), values)
        if closed is not None:
            return self.ravel(closed)
        with torch.enable_grad():
            leaf = x if x.requires_grad else x.detach().requires_grad_()
            value = self.objective.lower(self.unravel(leaf), values)
            return torch.autograd.grad(value, leaf, create_graph=kept)[0]

    def hvp(self, x: Float[Tensor, "n"], u: Float[Tensor, "d"], forward: bool = False) -> Product:
        """v -> Hv at x, linearised once: a product costs about half a gradient.

        ``forward`` differentiates forwards instead of keeping the graph: four times the time, no memory.
        """
        values = self.values(u)
        x = x.detach()
        linear = self._forward_product(x, values) if forward else self._product(x, values)

        def product(v: Tensor) -> Tensor:
            self.counts.hvp += 1
            return linear(v)

        return product

    def _product(self, x: Tensor, values: Mapping[str, Any]) -> Product:
        closed = self.objective.hessian_product(self.unravel(x), values)
        if closed is not None:
            return lambda v: self.ravel(closed(self.unravel(v)))
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            gradient = self._gradient(leaf, values, kept=True)
        if not gradient.requires_grad:  # h is linear in x
            return torch.zeros_like

        def product(v: Tensor) -> Tensor:
            along = torch.autograd.grad(gradient, leaf, v, retain_graph=True, materialize_grads=True)
            return along[0]

        return product

    def _forward_product(self, x: Tensor, values: Mapping[str, Any]) -> Product:
        def gradient(at: Tensor) -> Tensor:
            closed = self.objective.lower_gradient(self.unravel(at), values)
            if closed is not None:
                return self.ravel(closed)
            along: Tensor = torch.func.grad(lambda y: self.objective.lower(self.unravel(y), values))(at)
            return along

        def product(v: Tensor) -> Tensor:
            along: Tensor = torch.func.jvp(gradient, (x,), (v,))[1]
            return along

        return product

    def _mixed(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """A leaf of u, and the gradient of h in x as a function of it."""
        with torch.enable_grad():
            leaf = u.detach().requires_grad_()
            return leaf, self._gradient(x.detach(), self.space.values(leaf), kept=True)

    def JT(self, x: Float[Tensor, "n"], u: Float[Tensor, "d"], q: Float[Tensor, "n"]) -> Float[Tensor, "d"]:
        """J'q."""
        self.counts.jac += 1
        leaf, gradient = self._mixed(x, u)
        if not gradient.requires_grad:
            return torch.zeros_like(u)
        return torch.autograd.grad(gradient, leaf, q, materialize_grads=True)[0]

    def J(self, x: Float[Tensor, "n"], u: Float[Tensor, "d"], w: Float[Tensor, "d"]) -> Float[Tensor, "n"]:
        """Jw, as the derivative of J'v in v, so that every operation with a derivative will do."""
        self.counts.jac += 1
        leaf, gradient = self._mixed(x, u)
        if not gradient.requires_grad:
            return torch.zeros_like(x)
        with torch.enable_grad():
            v = torch.zeros_like(x).requires_grad_()
            (pulled,) = torch.autograd.grad(gradient, leaf, v, create_graph=True, materialize_grads=True)
        if not pulled.requires_grad:
            return torch.zeros_like(x)
        return torch.autograd.grad(pulled, v, w, materialize_grads=True)[0]

    @cached_property
    def nonsmooth(self) -> bool:
        """Whether the lower level has a term that is not smooth."""
        return self.prox(self._start, self.start_u(), 1.0) is not None

    def prox(self, x: Float[Tensor, "n"], u: Float[Tensor, "d"], step: float) -> Float[Tensor, "n"] | None:
        """Proximal map of the lower level's term that is not smooth; None where there is none."""
        tree = self.objective.proximal(self.unravel(x.detach()), self.values(u), step)
        return None if tree is None else self.ravel(tree)

    def active_set(
        self, y: Float[Tensor, "n"], u: Float[Tensor, "d"], step: float, error: float
    ) -> ActiveSet | None:
        """The piece of that map which holds y; its constants hold within ``error`` of prox(y). None: not known."""
        at = self._at(u)
        return self.objective.active_set(self.unravel(y.detach()), at.values, at.slopes, step, error)

    # Upper level ------------------------------------------------------------------------------------

    def upper(self, x: Float[Tensor, "n"], u: Float[Tensor, "d"]) -> float:
        """g."""
        self.counts.up += 1
        return float(self.objective.upper(self.unravel(x.detach()), self.values(u)))

    def upper_value_and_grad(
        self, x: Float[Tensor, "n"], u: Float[Tensor, "d"]
    ) -> tuple[float, Float[Tensor, "n"]]:
        """g and its gradient in x, counted once."""
        self.counts.up += 1
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            value = self.objective.upper(self.unravel(leaf), self.values(u))
            return float(value.detach()), torch.autograd.grad(value, leaf)[0]

    def upper_grad_x(self, x: Float[Tensor, "n"], u: Float[Tensor, "d"]) -> Float[Tensor, "n"]:
        """Gradient of g in x."""
        return self.upper_value_and_grad(x, u)[1]

    def upper_grad_u(self, x: Float[Tensor, "n"], u: Float[Tensor, "d"]) -> Float[Tensor, "d"]:
        """Gradient of g in u at fixed x; zero where the upper level does not depend on the hyperparameters."""
        self.counts.up += 1
        with torch.enable_grad():
            leaf = u.detach().requires_grad_()
            value = self.objective.upper(self.unravel(x.detach()), self.space.values(leaf))
            if not value.requires_grad:
                return torch.zeros_like(u)
            return torch.autograd.grad(value, leaf, materialize_grads=True)[0]

    # Constants --------------------------------------------------------------------------------------

    def constants(self, u: Float[Tensor, "d"]) -> Constants:
        """Constants of both levels at u.

        Raises:
            NotStronglyConvex: if the lower level has no positive strong convexity there.
        """
        at = self._at(u)
        if at.constants is None:
            at.constants = self.objective.constants(at.values, at.slopes)
            self.counts.hvp += at.constants.products
        return at.constants

    def settle(self, u: Float[Tensor, "d"], constants: Constants) -> None:
        """Takes these constants for u from now on: estimates that had to give way to what was met."""
        self._at(u).constants = constants

    def norm_J(self, x: Float[Tensor, "n"], u: Float[Tensor, "d"]) -> float:
        """Spectral norm of J at x: the objective's bound, or 1.1 times an estimate by power iterations.

        The estimate is a lower bound before the factor: never a certificate. It takes 8 iterations (16 mixed
        products) at first and 2 afterwards, from the singular vector of the last call.
        """
        at = self._at(u)
        bound = self.objective.jacobian_norm(self.unravel(x.detach()), at.values, at.slopes)
        if bound is not None:
            return bound
        iterations = 8 if self._singular is None else 2
        w = self._unit(self.d) if self._singular is None else self._singular
        norm = 0.0
        for _ in range(iterations):
            pulled = self.JT(x, u, self.J(x, u, w))
            norm = math.sqrt(float(pulled.norm()))  # w has norm 1, so |J'Jw| estimates the square
            if norm == 0:
                return 0.0
            w = pulled / pulled.norm()
        self._singular = w
        return 1.1 * norm

    def lipschitz(
        self, x: Float[Tensor, "n"], u: Float[Tensor, "d"], q: Float[Tensor, "n"], error: float
    ) -> tuple[float, float]:
        """L_H and L_J for an error bound at x: the proven constants, or estimates where they are not certified.

        An estimate compares products with q at x and at distance ``max(error, 1e-6)`` in one random direction,
        doubles the quotient, and keeps a running maximum that forgets a tenth per call. Costs 2 Hessian and 2
        mixed products.
        """
        constants = self.constants(u)
        if constants.certified:
            return constants.hessian_lipschitz, constants.jacobian_lipschitz
        distance = max(error, 1e-6)
        size = float(q.norm())
        if size == 0:
            return self._change
        moved = x + distance * self._unit(self.n)
        hessian = (self.hvp(moved, u)(q) - self.hvp(x, u)(q)).norm()
        jacobian = (self.JT(moved, u, q) - self.JT(x, u, q)).norm()
        scale = 2 / (distance * size)
        self._change = (
            max(0.9 * self._change[0], scale * float(hessian)),
            max(0.9 * self._change[1], scale * float(jacobian)),
        )
        return self._change

    def _unit(self, size: int) -> Tensor:
        direction = torch.randn(size, generator=self._generator, dtype=torch.float64)
        unit: Tensor = (direction / direction.norm()).to(self._start)
        return unit


@dataclass
class _At:
    """What depends on u alone."""

    values: dict[str, Any]
    slopes: dict[str, Tensor]
    constants: Constants | None = None
