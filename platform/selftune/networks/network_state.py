"""Everything that a network computes with, by name, and how it is put into another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils.weight_norm import WeightNorm

from selftune.networks.modes import evaluating


def state_of(network: nn.Module) -> dict[str, Any]:
    """What ``state_dict`` gives, and the buffers that it leaves out (``persistent=False``).

    A network goes on from these buffers as it does from the others: a checkpoint without them is another network.

    >>> network = nn.Linear(1, 1, bias=False)
    >>> network.register_buffer("seen", torch.zeros(()), persistent=False)
    >>> list(network.state_dict()), list(state_of(network))
    (['weight'], ['weight', 'seen'])
    """
    state: dict[str, Any] = dict(network.state_dict())
    return state | {
        name: buffer.detach()
        for name, buffer in network.named_buffers(remove_duplicate=False)
        if name not in state
    }


@torch.no_grad()
def load_state(network: nn.Module, state: Mapping[str, Any], hooked: bool = True) -> None:
    """Puts what ``state_of`` gave into a network, and computes weights that hooks compute.

    Buffers that are not persistent are taken where the state has them, whatever their size was.

    Args:
        hooked: whether weights that hooks compute are wanted before the next pass, which computes them anyway.

    Raises:
        RuntimeError: if anything else is missing, or there for nothing.
    """
    known = network.state_dict()
    loose = {
        name: buffer
        for name, buffer in network.named_buffers(remove_duplicate=False)
        if name not in known and name in state
    }
    network.load_state_dict({name: value for name, value in state.items() if name not in loose})
    for name, buffer in loose.items():
        if buffer.shape == state[name].shape:
            buffer.copy_(state[name])
        else:
            owner, _, leaf = name.rpartition(".")
            network.get_submodule(owner)._buffers[leaf] = state[name].to(buffer.device, copy=True)
    for module in network.modules() if hooked else ():
        compute_hooked_weights(module)


def compute_hooked_weights(module: nn.Module) -> None:
    """Sets the weight of a module that a hook of ``torch.nn.utils`` computes (``weight_norm``, ``spectral_norm``).

    Until the next pass it would be that of the tensors of before.
    """
    with evaluating(module):  # power iterations stay where they are
        for hook in module._forward_pre_hooks.values():
            if hasattr(hook, "compute_weight"):
                hook(module, ())


def has_hooked_weight(module: nn.Module) -> bool:
    """Whether a hook computes the attribute ``weight``, which is then no tensor that the module holds."""
    return any(
        hasattr(hook, "compute_weight") and getattr(hook, "name", None) == "weight"
        for hook in module._forward_pre_hooks.values()
    )


def has_length_apart(module: nn.Module) -> bool:
    """Whether ``weight_norm``, by hook or by parametrization, divides a direction of the module by its length."""
    computed: Any = getattr(module, "parametrizations", {})
    return any(
        isinstance(each, parametrizations._WeightNorm) for group in computed.values() for each in group
    ) or any(isinstance(hook, WeightNorm) for hook in module._forward_pre_hooks.values())
