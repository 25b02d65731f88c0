"""Elastic weight consolidation: parameters close to old ones, weighted by how much each mattered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from selftune.errors import SettingError
from selftune.hyperparameters import Choice, Hyperparameter, Integer, Positive, Unit
from selftune.lower_level.losses import as_losses
from selftune.lower_level.objective import NetworkObjective
from selftune.networks.modes import evaluating
from selftune.networks.precision import wide_type, widened
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.regularization.step_quantities import closure
from selftune.shapes import Float, Tensor


def ewc(
    parameters: Sequence[Float[Tensor, "*shape"]],
    old_parameters: Sequence[Float[Tensor, "*shape"]],
    fisher: Sequence[Float[Tensor, "*shape"]],
) -> Float[Tensor, ""]:
    """Sum of the squared changes of the parameters, each times its Fisher information; no factor one half.

    Rows that a parameter has gained since (new classes of a head) are left out. No gradient reaches the old
    parameters or the information.

    Args:
        fisher: diagonal Fisher information at the old parameters, of their shapes.

    Source: "Overcoming catastrophic forgetting in neural networks" (arXiv 1612.00796, equation 3), without its
    factor, as in "A Closer Look at Rehearsal-Free Continual Learning" (arXiv 2203.17269).

    >>> ewc([torch.tensor([3.0, 4.0])], [torch.zeros(2)], [torch.tensor([1.0, 2.0])])
    tensor(41.)
    """
    terms = []
    for new, old, information in zip(parameters, old_parameters, fisher, strict=True):
        kept = new[: len(old)] if new.shape != old.shape else new
        terms.append((information.detach() * (kept - old.detach()).square()).sum())
    return torch.stack(terms).sum()


def diagonal_fisher(gradients: Float[Tensor, "samples parameters"]) -> Float[Tensor, "parameters"]:
    """Mean over samples of the squared gradients of their log-likelihoods.

    With labels drawn from the model this is the Fisher information, with the observed ones the empirical one.
    Gradients are squared sample by sample, never that of a batch.

    Source: "Overcoming catastrophic forgetting in neural networks" (arXiv 1612.00796).

    >>> diagonal_fisher(torch.tensor([[1.0, 0.0], [3.0, 2.0]]))
    tensor([5., 2.])
    """
    return gradients.square().mean(dim=0)


@register
class Ewc(Regularizer):
    """Keeps parameters close to those at the end of earlier stages, the closer the more they mattered there.

    With ``mode: online`` there is one anchor, the end of the last stage: the Fisher information of ``samples`` of
    its examples is added to ``decay`` times that of the stages before. With ``mode: separate`` every stage keeps
    an anchor and a term of its own, as in the paper. Labels are the observed ones, or drawn from the network's
    predictions.
    """

    name = "ewc"
    family = "adaptation"
    kind = "penalty"
    reference = Reference("Overcoming catastrophic forgetting in neural networks", "1612.00796")
    hyperparameters = (
        Hyperparameter("strength", Positive(sweep=(1.0, 1e5)), 100.0, shared=True),
        Hyperparameter("mode", Choice(("online", "separate")), "online", online=False, smooth=False),
        Hyperparameter("decay", Unit(sweep=(0.5, 1.0)), 1.0, online=False, smooth=False),
        Hyperparameter("samples", Integer(1, 1_000_000, sweep=(50, 1000)), 200, online=False, smooth=False),
        Hyperparameter("labels", Choice(("observed", "sampled")), "observed", online=False, smooth=False),
    )
    needs = frozenset({"parameters", "old_parameters", "stage", "logits"})
    whole_network = "it takes gradients of single examples through the whole network"

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._fisher: dict[str, Tensor] = {}
        self._earlier: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []

    def bind(self, objective: NetworkObjective, provided: frozenset[str] | None = None) -> None:
        super().bind(objective, provided)
        known = closure(objective.offers()) if provided is None else provided
        if self.bound["labels"].value == "sampled" and "class_probabilities" not in known:
            task = type(objective).__name__
            raise SettingError(
                "labels", f"can be sampled of predicted classes, but {task} has none; take observed"
            )
        self._objective = objective

    def attach(self, network: nn.Module) -> None:
        self._network = network

    def penalty(self, step: Step) -> Float[Tensor, ""]:
        if not self._fisher:
            return step.logits.new_zeros(())
        names = list(self._fisher)
        parameters = [step.parameters[name] for name in names]
        terms = [
            ewc(parameters, [anchor[name] for name in names], list(fisher.values()))
            for fisher, anchor in (*self._earlier, (self._fisher, step.old_parameters))
        ]
        return torch.stack(terms).sum()

    def boundary(self, step: Step) -> None:
        with evaluating(self._network):
            found = self._information(step)
        decay = self.bound["decay"].value
        if self.bound["mode"].value == "separate":
            if self._fisher:
                self._earlier.append((self._fisher, {name: step.old_parameters[name] for name in found}))
            self._fisher = found
            return
        self._fisher = {
            name: new + decay * self._fisher[name].to(new) if self._fisher else new for name, new in found.items()
        }

    def _information(self, step: Step) -> dict[str, Tensor]:
        """The Fisher information of the stage that ends, by parameter name."""
        device, objective = step.inputs.device, self._objective
        index = objective.stages()[step.stage].index
        order = torch.randperm(len(index), generator=step.generator, device=device)
        chosen = index[order[: self.bound["samples"].value].to(index.device)]
        inputs, labels = (objective.splits()["train"][key][chosen].to(device) for key in ("inputs", "labels"))
        tensors = {name: p.detach() for name, p in self._network.named_parameters() if p.requires_grad}

        def loss(tensors: dict[str, Tensor], one: Tensor, target: Tensor) -> Tensor:
            outputs = self._outputs(one.unsqueeze(0), tensors)
            return as_losses(objective.loss(outputs, target.unsqueeze(0))).of_examples(1)[0].sum()

        per_sample = vmap(grad(loss), in_dims=(None, 0, 0))
        sums = {name: torch.zeros_like(tensor, dtype=wide_type(tensor.dtype)) for name, tensor in tensors.items()}
        for some, known in zip(torch.split(inputs, _CHUNK), torch.split(labels, _CHUNK), strict=True):
            if self.bound["labels"].value == "sampled":
                with torch.no_grad():
                    probabilities = torch.softmax(self._outputs(some), dim=-1)
                known = torch.multinomial(probabilities, 1, generator=step.generator)[:, 0]
            gradients = per_sample(tensors, some, objective.targets(known))
            for name, gradient in gradients.items():
                sums[name] += diagonal_fisher(widened(gradient)) * len(some)
        return {name: total / len(inputs) for name, total in sums.items()}

    def _outputs(self, inputs: Tensor, tensors: dict[str, Tensor] | None = None) -> Tensor:
        """The network's outputs, with other tensors in the place of its own."""

        def network(inputs: Tensor) -> Any:
            return functional_call(self._network, tensors or {}, (inputs,))

        outputs: Tensor = self._objective.run(network, inputs, {"inputs": inputs})
        return outputs

    def state_dict(self) -> dict[str, Any]:
        return {"fisher": self._fisher, "earlier": self._earlier}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        device = next(self._network.parameters()).device
        self._fisher = {name: tensor.to(device) for name, tensor in state["fisher"].items()}
        self._earlier = [
            (
                {name: tensor.to(device) for name, tensor in fisher.items()},
                {n: t.to(device) for n, t in old.items()},
            )
            for fisher, old in state["earlier"]
        ]


_CHUNK = 32  # examples whose gradients are held at once
