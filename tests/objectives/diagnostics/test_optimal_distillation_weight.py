import pytest
import torch
from selftune.objectives.functional import optimal_distillation_weight


@pytest.fixture
def draws():
    return torch.randn(3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_a_perfect_model_takes_all(draws):
    targets, other, _ = draws
    assert optimal_distillation_weight(targets, other, targets) == 0
    assert optimal_distillation_weight(targets, targets, other).item() == pytest.approx(1)


@pytest.mark.parametrize("seed", range(5))
def test_minimises_the_squared_error(seed):
    generator = torch.Generator().manual_seed(seed)
    targets, labels, teacher = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    grid = torch.linspace(0, 1, 1001, dtype=torch.float64)
    errors = (targets - grid[:, None] * labels - (1 - grid[:, None]) * teacher).square().sum(dim=1)
    weight = optimal_distillation_weight(targets, labels, teacher)
    assert weight.item() == pytest.approx(grid[errors.argmin()].item(), abs=1e-3)


def test_agrees_with_a_grid_search_over_ridge_fits(draws):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    y = (
        x @ torch.randn(4, generator=generator, dtype=torch.float64)
        + torch.randn(30, generator=generator).double()
    )
    train, validation = slice(0, 12), slice(12, 30)
    gram = x[train].T @ x[train] + 3 * torch.eye(4, dtype=torch.float64)

    def fit(targets):
        return x @ torch.linalg.solve(gram, x[train].T @ targets)

    teacher = fit(y[train])[train]
    weight = optimal_distillation_weight(y[validation], fit(y[train])[validation], fit(teacher)[validation])
    grid = torch.linspace(0, 1, 501, dtype=torch.float64)
    errors = [(fit(a * y[train] + (1 - a) * teacher)[validation] - y[validation]).square().sum() for a in grid]
    assert weight.item() == pytest.approx(grid[torch.stack(errors).argmin()].item(), abs=2e-3)


def test_equal_models_give_one_not_nan(draws):
    assert optimal_distillation_weight(draws[0], draws[1], draws[1]) == 1
