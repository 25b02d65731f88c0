"""Half precision: what cannot be held in it is held in float32."""

import pytest
import torch
from torch import nn

from selftune.lower_level.optimization import Optimization
from selftune.networks.precision import WideTensors, typed_as, wide_type, widened

HALVES = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_optimizers_move_every_weight_of_half_precision(optimizer, half):
    weights = []
    for dtype in (torch.float32, half):
        parameter = nn.Parameter(torch.ones(67, dtype=dtype))
        rule = Optimization(optimizer=optimizer, learning_rate=0.1).build([parameter])
        for _ in range(3):
            parameter.grad = torch.ones_like(parameter)
            rule.step()
        weights.append(parameter.detach().float())
    step = float(1 - weights[0].max())
    assert step > 0.1
    assert (weights[0] - weights[1]).abs().max() < 4 * torch.finfo(half).eps  # a rounding in each of three steps


@pytest.mark.parametrize("half", HALVES)
def test_wide_tensors_are_differentiable_copies(half):
    weight, index = nn.Parameter(torch.ones(2, dtype=half)), torch.tensor([1])
    wide = WideTensors({"weight": weight, "index": index})
    assert [wide[name].dtype for name in wide] == [torch.float32, torch.int64]
    (wide["weight"] * 3).sum().backward()
    assert torch.equal(weight.grad, torch.full((2,), 3, dtype=half))


def test_types_as_wide_as_needed():
    assert wide_type() == torch.float32
    assert wide_type(torch.bfloat16, torch.float64) == torch.float64
    assert widened(torch.ones(1, dtype=torch.float64)).dtype == torch.float64
    assert typed_as(torch.ones(1), torch.ones(1, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert typed_as(torch.ones(1), torch.ones(1, dtype=torch.int64)).dtype == torch.float32
