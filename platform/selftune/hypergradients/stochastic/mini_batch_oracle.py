"""The oracle of stochastic solvers: both levels as means over examples, differentiated on one batch at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch

from selftune.errors import SettingError
from selftune.hypergradients.linear_solvers.linear_solver import Product
from selftune.hypergradients.oracle import Counts
from selftune.shapes import Float, Int, Tensor

Index = Int[Tensor, "b"] | None
"""Numbers of the examples of a batch; None stands for all."""

Level = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(x, u, index) -> the mean over the examples ``index``, of shape (), differentiable in x and u."""


class MiniBatchOracle:
    """Lower level h and upper level g in flat x, n parameters, and u, d hyperparameters, as means over examples.

    Notation: H the Hessian of h in x, J = d(grad_x h)/du of shape (n, d), both of the batch that is asked for.
    Results carry no graph; nothing waits for the device. Every derivative is counted in ``counts``, one of a
    batch like one of all examples.

    Args:
        lower: h as a function (x, u, index), twice differentiable. The same arguments must give the same value:
            noise inside (dropout, augmentation) has to be fixed by the index.
        upper: g likewise.
        lower_examples: how many examples h is the mean of, at least 1.
        upper_examples: the same of g.

    Raises:
        SettingError: if a number of examples is below 1.

    >>> inputs, targets = torch.eye(3), torch.ones(3)
    >>> def lower(x, u, index):
    ...     chosen = slice(None) if index is None else index
    ...     return (inputs[chosen] @ x - targets[chosen]).square().mean() + u.exp().sum() * x.square().sum()
    >>> oracle = MiniBatchOracle(lower, lambda x, u, index: x.square().sum(), 3, 1)
    >>> gradient, hessian_product, mixed_product = oracle.lower_direction(
    ...     torch.ones(3), torch.zeros(1), torch.ones(3), torch.tensor([0, 1])
    ... )
    >>> gradient, hessian_product, mixed_product
    (tensor([2., 2., 2.]), tensor([3., 3., 2.]), tensor([6.]))
    >>> oracle.counts
    Counts(grad=1, hvp=1, jac=1, up=0)
    """

    def __init__(self, lower: Level, upper: Level, lower_examples: int, upper_examples: int) -> None:
        for key, examples in (("lower_examples", lower_examples), ("upper_examples", upper_examples)):
            if examples < 1:
                raise SettingError(key, f"must be at least 1, got {examples}")
        self.lower = lower
        self.upper = upper
        self.lower_examples = lower_examples
        self.upper_examples = upper_examples
        self.counts = Counts()

    def grad_x(self, x: Float[Tensor, "n"], u: Float[Tensor, "d"], index: Index = None) -> Float[Tensor, "n"]:
        """Gradient of h in x."""
        self.counts.grad += 1
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            return torch.autograd.grad(self.lower(leaf, u.detach(), index), leaf)[0]

    def lower_direction(
        self, x: Float[Tensor, "n"], u: Float[Tensor, "d"], v: Float[Tensor, "n"], index: Index = None
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"], Float[Tensor, "d"]]:
        """(grad_x h, Hv, J'v) from one graph: one forward pass, one backward pass, and one through both."""
        self.counts.grad += 1
        self.counts.hvp += 1
        self.counts.jac += 1
        leaf_x, leaf_u, gradient = self._kept_gradient(x, u.detach().requires_grad_(), index)
        if not gradient.requires_grad:  # h is linear in x, with coefficients free of u
            return gradient, torch.zeros_like(x), torch.zeros_like(u)
        hessian, mixed = torch.autograd.grad(gradient, (leaf_x, leaf_u), v, materialize_grads=True)
        return gradient.detach(), hessian, mixed

    def hvp_at(self, x: Float[Tensor, "n"], u: Float[Tensor, "d"], index: Index = None) -> Product:
        """v -> Hv at x, linearised once; the graph lives as long as the product."""
        leaf, _, gradient = self._kept_gradient(x, u.detach(), index)

        def product(v: Tensor) -> Tensor:
            self.counts.hvp += 1
            if not gradient.requires_grad:  # h is linear in x
                return torch.zeros_like(v)
            return torch.autograd.grad(gradient, leaf, v, retain_graph=True, materialize_grads=True)[0]

        return product

    def JT(
        self, x: Float[Tensor, "n"], u: Float[Tensor, "d"], v: Float[Tensor, "n"], index: Index = None
    ) -> Float[Tensor, "d"]:
        """J'v."""
        self.counts.jac += 1
        _, leaf, gradient = self._kept_gradient(x, u.detach().requires_grad_(), index)
        if not gradient.requires_grad:
            return torch.zeros_like(u)
        return torch.autograd.grad(gradient, leaf, v, materialize_grads=True)[0]

    def upper_gradients(
        self, x: Float[Tensor, "n"], u: Float[Tensor, "d"], index: Index = None
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "d"]]:
        """Gradients of g in x and in u, the latter zero where g does not depend on u; counted once."""
        self.counts.up += 1
        with torch.enable_grad():
            leaves = x.detach().requires_grad_(), u.detach().requires_grad_()
            in_x, in_u = torch.autograd.grad(self.upper(*leaves, index), leaves, materialize_grads=True)
        return in_x, in_u

    def _kept_gradient(self, x: Tensor, u: Tensor, index: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Leaves of x and u and the gradient of h in x with its graph."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            gradient = torch.autograd.grad(self.lower(leaf, u, index), leaf, create_graph=True)[0]
        return leaf, u, gradient
