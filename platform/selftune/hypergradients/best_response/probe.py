"""A probe: which layers a forward pass calls, and whether the leading axis of what they see is the batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from selftune.hypergradients.best_response.constants import submodules_called
from selftune.modes import evaluating


@dataclass
class Probe:
    """What a forward pass does with layers."""

    calls: list[nn.Module] = field(default_factory=list)
    """Those that are called, in the order of their last call."""
    batch_leads: dict[nn.Module, bool] = field(default_factory=dict)
    """Whether the batch was the leading axis of all that a layer saw."""


def probe(model: nn.Module, layers: Iterable[nn.Module], example: Tensor | tuple[Any, ...]) -> Probe:
    """Runs ``model`` in evaluation mode on ``example`` and on its first half, watching ``layers``.

    Two batch sizes, because one may equal another axis by chance. Training modes, the random stream and every
    buffer stay as they were.

    Raises:
        ValueError: if the example has no tensor with at least two rows.
    """
    arguments = example if isinstance(example, tuple) else (example,)
    tensors = [a for a in arguments if isinstance(a, Tensor) and a.dim() > 0]
    if not tensors or tensors[0].shape[0] < 2:
        raise ValueError("example needs a tensor with at least two rows, so that the batch axis can be found")
    batch = tensors[0].shape[0]

    result = Probe()
    size = batch

    def watch(layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        if layer in result.calls:
            result.calls.remove(layer)
        result.calls.append(layer)
        x = inputs[0] if inputs else named["input"]
        unbatched = isinstance(layer, nn.modules.conv._ConvNd) and x.dim() < layer.weight.dim()
        leads = x.dim() > 1 and x.shape[0] == size and not unbatched
        result.batch_leads[layer] = result.batch_leads.get(layer, True) and leads

    hooks = [layer.register_forward_pre_hook(watch, with_kwargs=True) for layer in layers]
    cuda = sorted({a.device.index for a in tensors if a.is_cuda})
    try:
        with torch.no_grad(), torch.random.fork_rng(cuda), submodules_called(), evaluating(model):
            for size in (batch, batch // 2):
                model(
                    *(a[:size] if isinstance(a, Tensor) and a.dim() and len(a) == batch else a for a in arguments)
                )
    finally:
        for hook in hooks:
            hook.remove()
    return result
