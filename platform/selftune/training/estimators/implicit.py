"""Plain training, and hypergradients by implicit differentiation on mini-batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from selftune.hypergradients.stochastic.linear_systems import conjugate_gradient, descent, neumann
from selftune.methods import OnlineImplicitSettings
from selftune.methods.reports import ImplicitHypergradient
from selftune.networks.modes import evaluating
from selftune.networks.precision import widened
from selftune.shapes import Float, Tensor
from selftune.training.estimators.hypergradient_estimator import HypergradientEstimator, Measures
from selftune.training.lower_level import LowerLevel, validation_measures

_STREAM = "hypergradient"


class ImplicitEstimator(HypergradientEstimator):
    """Trains the plain network; its hypergradient is -J'q with (H + damping I) q ~ b at the current weights.

    b is the gradient of the validation loss, H and J are second derivatives of the regularized training loss on
    mini-batches: with respect to the weights, and to weights and unconstrained hyperparameters. The weights do not
    minimise the training loss and q is truncated, so the error of the hypergradient is not bounded: heuristic.

    Hypergradients take the batches of the training steps to come, and random numbers of their own.

    Args:
        lower: the network, its regularizers and its optimizer; a hypergradient changes nothing in them.
        settings: those of ``OnlineImplicitSettings`` about the system.

    Raises:
        SettingError: if the training loss is not a differentiable function of a tuned hyperparameter.

    >>> from torch import nn
    >>> from selftune import Classification, Optimization, Tune
    >>> from selftune.regularization.regularizer import regularizers
    >>> from selftune.methods.values import Values
    >>> from selftune.methods.work_orders import Train
    >>> from selftune.training.seeds import Streams
    >>> data, cpu = (torch.randn(32, 4), torch.randint(3, (32,))), torch.device("cpu")
    >>> objective = Classification(lambda: nn.Linear(4, 3), data, data, data, Optimization(batch_size=16))
    >>> decay = regularizers["weight_decay"](strength=Tune(0.1))
    >>> estimator = ImplicitEstimator(LowerLevel(objective, [decay], Streams(0, 0, cpu), cpu), {"system_steps": 3})
    >>> space = estimator.lower.space
    >>> values = Values(space.start, space.constrain(space.start), version=0)
    >>> estimator.begin(Train(values=values, steps=0, hypergradient=True, estimator="implicit"))
    >>> estimator.hypergradient(0)[0].hypergradient.shape
    torch.Size([1])
    """

    def __init__(self, lower: LowerLevel, settings: Mapping[str, Any]) -> None:
        self.lower = lower
        self.settings = OnlineImplicitSettings(**settings)
        self.weights = [p for p in lower.parameters.values() if p.requires_grad]
        self._solution: Tensor | None = None

    @property
    def rate(self) -> float:
        """That of the system: as given, or that of the training steps now."""
        if self.settings.system_rate is not None:
            return self.settings.system_rate
        return self.lower.learning_rate / (1 + self.lower.momentum)

    # Hypergradient -----------------------------------------------------------------------------------

    def hypergradient(self, number: int) -> tuple[ImplicitHypergradient, Measures]:
        with evaluating(self.lower.network):  # on the way back as well, where checkpoints run modules again
            losses, metrics = self.lower.validation_losses(self.hyper_step)
            b = _flat(torch.autograd.grad(losses.mean(), self.weights, materialize_grads=True))
        b = self.lower.group.mean(b)
        hypergradient, residual = self.differentiate(number, b)
        found = ImplicitHypergradient(hypergradient=hypergradient, system_residual=residual)
        return found, validation_measures(losses, metrics)

    def differentiate(
        self, number: int, b: Float[Tensor, "weights"]
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, ""]]:
        """The hypergradient of an upper level with gradient b, without a word from the device.

        ``number`` is that of the next training step, whose batch is the first one used.

        Returns:
            -J'q, and the norm of (H + damping I) q - b relative to that of b. Both are taken on the last batch:
            the only one of conjugate gradients, one that the other systems have not seen.
        """
        kind, steps = self.settings.system, self.settings.system_steps
        if kind == "conjugate_gradient":
            last = self.batch(number)
            q, _ = conjugate_gradient(last.product, b, steps, start=self._start(b))
        else:
            # a series of K terms, the derivative of K gradient steps, takes K - 1 products
            products = [_Fresh(self, number + k) for k in range(steps - (kind == "neumann"))]
            if kind == "neumann":
                q = neumann(products, b, self.rate)
            else:
                start = self._start(b)
                q = descent(products, b, torch.zeros_like(b) if start is None else start, self.rate)
            last = self.batch(number + len(products))
        q = self._bounded(q, b)
        if self.settings.keeps_solution:
            self._solution = q
        product, mixed = last.products(q)
        size = torch.linalg.vector_norm(b)
        residual = torch.linalg.vector_norm(product - b) / torch.where(size > 0, size, 1.0)
        return -mixed, residual

    def batch(self, number: int) -> _BatchSystem:
        """H and J on the batch of a training step."""
        return _BatchSystem(self.lower, self.weights, number, self.unconstrained, self.settings.damping)

    def _start(self, b: Float[Tensor, "weights"]) -> Float[Tensor, "weights"] | None:
        """The last solution; None without one."""
        return None if self._solution is None else self._bounded(self._solution, b)

    def _bounded(self, q: Float[Tensor, "weights"], b: Float[Tensor, "weights"]) -> Float[Tensor, "weights"]:
        """q drawn back into the ball |q| <= |b| / damping.

        Without negative curvature the solution and all approximations lie in there. Networks have negative
        curvature: along it, q would grow from hyper-step to hyper-step, and conjugate gradients take far steps.
        """
        if not self.settings.damping:
            return q
        largest = torch.linalg.vector_norm(b) / self.settings.damping
        size = torch.linalg.vector_norm(q)
        return q * torch.where(size > largest, largest / size, 1.0)

    # State -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        return {"solution": self._solution}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        solution = state["solution"]
        self._solution = None if solution is None else solution.to(self.lower.device)


class _BatchSystem:
    """H + damping I and J of one batch; all products are taken on one graph, so with the same random numbers.

    Args:
        lower: where the loss comes from.
        weights: with respect to which H is taken.
        number: the training step whose batch it is.
        unconstrained: where H and J are taken.
        damping: added to the eigenvalues of H.
    """

    def __init__(
        self,
        lower: LowerLevel,
        weights: Sequence[Tensor],
        number: int,
        unconstrained: Float[Tensor, "n"],
        damping: float,
    ) -> None:
        self._weights = weights
        self._mean = lower.group.mean
        self._damping = damping
        self._unconstrained = unconstrained.detach().requires_grad_()
        with sdpa_kernel(SDPBackend.MATH):  # the other kernels of attention have no second derivatives
            loss = lower.smooth_loss(number, self._unconstrained, _STREAM)
        gradients = torch.autograd.grad(loss, weights, create_graph=True, materialize_grads=True)
        self._gradient = _flat(gradients)

    def product(self, v: Float[Tensor, "weights"]) -> Float[Tensor, "weights"]:
        """(H + damping I) v."""
        columns = torch.autograd.grad(self._gradient, self._weights, v, retain_graph=True, materialize_grads=True)
        return self._mean(_flat(columns)) + self._damping * v

    def products(self, v: Float[Tensor, "weights"]) -> tuple[Float[Tensor, "weights"], Float[Tensor, "n"]]:
        """(H + damping I) v and J'v, in one pass."""
        *columns, mixed = torch.autograd.grad(
            self._gradient, [*self._weights, self._unconstrained], v, retain_graph=True, materialize_grads=True
        )
        return self._mean(_flat(columns)) + self._damping * v, self._mean(mixed)


class _Fresh:
    """A product on a batch of its own, whose graph lives no longer than the product."""

    def __init__(self, estimator: ImplicitEstimator, number: int) -> None:
        self._estimator = estimator
        self._number = number

    def __call__(self, v: Float[Tensor, "weights"]) -> Float[Tensor, "weights"]:
        return self._estimator.batch(self._number).product(v)


def _flat(tensors: Sequence[Tensor]) -> Float[Tensor, "weights"]:
    return torch.cat([widened(tensor).reshape(-1) for tensor in tensors])
