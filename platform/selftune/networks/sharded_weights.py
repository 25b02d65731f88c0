"""Weights of which every process holds a part, by ``torch.distributed.fsdp.fully_shard`` (FSDP2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from selftune.networks.inventory import Inventory
from selftune.shapes import Tensor

_SMALLEST = 2**16
"""Entries below which modules are gathered with what is around them: a message for a few takes as long."""
_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def shard(network: nn.Module, inventory: Inventory) -> None:
    """Leaves every process of ``torch.distributed`` its part of each weight, along the first axis.

    Blocks and large layers are gathered while they run, the rest while the network does. The backward pass leaves
    each process its part of the gradients' mean.

    Args:
        inventory: of the network as the objective makes it.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    for parameter in network.parameters():
        parameter.data = (
            parameter.data.contiguous()
        )  # as FSDP wants them; of factors of matrices one is transposed
    device = next(network.parameters()).device.type
    mesh = init_device_mesh(device, (torch.distributed.get_world_size(),))
    scalars = {parameter for parameter in network.parameters() if not parameter.ndim}  # which have no axis
    for module in _units(network, "", inventory):
        fully_shard(module, mesh=mesh, ignored_params=scalars)
    fully_shard(network, mesh=mesh, reshard_after_forward=True, ignored_params=scalars)


@contextmanager
def gathered(network: nn.Module) -> Iterator[None]:
    """Within it every process has all weights in the network, so that others can be put in their place.

    Without it, each module would take its own weights again as soon as it runs.
    """
    from torch.distributed.fsdp import FSDPModule

    units = [module for module in network.modules() if isinstance(module, FSDPModule)]
    for unit in units:
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()
    try:
        yield
    finally:
        for unit in units:
            unit.set_reshard_after_forward(True, recurse=False)
            unit.reshard()


def _units(module: nn.Module, name: str, inventory: Inventory) -> Iterator[nn.Module]:
    """Members of lists and layers by themselves, that are large and whose weights nobody else uses."""
    for leaf, child in module.named_children():
        path = f"{name}.{leaf}" if name else leaf
        is_whole = isinstance(module, _LISTS) or next(child.children(), None) is None
        size = sum(parameter.numel() for parameter in child.parameters())
        if is_whole and not isinstance(child, _LISTS) and size >= _SMALLEST and _alone(child, path, inventory):
            yield child
        else:
            yield from _units(child, path, inventory)


def _alone(module: nn.Module, path: str, inventory: Inventory) -> bool:
    """Whether the weights of a module are used while its own forward runs, and at no other time."""
    names = {inventory.canonical(f"{path}.{name}") for name, _ in module.named_parameters(remove_duplicate=False)}
    return all(path in running for name in names for running in inventory.places.get(name, ()))


def is_sharded(tensor: Any) -> bool:
    """Whether this process holds a part of a tensor only."""
    return hasattr(tensor, "full_tensor")  # torch.distributed.tensor takes a second to import


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor, as an ordinary one in the same memory."""
    if not is_sharded(tensor):
        return tensor
    with torch.no_grad():
        part: Tensor = tensor.to_local()  # type: ignore[attr-defined]
    return part


def part_of(tensor: Tensor, like: Tensor) -> Tensor:
    """What this process would hold of a tensor that all have, if it were shared out as another one is."""
    if not is_sharded(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    shared: Any = like
    return own_part(distribute_tensor(tensor.detach(), shared.device_mesh, shared.placements, src_data_rank=None))


def whole(tensor: Tensor) -> Tensor:
    """A tensor that is shared out, gathered by all processes; others as they are. Differentiable."""
    if not is_sharded(tensor):
        return tensor
    gathered: Tensor = tensor.full_tensor()  # type: ignore[attr-defined]
    return gathered


class WholeWeights(Mapping[str, Tensor]):
    """Weights by name, each gathered when it is first read; all processes read the same.

    Args:
        plain: the weights, of which every process holds a part.
    """

    def __init__(self, plain: Mapping[str, Tensor]) -> None:
        self.plain = plain
        self._read: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._read:
            found, own = whole(self.plain[name]), self.plain[name]
            if found is not own and not torch.is_grad_enabled():
                found.requires_grad_(own.requires_grad)
            self._read[name] = found
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.plain)

    def __len__(self) -> int:
        return len(self.plain)

    def put_back(self, name: str) -> None:
        """Takes over what has been written into a tensor that was read, which is read anew the next time."""
        own, changed = self.plain[name], self._read.pop(name)
        if changed is not own:
            own_part(own).copy_(part_of(changed, own))


@contextmanager
def written(weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Within it tensors are read to be changed in place, without gradient; at its end they are put back."""
    with torch.no_grad():
        yield
        if isinstance(weights, WholeWeights):
            for name in list(weights._read):
                weights.put_back(name)
