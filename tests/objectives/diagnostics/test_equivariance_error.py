import pytest
import torch
from selftune.objectives.diagnostics.equivariance_error import equivariance_error


@pytest.fixture
def outputs():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=generator)


def test_definition_and_range(outputs):
    a, b = outputs
    expected = torch.stack(
        [(a[g, i] - b[g, i]).norm() / (a[g, i].norm() + b[g, i].norm()) for g in range(3) for i in range(4)]
    ).mean()
    torch.testing.assert_close(equivariance_error(a, b), expected)
    assert 0 < equivariance_error(a, b) < 1


def test_extremes_and_scale(outputs):
    a, b = outputs
    assert equivariance_error(a, a).item() == 0
    assert equivariance_error(a, -3 * a).item() == pytest.approx(1)
    assert equivariance_error(0 * a, 0 * a).item() == 0
    torch.testing.assert_close(equivariance_error(5 * a, 5 * b), equivariance_error(a, b))
