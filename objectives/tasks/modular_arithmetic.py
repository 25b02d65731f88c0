"""Modular arithmetic: the table of (a op b) mod p, some of its entries wrong, learned from a part of it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from selftune.errors import SettingError
from selftune.lower_level.classification import Classification
from selftune.lower_level.objective import tasks
from selftune.lower_level.optimization import Optimization
from selftune.regularization.quantity import Quantity, quantities
from selftune.regularization.step import Step
from selftune.shapes import Float, Int, Tensor

quantities.declare(
    Quantity(
        "neuron_weights",
        ("neurons", "vectors", "length"),
        "float",
        "what hidden neurons read and write, cut into vectors",
    ),
)


def modular_arithmetic(
    *, modulus: int, operation: str = "add"
) -> tuple[Int[Tensor, "pairs 2"], Int[Tensor, "pairs"]]:
    """All pairs (a, b) of residues in lexicographic order, and their labels (a op b) mod ``modulus``.

    Args:
        modulus: p, at least 1; there are p ** 2 pairs.
        operation: "add", "subtract" or "multiply".

    Raises:
        ValueError: if the modulus is below 1 or the operation is unknown.

    Source: "To grok or not to grok: Disentangling generalization and memorization on corrupted algorithmic
    datasets" (arXiv 2310.13061).

    >>> pairs, labels = modular_arithmetic(modulus=2)
    >>> pairs.tolist(), labels.tolist()
    ([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0])
    """
    if modulus < 1:
        raise ValueError(f"modular_arithmetic needs a modulus of at least 1, got {modulus}.")
    residues = torch.arange(modulus)
    pairs = torch.cartesian_prod(residues, residues)
    a, b = pairs.unbind(dim=1)
    results = {"add": a + b, "subtract": a - b, "multiply": a * b}
    if operation not in results:
        raise ValueError(f"modular_arithmetic knows the operations {', '.join(results)}, got {operation!r}.")
    return pairs, results[operation] % modulus


class _Square(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.square()


@dataclass
class ModularArithmetic(Classification):
    """A two-layer network without biases learns (a op b) mod p from the one-hot codes of a and b.

    Memorization and learning of the rule come apart cleanly: some training labels are wrong, validation and test
    labels are those of the rule. Weight decay, dropout and normalisation decide which wins; without them the
    network memorizes first and learns the rule late, if ever.

    Args:
        modulus: p, at least 3.
        operation: "add", "subtract" or "multiply".
        train_share: share of the table that is trained on; halves of the rest are for validation and test.
        corruption: share of the training labels that are replaced by uniform ones, which may be right by chance.
        model: "quadratic" squares its hidden units and is trained on squared errors, "relu" on cross-entropy.
        hidden: hidden units.
        batch_size: None trains on all examples in every step.
        optimizer, learning_rate, momentum: see ``Optimization``.
        split_seed: decides the split and the wrong labels.

    Raises:
        SettingError: if a number is out of range, or a split is empty.

    Source: "To grok or not to grok: Disentangling generalization and memorization on corrupted algorithmic
    datasets" (arXiv 2310.13061), model "quadratic"; "Grokking at the Edge of Numerical Stability"
    (arXiv 2501.04697), model "relu" with modulus 113 and train_share 0.4.

    >>> len(ModularArithmetic(modulus=11).splits()["train"]["labels"])
    60
    """

    modulus: int = 97
    operation: Literal["add", "subtract", "multiply"] = "add"
    train_share: float = 0.5
    corruption: float = 0.2
    model: Literal["quadratic", "relu"] = "quadratic"
    hidden: int = 500
    batch_size: int | None = None
    optimizer: str = "adamw"
    learning_rate: float = 0.01
    momentum: float | None = None
    split_seed: int = 0

    provides = Classification.provides | {"neuron_weights"}

    def __post_init__(self) -> None:
        if self.modulus < 3:
            raise SettingError("modulus", f"must be at least 3, got {self.modulus}")
        if self.hidden < 1:
            raise SettingError("hidden", f"must be at least 1, got {self.hidden}")
        for key in ("train_share", "corruption"):
            if not 0 <= getattr(self, key) <= 1:
                raise SettingError(key, f"must lie in [0, 1], got {getattr(self, key)}")
        train, validation, test = self._draw()
        optimization = Optimization(
            self.batch_size or max(1, len(train[1])), self.optimizer, self.learning_rate, self.momentum
        )
        super().__init__(self._network, train, validation, test, optimization)
        self.classes = self.modulus

    def _draw(self) -> list[tuple[Tensor, Tensor]]:
        try:
            pairs, labels = modular_arithmetic(modulus=self.modulus, operation=self.operation)
        except ValueError as error:
            raise SettingError("operation", str(error)) from error
        generator = torch.Generator().manual_seed(self.split_seed)
        order = torch.randperm(len(labels), generator=generator)
        trained = int(self.train_share * len(labels))
        held_out = (len(labels) - trained) // 2
        self.true_labels = labels[order[:trained]]
        wrong = int(self.corruption * trained)
        labels = labels.clone()
        labels[order[:wrong]] = torch.randint(self.modulus, (wrong,), generator=generator)
        inputs = F.one_hot(pairs, self.modulus).flatten(1).to(torch.get_default_dtype())
        pieces = torch.split(order, [trained, held_out, len(labels) - trained - held_out])
        return [(inputs[piece], labels[piece]) for piece in pieces]

    def _network(self) -> nn.Module:
        first = nn.Linear(2 * self.modulus, self.hidden, bias=False)
        last = nn.Linear(self.hidden, self.modulus, bias=False)
        if self.model == "relu":
            return nn.Sequential(OrderedDict(first=first, activation=nn.ReLU(), last=last))
        for layer in (first, last):
            nn.init.normal_(layer.weight, std=0.5 / (2 * self.hidden) ** (1 / 3))
        return nn.Sequential(OrderedDict(first=first, activation=_Square(), last=last))

    def loss(
        self, outputs: Float[Tensor, "batch classes"], targets: Float[Tensor, "batch classes"]
    ) -> Float[Tensor, "batch"]:
        if self.model == "relu":
            return super().loss(outputs, targets)
        return (outputs - targets).square().mean(dim=-1)

    def validation_loss(
        self, outputs: Float[Tensor, "batch classes"], labels: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch"]:
        return self.loss(outputs, self.targets(labels).to(outputs.dtype))

    def quantity(self, name: str, step: Step) -> Any:
        """``neuron_weights``: what every hidden neuron reads of a, reads of b, and writes."""
        if name != "neuron_weights":
            return super().quantity(name, step)
        first, last = (step.asks.weight(step, layer) for layer in ("first", "last"))
        return torch.cat([first.view(-1, 2, self.modulus), last.T.unsqueeze(1)], dim=1)

    @torch.no_grad()
    def accuracies(self, network: nn.Module) -> dict[str, float]:
        """Shares of the training examples that a network predicts as labelled or as the rule says.

        ``train`` as labelled, ``train_rule`` as the rule says; of those with a wrong label, ``memorized`` as
        labelled, ``corrected`` as the rule says (nan where none is wrong).
        """
        train = self.splits()["train"]
        predicted = network(train["inputs"]).argmax(dim=1)
        labelled, ruled = predicted == train["labels"], predicted == self.true_labels
        wrong = train["labels"] != self.true_labels
        return {
            "train": float(labelled.double().mean()),
            "train_rule": float(ruled.double().mean()),
            "memorized": float(labelled[wrong].double().mean()),
            "corrected": float(ruled[wrong].double().mean()),
        }


tasks.register("modular_arithmetic", ModularArithmetic)
