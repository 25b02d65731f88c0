"""Orthogonality of a convolution as an operator, computed on its kernel."""

from __future__ import annotations

import torch
import torch.nn.functional as F

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
    identity = F.pad(torch.eye(channels).to(gram)[:, :, None, None], (steps,) * 4)
    return (gram - identity).square().sum() - max(0, channels - inputs * stride**2)
