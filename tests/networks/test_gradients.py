"""Gradients and moments lie in memory as the parameters do, whatever made them."""

import pytest
import torch
from torch import nn

from selftune.lower_level.optimization import Optimization
from selftune.networks.gradients import give_gradients


def convolution(memory_format):
    torch.manual_seed(0)
    return nn.Conv2d(2, 3, 3, dtype=torch.float64).to(memory_format=memory_format)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_a_step_is_the_same_in_either_layout(optimizer):
    weights = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        parameters = list(convolution(memory_format).parameters())
        rule = Optimization(optimizer=optimizer).build(parameters)
        generator = torch.Generator().manual_seed(1)
        for _ in range(2):
            give_gradients(
                parameters, [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
            )
            rule.step()
        weights.append(parameters[0].detach())
    assert torch.equal(*weights)


def test_gradients_take_the_type_of_their_parameter_and_none_stays_none():
    parameters = [nn.Parameter(torch.zeros(2, dtype=torch.bfloat16)) for _ in range(2)]
    give_gradients(parameters, [torch.ones(2), None])
    assert parameters[0].grad.dtype == torch.bfloat16
    assert parameters[1].grad is None


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_moments_from_a_file_that_lost_their_layout_go_on_to_the_same_step(optimizer):
    ends = []
    for lost in (False, True):
        parameters = list(convolution(torch.channels_last).parameters())
        rule = Optimization(optimizer=optimizer).build(parameters)
        generator = torch.Generator().manual_seed(1)
        for _ in range(2):
            give_gradients(
                parameters, [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
            )
            rule.step()
            if lost:
                state = rule.state_dict()
                for moments in state["state"].values():
                    moments |= {k: m.contiguous() for k, m in moments.items() if isinstance(m, torch.Tensor)}
                rule.load_state_dict(state)
        ends.append(parameters[0].detach())
    assert torch.equal(*ends)
