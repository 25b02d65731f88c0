"""What a pass beside training leaves as it was: every module's mode, and the buffers of the network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from selftune.shapes import Tensor


@contextmanager
def evaluating(network: nn.Module, but_norms: bool = False) -> Iterator[None]:
    """Evaluation mode within; afterwards every module is in the mode that it was in.

    Modes are per module: what a user put into evaluation mode stays there when the others train.

    Args:
        but_norms: leaves normalisation layers as they are: those that train use the statistics of the batch.

    >>> network = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout())
    >>> _ = network[0].eval()
    >>> with evaluating(network):
    ...     network[1].training
    False
    >>> [module.training for module in network]
    [False, True]
    """
    modes = [(module, module.training) for module in network.modules()]
    try:
        network.eval()
        if but_norms:
            _put([(module, mode) for module, mode in modes if isinstance(module, _BatchNorm | _InstanceNorm)])
        yield
    finally:
        _put(modes)


def _put(modes: list[tuple[nn.Module, bool]]) -> None:
    """Puts modules into modes, from the outside to the inside.

    It goes through their ``train``, because some modules do more there than to note the mode (merge weights, keep
    a layer frozen); where that leaves another mode than the one before, the mode is set.
    """
    for module, mode in modes:
        if module.training is not mode:
            module.train(mode)
    for module, mode in modes:
        module.training = mode


@contextmanager
def constant_buffers(network: nn.Module) -> Iterator[None]:
    """What a pass within writes to the buffers of ``network`` is forgotten.

    A second pass on a batch belongs in here, so that running statistics, power iterations and counts see every
    batch once, whatever kind of module keeps them. Modules in training mode get copies of their buffers for as
    long as it lasts, and their own ones back. They are not written back into the originals, because a graph may
    hold the tensors that its pass has read. Modules in evaluation mode read running statistics and change none.

    >>> norm, inputs = nn.BatchNorm1d(2), torch.ones(3, 2)
    >>> with constant_buffers(norm):
    ...     outputs = norm(inputs)
    >>> norm.running_mean
    tensor([0., 0.])
    """
    places: list[tuple[dict[str, Any], str, Tensor]] = [
        (module._buffers, name, buffer)
        for module in network.modules()
        if module.training
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    originals = list({id(buffer): buffer for _, _, buffer in places}.values())
    copies = torch._foreach_clone(originals) if originals else ()
    spare = {id(original): copy for original, copy in zip(originals, copies, strict=True)}
    for buffers, name, original in places:
        buffers[name] = spare[id(original)]
    try:
        yield
    finally:
        for buffers, name, original in places:
            buffers[name] = original
