"""The lower level of a network objective: plain, regularized training, one mini-batch at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from selftune.hypergradients.best_response import frozen_statistics
from selftune.hyperparameters import Space
from selftune.objective import NetworkObjective
from selftune.regularizer import Regularizer, Regularizers, Step
from selftune.shapes import Float, Int, Tensor
from selftune.training.data import Batches
from selftune.training.seeds import Streams, seed_of


class LowerLevel:
    """A network, its regularizers and its optimizer.

    Args:
        objective: network, data and losses.
        regularizers: copied, then bound and attached to this network.
        streams: where random numbers come from.
        device: where everything lives.

    Raises:
        SettingError: if a regularizer does not fit the objective.
    """

    def __init__(
        self,
        objective: NetworkObjective,
        regularizers: Sequence[Regularizer],
        streams: Streams,
        device: torch.device,
    ) -> None:
        self.objective = objective
        self.device = device
        self.streams = streams
        self.regularizers = Regularizers(copy.deepcopy(list(regularizers)), objective)
        self.space = Space(self.regularizers.hyperparameters)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(streams.seed, streams.member, "network", 0))
            self.network: nn.Module = objective.network().to(device)
        self.regularizers.attach(self.network)
        self.splits = {
            name: {key: tensor.to(device) for key, tensor in split.items()}
            for name, split in objective.splits().items()
        }
        self.batches = Batches(self.splits["train"], objective.optimization.batch_size, streams, "epoch")
        self.validation = Batches(
            self.splits["validation"], objective.validation_batch_size, streams, "validation"
        )
        self.parameters = dict(self.network.named_parameters())
        self.optimizer = objective.optimization.build(list(self.parameters.values()))

    @property
    def learning_rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def begin(
        self,
        number: int,
        index: Int[Tensor, "batch"],
        values: Mapping[str, Any],
        stream: str,
        perturbed: bool = False,
    ) -> Step:
        """A training step with its batch drawn and augmented; random draws come from ``stream``."""
        batch = self.batches.batch(index)
        self.streams.seed_global(f"{stream}_modules", number)
        step = Step(
            number=number,
            inputs=batch["inputs"],
            labels=batch["labels"],
            targets=self.objective.targets(batch["labels"]),
            index=index,
            values=values,
            generator=self.streams(stream, number),
            learning_rate=self.learning_rate,
            momentum=self.objective.optimization.momentum_of_sgd,
            classes=getattr(self.objective, "classes", 0),
            examples=self.batches.examples,
            perturbed=perturbed,
        )
        self.regularizers.begin(step)
        return step

    def loss(
        self, step: Step, forward: Callable[[Tensor], Tensor], parameters: Mapping[str, Tensor]
    ) -> Float[Tensor, ""]:
        """The regularized training loss of a step that has begun."""
        step.logits = forward(step.inputs)
        step.parameters = parameters
        self.regularizers.end()
        self.regularizers.targets(step)
        loss = self.objective.loss(step.logits, step.targets).mean()
        penalty = self.regularizers.penalty(step)
        return loss if penalty is None else loss + penalty

    def smooth_loss(self, number: int, unconstrained: Float[Tensor, "n"], stream: str) -> Float[Tensor, ""]:
        """The regularized loss of the batch of a training step, with its graph, as a function of the weights and
        of the unconstrained hyperparameters; it changes neither running statistics nor regularizers' state.
        """
        index = self.batches.index(number)
        assert index is not None
        step = self.begin(number, index, self.space.values(unconstrained), stream, perturbed=True)
        with frozen_statistics(self.network):
            return self.loss(step, self.network, self.parameters)

    def validation_losses(self, number: int) -> tuple[Float[Tensor, "batch"], dict[str, Tensor]]:
        """Plain losses of the validation batch of a hyper-step, with their graph, and further measures of it."""
        batch = self.validation.batch(self.validation.index(number))
        self.network.eval()
        outputs = self.network(batch["inputs"])
        self.network.train()
        losses = self.objective.validation_loss(outputs, batch["labels"])
        return losses, self.objective.metrics(outputs.detach(), batch["labels"])

    def update(self, step: Step) -> None:
        """The optimizer's step on gradients that are there, with what regularizers do around it."""
        if self.regularizers.changes_gradients:
            gradients = {name: p.grad for name, p in self.parameters.items() if p.grad is not None}
            self.regularizers.gradients(step, gradients)
        self.regularizers.map_parameters(step, "before")
        self.optimizer.step()
        self.regularizers.map_parameters(step, "after")

    def train(self, number: int, values: Mapping[str, Any]) -> Float[Tensor, ""]:
        """One training step with the given hyperparameters; returns its loss, detached."""
        index = self.batches.index(number)
        assert index is not None
        step = self.begin(number, index, values, "elementary")
        loss = self.loss(step, self.network, self.parameters)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.update(step)
        return loss.detach()

    @torch.no_grad()
    def evaluate(self, network: nn.Module, split: str, batch_size: int = 4096) -> dict[str, float]:
        """Plain loss and metrics of a network over a whole split, without regularization."""
        data = self.splits[split]
        was_training = network.training
        network.eval()
        sums: dict[str, Tensor] = {}
        batches = (torch.split(data[key], batch_size) for key in ("inputs", "labels"))
        for inputs, labels in zip(*batches, strict=True):
            outputs = network(inputs)
            measures = {"loss": self.objective.validation_loss(outputs, labels)}
            measures |= self.objective.metrics(outputs, labels)
            for name, values in measures.items():
                sums[name] = sums.get(name, 0) + values.sum()
        network.train(was_training)
        return {f"{split}_{name}": float(total) / len(data["labels"]) for name, total in sums.items()}

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "regularizers": self.regularizers.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.regularizers.load_state_dict(state["regularizers"])


def validation_measures(losses: Float[Tensor, "batch"], metrics: Mapping[str, Tensor]) -> dict[str, float]:
    """Means over a validation batch, as reports name them; one look at the device."""
    measures = {"loss": losses.detach(), **metrics}
    means = torch.stack([values.mean() for values in measures.values()]).tolist()
    return {f"validation_{name}": mean for name, mean in zip(measures, means, strict=True)}
