"""Orthogonality of a convolution as an operator, computed on its kernel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from selftune.hyperparameters import Hyperparameter, Positive
from selftune.lower_level.objective import NetworkObjective
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor


def orthogonal_convolution(kernel: Float[Tensor, "out in k k"], *, stride: int = 1) -> Float[Tensor, ""]:
    """Squared distance of the convolution's Gram operator from the identity, per output pixel.

    For circular padding and the layer's matrix A on N by N output pixels this is ``|A A^T - I|^2 / N^2`` where the
    layer has no more outputs than inputs (out <= in * stride^2), and ``|A^T A - I|^2 / N^2`` otherwise.

    Source: "Existence, Stability and Scalability of Orthogonal Convolutional Neural Networks" (arXiv 2108.05623).

    >>> orthogonal_convolution(torch.eye(2)[:, :, None, None]), orthogonal_convolution(torch.zeros(2, 3, 3, 3))
    (tensor(0.), tensor(2.))
    """
    channels, inputs, size, _ = kernel.shape
    steps = (size - 1) // stride
    gram = F.conv2d(kernel, kernel, stride=stride, padding=steps * stride)
    identity = F.pad(torch.eye(channels, dtype=gram.dtype, device=gram.device)[:, :, None, None], (steps,) * 4)
    return (gram - identity).square().sum() - max(0, channels - inputs * stride**2)


def _plain(module: nn.Module) -> bool:
    """Whether a module is a convolution that the formula covers: square, ungrouped, the same in both axes."""
    return (
        isinstance(module, nn.Conv2d)
        and module.groups == 1
        and module.dilation == (1, 1)
        and module.kernel_size[0] == module.kernel_size[1]
        and module.stride[0] == module.stride[1]
    )


@register
class OrthogonalConvolution(Regularizer):
    """Deviation of convolutions from orthogonal operators, added up over layers; by default all but the first.

    Grouped or dilated convolutions and those of unequal sides are left alone.
    """

    name = "orthogonal_convolution"
    family = "dynamics"
    kind = "penalty"
    reference = Reference(
        "Existence, Stability and Scalability of Orthogonal Convolutional Neural Networks", "2108.05623"
    )
    hyperparameters = (Hyperparameter("strength", Positive(sweep=(1e-5, 10.0)), 0.1, shared=True),)
    needs = frozenset({"parameters", "images"})
    per_layer = True
    layer_filter = staticmethod(_plain)  # type: ignore[assignment]

    def bind(self, objective: NetworkObjective, provided: frozenset[str] | None = None) -> None:
        super().bind(objective, provided)
        modules = dict(objective.structure().named_modules())
        self._strides = {layer: modules[layer].stride[0] for layers in self.layers.values() for layer in layers}

    def default_layers(self, layers: tuple[str, ...]) -> tuple[str, ...]:
        return layers[1:] or layers

    def penalty(self, step: Step) -> Float[Tensor, "*parts"]:
        terms = [self._of_layers(step, layers) for layers in self.layers.values()]
        return terms[0] if self.parts is None else torch.stack(terms)

    def _of_layers(self, step: Step, layers: tuple[str, ...]) -> Float[Tensor, ""]:
        deviations = [
            orthogonal_convolution(kernel, stride=self._strides[layer])
            for layer in layers
            for kernel in self.weights(step, [layer])
        ]
        return torch.stack(deviations).sum() if deviations else step.logits.new_zeros(())
