"""Finite sums with known answers: a quadratic of condition 25, and a lower level with curvature of every order."""

import torch

from selftune.hypergradients.stochastic import MiniBatchOracle

N, D, LOWER, UPPER = 5, 3, 12, 10


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rows(data, index):
    return data if index is None else data[index]


class Quadratic:
    """h = mean_i (a_i'x - c_i'u - b_i)^2 / 2, g = mean_j (p_j'x - q_j)^2 / 2 + |u|^2 / 4.

    H has eigenvalues 0.2 to 5; at the optimum the examples of either level disagree.
    """

    def __init__(self):
        orthonormal = torch.linalg.qr(normal(0, LOWER, N)).Q * LOWER**0.5
        turn = torch.linalg.qr(normal(1, N, N)).Q
        eigenvalues = torch.logspace(-1, 1, N, base=5.0, dtype=torch.float64)
        self.a = orthonormal * eigenvalues.sqrt() @ turn
        self.c, self.b = 0.4 * normal(2, LOWER, D), normal(3, LOWER)
        self.p, self.q = normal(4, UPPER, N), normal(5, UPPER)
        self.hessian = self.a.T @ self.a / LOWER
        self.jacobian = -self.a.T @ self.c / LOWER
        self.upper_hessian = self.p.T @ self.p / UPPER
        self.upper_linear = self.p.T @ self.q / UPPER
        self.oracle = MiniBatchOracle(self.lower, self.upper, LOWER, UPPER)

    def lower(self, x, u, index):
        residual = rows(self.a, index) @ x - rows(self.c, index) @ u - rows(self.b, index)
        return residual.square().mean() / 2

    def upper(self, x, u, index):
        residual = rows(self.p, index) @ x - rows(self.q, index)
        return residual.square().mean() / 2 + u.square().sum() / 4

    def response(self, u):
        return torch.linalg.solve(self.hessian, self.a.T @ self.b / LOWER - self.jacobian @ u)

    def upper_grad_x(self, x):
        return self.upper_hessian @ x - self.upper_linear

    def solution_v(self, u):
        return torch.linalg.solve(self.hessian, self.upper_grad_x(self.response(u)))

    def stationary(self, inverse=None):
        """u at which u / 2 - J'(inverse)(grad_x g) = 0 for x = xhat(u); the optimum for the inverse of H."""
        if inverse is None:
            inverse = torch.linalg.inv(self.hessian)
        slope = -torch.linalg.solve(self.hessian, self.jacobian)  # of the response
        outer = self.jacobian.T @ inverse
        constant = self.upper_grad_x(self.response(torch.zeros(D, dtype=torch.float64)))
        matrix = 0.5 * torch.eye(D, dtype=torch.float64) - outer @ self.upper_hessian @ slope
        return torch.linalg.solve(matrix, outer @ constant)

    def optimum(self):
        u = self.stationary()
        return self.response(u), u, self.solution_v(u)

    def gap(self, u):
        """f(u) - min f."""
        best = self.stationary()
        return float(self.upper(self.response(u), u, None) - self.upper(self.response(best), best, None))


class Logistic:
    """h = mean_i softplus(-a_i'x (1 + tanh(c_i'u))) + sum e^u x^2 / 2: nothing about it is quadratic."""

    def __init__(self):
        self.a, self.c = normal(6, LOWER, N), normal(7, LOWER, N)
        self.oracle = MiniBatchOracle(self.lower, self.upper, LOWER, UPPER)

    def lower(self, x, u, index):
        margins = rows(self.a, index) @ x * (1 + torch.tanh(rows(self.c, index) @ u))
        return torch.nn.functional.softplus(-margins).mean() + (u.exp() * x.square()).sum() / 2

    def upper(self, x, u, index):
        return torch.cosh(rows(self.a, index)[:UPPER] @ x).mean() + torch.sin(x * u).sum()


def zeros(size):
    return torch.zeros(size, dtype=torch.float64)
