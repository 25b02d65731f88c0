import pytest
import torch
from selftune.objectives.regularizers.dynamics.total_variation import total_variation

FORMS = pytest.mark.parametrize("isotropic", [True, False])


def test_constant_image():
    x = torch.full((2, 3, 4, 5), 7.0, dtype=torch.float64)
    value = total_variation(x, smoothing=0.1)
    torch.testing.assert_close(value, torch.full_like(value, 0.1 * 3 * 4 * 5))
    value = total_variation(x, smoothing=0.1, isotropic=False)
    torch.testing.assert_close(value, torch.full_like(value, 0.1 * 3 * (3 * 5 + 4 * 4)))


@FORMS
def test_step_edge_without_smoothing(isotropic):
    x = torch.zeros(1, 1, 6, 8, dtype=torch.float64)
    x[..., 3:] = 2.5
    assert total_variation(x, smoothing=0.0, isotropic=isotropic).item() == pytest.approx(6 * 2.5)
    assert total_variation(x, smoothing=1e-9, isotropic=isotropic).item() == pytest.approx(6 * 2.5, abs=1e-6)


@FORMS
def test_shifts_and_transposes_change_nothing(draw, isotropic):
    x = draw(2, 1, 4, 5)
    value = total_variation(x, isotropic=isotropic)
    torch.testing.assert_close(total_variation(x + 3, isotropic=isotropic), value)
    torch.testing.assert_close(total_variation(x.mT, isotropic=isotropic), value)


def test_isotropic_is_at_most_anisotropic(draw):
    x = draw(4, 2, 5, 5)
    assert (total_variation(x, smoothing=0.0) <= total_variation(x, smoothing=0.0, isotropic=False)).all()


@FORMS
def test_convex(draw, isotropic):
    x, y = draw(5, 1, 4, 4), draw(5, 1, 4, 4)
    middle = total_variation((x + y) / 2, isotropic=isotropic)
    assert (
        middle <= (total_variation(x, isotropic=isotropic) + total_variation(y, isotropic=isotropic)) / 2
    ).all()


@FORMS
def test_derivatives_in_image_and_smoothing(draw, isotropic):
    smoothing = torch.tensor([0.1, 0.5], dtype=torch.float64, requires_grad=True)

    def function(x, s):
        return total_variation(x, smoothing=s, isotropic=isotropic)

    assert torch.autograd.gradcheck(function, (draw(2, 1, 3, 3).requires_grad_(), smoothing))
    assert torch.autograd.gradgradcheck(function, (draw(2, 1, 3, 3).requires_grad_(), smoothing))


@FORMS
def test_smoothing_per_image(draw, isotropic):
    x = draw(2, 1, 3, 4)
    value = total_variation(x, smoothing=torch.tensor([0.1, 2.0], dtype=torch.float64), isotropic=isotropic)
    assert value[0] == total_variation(x, smoothing=0.1, isotropic=isotropic)[0]
    assert value[1] == total_variation(x, smoothing=2.0, isotropic=isotropic)[1]


@FORMS
def test_flat_images_have_zero_gradients_without_smoothing(isotropic):
    x = torch.ones(1, 1, 3, 3, requires_grad=True)
    smoothing = torch.tensor(0.0, requires_grad=True)
    total_variation(x, smoothing=smoothing, isotropic=isotropic).sum().backward()
    assert not x.grad.any()
    assert smoothing.grad.isfinite()
