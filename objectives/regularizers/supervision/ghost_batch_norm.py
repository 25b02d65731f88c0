"""Ghost batch normalisation: statistics of small groups inside a large batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from selftune.errors import SettingError
from selftune.hyperparameters import Hyperparameter, Integer
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.shapes import Float, Tensor


def ghost_batch_norm(
    inputs: Float[Tensor, "batch features *spatial"], ghost_size: int, eps: float = 1e-5
) -> Float[Tensor, "batch features *spatial"]:
    """Normalises consecutive groups of ``ghost_size`` examples, each by its own mean and (biased) variance.

    The last group may be smaller; a group of one example without spatial axes becomes 0. Statistics also run
    over spatial axes. There is no affine map.

    Args:
        ghost_size: at least 1; from the batch size on this is ordinary batch normalisation.

    Raises:
        ValueError: if ``ghost_size`` is below 1.

    Source: "Train Longer, Generalize Better: Closing the Generalization Gap in Large Batch Training of Neural
    Networks" (arXiv 1705.08741, algorithm 1).

    >>> ghost_batch_norm(torch.tensor([[0.0], [2.0], [5.0], [5.0]]), ghost_size=2, eps=0.0)[:2]
    tensor([[-1.],
            [ 1.]])
    """
    if ghost_size < 1:
        raise ValueError(f"ghost_size must be at least 1, got {ghost_size}.")
    return _normalized(inputs, ghost_size, eps)[0]


def _normalized(
    inputs: Float[Tensor, "batch features *spatial"], ghost_size: int, eps: float
) -> tuple[Float[Tensor, "batch features *spatial"], Float[Tensor, "g features"], Float[Tensor, "g features"]]:
    """The normalised groups, one after the other, and their means and unbiased variances."""
    full = len(inputs) // ghost_size * ghost_size
    groups = [inputs[:full].reshape(-1, ghost_size, *inputs.shape[1:])] if full else []
    if full < len(inputs):
        groups.append(inputs[None, full:])
    pieces, means, variances = zip(*[_of_equal_size(group, eps) for group in groups], strict=True)
    return torch.cat(pieces), torch.cat(means), torch.cat(variances)


def _of_equal_size(groups: Float[Tensor, "g size features *spatial"], eps: float) -> tuple[Tensor, Tensor, Tensor]:
    number, _, features = groups.shape[:3]
    mean, variance = groups.new_zeros(2, number * features).unbind()
    if groups[0, :, 0].numel() == 1:  # a single value has no variance
        return (groups - groups)[:, 0], groups.detach().reshape(number, features), variance.view(number, -1)
    # One fused pass: every feature of every group is a channel, and with momentum 1 the running statistics are
    # those of the batch.
    channels = groups.transpose(0, 1).flatten(1, 2)
    fused = torch.backends.cudnn.enabled
    outputs = torch.batch_norm(channels, None, None, mean, variance, True, 1.0, eps, fused)
    outputs = torch.unflatten(outputs, 1, (number, features)).transpose(0, 1).flatten(0, 1)
    return outputs, mean.view(number, features), variance.view(number, features)


@register
class GhostBatchNorm(Regularizer):
    """Batch normalisation by groups of ``ghost_size`` examples while training; evaluation is unchanged.

    Running statistics move once per group, in order, with the layer's own momentum.
    """

    name = "ghost_batch_norm"
    family = "supervision"
    kind = "reparam"
    reference = Reference(
        "Train Longer, Generalize Better: Closing the Generalization Gap in Large Batch Training of Neural"
        " Networks",
        "1705.08741",
    )
    hyperparameters = (
        Hyperparameter(
            "ghost_size", Integer(2, 65536, sweep=(16, 256)), 128, online=False, smooth=False, shared=True
        ),
    )
    needs = frozenset({"batch_norm"})

    def attach(self, network: nn.Module) -> None:
        for name, module in network.named_modules():
            if type(module) in _GHOSTS:
                if module.momentum is None:
                    raise SettingError(
                        self.name, f"{name} has no momentum for its running statistics; give it one"
                    )
                module.__class__ = _GHOSTS[type(module)]
                module.ghost_size = int(self.bound["ghost_size"].value)


class _Ghost:
    """What replaces the forward pass of batch normalisation, under the same names of tensors."""

    ghost_size: int

    def forward(self: Any, inputs: Float[Tensor, "batch features *spatial"]) -> Tensor:
        if not self.training:
            evaluated: Tensor = super().forward(inputs)  # type: ignore[misc]
            return evaluated
        outputs, means, variances = _normalized(inputs, self.ghost_size, self.eps)
        if self.track_running_stats:
            self._track(inputs, means, variances)
        if not self.affine:
            return outputs
        shape = (-1, *([1] * (inputs.ndim - 2)))
        scaled: Tensor = outputs * self.weight.view(shape) + self.bias.view(shape)
        return scaled

    @torch.no_grad()
    def _track(
        self: Any, inputs: Tensor, means: Float[Tensor, "g features"], variances: Float[Tensor, "g features"]
    ) -> None:
        self.num_batches_tracked.add_(1)
        sizes = [group[:, 0].numel() for group in torch.split(inputs, self.ghost_size)]
        for size, mean, variance in zip(sizes, means, variances, strict=True):
            if size > 1:  # a single value has no variance
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
                self.running_var.lerp_(variance.to(self.running_var.dtype), self.momentum)


class _GhostBatchNorm1d(_Ghost, nn.BatchNorm1d):
    pass


class _GhostBatchNorm2d(_Ghost, nn.BatchNorm2d):
    pass


class _GhostBatchNorm3d(_Ghost, nn.BatchNorm3d):
    pass


_GHOSTS: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: _GhostBatchNorm1d,
    nn.BatchNorm2d: _GhostBatchNorm2d,
    nn.BatchNorm3d: _GhostBatchNorm3d,
}
