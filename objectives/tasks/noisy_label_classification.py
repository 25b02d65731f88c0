"""Handwritten digits with corrupted training labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from selftune.objectives.regularizers.supervision.label_noise import label_noise
from selftune.objectives.tasks.digits import Digits
from torch import nn

from selftune.errors import SettingError
from selftune.lower_level.objective import tasks
from selftune.networks.modes import evaluating
from selftune.shapes import Float, Int, Tensor

# Pairs of digits that look alike, as customary: 2->7, 3->8, 5<->6, 7->1.
CONFUSIONS = (0, 1, 7, 8, 4, 6, 5, 1, 8, 9)


@dataclass
class NoisyLabelClassification(Digits):
    """Digits whose training labels are wrong in part; validation and test labels are clean.

    The lower level fits wrong labels that the upper level does not reward, so regularization against
    memorization (``early_learning``, dropout, weight decay, label smoothing) can be tuned by it.

    Args:
        rate: share of wrong training labels (of the digits that have a double, where ``asymmetric``).
        kind: "symmetric" replaces by any other digit, "asymmetric" by the one that looks alike.
        noise_seed: decides which labels are wrong.

    Source: protocol of "Early-Learning Regularization Prevents Memorization of Noisy Labels" (arXiv 2007.00151)
    and "Compressing Features for Learning with Noisy Labels" (arXiv 2206.13140).

    >>> task = NoisyLabelClassification(rate=0.5)
    >>> wrong = task.splits()["train"]["labels"] != task.clean_labels
    >>> 150 < int(wrong.sum()) < 250
    True
    """

    rate: float = 0.4
    kind: Literal["symmetric", "asymmetric"] = "symmetric"
    noise_seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.rate <= 1:
            raise SettingError("rate", f"must be a number from 0 to 1, got {self.rate}")
        train = self._splits["train"]
        self.clean_labels = train["labels"]
        noisy = _corrupted(self.clean_labels, self.rate, self.kind, CONFUSIONS, self.noise_seed)
        self._splits["train"] = {**train, "labels": noisy}

    @torch.no_grad()
    def memorized_fraction(self, network: nn.Module) -> Float[Tensor, ""]:
        """Share of the corrupted training examples that a network predicts as their wrong label."""
        train = self.splits()["train"]
        with evaluating(network):
            logits = network(train["inputs"])
        return _memorized_fraction(logits, train["labels"], self.clean_labels)


tasks.register("noisy_label_classification", NoisyLabelClassification)


def _corrupted(
    labels: Int[Tensor, "examples"],
    rate: float,
    kind: Literal["symmetric", "asymmetric"],
    confusions: tuple[int, ...],
    seed: int,
) -> Int[Tensor, "examples"]:
    """The labels with noise that depends on the seed only.

    Args:
        confusions: for every class the one it is mistaken for; the class itself where there is none.
    """
    generator = torch.Generator().manual_seed(seed)
    uniform, offset = torch.rand(2, len(labels), generator=generator)
    if kind == "symmetric":
        return label_noise(labels, uniform, offset, rate, len(confusions))
    return torch.tensor(confusions)[labels].where(uniform < rate, labels)


def _memorized_fraction(
    logits: Float[Tensor, "examples classes"],
    noisy: Int[Tensor, "examples"],
    clean: Int[Tensor, "examples"],
) -> Float[Tensor, ""]:
    """0 if no label is corrupted."""
    corrupted = noisy != clean
    memorized = (logits.argmax(dim=-1) == noisy) & corrupted
    return memorized.sum() / corrupted.sum().clamp(min=1)
