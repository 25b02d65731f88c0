"""One network of a pair of the penalty method: trained with or without the validation loss, and differentiated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from selftune.errors import SettingError
from selftune.hypergradients.stochastic import Storm
from selftune.lower_level.objective import Stage
from selftune.methods.reports import PenaltyGradient
from selftune.methods.work_orders import Train, TrainPenalized
from selftune.networks.modes import evaluating
from selftune.networks.precision import widened
from selftune.regularization.regularizer import Regularizer, overrides
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor
from selftune.training.estimators.hypergradient_estimator import HypergradientEstimator, Measures
from selftune.training.lower_level import LowerLevel, validation_measures


class PenaltyEstimator(HypergradientEstimator):
    """Trains on h, or penalized on h + sigma g; then reports grad_u h at its weights (arXiv 2309.01753).

    h is the regularized training loss, g the validation loss on the validation batch of the training step, u the
    unconstrained hyperparameters. A lower network without proximal term and relaxation is trained bit for bit as
    plain training would.

    With ``momentum`` one STORM estimate (arXiv 1905.10018) of the gradient in weights and u together serves both:
    every batch is evaluated where the network is and where it was one step before, and weights move by their
    learning rate times the estimate. Regularizers' changes of gradients and of parameters act on that step, too;
    regularizers that make a training step of their own have no part in it.

    Args:
        lower: the network.
        settings: ``proximal``, ``relaxation``, ``batches`` and ``momentum`` of ``PenaltySettings``.

    Raises:
        SettingError: if the training loss is not a differentiable function of a tuned hyperparameter, or a single
            loop is asked for where a training step is not one gradient of one loss.
    """

    def __init__(self, lower: LowerLevel, settings: Mapping[str, Any]) -> None:
        self.lower = lower
        self.trained: dict[str, Tensor] = {name: p for name, p in lower.parameters.items() if p.requires_grad}
        self.parameters = list(self.trained.values())
        self._proximal: float | None = settings["proximal"]
        self._relaxation: float = settings["relaxation"]
        self._batches: int = settings["batches"]
        momentum: float | None = settings["momentum"]
        self._storm = None if momentum is None else Storm(momentum)
        self._before: tuple[list[Tensor], Tensor, float] | None = None
        self._start: list[Tensor] | None = None
        if self._storm is not None and not lower.checked:
            mistake = single_loop_mistake(lower.regularizers.members, lower.batches.stages)
            if mistake is not None:
                raise mistake

    def begin(self, order: Train) -> None:
        assert isinstance(order, TrainPenalized)
        if order.draws != self.lower.streams.member:
            raise SettingError(
                "group_size",
                "must be 2 with the penalty method, so that both trainers of a pair draw the same random numbers;"
                " make them by TrainerFactory(..., group_size=2)",
            )
        super().begin(order)
        self._sigma = order.sigma
        self._penalized = order.penalized
        # warming up is no phase of the method: it has no start to stay close to
        phase = order.hypergradient and order.steps > 0
        anchored = self._proximal is not None or self._relaxation < 1
        self._start = self._weights() if phase and anchored else None

    # Training ----------------------------------------------------------------------------------------

    def train(self, number: int) -> Float[Tensor, ""]:
        """A training step; its loss is that of h."""
        if self._storm is not None:
            return self._train_by_estimate(self._storm, number)
        with self.lower.descent.adding(self.parameters, self._gradient_above(number)):
            return self.lower.train(number, self.values)

    def _gradient_above(self, number: int) -> list[Tensor | None]:
        """Gradient of what a phase has beside h, as far as there is any: sigma g, and the proximal term."""
        added: list[Tensor | None] = [None] * len(self.parameters)
        if self._penalized:
            added = self._upper_gradient(number, self._sigma)
        if self._start is not None and self._proximal is not None:
            with torch.no_grad():
                pulls = [(p - at) / self._proximal for p, at in zip(self.parameters, self._start, strict=True)]
            both = zip(added, pulls, strict=True)
            added = [pull if gradient is None else gradient + pull for gradient, pull in both]
        return added

    def _upper_gradient(self, number: int, sigma: float) -> list[Tensor | None]:
        """That of sigma g; None for weights that g does not depend on."""
        with evaluating(self.lower.network):  # on the way back as well, where checkpoints run modules again
            loss = sigma * self.lower.validation_losses(number)[0].mean()
            return list(self.lower.group.means(torch.autograd.grad(loss, self.parameters, allow_unused=True)))

    def _weights(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.parameters]

    # Single loop -------------------------------------------------------------------------------------

    def _train_by_estimate(self, storm: Storm, number: int) -> Float[Tensor, ""]:
        self.lower.descent.begin(number)
        self.lower.batches.forget(before=number)
        here = self._weights()
        old = None
        if self._before is not None:
            weights, unconstrained, sigma = self._before
            self._put(weights)
            _, _, old = self._gradient(number, unconstrained, sigma, again=True)
            self._put(here)
        step, loss, new = self._gradient(number, self.unconstrained, self._sigma)
        self._move(step, storm.update(new, old))
        self._before = here, self.unconstrained, self._sigma
        return loss

    def _gradient(
        self, number: int, unconstrained: Float[Tensor, "n"], sigma: float, again: bool = False
    ) -> tuple[Step, Float[Tensor, ""], Float[Tensor, "weights_and_n"]]:
        """The step, its loss, and the gradient in all weights and in u as one vector."""
        lower, u = self.lower, unconstrained.detach().requires_grad_()
        step = lower.begin(number, lower.batches.at(number), lower.space.values(u), "elementary", perturbed=again)
        loss = lower.plain_loss(step, constant=again)  # only at the weights of today does a norm layer count
        found = torch.autograd.grad(loss, [*self.parameters, u], materialize_grads=True)
        gradients = [gradient for gradient in lower.group.means(found) if gradient is not None]
        if self._penalized:
            for place, above in enumerate(self._upper_gradient(number, sigma)):
                gradients[place] = gradients[place] if above is None else gradients[place] + above
        return step, loss.detach(), torch.cat([widened(gradient).reshape(-1) for gradient in gradients])

    @torch.no_grad()
    def _move(self, step: Step, estimate: Float[Tensor, "weights_and_n"]) -> None:
        """The optimizer's part of ``LowerLevel.update``, along an estimate."""
        lower, regularizers = self.lower, self.lower.regularizers
        step.parameters = lower.parameters
        if regularizers.changes_gradients:
            estimate = estimate.clone()
        sizes = [*(p.numel() for p in self.parameters), len(self.unconstrained)]
        pieces = torch.split(estimate, sizes)
        directions = [piece.view_as(p) for piece, p in zip(pieces, self.parameters, strict=False)]
        if regularizers.changes_gradients:
            regularizers.gradients(step, dict(zip(self.trained, directions, strict=True)))
        regularizers.map_parameters(step, "before")
        torch._foreach_sub_(self.parameters, directions, alpha=lower.learning_rate)
        regularizers.map_parameters(step, "after")
        regularizers.parameters(step)
        lower.descent.finish()

    @torch.no_grad()
    def _put(self, weights: list[Tensor]) -> None:
        torch._foreach_copy_(self.parameters, weights)

    # Validation --------------------------------------------------------------------------------------

    def hypergradient(self, number: int) -> tuple[PenaltyGradient, Measures]:
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
        norm = None if self._penalized else in_x.norm()
        return PenaltyGradient(hypergradient=in_u.mean(dim=0), per_batch=in_u, gradient_norm=norm), measures

    def _differentiated(self, number: int) -> tuple[Float[Tensor, "batches n"], Float[Tensor, "weights"]]:
        """Gradients of h on the next training batches, in u one by one, in the weights their mean."""
        u = self.unconstrained.detach().requires_grad_()
        rows, total = [], [torch.zeros_like(p) for p in self.parameters]
        wanted = [] if self._penalized else self.parameters
        for batch in range(self._batches):
            loss = self.lower.smooth_loss(number + batch, u, "hypergradient")
            in_u, *in_x = torch.autograd.grad(loss, [u, *wanted], materialize_grads=True)
            rows.append(in_u)
            if in_x:
                torch._foreach_add_(total, in_x, alpha=1 / self._batches)
        mean = self.lower.group.mean
        return mean(torch.stack(rows)), mean(torch.cat([widened(gradient).reshape(-1) for gradient in total]))

    def _estimated(self, storm: Storm) -> tuple[Float[Tensor, "1 n"], Float[Tensor, "weights"]]:
        assert storm.direction is not None
        split = len(storm.direction) - len(self.unconstrained)
        return storm.direction[None, split:], storm.direction[:split]

    # Ends and state ----------------------------------------------------------------------------------

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


def single_loop_mistake(regularizers: Iterable[Regularizer], stages: Sequence[Stage]) -> SettingError | None:
    """Why a study cannot be a single loop, where a training step is not one gradient of one loss."""
    own = [r.name for r in regularizers if overrides(r, "replace") or overrides(r, "aggregate")]
    if not own and not stages:
        return None
    what = f"{own[0]} makes training steps of its own" if own else "the data come in stages"
    return SettingError("method.momentum", f"is for one gradient per training step, but {what}; set it to null")
