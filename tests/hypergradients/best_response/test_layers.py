"""The gate formula, example by example (check 2)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from selftune.hypergradients.best_response import convert

N = 3

LAYERS = {
    "linear": (lambda: nn.Linear(4, 5), (4,)),
    "linear without bias": (lambda: nn.Linear(4, 5, bias=False), (4,)),
    "linear on sequences of sets": (lambda: nn.Linear(4, 5), (3, 2, 4)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2), (4, 9)),
    "grouped conv1d": (lambda: nn.Conv1d(4, 6, 3, groups=2, padding="same", padding_mode="replicate"), (4, 9)),
    "conv2d": (lambda: nn.Conv2d(3, 4, (3, 2), padding=(1, 0), bias=False), (3, 6, 5)),
    "grouped conv2d": (lambda: nn.Conv2d(4, 6, 3, groups=2, padding=1, padding_mode="circular"), (4, 5, 5)),
    "depthwise conv2d": (lambda: nn.Conv2d(3, 6, 3, groups=3, padding=2, padding_mode="reflect"), (3, 5, 5)),
}


def by_definition(layer, response, row, example, rank):
    """The plain layer on one example, with W0 + sum_r (V_r h) * W_r and b0 + (C h) * b_r."""
    rows = layer.weight.shape[0]
    gates = response.gates[: rank * rows].view(rank, rows, N)
    directions = response.directions["weight"].view(rank, *layer.weight.shape)
    weight = layer.weight.clone()
    for r in range(rank):
        for i in range(rows):
            weight[i] += (gates[r, i] @ row) * directions[r, i]
    plain = nn.Linear if isinstance(layer, nn.Linear) else (nn.Conv1d if weight.dim() == 3 else nn.Conv2d)
    bias = layer.bias
    if bias is not None:
        bias = bias + (response.gates[rank * rows :] @ row) * response.bias_directions
    if plain is nn.Linear:
        return F.linear(example, weight, bias)
    return plain._conv_forward(layer, example[None], weight, bias)[0]


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("name", LAYERS)
def test_gate_formula(name, rank):
    torch.manual_seed(0)
    build, shape = LAYERS[name]
    layer, inputs = build().double(), torch.randn(6, *shape, dtype=torch.float64)
    response = convert(layer, hyperparameters=N, example=inputs, rank=rank, generator=torch.Generator())
    nn.init.normal_(response.gates)
    h = torch.randn(6, N, dtype=torch.float64)
    expected = torch.stack(
        [by_definition(layer, response, row, x, rank) for row, x in zip(h, inputs, strict=True)]
    )
    torch.testing.assert_close(response.perturbed(h, inputs), expected)
    torch.testing.assert_close(response.linearized(h, inputs), expected)  # a single layer is linear in h
    one = by_definition(layer, response, h[2], inputs[0], rank)
    torch.testing.assert_close(response.perturbed(h[2:3], inputs)[0], one)  # one row for all examples


def test_wrong_rows_are_refused():
    layer, inputs = nn.Linear(4, 5), torch.randn(6, 4)
    response = convert(layer, hyperparameters=N, example=inputs, generator=torch.Generator())
    with pytest.raises(ValueError, match="sees 6 examples and the hyperparameters have 5 rows"):
        response.linearized(torch.randn(5, N), inputs)
    with pytest.raises(ValueError, match=r"\(batch, 3\)"):
        response.perturbed(torch.randn(6, 2), inputs)
    assert torch.equal(layer(inputs), F.linear(inputs, layer.weight, layer.bias))  # gates are off again
