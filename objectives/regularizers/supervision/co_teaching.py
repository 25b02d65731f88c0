"""Co-teaching: two networks choose each other's training examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from selftune.objectives.common.companion import Companion
from torch import nn

from selftune.data.nested import mapped
from selftune.hyperparameters import Choice, Hyperparameter, Integer, Unit
from selftune.lower_level.losses import as_losses
from selftune.lower_level.objective import NetworkObjective
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor


def co_teaching(
    losses_first: Float[Tensor, "batch"],
    losses_second: Float[Tensor, "batch"],
    forget_rate: float | Float[Tensor, ""],
) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch"]]:
    """Weights 1 for the examples that the *other* network finds easiest, 0 for the share ``forget_rate``.

    The first result weighs the first network's losses. Of equal losses those of lower index are kept;
    ``floor((1 - forget_rate) * batch)`` examples remain.

    Args:
        forget_rate: in [0, 1], about the share of wrong labels.

    Source: "Compressing Features for Learning with Noisy Labels" (arXiv 2206.13140) and "Co-teaching: Robust
    Training of Deep Neural Networks with Extremely Noisy Labels" (arXiv 1804.06872, algorithm 1).

    >>> co_teaching(torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.3, 0.2, 0.1]), 0.5)
    (tensor([0., 0., 1.]), tensor([1., 0., 0.]))
    """
    return _easiest(losses_second, forget_rate), _easiest(losses_first, forget_rate)


def _easiest(losses: Float[Tensor, "batch"], forget_rate: float | Float[Tensor, ""]) -> Float[Tensor, "batch"]:
    batch = len(losses)
    # (1 - 0.9) * 10 must count as 1 in the precision in which the rate is given
    slack = batch * torch.finfo(forget_rate.dtype).eps if isinstance(forget_rate, Tensor) else 1e-9
    ranks = losses.detach().argsort(stable=True).argsort() + 1
    return (ranks <= (1 - forget_rate) * batch + slack).to(losses.dtype)


@register
class CoTeaching(Regularizer):
    """Trains a peer beside the network; each learns only from the examples that the other finds easiest.

    The share ``forget_rate`` of every batch is left out, which rises linearly from 0 over the first ``ramp``
    epochs. With ``split_batch`` each looks through one half of the batch and learns from the other one's choice of
    the other half. Losses are compared in evaluation mode. Other regularizers act on the network alone, but both
    see the same inputs and targets. The peer is saved with the trainer and not exported.
    """

    name = "co_teaching"
    family = "supervision"
    kind = "augment"
    reference = Reference("Compressing Features for Learning with Noisy Labels", "2206.13140")
    hyperparameters = (
        Hyperparameter("forget_rate", Unit(sweep=(0.0, 0.5)), 0.2, smooth=False, shared=True),
        Hyperparameter("ramp", Integer(0, 1000, sweep=(0, 15)), 5, online=False, smooth=False, shared=True),
        Hyperparameter("split_batch", Choice((False, True)), False, online=False, smooth=False),
    )
    needs = frozenset({"losses", "targets", "parameters", "epoch"})
    axes: ClassVar = {"targets": ("batch", ...)}
    types: ClassVar = {"targets": "number"}
    whole_batch = "it selects examples of the whole batch, and its peer takes one step for it"

    def bind(self, objective: NetworkObjective, provided: frozenset[str] | None = None) -> None:
        super().bind(objective, provided)
        self._objective = objective

    def attach(self, network: nn.Module) -> None:
        device = next(network.parameters()).device
        self._peer = Companion(self._objective, device)

    def losses(self, step: Step, losses: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        inputs, rate = mapped(torch.detach, step.inputs), self._rate(step)
        theirs = self._losses(self._peer.predict(inputs, step.batch), step)
        if step.perturbed:
            return _weighted(losses, self._chosen(losses, theirs, rate)[0])
        ours = self._losses(step.asks.pass_copy(step, step.parameters, inputs).logits, step)
        weights, of_peer = self._chosen(ours, theirs, rate)
        self._peer.descend(_weighted(self._losses(self._peer.outputs(inputs, step.batch), step), of_peer).mean())
        return _weighted(losses, weights)

    def _losses(self, outputs: Any, step: Step) -> Float[Tensor, "batch"]:
        return as_losses(self._objective.loss(outputs, step.targets.detach())).of_examples(step.size)[0]

    def _chosen(self, ours: Tensor, theirs: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of the examples for the network and for its peer."""
        if not self.bound["split_batch"].value:
            return co_teaching(ours, theirs, rate)
        half = len(ours) // 2
        own, of_peer = co_teaching(ours[:half], theirs[half:], rate)
        rest = ours.new_zeros(len(ours) - half)
        return torch.cat([ours.new_zeros(half), own]), torch.cat([of_peer, rest])

    def _rate(self, step: Step) -> Float[Tensor, ""]:
        ramp = self.bound["ramp"].value
        rate: Tensor = self.value(step, "forget_rate") * (min(1.0, step.epoch / (ramp - 1)) if ramp > 1 else 1.0)
        return rate

    def state_dict(self) -> dict[str, Any]:
        return self._peer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._peer.load_state_dict(state)


def _weighted(losses: Float[Tensor, "batch"], weights: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
    """Losses whose plain mean is the weighted mean."""
    return losses * weights * (len(weights) / weights.sum().clamp(min=1))
