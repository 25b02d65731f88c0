"""An objective on digits that plays every part that no other objective of the benchmarks plays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from selftune.objectives.data.digit_images import PIXELS, load_digit_splits
from selftune.objectives.networks.perceptron import perceptron
from torch import nn

from selftune.data import SPLITS, Split
from selftune.lower_level.objective import NetworkObjective
from selftune.lower_level.optimization import Optimization
from selftune.regularization.step import Step
from selftune.shapes import Tensor

WIDTH = PIXELS * PIXELS
TOKENS = 8


class Supernet(nn.Module):
    """A perceptron from 64 to 64 numbers, its output a mixture of three operations."""

    def __init__(self) -> None:
        super().__init__()
        self.perceptron = perceptron(WIDTH, (WIDTH,), WIDTH)
        self.choices = nn.Parameter(torch.zeros(1, 3))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.perceptron(inputs)
        operations = torch.stack([outputs, outputs.tanh(), outputs.relu()], dim=-1)
        return operations @ torch.softmax(self.choices[0], dim=0)


class ManyParts(NetworkObjective):
    """Restores digits; its outputs are read as images, token distributions, samples, log-probabilities."""

    provides = frozenset(
        {
            "inputs",
            "labels",
            "targets",
            "index",
            "logits",
            "parameters",
            "learning_rate",
            "examples",
            "classes",
            "policy_chosen",
            "policy_rejected",
            "reference_chosen",
            "reference_rejected",
            "token_logits",
            "reference_token_logits",
            "token_mask",
            "reconstruction",
            "samples",
            "data",
            "next_features",
            "rewards",
            "architecture",
            "input_actions",
            "output_actions",
        }
    )
    classes = WIDTH

    def __init__(self, batch_size: int) -> None:
        self.optimization = Optimization(batch_size)
        pairs = zip(SPLITS, load_digit_splits(800, 500, 0), strict=True)
        self._splits: dict[str, Split] = {name: {"inputs": x, "labels": y} for name, (x, y) in pairs}
        mirrored = torch.eye(WIDTH).view(-1, PIXELS, PIXELS).flip(-1).flatten(1)
        self._actions = torch.stack([torch.eye(WIDTH), mirrored]).expand(2, -1, -1, -1)
        self._mask = torch.arange(TOKENS) < TOKENS - 2

    def network(self) -> nn.Module:
        return Supernet()

    def splits(self) -> Mapping[str, Split]:
        return self._splits

    def targets(self, labels: Tensor) -> Tensor:
        return F.one_hot(labels, WIDTH).float()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().mean(dim=-1)

    def validation_loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return self.loss(outputs, self.targets(labels))

    def quantity(self, name: str, step: Step) -> Any:
        if name in ("input_actions", "output_actions"):
            return self._actions
        if name == "architecture":
            return step.parameters["choices"]
        if name == "token_mask":
            return self._mask.expand(len(step.inputs), -1)
        if name in ("data", "rewards"):
            return step.inputs if name == "data" else step.labels.float()
        if name == "next_features":
            return step.asks.pass_through(step, step.inputs.flip(0)).features
        outputs = step.reference_logits if name.startswith("reference_") else step.logits
        if name.endswith(("chosen", "rejected")):
            response = step.labels + (1 if name.endswith("rejected") else 0)
            return outputs.log_softmax(dim=-1).gather(1, response[:, None])[:, 0]
        if name.endswith("token_logits"):
            return outputs.view(-1, TOKENS, WIDTH // TOKENS)
        return outputs if name == "samples" else outputs.view(-1, 1, PIXELS, PIXELS)
