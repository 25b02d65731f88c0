import pytest
import torch
from rounding import squared_rounding
from selftune.objectives.regularizers.representation.vicreg import (
    vicreg_covariance,
    vicreg_invariance,
    vicreg_variance,
)


def decorrelated(draw, n, dim):
    """Columns with exactly zero covariance and unit variance."""
    columns, _ = torch.linalg.qr(torch.cat([torch.ones(n, 1, dtype=torch.float64), draw(n, dim)], dim=1))
    return columns[:, 1:] * (n - 1) ** 0.5


class TestInvariance:
    def test_mean_is_the_mean_squared_error(self, draw):
        a, b = draw(4, 3), draw(4, 3)
        torch.testing.assert_close(vicreg_invariance(a, b).mean(), torch.nn.functional.mse_loss(a, b))
        torch.testing.assert_close(vicreg_invariance(b, a), vicreg_invariance(a, b))
        torch.testing.assert_close(vicreg_invariance(3 * a, 3 * b), 9 * vicreg_invariance(a, b))
        assert not vicreg_invariance(a, a).any()


class TestVariance:
    def test_constant_features(self):
        features = torch.full((4, 3), 2.0, dtype=torch.float64, requires_grad=True)
        value = vicreg_variance(features, 1.5, 0.01)
        value.backward()
        assert value.item() == pytest.approx(1.5 - 0.1)
        assert features.grad.isfinite().all()

    def test_zero_above_the_target_shift_invariant_and_unbiased(self, draw):
        features = decorrelated(draw, 6, 3)
        assert vicreg_variance(features, 0.99).item() == 0
        assert vicreg_variance(features, 3.0, 0.0).item() == pytest.approx(2.0)
        torch.testing.assert_close(vicreg_variance(features + draw(3), 3.0), vicreg_variance(features, 3.0))

    def test_derivatives(self, draw):
        target = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(vicreg_variance, (draw(4, 3).requires_grad_(), target))


class TestCovariance:
    def test_zero_for_one_column_and_for_decorrelated_columns(self, draw):
        assert vicreg_covariance(draw(5, 1)).item() == 0
        assert vicreg_covariance(decorrelated(draw, 6, 3)).item() < squared_rounding(terms=6)

    def test_closed_form_shift_and_scale(self, draw):
        z = draw(6, 3)
        covariance = torch.cov(z.T)
        expected = (covariance.square().sum() - covariance.diagonal().square().sum()) / 3
        torch.testing.assert_close(vicreg_covariance(z), expected)
        torch.testing.assert_close(vicreg_covariance(2 * z + draw(3)), 16 * expected)
        assert vicreg_covariance(torch.cat([z, z[:, :1]], dim=1)) > expected

    def test_derivatives(self, draw):
        assert torch.autograd.gradcheck(vicreg_covariance, (draw(4, 3).requires_grad_(),))


@pytest.mark.parametrize("function", [vicreg_variance, vicreg_covariance])
def test_refuses_a_single_row(function):
    with pytest.raises(ValueError, match="at least 2 rows"):
        function(torch.ones(1, 3))
