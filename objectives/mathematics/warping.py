"""Affine maps of the plane of an image, one per example, and images seen through them.

A map has two rows and three columns and works backwards: it takes a pixel of the new image to the place in the old
one where its colour is found. Places are counted in pixels from the image's centre, to the right and down.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from selftune.shapes import Float, Tensor

Map = Float[Tensor, "batch 2 3"]
Images = Float[Tensor, "batch channels height width"]


def affine_map(
    linear: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]], shift: tuple[Tensor, Tensor] | None = None
) -> Map:
    """The map of these entries, each of shape (batch,); without a shift, the centre stays.

    >>> one, zero = torch.ones(1), torch.zeros(1)
    >>> affine_map(((one, zero), (zero, one)))
    tensor([[[1., 0., 0.],
             [0., 1., 0.]]])
    """
    (a, b), (c, d) = linear
    right, down = shift or (torch.zeros_like(a), torch.zeros_like(a))
    return torch.stack([a, b, right, c, d, down], dim=1).view(-1, 2, 3)


def composed(first: Map, second: Map) -> Map:
    """The map of an image that was seen through ``first`` and then through ``second``.

    >>> one, zero = torch.ones(1), torch.zeros(1)
    >>> larger = affine_map(((0.5 * one, zero), (zero, 0.5 * one)))
    >>> moved = affine_map(((one, zero), (zero, one)), (one, zero))
    >>> composed(larger, moved)
    tensor([[[0.5000, 0.0000, 0.5000],
             [0.0000, 0.5000, 0.0000]]])
    """
    # sums and no matrix product, which automatic mixed precision would round
    turned = (first[:, :, :2, None] * second[:, None]).sum(dim=2)
    return torch.cat([turned[:, :, :2], turned[:, :, 2:] + first[:, :, 2:]], dim=2)


def warped(images: Images, places: Map, padding: str = "zeros") -> Images:
    """Images seen through maps, with bilinear interpolation; the identity leaves an image as it is, bit for bit.

    Args:
        padding: what lies outside of an image: ``zeros``, its ``border``, or its ``reflection``.

    >>> one, zero = torch.ones(1), torch.zeros(1)
    >>> moved = affine_map(((one, zero), (zero, one)), (-one, zero))  # by one pixel to the right
    >>> warped(torch.tensor([[[[1.0, 2.0, 3.0]]]]), moved)
    tensor([[[[0., 1., 2.]]]])
    """
    height, width = images.shape[-2:]
    places = places.to(images)
    right = torch.arange(width, device=images.device, dtype=images.dtype) - (width - 1) / 2
    down = torch.arange(height, device=images.device, dtype=images.dtype) - (height - 1) / 2
    a, b, shift = places[..., None, None].unbind(dim=2)
    found = a * right + b * down[:, None] + shift
    grid = torch.stack([found[:, 0] * (2 / width), found[:, 1] * (2 / height)], dim=-1)  # in units of half a side
    seen = F.grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False)
    same = (places == torch.eye(2, 3, device=images.device, dtype=images.dtype)).flatten(1).all(dim=1)
    return images.where(same[:, None, None, None], seen)
