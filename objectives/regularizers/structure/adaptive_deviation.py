"""A residual branch with BatchNorm that gets back the deviation of every sample."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from selftune.errors import SettingError
from selftune.hyperparameters import Hyperparameter, Positive
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.shapes import Float, Tensor


def adaptive_deviation(
    transformed: Float[Tensor, "batch c h w"],
    skip: Float[Tensor, "batch c h w"],
    *,
    slope: float | Float[Tensor, ""] = 1.5,
    offset: float | Float[Tensor, ""] = 0.0,
) -> Float[Tensor, "batch c h w"]:
    """``transformed * (slope * s + offset) + skip`` with s the standard deviation of every sample of ``skip``.

    The deviation is the unbiased one over channels and pixels, of which there must be more than one; gradients
    flow through it.

    Args:
        transformed: output of the branch, which starts with a BatchNorm.
        skip: what the branch is added to.

    Source: "QuantNAS for super resolution: searching for efficient quantization-friendly architectures against
    quantization noise" (arXiv 2208.14839), adaptive deviation for quantization.

    >>> import torch
    >>> skip = torch.tensor([[[[0.0, 2.0, 4.0]]]])  # standard deviation 2
    >>> adaptive_deviation(torch.ones(1, 1, 1, 3), skip)
    tensor([[[[3., 5., 7.]]]])
    """
    return _scaled(transformed, skip, slope, offset) + skip


def _scaled(transformed: Tensor, skip: Tensor, slope: float | Tensor, offset: float | Tensor) -> Tensor:
    # As a norm: library deviations go through every sample number by number.
    centred = skip - skip.mean(dim=(1, 2, 3), keepdim=True)
    norm = torch.linalg.vector_norm(centred, dim=(1, 2, 3), keepdim=True)
    scaled: Tensor = transformed * (slope * (norm / math.sqrt(skip[0].numel() - 1)) + offset)
    return scaled


@register
class AdaptiveDeviation(Regularizer):
    """Starts every residual branch with a BatchNorm, and gives it back the deviation of what it is added to.

    Slope and offset of every block are trained with the network, and stay part of it: the exported network has
    them, too. The shortcut of a block has to be what its branch sees.
    """

    name = "adaptive_deviation"
    family = "structure"
    kind = "reparam"
    reference = Reference(
        "QuantNAS for super resolution: searching for efficient quantization-friendly architectures against"
        " quantization noise",
        "2208.14839",
    )
    hyperparameters = (Hyperparameter("slope", Positive(sweep=(0.1, 10.0)), 1.5, online=False, smooth=False),)
    needs = frozenset({"branches", "images"})

    def extend(self, network: nn.Module) -> None:
        slope = self.settings.get("slope", self.hyperparameters[0].value)
        blocks = [block for block in network.modules() if isinstance(getattr(block, "branch", None), nn.Module)]
        for block in blocks:
            branch: Any = block.branch
            convolutions = [module for module in branch.modules() if isinstance(module, nn.Conv2d)]
            if not convolutions:
                raise SettingError("adaptive_deviation", "needs convolutions in every residual branch")
            like = convolutions[0].weight
            block.deviation_norm = nn.BatchNorm2d(convolutions[0].in_channels).to(like)
            block.deviation = nn.ParameterDict(
                {"slope": torch.tensor(float(slope)).to(like), "offset": torch.zeros(()).to(like)}
            )
            around = _Around(block)
            branch.register_forward_pre_hook(around.before)
            branch.register_forward_hook(around.after)


class _Around:
    """What comes before and after the branch of one block; a class, so that a network with it can be copied."""

    def __init__(self, block: nn.Module) -> None:
        self.block: Any = block
        self._skip: Tensor | None = None

    def before(self, branch: nn.Module, arguments: tuple[Any, ...]) -> Tensor:
        (self._skip,) = arguments
        normalized: Tensor = self.block.deviation_norm(self._skip)
        return normalized

    def after(self, branch: nn.Module, arguments: tuple[Any, ...], transformed: Tensor) -> Tensor:
        assert self._skip is not None
        skip, self._skip = self._skip, None
        return _scaled(transformed, skip, **self.block.deviation)  # the block adds the skip itself
