import torch
from rounding import rounding
from selftune.objectives.diagnostics.naive_loss_alignment import naive_loss_alignment
from selftune.objectives.regularizers.structure.orthogonal_gradient import orthogonal_gradient


def _randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_is_a_cosine():
    gradient, parameter = _randn(3, 4), _randn(3, 4, seed=1)
    value = naive_loss_alignment(gradient, parameter)
    torch.testing.assert_close(value, torch.cosine_similarity(-gradient.flatten(), parameter.flatten(), dim=0))
    torch.testing.assert_close(naive_loss_alignment(-2 * parameter, parameter).item(), 1.0)
    assert naive_loss_alignment(0 * gradient, parameter) == 0


def test_is_zero_after_the_orthogonal_projection():
    gradient, parameter = _randn(3, 4), _randn(3, 4, seed=1)
    assert naive_loss_alignment(orthogonal_gradient(gradient, parameter), parameter).abs() < rounding()


def test_is_positive_for_a_homogeneous_network_that_fits_its_data():
    first, last = _randn(8, 3).requires_grad_(), _randn(4, 8, seed=1).requires_grad_()
    logits = torch.relu(_randn(20, 3, seed=2) @ first.T) @ last.T
    labels = logits.argmax(1)  # every margin is positive
    gradients = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, labels), (first, last))
    flat = [torch.cat([t.detach().flatten() for t in tensors]) for tensors in (gradients, (first, last))]
    assert naive_loss_alignment(*flat) > 0
