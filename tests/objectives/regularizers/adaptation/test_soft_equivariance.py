import pytest
import torch
from rounding import squared_rounding
from selftune.objectives.regularizers.adaptation.soft_equivariance import soft_equivariance


@pytest.fixture
def rotations():
    """Quarter turns of the plane, and how they permute four points of a square."""
    quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    shift = torch.eye(4, dtype=torch.float64).roll(1, 0)
    return tuple(torch.stack([torch.linalg.matrix_power(m, n) for n in range(4)]) for m in (quarter, shift))


def averages(weight, bias, inputs, outputs):
    return (outputs @ weight @ inputs.mT).mean(0), (outputs @ bias).mean(0)  # actions are orthogonal


def test_half_the_squares_that_the_projection_removes(draw, rotations):
    weight, bias = draw(4, 2), draw(4)
    projected, fixed = averages(weight, bias, *rotations)
    expected = 0.5 * (
        weight.square().sum() - projected.square().sum() + bias.square().sum() - fixed.square().sum()
    )
    torch.testing.assert_close(soft_equivariance(weight, bias, *rotations), expected)


def test_zero_for_layers_that_commute(draw, rotations):
    weight, bias = averages(draw(4, 2), draw(4), *rotations)
    nothing = squared_rounding(max(weight.abs().max(), bias.abs().max()), terms=12)
    assert soft_equivariance(weight, bias, *rotations).item() < nothing
    assert soft_equivariance(weight, bias + draw(4), *rotations).item() > 1e-3


def test_one_gradient_step_lands_on_the_projection(draw, rotations):
    weight, bias = draw(4, 2).requires_grad_(), draw(4).requires_grad_()
    gradients = torch.autograd.grad(soft_equivariance(weight, bias, *rotations), (weight, bias))
    for before, gradient, after in zip((weight, bias), gradients, averages(weight, bias, *rotations), strict=True):
        torch.testing.assert_close(before - gradient, after)


def test_a_subgroup_costs_no_more(draw, rotations):
    weight, bias = draw(4, 2), draw(4)
    half = soft_equivariance(weight, bias, *(actions[::2] for actions in rotations))
    assert half <= soft_equivariance(weight, bias, *rotations)


def test_actions_need_not_be_orthogonal(draw, rotations):
    inputs, outputs = rotations
    change = draw(2, 2)
    sheared = change @ inputs @ torch.linalg.inv(change)
    weight, bias = averages(draw(4, 2), draw(4), *rotations)
    moved = weight @ torch.linalg.inv(change)
    scale = max(moved.abs().max(), bias.abs().max()) * torch.linalg.cond(change)
    assert soft_equivariance(moved, bias, sheared, outputs).item() < squared_rounding(scale, terms=12)
