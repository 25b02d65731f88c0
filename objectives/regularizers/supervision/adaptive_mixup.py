"""Adaptive mixup: mixing ratios from a learned interval, and the loss that teaches it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from selftune.objectives.common.heads import Head
from selftune.objectives.mathematics.draws import truncated_normal
from selftune.objectives.regularizers.supervision.mixup import mixup
from torch import nn

from selftune.hyperparameters import Hyperparameter, Positive
from selftune.lower_level.objective import NetworkObjective
from selftune.registries.reference import Reference
from selftune.regularization.quantity import Quantity, quantities
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Mixing, Step
from selftune.shapes import Float, Int, Tensor

quantities.declare(
    Quantity("mixed", (), "integer", "number of examples, the first of the batch, that were mixed with others"),
)


def adaptive_mixup(
    inputs: Float[Tensor, "batch *shape"],
    targets: Float[Tensor, "batch classes"],
    permutation: Int[Tensor, "batch"],
    policy_logits: Float[Tensor, "batch 3"],
    uniform: Float[Tensor, "batch"],
) -> tuple[Float[Tensor, "batch *shape"], Float[Tensor, "batch classes"]]:
    """Mixup with ratios from each pair's own interval inside (0, 1), through which gradients reach the policy.

    Args:
        policy_logits: their softmax is (start, width, rest); the ratio is ``start + uniform * width``.
        uniform: draws from [0, 1), one per pair.

    Source: "MixUp as Locally Linear Out-Of-Manifold Regularization" (arXiv 1809.02499).

    >>> x, y = torch.tensor([[0.0], [1.0]]), torch.eye(2)
    >>> adaptive_mixup(x, y, torch.tensor([1, 0]), torch.zeros(2, 3), torch.tensor([0.0, 0.5]))[0]
    tensor([[0.6667],
            [0.5000]])
    """
    start, width, _ = policy_logits.softmax(dim=-1).unbind(dim=-1)
    return mixup(inputs, targets, permutation, start + uniform * width)


def intrusion_loss(
    real_logits: Float[Tensor, "n 2"], mixed_logits: Float[Tensor, "m 2"]
) -> Float[Tensor, "n_plus_m"]:
    """Cross-entropy of telling real inputs (class 1) from mixed ones (class 0), the real ones first.

    The network, the head and the policy of ``adaptive_mixup`` all minimise it: the policy makes mixtures that
    can be recognised as such and so cannot conflict with labels of real data.

    Source: "MixUp as Locally Linear Out-Of-Manifold Regularization" (arXiv 1809.02499).

    >>> intrusion_loss(torch.zeros(1, 2), torch.zeros(1, 2))
    tensor([0.6931, 0.6931])
    """
    logits = torch.cat([real_logits, mixed_logits])
    labels = torch.arange(len(logits), device=logits.device) < len(real_logits)
    return F.cross_entropy(logits, labels.long(), reduction="none")


@register
class AdaptiveMixup(Regularizer):
    """Mixes the first half of every batch, with ratios that a policy network chooses for each pair.

    The policy has the network's architecture with three outputs and sees a random blend of the pair. It learns
    from the training loss through the ratios, with ``relative_rate`` times the network's learning rate; add
    ``intrusion_loss`` to keep mixtures away from real data. It is saved with the trainer and not exported.
    """

    name = "adaptive_mixup"
    family = "supervision"
    kind = "augment"
    reference = Reference("MixUp as Locally Linear Out-Of-Manifold Regularization", "1809.02499")
    hyperparameters = (
        Hyperparameter(
            "relative_rate", Positive(sweep=(0.01, 10.0)), 1.0, online=False, smooth=False, shared=True
        ),
    )
    needs = frozenset({"inputs", "targets", "learning_rate", "real_inputs"})
    provides = frozenset({"mixed"})
    whole_batch = one_process = "its policy learns from the backward pass of the whole batch"
    order = "mixing"

    def bind(self, objective: NetworkObjective, provided: frozenset[str] | None = None) -> None:
        super().bind(objective, provided)
        self._objective = objective

    def attach(self, network: nn.Module) -> None:
        parameter, last = next(network.parameters()), self._objective.layers()[-1]
        module: Any = network.get_submodule(last)
        outputs = len(module.weight)
        self._policy = nn.Sequential(self._objective.network(), nn.Linear(outputs, 3)).to(parameter)
        self._optimizer = torch.optim.SGD(self._policy.parameters(), lr=1.0)

    def batch(self, step: Step) -> None:
        half, inputs, targets = self.quantity("mixed", step), step.inputs, step.targets
        partners = torch.randperm(half, generator=step.generator, device=inputs.device)
        noise = truncated_normal(step, 2, half, *inputs.shape[1:]).to(inputs.dtype)
        blend = (noise[0] * inputs[:half] + noise[1] * inputs[:half][partners]) / 2
        with torch.set_grad_enabled(not step.perturbed):
            policy_logits = self._policy(blend)
        uniform = step.rand(half).to(inputs.dtype)
        start, width, _ = policy_logits.detach().softmax(dim=-1).unbind(dim=-1)
        others = torch.arange(half, len(inputs), device=inputs.device)
        share = torch.cat([start + uniform * width, torch.ones_like(others, dtype=uniform.dtype)])
        step.mixings = (*step.mixings, Mixing(inputs, targets, torch.cat([partners, others]), share))
        mixed = adaptive_mixup(inputs[:half], targets[:half], partners, policy_logits, uniform)
        step.inputs, step.targets = torch.cat([mixed[0], inputs[half:]]), torch.cat([mixed[1], targets[half:]])

    def quantity(self, name: str, step: Step) -> int:
        return len(step.index) // 2

    def parameters(self, step: Step) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = self.bound["relative_rate"].value * step.learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        return {"policy": self._policy.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._policy.load_state_dict(state["policy"])


@register
class IntrusionLoss(Regularizer):
    """A head that tells real inputs from those that ``adaptive_mixup`` mixed; network and policy help it.

    The head trains with the network and is not exported.
    """

    name = "intrusion_loss"
    family = "supervision"
    kind = "penalty"
    reference = Reference("MixUp as Locally Linear Out-Of-Manifold Regularization", "1809.02499")
    hyperparameters = (Hyperparameter("strength", Positive(sweep=(0.1, 2.0)), 1.0),)
    needs = frozenset({"features", "mixed", "parameters"})
    incompatible = dict.fromkeys(("cutmix", "mixup"), "inputs that it mixes would count as real ones")

    def bind(self, objective: NetworkObjective, provided: frozenset[str] | None = None) -> None:
        super().bind(objective, provided)
        self._last = objective.layers()[-1]
        self._heads = Head(f"{self.name}_first"), Head(f"{self.name}_second")

    def attach(self, network: nn.Module) -> None:
        module: Any = network.get_submodule(self._last)
        classes, features = module.weight.shape
        self._heads[0].add(network, features, classes)
        self._heads[1].add(network, classes, 2)

    def penalty(self, step: Step) -> Float[Tensor, "batch"]:
        mixed = step.mixed
        logits = self._heads[1](step, self._heads[0](step, step.features))
        losses = intrusion_loss(logits[mixed:], logits[:mixed])
        return losses.roll(mixed)  # in the order of the batch, as strengths are

    def export(self, state: dict[str, Tensor]) -> None:
        for head in self._heads:
            head.remove(state)
