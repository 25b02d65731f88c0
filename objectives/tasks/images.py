"""Images of one size, each of one class: a small CNN or ResNet-18."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from selftune.objectives.common.dataset_key import check_word, under_dataset
from selftune.objectives.common.image_classification import ImageClassification
from selftune.objectives.common.sizes import check_sizes
from selftune.objectives.data.photograph_tiles import photograph_tiles
from selftune.objectives.data.split_images import SplitImages, read_split_images, split_images
from selftune.objectives.networks.resnet import ResNet18
from selftune.objectives.networks.small_cnn import LAYERS, SmallCNN
from torch import nn

from selftune.errors import SettingError
from selftune.lower_level.objective import tasks
from selftune.lower_level.optimization import Optimization

BUNDLED = "photographs"
_WIDTHS = {"cnn": 16, "resnet18": 64}
_LEAST = 2**LAYERS


@dataclass
class Images(ImageClassification):
    """A classifier of images by a small CNN, or by ResNet-18 with the stem for 32 x 32 pixels.

    The CNN has the layers ``conv1``, ``conv2``, ``conv3`` and ``output``; ResNet-18 ``conv1``,
    ``layers.0.conv1``..., ``fc``. Images are kept as bytes; ``inputs`` are pixels in [0, 1], which the network
    standardises by mean and deviation of every channel over the training split.

    Args:
        dataset: path of a folder of images, of a Parquet file or of a folder of these (see ``read_images``);
            ``photographs`` are 960 tiles of 32 x 32 pixels of scikit-image's ten photographs, a class for each
            photograph.
        size: height and width to which the images of files are resized; None takes images of one size as they are.
        architecture: the network.
        width: channels of its first convolution; None takes 16 for the CNN, 64 for ResNet-18.
        split: fractions for validation and test, 0.2 each unless given, where the data have no such split.
        batch_size, optimizer, learning_rate, momentum: see ``Optimization``.
        validation_batch_size: examples per hypergradient; None uses the whole validation split.
        split_seed: decides which images go into which split.
        image, label: columns of Parquet; None finds them by their usual names.

    Raises:
        SettingError: if there are no such images, they cannot be used, or a size is out of its range.

    Source: ``resnet18`` is of "Deep Residual Learning for Image Recognition" (arXiv 1512.03385).

    >>> Images().splits()["train"]["inputs"].shape
    torch.Size([576, 3, 32, 32])
    """

    dataset: str = BUNDLED
    size: tuple[int, ...] | None = None
    architecture: Literal["cnn", "resnet18"] = "cnn"
    width: int | None = None
    split: dict[str, float] | None = None
    batch_size: int = 64
    optimizer: str = "adam"
    learning_rate: float = 0.003
    momentum: float | None = None
    validation_batch_size: int | None = None
    split_seed: int = 0
    image: str | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        check_sizes(self, "width")
        images = self._images()
        self.class_names = images.classes
        self._channels, height, width = images.train[0].shape[1:]
        if min(height, width) < _LEAST:
            raise SettingError(
                "size", f"images must have at least {_LEAST} x {_LEAST} pixels, these have {height} x {width}"
            )
        optimization = Optimization(self.batch_size, self.optimizer, self.learning_rate, self.momentum)
        super().__init__(
            self._network, images.train, images.validation, images.test, optimization, self.validation_batch_size
        )

    def _images(self) -> SplitImages:
        if self.dataset == BUNDLED:
            for key in ("size", "image", "label"):
                if getattr(self, key) is not None:
                    raise SettingError(
                        key, "is for images in files; the tiles come with sizes and labels, so leave it out"
                    )
            return split_images(photograph_tiles(self.split, self.split_seed))
        check_word(self.dataset, [BUNDLED])
        with under_dataset():
            return read_split_images(self.dataset, self.size, self.split, self.split_seed, self.image, self.label)

    def _network(self, first: nn.Module) -> nn.Module:
        width = self.width or _WIDTHS[self.architecture]
        if self.architecture == "cnn":
            return SmallCNN(len(self.class_names), width, self._channels, first)
        return ResNet18(len(self.class_names), width, entering=self._channels, before=first)


tasks.register("images", Images)
