"""Digits as images: scikit-learn's 1797 images of 8 x 8 pixels, a CNN with residual branches."""

from __future__ import annotations

from dataclasses import dataclass

from selftune.objectives.common.image_classification import ImageClassification
from selftune.objectives.common.sizes import check_sizes
from selftune.objectives.data.digit_images import PIXELS, load_digit_images
from selftune.objectives.networks.residual_cnn import ResidualCNN
from torch import nn

from selftune.errors import SettingError
from selftune.lower_level.objective import tasks
from selftune.lower_level.optimization import Optimization

_MOST_BLOCKS = PIXELS.bit_length()  # each but the last halves the image


@dataclass
class DigitImages(ImageClassification):
    """A convolutional classifier of handwritten digits, with batch normalisation and residual branches.

    Layers are ``first``, ``block1.branch.conv1``, ``block1.branch.conv2``..., ``output``. The data are those of
    ``digits``, kept as bytes; ``inputs`` are pixels in [0, 1], which the network standardises by mean and
    deviation of the training split.

    Args:
        channels: of every convolution.
        blocks: residual blocks, from 1 to 4; every one but the last halves the images.
        train_examples, validation_examples: sizes of the two splits; the rest of the 1797 is the test split.
        batch_size, optimizer, learning_rate, momentum: see ``Optimization``.
        validation_batch_size: examples per hypergradient; None uses the whole validation split.
        split_seed: decides which images go into which split.

    Raises:
        SettingError: if a split is empty, or a size out of its range.

    >>> DigitImages().splits()["train"]["inputs"].shape
    torch.Size([400, 1, 8, 8])
    """

    channels: int = 16
    blocks: int = 2
    train_examples: int = 400
    validation_examples: int = 700
    batch_size: int = 64
    optimizer: str = "sgd"
    learning_rate: float = 0.03
    momentum: float | None = None
    validation_batch_size: int | None = None
    split_seed: int = 0

    def __post_init__(self) -> None:
        check_sizes(self, "channels", "blocks")
        if self.blocks > _MOST_BLOCKS:
            raise SettingError(
                "blocks", f"must be at most {_MOST_BLOCKS}, which halve 8 pixels to one, got {self.blocks}"
            )
        optimization = Optimization(self.batch_size, self.optimizer, self.learning_rate, self.momentum)
        splits = load_digit_images(self.train_examples, self.validation_examples, self.split_seed)
        super().__init__(self._network, *splits, optimization, self.validation_batch_size)

    def _network(self, first: nn.Module) -> nn.Module:
        return ResidualCNN(10, 1, self.channels, self.blocks, first)


tasks.register("digit_images", DigitImages)
