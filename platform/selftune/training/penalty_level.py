"""One network of a pair of the penalty method: trained with or without the validation loss, and differentiated."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch

from selftune.hypergradients.best_response import frozen_statistics
from selftune.hypergradients.stochastic import Storm
from selftune.regularizer import Step
from selftune.shapes import Float, Tensor
from selftune.training.level import Level
from selftune.training.lower_level import LowerLevel, validation_measures


class PenaltyLevel(Level):
    """Trains on h, or penalised on h + sigma g; then reports grad_u h at its weights (arXiv 2309.01753).

    h is the regularized training loss, g the validation loss on the validation batch of the training step, u the
    unconstrained hyperparameters. A lower network without proximal term and relaxation is trained bit for bit as
    plain training would.

    With ``momentum`` one STORM estimate (arXiv 1905.10018) of the gradient in weights and u together serves both:
    every batch is evaluated where the network is and where it was one step before, and weights move by their
    learning rate times the estimate. Regularizers' changes of gradients and of parameters act on that step, too.

    Args:
        lower: the network.
        settings: ``proximal``, ``relaxation``, ``batches`` and ``momentum`` of ``PenaltySettings``.
    """

    def __init__(self, lower: LowerLevel, settings: Mapping[str, Any]) -> None:
        self.lower = lower
        self.parameters: list[Tensor] = list(lower.parameters.values())
        self._proximal: float | None = settings["proximal"]
        self._relaxation: float = settings["relaxation"]
        self._batches: int = settings["batches"]
        momentum: float | None = settings["momentum"]
        self._storm = None if momentum is None else Storm(momentum)
        self._before: tuple[list[Tensor], Tensor, float] | None = None
        self._start: list[Tensor] | None = None

    def begin(self, order: Mapping[str, Any]) -> None:
        self._unconstrained = order["unconstrained"].to(self.lower.device)
        # constrained where the method does it, so that a replay of its trajectory sees the same bits
        constrained = self.lower.space.constrain(order["unconstrained"])
        self._values = self.lower.space.unpack(constrained.to(self.lower.device))
        self._sigma: float = order["sigma"]
        self._penalised: bool = order["penalised"]
        # warming up is no phase of the method: it has no start to stay close to
        phase = order["hypergradient"] and order["steps"] > 0
        anchored = self._proximal is not None or self._relaxation < 1
        self._start = self._weights() if phase and anchored else None

    # Training ----------------------------------------------------------------------------------------

    def train(self, number: int) -> Float[Tensor, ""]:
        if self._storm is not None:
            return self._train_by_estimate(self._storm, number)
        step = self._step(number, self._values)
        loss = self._loss(step, self._sigma)
        self.lower.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self._start is not None and self._proximal is not None:
            self._pull(self._start, self._proximal)
        self.lower.update(step)
        return loss.detach()

    def _step(self, number: int, values: Mapping[str, Any], again: bool = False) -> Step:
        index = self.lower.batches.index(number)
        assert index is not None
        return self.lower.begin(number, index, values, "elementary", perturbed=again)

    def _loss(self, step: Step, sigma: float) -> Float[Tensor, ""]:
        loss = self.lower.loss(step, self.lower.network, self.lower.parameters)
        if self._penalised:
            losses, _ = self.lower.validation_losses(step.number)
            loss = loss + sigma * losses.mean()
        return loss

    @torch.no_grad()
    def _pull(self, start: list[Tensor], proximal: float) -> None:
        """Adds the gradient of the proximal term."""
        gradients, offsets = [], []
        for parameter, at in zip(self.parameters, start, strict=True):
            if parameter.grad is not None:
                gradients.append(parameter.grad)
                offsets.append(parameter - at)
        torch._foreach_add_(gradients, offsets, alpha=1 / proximal)

    def _weights(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.parameters]

    # Single loop -------------------------------------------------------------------------------------

    def _train_by_estimate(self, storm: Storm, number: int) -> Float[Tensor, ""]:
        here = self._weights()
        old = None
        if self._before is not None:
            weights, unconstrained, sigma = self._before
            self._put(weights)
            _, _, old = self._gradient(number, unconstrained, sigma, again=True)
            self._put(here)
        step, loss, new = self._gradient(number, self._unconstrained, self._sigma)
        self._move(step, storm.update(new, old))
        self._before = here, self._unconstrained, self._sigma
        return loss

    def _gradient(
        self, number: int, unconstrained: Float[Tensor, "n"], sigma: float, again: bool = False
    ) -> tuple[Step, Float[Tensor, ""], Float[Tensor, "weights_and_n"]]:
        """The step, its loss, and the gradient in all weights and in u as one vector."""
        u = unconstrained.detach().requires_grad_()
        step = self._step(number, self.lower.space.values(u), again)
        # only at the weights of today does a norm layer count the batch
        with frozen_statistics(self.lower.network) if again else nullcontext():
            loss = self._loss(step, sigma)
        gradients = torch.autograd.grad(loss, [*self.parameters, u], materialize_grads=True)
        return step, loss.detach(), torch.cat([gradient.reshape(-1) for gradient in gradients])

    @torch.no_grad()
    def _move(self, step: Step, estimate: Float[Tensor, "weights_and_n"]) -> None:
        """The optimizer's part of ``LowerLevel.update``, along an estimate."""
        lower, regularizers = self.lower, self.lower.regularizers
        if regularizers.changes_gradients:
            estimate = estimate.clone()
        sizes = [*(p.numel() for p in self.parameters), len(self._unconstrained)]
        pieces = torch.split(estimate, sizes)
        directions = [piece.view_as(p) for piece, p in zip(pieces, self.parameters, strict=False)]
        if regularizers.changes_gradients:
            regularizers.gradients(step, dict(zip(lower.parameters, directions, strict=True)))
        regularizers.map_parameters(step, "before")
        torch._foreach_sub_(self.parameters, directions, alpha=lower.learning_rate)
        regularizers.map_parameters(step, "after")

    @torch.no_grad()
    def _put(self, weights: list[Tensor]) -> None:
        torch._foreach_copy_(self.parameters, weights)

    # Validation --------------------------------------------------------------------------------------

    def hypergradient(self, number: int) -> tuple[dict[str, Tensor], dict[str, float]]:
        """grad_u h at the network's weights, one row per batch, and their mean.

        The measures are those of the network on the validation batch of ``number``; ``gradient_norm`` is that of
        grad_x h, of a lower network.
        """
        if self._start is not None and self._relaxation < 1:
            with torch.no_grad():
                torch._foreach_lerp_(self.parameters, self._start, 1 - self._relaxation)
        in_u, in_x = self._differentiated(number) if self._storm is None else self._estimated(self._storm)
        with torch.no_grad():
            measures = validation_measures(*self.lower.validation_losses(number))
        if not self._penalised:
            measures["gradient_norm"] = float(in_x.norm())
        return {"hypergradient": in_u.mean(dim=0), "hypergradients": in_u}, measures

    def _differentiated(self, number: int) -> tuple[Float[Tensor, "batches n"], Float[Tensor, "weights"]]:
        """Gradients of h on the next training batches, in u one by one, in the weights their mean."""
        u = self._unconstrained.detach().requires_grad_()
        rows, total = [], [torch.zeros_like(p) for p in self.parameters]
        wanted = [] if self._penalised else self.parameters
        for batch in range(self._batches):
            loss = self.lower.smooth_loss(number + batch, u, "hypergradient")
            in_u, *in_x = torch.autograd.grad(loss, [u, *wanted], materialize_grads=True)
            rows.append(in_u)
            if in_x:
                torch._foreach_add_(total, in_x, alpha=1 / self._batches)
        return torch.stack(rows), torch.cat([gradient.reshape(-1) for gradient in total])

    def _estimated(self, storm: Storm) -> tuple[Float[Tensor, "1 n"], Float[Tensor, "weights"]]:
        assert storm.direction is not None
        split = len(storm.direction) - len(self._unconstrained)
        return storm.direction[None, split:], storm.direction[:split]

    # Ends and state ----------------------------------------------------------------------------------

    def export(self, state: dict[str, Tensor], unconstrained: Float[Tensor, "n"] | None) -> None:
        """Nothing: both networks are plain ones."""

    def state_dict(self) -> dict[str, Any]:
        """The single loop's estimate, and where it was taken; the double loop has no state."""
        return {"storm": None if self._storm is None else self._storm.state_dict(), "before": self._before}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self._storm is None:
            return
        device = self.lower.device
        direction = state["storm"]["direction"]
        self._storm.load_state_dict({"direction": None if direction is None else direction.to(device)})
        if state["before"] is not None:
            weights, unconstrained, sigma = state["before"]
            self._before = [tensor.to(device) for tensor in weights], unconstrained.to(device), sigma
