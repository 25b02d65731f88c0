import math

import pytest
import torch
from selftune.objectives.functional import dropconnect

pytestmark = pytest.mark.usefixtures("double")


def test_rate_zero_is_the_identity_and_the_boundary_is_kept():
    weight = torch.randn(4)
    assert torch.equal(dropconnect(weight, torch.rand(4), 0.0), weight)
    kept = dropconnect(torch.ones(2), torch.tensor([0.25, 0.2499]), 0.25)
    assert kept.tolist() == pytest.approx([4 / 3, 0.0])


def test_expected_output_of_a_linear_layer_is_the_clean_output():
    weight, inputs = torch.randn(3, 4), torch.randn(4)
    outputs = dropconnect(weight, torch.rand(20_000, 3, 4), 0.3) @ inputs
    error = (outputs.mean(dim=0) - weight @ inputs).abs()
    assert (error < 3.5 * outputs.std(dim=0) / math.sqrt(20_000)).all()


def test_dropped_weights_get_no_gradient():
    weight = torch.randn(3, 4, requires_grad=True)
    uniform = torch.rand(3, 4)
    (gradient,) = torch.autograd.grad(dropconnect(weight, uniform, 0.5).square().sum(), weight)
    assert torch.equal(gradient == 0, uniform < 0.5)
