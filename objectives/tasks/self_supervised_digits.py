"""Self-supervised digits: embeddings learned from two distorted views of every image, without labels."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from selftune.objectives.data.digit_images import PIXELS, load_digit_splits
from torch import nn

from selftune.errors import SettingError
from selftune.lower_level.objective import tasks
from selftune.lower_level.optimization import Optimization
from selftune.lower_level.self_supervised import SelfSupervised
from selftune.shapes import Float, Int, Tensor


@dataclass
class SelfSupervisedDigits(SelfSupervised):
    """An encoder of digits trained by regularizers on two views: shifted by up to a pixel, scaled, noisy.

    Labels train nothing. They are read for ``neighbour_accuracy`` alone: the share of examples whose nearest
    neighbour in the embedding, itself left out, has the same label.

    Args:
        hidden: units of the hidden layer.
        dimension: entries of an embedding.
        noise: standard deviation of the noise on standardised pixels, at least 0.
        train_examples, validation_examples: sizes of the two splits; the rest of the 1797 is the test split.
        batch_size, optimizer, learning_rate, momentum: see ``Optimization``.
        validation_batch_size: examples per hypergradient; None uses the whole validation split.
        split_seed: decides which images go into which split.

    >>> SelfSupervisedDigits(dimension=16).network()(torch.zeros(2, 64)).shape
    torch.Size([2, 16])
    """

    hidden: int = 128
    dimension: int = 32
    noise: float = 0.3
    train_examples: int = 800
    validation_examples: int = 500
    batch_size: int = 128
    optimizer: str = "adam"
    learning_rate: float = 2e-3
    momentum: float | None = None
    validation_batch_size: int | None = None
    split_seed: int = 0

    def __post_init__(self) -> None:
        for key in ("hidden", "dimension"):
            if getattr(self, key) < 1:
                raise SettingError(key, f"must be at least 1, got {getattr(self, key)}")
        if not self.noise >= 0:
            raise SettingError("noise", f"must be at least 0, got {self.noise}")
        splits = load_digit_splits(self.train_examples, self.validation_examples, self.split_seed)
        optimization = Optimization(self.batch_size, self.optimizer, self.learning_rate, self.momentum)
        super().__init__(self._network, *splits, self._distorted, optimization, self.validation_batch_size)

    def _network(self) -> nn.Module:
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            hidden=nn.Linear(PIXELS * PIXELS, self.hidden),
            norm=nn.BatchNorm1d(self.hidden),
            relu=nn.ReLU(),
            projector=nn.Linear(self.hidden, self.dimension),
        )
        return nn.Sequential(layers)

    def _distorted(
        self, inputs: Float[Tensor, "batch 64"], generator: torch.Generator
    ) -> Float[Tensor, "batch 64"]:
        batch, device = len(inputs), inputs.device
        images = F.pad(inputs.view(batch, PIXELS, PIXELS), (1, 1, 1, 1), mode="replicate")
        shift = torch.randint(0, 3, (batch, 2), generator=generator, device=device)
        place = torch.arange(PIXELS, device=device)
        rows, columns = (shift[:, axis, None] + place for axis in (0, 1))
        shifted = images[torch.arange(batch, device=device)[:, None, None], rows[:, :, None], columns[:, None, :]]
        scale = 0.8 + 0.4 * torch.rand(batch, 1, generator=generator, device=device)
        noise = torch.randn(inputs.shape, generator=generator, device=device)
        return scale * shifted.flatten(1) + self.noise * noise

    def metrics(
        self, outputs: Float[Tensor, "batch 2 dim"], labels: Int[Tensor, "batch"]
    ) -> dict[str, Float[Tensor, "batch"]]:
        distances = torch.cdist(outputs[:, 0], outputs[:, 0])
        distances.fill_diagonal_(torch.inf)
        return {"neighbour_accuracy": (labels[distances.argmin(dim=1)] == labels).to(outputs.dtype)}


tasks.register("self_supervised_digits", SelfSupervisedDigits)
