"""Check 10: a two-layer linear network under an L2 penalty on its Jacobian, where gates are exact.

For y = w'x, loss |Xw - t|^2 + exp(u) |dy/dx|^2 and the decomposition X = U diag(d) V', the best response is
w*(u) = V diag(sigmoid(2 log d - u)) diag(1 / d) U' t: hidden units V'x gated by sigmoids of u, read out
by U't / d.
"""

import math

import pytest
import torch
from torch import nn

from selftune.hypergradients.best_response import convert

D, N, U = 4, 12, 0.3


@pytest.fixture
def problem():
    generator = torch.Generator().manual_seed(0)
    x, t, x_val, t_val = (torch.randn(*s, dtype=torch.float64, generator=generator) for s in ((N, D), (N,)) * 2)
    left, d, right = torch.linalg.svd(x, full_matrices=False)

    def gates(u):
        return torch.sigmoid(2 * d.log() - u)

    network = nn.Sequential(nn.Linear(D, D, bias=False), nn.Linear(D, 1, bias=False)).double()
    with torch.no_grad():
        network[0].weight.copy_(gates(U)[:, None] * right)
        network[1].weight.copy_((left.T @ t / d)[None])
    response = convert(
        network,
        hyperparameters=1,
        example=x,
        rank=1,
        output_layer=False,
        generator=torch.Generator().manual_seed(1),
    )

    def validation_loss(w):
        return (x_val @ w - t_val).square().mean()

    return x, t, d, right, gates, network, response, validation_loss


def solution(x, t, u):
    return torch.linalg.solve(x.T @ x + math.exp(u) * torch.eye(D, dtype=x.dtype), x.T @ t)


def learned(network, response, validation_loss):
    weight = network[0].weight
    (gradient,) = torch.autograd.grad(validation_loss((network[1].weight @ weight)[0]), [weight])
    return response.contract({"0.weight": gradient}).item()


def exact(x, t, validation_loss, step=1e-5):
    forth, back = (validation_loss(solution(x, t, U + sign * step)) for sign in (1, -1))
    return ((forth - back) / (2 * step)).item()


def test_the_best_response_gates_hidden_units_by_sigmoids(problem):
    x, t, _, right, gates, network, _, _ = problem
    for u in (-2.0, U, 3.0):
        gated = network[1].weight @ (gates(u)[:, None] * right)
        torch.testing.assert_close(gated[0].detach(), solution(x, t, u), rtol=1e-12, atol=1e-12)


def test_one_direction_per_unit_represents_it_exactly(problem):
    x, t, _, right, gates, network, response, validation_loss = problem
    with torch.no_grad():
        response.directions["0/weight"].copy_(right)
        response.gates.copy_((-gates(U) * (1 - gates(U)))[:, None])
    assert learned(network, response, validation_loss) == pytest.approx(exact(x, t, validation_loss), rel=1e-6)
    errors = []
    for h in (0.1, 0.05):
        moved = response.weights(torch.tensor([h], dtype=torch.float64))["0.weight"]
        errors.append((moved - gates(U + h)[:, None] * right).norm().item())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)  # what is left is of second order


def test_fitting_the_response_finds_it(problem):
    x, t, _, _, _, network, response, validation_loss = problem
    optimizer = torch.optim.LBFGS(
        response.parameters(),
        max_iter=500,
        tolerance_grad=1e-12,
        tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )
    sigma = 0.03

    def perturbed_loss():
        optimizer.zero_grad()
        total = torch.zeros((), dtype=torch.float64)
        for h in (-sigma, sigma):  # two nodes have the first two moments of the perturbation
            row = torch.tensor([h], dtype=torch.float64)
            outputs = response.linearized(row.expand(N, -1), x)[:, 0]
            jacobian = network[1].weight.detach() @ response.weights(row)["0.weight"]
            strength = math.exp(U + h)
            total = total + (outputs - t).square().sum() + strength * jacobian.square().sum()
        total = total / sigma**2
        total.backward()
        return total

    optimizer.step(perturbed_loss)
    assert learned(network, response, validation_loss) == pytest.approx(exact(x, t, validation_loss), rel=0.01)
