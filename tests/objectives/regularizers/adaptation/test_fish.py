import torch
from selftune.objectives.regularizers.adaptation.fish import fish


def test_ends_are_exact(draw):
    weights, inner = draw(50), 1e8 * draw(50)
    assert torch.equal(fish(weights, inner, 0.0), weights)
    assert torch.equal(fish(weights, inner, 1.0), inner)


def test_one_domain_is_a_shorter_step(draw):
    weights, gradient = draw(4), draw(4)
    torch.testing.assert_close(fish(weights, weights - 0.1 * gradient, 0.3), weights - 0.03 * gradient)


def test_the_second_inner_gradient_holds_the_hessian_times_the_first(draw):
    roots, weights, rate = draw(2, 3, 3), draw(3), 1e-3
    hessians = roots @ roots.mT
    inner = weights - rate * hessians[0] @ weights
    inner = inner - rate * hessians[1] @ inner
    moved = fish(weights, inner, 1.0)
    expected = hessians[0] @ weights + hessians[1] @ weights - rate * hessians[1] @ hessians[0] @ weights
    torch.testing.assert_close((weights - moved) / rate, expected, rtol=1e-9, atol=1e-9)


def test_derivative_in_the_step(draw):
    step = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(fish, (draw(3), draw(3), step))
