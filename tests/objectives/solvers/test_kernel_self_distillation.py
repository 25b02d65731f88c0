import pytest
import torch
from selftune.objectives.functional import kernel_self_distillation

EYE = torch.eye(5, dtype=torch.float64)


@pytest.fixture
def problem():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    return features @ features.T, torch.randn(5, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_one_round_is_ridge_regression_and_none_the_targets(problem, alpha):
    kernel, y = problem
    ridge = kernel @ torch.linalg.solve(kernel + 0.5 * EYE, y)
    torch.testing.assert_close(kernel_self_distillation(kernel, y, 0.5, alpha, 1), ridge)
    assert torch.equal(kernel_self_distillation(kernel, y, 0.5, alpha, 0), y)


def test_without_ground_truth_the_operator_is_applied_again_and_again(problem):
    kernel, y = problem
    operator = kernel @ torch.linalg.inv(kernel + 0.5 * EYE)
    expected = torch.linalg.matrix_power(operator, 4) @ y
    torch.testing.assert_close(kernel_self_distillation(kernel, y, 0.5, 0.0, 4), expected)
    assert kernel_self_distillation(kernel, y, 0.5, 0.0, 500).norm() < 1e-6 * y.norm()


def test_the_limit_is_ridge_regression_with_a_larger_strength(problem):
    kernel, y = problem
    limit = kernel @ torch.linalg.solve(kernel + 0.5 / 0.3 * EYE, y)
    torch.testing.assert_close(kernel_self_distillation(kernel, y, 0.5, 0.3, 200), limit)


def test_eigenvectors_evolve_apart(problem):
    kernel, y = problem
    values, vectors = torch.linalg.eigh(kernel)
    gain = values / (values + 0.5)
    share = torch.ones(5, dtype=torch.float64)
    for steps in range(1, 4):
        share = gain * (0.7 * share + 0.3)
        fitted = vectors.T @ kernel_self_distillation(kernel, y, 0.5, 0.3, steps)
        torch.testing.assert_close(fitted, share * (vectors.T @ y))


def test_is_differentiable_in_strength_and_alpha(problem):
    kernel, y = problem
    settings = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.5, 0.3)]
    assert torch.autograd.gradcheck(lambda s, a: kernel_self_distillation(kernel, y, s, a, 3), settings)
