"""Gradients of what a method adds to the training loss, kept apart from it until the optimizer steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim import Optimizer

from selftune.gradients import give_gradients
from selftune.shapes import Tensor


@contextmanager
def added_gradient(
    optimizer: Optimizer, parameters: Sequence[Tensor], added: Sequence[Tensor | None]
) -> Iterator[None]:
    """Within it, ``added`` joins the gradients of the optimizer's first step, right before that.

    It is not in the loss: whatever regularizers make of a training step, of its gradients, its stages and its
    shards, they make of that of the loss alone.

    >>> weight = torch.zeros(1, requires_grad=True)
    >>> optimizer = torch.optim.SGD([weight], lr=1.0)
    >>> with added_gradient(optimizer, [weight], [torch.ones(1)]):
    ...     optimizer.step()
    >>> weight
    tensor([-1.], requires_grad=True)
    """
    waiting = list(zip(parameters, added, strict=True))

    def add(*_: Any) -> None:
        present, gradients = [], []
        for parameter, gradient in waiting:
            if gradient is not None and parameter.grad is not None:
                present.append(parameter.grad)
                gradients.append(gradient)
            elif gradient is not None:
                give_gradients([parameter], [gradient])
        if present:
            torch._foreach_add_(present, gradients)
        waiting.clear()

    handle = optimizer.register_step_pre_hook(add)
    try:
        yield
    finally:
        handle.remove()
