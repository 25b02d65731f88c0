"""What an optimizer remembers of earlier steps, and how it forgets it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.optim import Optimizer

from selftune.networks.sharded_weights import own_part, part_of
from selftune.shapes import Bool, Tensor


@torch.no_grad()
def forget_moments(
    optimizer: Optimizer,
    parameters: Mapping[str, Tensor],
    entries: Mapping[str, Bool[Tensor, "*shape"]] | None = None,
) -> None:
    """Resets an optimizer, or sets its moments of some entries of its parameters to zero.

    Args:
        parameters: those of the optimizer, by name.
        entries: True where moments are forgotten, by the parameters' names; counts of steps, which belong to whole
            parameters, go on. None resets everything, counts of steps too; learning rates stay.

    >>> weight = torch.ones(2, requires_grad=True)
    >>> optimizer = torch.optim.SGD([weight], lr=1.0, momentum=0.5)
    >>> weight.sum().backward()
    >>> optimizer.step()
    >>> forget_moments(optimizer, {"weight": weight}, {"weight": torch.tensor([True, False])})
    >>> optimizer.state[weight]["momentum_buffer"]
    tensor([0., 1.])
    """
    if entries is None:
        optimizer.state.clear()
        return
    for name, chosen in entries.items():
        parameter = parameters[name]
        for kind, remembered in optimizer.state.get(parameter, {}).items():
            if kind != "step" and isinstance(remembered, Tensor):
                own_part(remembered).masked_fill_(part_of(chosen, remembered), 0)
