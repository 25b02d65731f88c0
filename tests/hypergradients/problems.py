"""Small random bilevel problems with known answers."""

from dataclasses import dataclass

import torch
from selftune.objectives.tasks.logistic_regression import SoftmaxRegression
from selftune.objectives.tasks.quadratic_bilevel import QuadraticBilevel
from selftune.objectives.tasks.ridge import RidgeRegression

from selftune.hypergradients.lower_solvers.newton import Newton
from selftune.hypergradients.oracle import Oracle


def generator(seed):
    return torch.Generator().manual_seed(seed)


def normal(seed, *shape):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


@dataclass
class Problem:
    """An oracle with dense answers: H, J, the minimiser, the upper level and its gradient."""

    oracle: Oracle

    def start(self, seed):
        return self.oracle.start_u() + normal(seed, self.oracle.d)

    def minimiser(self, u):
        solution = Newton().solve(self.oracle, u, self.oracle.start_x(), tolerance=1e-12)
        assert solution.error < 1e-10
        return solution.x

    def hessian(self, x, u):
        product = self.oracle.hvp(x, u)
        return torch.stack([product(e) for e in torch.eye(self.oracle.n, dtype=x.dtype)], dim=1)

    def jacobian(self, x, u):
        columns = [self.oracle.J(x, u, e) for e in torch.eye(self.oracle.d, dtype=x.dtype)]
        return torch.stack(columns, dim=1)

    def q(self, x, u, residual=0.0):
        """H^-1 (b + residual), by a direct solve."""
        return torch.linalg.solve(self.hessian(x, u), self.oracle.upper_grad_x(x, u) + residual)

    def hypergradient(self, u):
        x = self.minimiser(u)
        return self.oracle.upper_grad_u(x, u) - self.oracle.JT(x, u, self.q(x, u))


def quadratic(seed=0, dtype="float64"):
    return Problem(Oracle(QuadraticBilevel(parameter_count=6, hyperparameter_count=3, seed=seed, dtype=dtype)))


def ridge(seed=0, dtype="float64"):
    def data(offset):
        pair = normal(10 * seed + offset, 12, 4), normal(10 * seed + offset + 5, 12)
        return tuple(tensor.to(getattr(torch, dtype)) for tensor in pair)

    return Problem(Oracle(RidgeRegression(data(1), data(2), data(3))))


def softmax(seed=0):
    def data(offset):
        labels = torch.randint(3, (15,), generator=generator(10 * seed + offset + 5))
        return normal(10 * seed + offset, 15, 3), labels

    return Problem(Oracle(SoftmaxRegression(data(1), data(2), data(3), classes=3, groups="per_class", start=0.1)))


PROBLEMS = {"quadratic": quadratic, "ridge": ridge, "softmax": softmax}
