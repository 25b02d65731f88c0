"""The state of a network of which every process holds a part: each saves its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from selftune.networks.sharded_weights import is_sharded, own_part
from selftune.shapes import Tensor

_PART, _SHAPE = "part of this process", "shape of the whole"


def as_parts(state: Any) -> Any:
    """A state of dictionaries, lists and tuples with what this process holds in place of shared tensors."""
    return _replaced(state, _is_shared, lambda tensor: {_PART: own_part(tensor), _SHAPE: list(tensor.shape)})


def of_parts(state: Any, like: Tensor) -> Any:
    """What ``as_parts`` was given, in the same process of as many.

    Args:
        like: a tensor that is shared by the processes as those of the state are.
    """
    shared: Any = like

    def tensor(entry: dict[str, Any]) -> Tensor:
        from torch.distributed.tensor import DTensor

        shape = torch.Size(entry[_SHAPE])
        stride = torch.empty(shape, device="meta").stride()
        made: Tensor = DTensor.from_local(
            entry[_PART].to(own_part(like).device),
            shared.device_mesh,
            shared.placements,
            run_check=False,
            shape=shape,
            stride=stride,
        )
        return made

    return _replaced(state, lambda entry: isinstance(entry, dict) and entry.keys() == {_PART, _SHAPE}, tensor)


def _is_shared(entry: Any) -> bool:
    return isinstance(entry, Tensor) and is_sharded(entry)


def _replaced(tree: Any, is_one: Callable[[Any], bool], by: Callable[[Any], Any]) -> Any:
    if is_one(tree):
        return by(tree)
    if isinstance(tree, dict):
        return {key: _replaced(value, is_one, by) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_replaced(value, is_one, by) for value in tree)
    return tree
