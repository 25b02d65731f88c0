"""Whether a converted network keeps examples apart, seen in passes with a different h for each of them."""

from __future__ import annotations

import torch
from torch import nn

from selftune.data.nested import tensors_in
from selftune.hypergradients.best_response.response import BestResponse
from selftune.networks.inventory import Feed, undisturbed
from selftune.networks.modes import constant_buffers, evaluating
from selftune.shapes import Tensor

_TOLERANCE = 1e-3  # of what the hyperparameters change


def keeps_examples_apart(model: nn.Module, response: BestResponse, feed: Feed) -> bool:
    """Whether the output for each example follows its own row of h, and no other one's.

    An input that all examples share, such as positions, gets an axis of examples on its way through a rule. Where
    the network adds the result to what examples have, that is what was meant. Where it does something else with
    it (takes its first row, puts it along another axis), this shows it.
    """
    size = feed.examples
    h = torch.linspace(-1, 1, size * response.hyperparameters, device=response.gates.device)
    rows = h.view(size, -1).to(response.gates.dtype)

    def outputs(h: Tensor) -> list[Tensor]:
        with response.perturbing(h):
            found = feed.run(model, size)
        return [tensor for tensor in tensors_in(found) if tensor.is_floating_point()]

    kept = response.gates.detach().clone()
    with torch.no_grad(), undisturbed(), evaluating(model), constant_buffers(model):
        response.gates.uniform_(-1, 1)
        try:
            own = outputs(rows)
            alike = {number: outputs(rows[number].expand(size, -1)) for number in (0, size - 1)}
        except RuntimeError:  # shapes no longer fit
            return False
        finally:
            response.gates.copy_(kept)
    return all(
        _alike(one, other, number, size)
        for number, others in alike.items()
        for one, other in zip(own, others, strict=True)
    )


def _alike(own: Tensor, alike: Tensor, number: int, size: int) -> bool:
    """Whether an example's output is the same where all others have its h, too."""
    axis = next((axis for axis, length in enumerate(own.shape) if length == size), None)
    if own.shape != alike.shape or axis is None:
        return False
    change = (own - alike).abs()
    return bool(change.select(axis, number).max() <= _TOLERANCE * change.max())
