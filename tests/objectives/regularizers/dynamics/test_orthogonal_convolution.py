import pytest
import torch
from rounding import squared_rounding
from selftune.objectives.regularizers.dynamics.orthogonal_convolution import orthogonal_convolution


def layer_matrix(kernel, stride, pixels):
    """Of the convolution with circular padding, onto ``pixels`` by ``pixels`` outputs."""
    inputs, size, side = kernel.shape[1], kernel.shape[2], pixels * stride
    basis = torch.eye(inputs * side * side, dtype=kernel.dtype).reshape(-1, inputs, side, side)
    wrapped = basis[:, :, [i % side for i in range(side + size - 1)]][
        ..., [i % side for i in range(side + size - 1)]
    ]
    outputs = torch.nn.functional.conv2d(wrapped, kernel, stride=stride)[..., :pixels, :pixels]
    return outputs.reshape(len(basis), -1).T


@pytest.mark.parametrize(
    ("shape", "stride"),
    [
        ((3, 4, 3, 3), 1),
        ((6, 2, 3, 3), 1),
        ((5, 2, 3, 3), 2),
        ((9, 2, 3, 3), 2),
        ((2, 2, 2, 2), 1),
        ((3, 1, 5, 5), 2),
    ],
)
def test_is_the_gram_deviation_of_the_layer_matrix(draw, shape, stride):
    kernel, pixels = 0.3 * draw(*shape), 6
    matrix = layer_matrix(kernel, stride, pixels)
    gram = matrix @ matrix.T if shape[0] <= shape[1] * stride**2 else matrix.T @ matrix
    deviation = (gram - torch.eye(len(gram), dtype=gram.dtype)).square().sum() / pixels**2
    torch.testing.assert_close(orthogonal_convolution(kernel, stride=stride), deviation)


def test_an_orthogonal_matrix_at_the_centre_costs_nothing(draw):
    kernel = torch.zeros(4, 4, 3, 3, dtype=torch.float64)
    kernel[:, :, 1, 1] = torch.linalg.qr(draw(4, 4)).Q
    assert orthogonal_convolution(kernel).item() < squared_rounding(terms=16)


def test_mixing_outputs_orthogonally_changes_nothing(draw):
    kernel, mixing = draw(4, 2, 3, 3), torch.linalg.qr(draw(4, 4)).Q
    mixed = torch.einsum("nm,mcij->ncij", mixing, kernel)
    torch.testing.assert_close(orthogonal_convolution(mixed), orthogonal_convolution(kernel))


@pytest.mark.parametrize(
    ("shape", "stride", "value"), [((3, 4, 3, 3), 1, 3), ((6, 2, 3, 3), 1, 2), ((9, 2, 5, 5), 2, 8)]
)
def test_zero_kernel(shape, stride, value):
    assert orthogonal_convolution(torch.zeros(shape), stride=stride).item() == value


def test_derivatives(draw):
    kernel = draw(3, 2, 3, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda k: orthogonal_convolution(k, stride=2), (kernel,))
