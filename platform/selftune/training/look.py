"""The one look at the device: what a report says of training steps and a hyper-step comes to the host at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch

from selftune.data.nested import mapped, tensors_in
from selftune.shapes import Float, Tensor

T = TypeVar("T")


def fetched(found: T) -> T:
    """The same structure with its tensors on the CPU: one copy for all of them, so that the host waits once.

    Nothing else in a cycle of training steps and a hyper-step waits for a device, whatever the method: what is
    looked at in between would hold up the kernels behind it. Bits stay as they are.

    Args:
        found: tensors, alone or in tuples, lists and mappings.

    >>> fetched({"losses": [torch.tensor(1.0), torch.tensor(2.0)], "none": None})
    {'losses': [tensor(1.), tensor(2.)], 'none': None}
    """
    there = {id(tensor): tensor.detach() for tensor in tensors_in(found) if tensor.device.type != "cpu"}
    if not there:
        return found
    # wide ones first, so that each begins where its type may
    ordered = sorted(there.items(), key=lambda item: -item[1].element_size())
    whole = torch.cat([_bytes(tensor) for _, tensor in ordered]).cpu()
    here: dict[int, Tensor] = {}
    at = 0
    for key, tensor in ordered:
        end = at + tensor.numel() * tensor.element_size()
        here[key] = whole[at:end].view(tensor.dtype).view(tensor.shape).clone()
        at = end
    return mapped(lambda tensor: here.get(id(tensor), tensor), found)  # type: ignore[no-any-return]


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(-1).view(torch.uint8)


def numbers(measures: Mapping[str, Float[Tensor, ""]]) -> dict[str, float]:
    """Numbers on the CPU by name, as reports have them.

    >>> numbers({"validation_loss": torch.tensor(0.5)})
    {'validation_loss': 0.5}
    """
    return {name: float(value) for name, value in measures.items()}
