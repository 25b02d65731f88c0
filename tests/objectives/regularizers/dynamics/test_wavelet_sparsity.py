import pytest
import torch
from selftune.objectives.regularizers.dynamics.wavelet_sparsity import _haar, wavelet_sparsity


def test_transform_is_orthonormal(draw):
    x = draw(2, 3, 4, 6)
    approximation, details = _haar(x)
    torch.testing.assert_close(approximation.square().sum() + details.square().sum(), x.square().sum())


def test_definition_over_two_levels(draw):
    x = draw(1, 1, 4, 4)
    expected, image = 0.0, x[0, 0]
    for _ in range(2):
        half = len(image) // 2
        coarse = torch.zeros(half, half, dtype=torch.float64)
        for i in range(half):
            for j in range(half):
                (a, b), (c, d) = image[2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
                coarse[i, j] = (a + b + c + d) / 2
                expected += (abs(a - b + c - d) + abs(a + b - c - d) + abs(a - b - c + d)) / 2
        image = coarse
    torch.testing.assert_close(wavelet_sparsity(x, levels=2)[0], expected)


@pytest.mark.parametrize("levels", [1, 2])
def test_constants_cost_nothing(levels):
    assert not wavelet_sparsity(torch.full((2, 1, 4, 8), 3.0), levels=levels).any()


@pytest.mark.parametrize(("levels", "value"), [(1, 1.5), (2, 2.25)])
def test_unit_impulse(levels, value):
    x = torch.zeros(1, 1, 8, 8)
    x[0, 0, 5, 2] = 1
    assert wavelet_sparsity(x, levels=levels).item() == value


def test_shrinking_the_details_minimises(draw):
    y, strength = draw(1, 1, 2, 2), 0.4
    approximation, details = _haar(y)
    shrunk = details.sign() * (details.abs() - strength).clamp_min(0)
    basis = torch.eye(4, dtype=torch.float64).reshape(4, 1, 2, 2)
    coarse, fine = _haar(basis)
    matrix = torch.cat([coarse[:, None], fine], dim=1).reshape(4, 4)
    x = (matrix @ torch.cat([approximation.reshape(1), shrunk.reshape(3)])).reshape(1, 1, 2, 2)

    def loss(x):
        return 0.5 * (x - y).square().sum((1, 2, 3)) + strength * wavelet_sparsity(x)

    assert (loss(x) <= loss(x + 0.05 * draw(200, 1, 2, 2))).all()


def test_derivatives_and_smoothing_per_image(draw):
    smoothing = torch.tensor([0.1, 0.7], dtype=torch.float64, requires_grad=True)
    x = draw(2, 1, 4, 4).requires_grad_()

    def function(x, s):
        return wavelet_sparsity(x, levels=2, smoothing=s)

    assert torch.autograd.gradcheck(function, (x, smoothing))
    torch.testing.assert_close(function(x, smoothing)[1], function(x, 0.7)[1])


def test_refuses_odd_sides():
    with pytest.raises(ValueError, match="divisible by 4"):
        wavelet_sparsity(torch.ones(1, 1, 4, 6), levels=2)
