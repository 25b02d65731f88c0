"""Best responses of ridge regression, where everything is known in closed form.

A = X'X/n, b = X'y/n, penalty 0.5 exp(u) |w|^2, H = A + exp(u) I, w* = H^-1 b. Expectations over the Gaussian
perturbation are sums over Gauss-Hermite nodes, so nothing here is random but the data.
"""

import math

import numpy as np
import pytest
import torch
from torch import nn

from selftune.hypergradients.best_response import convert

D, N = 4, 16
NODES, WEIGHTS = (torch.tensor(a) for a in np.polynomial.hermite_e.hermegauss(8))
WEIGHTS = WEIGHTS / WEIGHTS.sum()


class Ridge:
    """Data, closed forms, and a single-output network whose response is fitted."""

    def __init__(self, groups=1):
        generator = torch.Generator().manual_seed(3)
        self.x, self.y = _data(generator)
        self.x_val, self.y_val = _data(generator)
        self.a = self.x.T @ self.x / N
        self.b = self.x.T @ self.y / N
        self.group = torch.arange(D) * groups // D

    def penalty(self, u):
        """exp(u) of every weight's group, for one vector u."""
        return torch.exp(torch.as_tensor(u, dtype=torch.float64).reshape(-1))[self.group]

    def hessian(self, u):
        return self.a + torch.diag(self.penalty(u))

    def solution(self, u):
        return torch.linalg.solve(self.hessian(u), self.b)

    def jacobian(self, u):
        """(D, groups): dw*/du."""
        columns = self.penalty(u) * self.solution(u)
        groups = int(self.group.max()) + 1
        masks = torch.stack([(self.group == g) * columns for g in range(groups)], dim=1)
        return -torch.linalg.solve(self.hessian(u), masks)

    def validation_loss(self, w):
        return 0.5 * (self.x_val @ w - self.y_val).square().mean()

    def hypergradient(self, u):
        w = self.solution(u)
        return self.jacobian(u).T @ (self.x_val.T @ (self.x_val @ w - self.y_val) / N)

    def network(self, u, groups=1, rank=1):
        network = nn.Sequential(nn.Linear(D, 1, bias=False)).double()
        with torch.no_grad():
            network[0].weight.copy_(self.solution(u)[None])
        response = convert(
            network,
            hyperparameters=groups,
            example=self.x,
            rank=rank,
            generator=torch.Generator().manual_seed(0),
        )
        return network, response

    def perturbed_loss(self, u, h, predictions, weight):
        """Training loss at hyperparameters u + h."""
        shrinkage = self.penalty(torch.as_tensor(u, dtype=torch.float64) + h)
        return 0.5 * (predictions[:, 0] - self.y).square().mean() + 0.5 * (shrinkage * weight[0] ** 2).sum()


def _data(generator):
    x = torch.randn(N, D, dtype=torch.float64, generator=generator) * torch.tensor([2.0, 1.0, 0.7, 0.4])
    w = torch.tensor([1.0, -1.5, 2.0, 0.5], dtype=torch.float64)
    return x, x @ w + 4.0 * torch.randn(N, dtype=torch.float64, generator=generator)


def fit(ridge, response, network, u, sigma, joint=False, groups=1):
    """Minimises the expected perturbed loss over the response set (and W0, when joint) to convergence."""
    parameters = list(response.parameters()) + (list(network.parameters()) if joint else [])
    forward = response.perturbed if joint else response.linearized
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=400, tolerance_grad=1e-13, tolerance_change=1e-18, line_search_fn="strong_wolfe"
    )
    nodes = [
        (sigma * torch.stack(node), torch.stack(weight).prod())
        for node, weight in zip(_grid(NODES, groups), _grid(WEIGHTS, groups), strict=True)
    ]

    def expected_loss():
        optimizer.zero_grad()
        total = torch.zeros((), dtype=torch.float64)
        for h, weight in nodes:
            predictions = forward(h.expand(N, -1), ridge.x)
            response_weight = response.weights(h)["0.weight"]
            if joint:  # weights() holds W0 constant
                response_weight = response_weight - network[0].weight.detach() + network[0].weight
            total = total + weight * ridge.perturbed_loss(u, h, predictions, response_weight)
        scaled = total / sigma**2  # the response changes the loss by O(sigma^2)
        scaled.backward()
        return scaled.detach()

    optimizer.step(expected_loss)


def _grid(values, groups):
    return [tuple(v) for v in torch.cartesian_prod(*([values] * groups)).reshape(-1, groups)]


def theta(response, groups=1):
    """(D, groups): the fitted derivative of the weights in the hyperparameters."""
    base = response.weights(torch.zeros(groups, dtype=torch.float64))["0.weight"]
    columns = [response.weights(row)["0.weight"] - base for row in torch.eye(groups, dtype=torch.float64)]
    return torch.cat(columns).detach().T


def moments(u, sigma):
    s0 = math.exp(u + sigma**2 / 2)
    return s0, sigma**2 * s0, (sigma**2 + sigma**4) * s0


@pytest.mark.parametrize(("u", "sigma"), [(-1.0, 0.1), (0.5, 0.5), (0.0, 1.0)])
def test_separate_fit_reaches_the_closed_form(u, sigma):
    ridge = Ridge()
    network, response = ridge.network(u)
    fit(ridge, response, network, u, sigma)
    _, s1, s2 = moments(u, sigma)
    eye = torch.eye(D, dtype=torch.float64)
    expected = -torch.linalg.solve(sigma**2 * ridge.a + s2 * eye, s1 * ridge.solution(u))
    torch.testing.assert_close(theta(response)[:, 0], expected, rtol=1e-4, atol=1e-6)


def test_the_fit_tends_to_the_jacobian_as_the_scale_vanishes():
    ridge, u = Ridge(), -0.5
    jacobian = ridge.jacobian(u)[:, 0]
    errors = []
    for sigma in (0.4, 0.2, 0.1):
        network, response = ridge.network(u)
        fit(ridge, response, network, u, sigma)
        fitted = theta(response)[:, 0]
        errors.append(float((fitted - jacobian).norm() / jacobian.norm()))
    assert errors[2] < 0.02
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.3)  # O(sigma^2)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.3)
    assert torch.cosine_similarity(fitted, jacobian, dim=0) > 0.999


def test_joint_fit_is_biased_exactly_as_predicted_and_separate_fit_is_not():
    ridge, u, sigma = Ridge(), 0.0, 0.5
    network, response = ridge.network(u)
    fit(ridge, response, network, u, sigma, joint=True)
    s0, s1, s2 = moments(u, sigma)
    eye = torch.eye(D, dtype=torch.float64)
    system = torch.cat(
        [
            torch.cat([ridge.a + s0 * eye, s1 * eye], dim=1),
            torch.cat([s1 * eye, sigma**2 * ridge.a + s2 * eye], dim=1),
        ]
    )
    solution = torch.linalg.solve(system, torch.cat([ridge.b, torch.zeros_like(ridge.b)]))
    torch.testing.assert_close(network[0].weight.detach()[0], solution[:D], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(theta(response)[:, 0], solution[D:], rtol=1e-3, atol=1e-5)
    separate, response = ridge.network(u)
    fit(ridge, response, separate, u, sigma)
    assert torch.equal(separate[0].weight.detach()[0], ridge.solution(u))


def learned_hypergradient(ridge, u, sigma=0.02, groups=1, rank=1):
    network, response = ridge.network(u, groups, rank)
    fit(ridge, response, network, u, sigma, groups=groups)
    weight = network[0].weight
    loss = 0.5 * (network(ridge.x_val)[:, 0] - ridge.y_val).square().mean()
    (gradient,) = torch.autograd.grad(loss, [weight])
    return response.contract({"0.weight": gradient}), theta(response, groups)


def test_closed_form_hypergradient_matches_central_differences():
    ridge = Ridge(groups=2)
    u, step = torch.tensor([-0.3, 0.4], dtype=torch.float64), 1e-5
    for k in range(2):
        e = torch.zeros(2, dtype=torch.float64)
        e[k] = step
        difference = (
            ridge.validation_loss(ridge.solution(u + e)) - ridge.validation_loss(ridge.solution(u - e))
        ) / (2 * step)
        assert ridge.hypergradient(u)[k].item() == pytest.approx(difference.item(), rel=1e-6)


def optimum(ridge):
    grid = torch.linspace(-6, 4, 2001, dtype=torch.float64)
    return float(grid[torch.stack([ridge.validation_loss(ridge.solution(u)) for u in grid]).argmin()])


def test_learned_hypergradient_has_the_right_size_and_sign_on_both_sides_of_the_optimum():
    ridge = Ridge()
    best = optimum(ridge)
    for u in (best - 1.5, best + 1.5):
        learned, _ = learned_hypergradient(ridge, u)
        exact = ridge.hypergradient(u)
        assert learned.item() == pytest.approx(exact.item(), rel=0.05)
        assert (learned.item() > 0) == (u > best)


def test_descent_through_the_learned_response_reaches_the_validation_optimum():
    ridge = Ridge()
    u, step = 0.5, 0.8
    for _ in range(25):
        learned, _ = learned_hypergradient(ridge, u)
        u -= step * learned.sign().item()
        step *= 0.8
    assert u == pytest.approx(optimum(ridge), abs=0.1)


def test_rank_two_reaches_the_jacobian_of_two_groups_and_rank_one_its_best_truncation():
    ridge = Ridge(groups=2)
    u, sigma = torch.tensor([-0.5, 0.3], dtype=torch.float64), 0.05
    exact = ridge.jacobian(u)
    _, full = learned_hypergradient(ridge, u, sigma, groups=2, rank=2)
    assert (full - exact).norm() / exact.norm() < 0.02
    _, truncated = learned_hypergradient(ridge, u, sigma, groups=2, rank=1)
    factor = torch.linalg.cholesky(ridge.hessian(u))
    left, singular, right = torch.linalg.svd(factor.T @ exact, full_matrices=False)
    best = torch.linalg.solve(factor.T, singular[0] * torch.outer(left[:, 0], right[0]))
    assert (truncated - best).norm() / best.norm() < 0.02
    _, auto = learned_hypergradient(ridge, u, sigma, groups=2, rank="auto")
    assert (auto - exact).norm() / exact.norm() < 0.02  # one output, two hyperparameters: rank two
