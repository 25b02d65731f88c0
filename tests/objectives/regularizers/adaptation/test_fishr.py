import pytest
import torch
from rounding import squared_rounding
from selftune.objectives.regularizers.adaptation.fishr import fishr

DOMAINS = torch.tensor([4, 1, 4, 9, 1, 4, 9])


def variances(gradients):
    return torch.stack([gradients[d == DOMAINS].var(0, unbiased=False) for d in (1, 4, 9)])


def test_definition(draw):
    gradients = draw(7, 5)
    v = variances(gradients)
    expected = (v - v.mean(0)).square().mean()
    torch.testing.assert_close(fishr(gradients, DOMAINS), expected)
    torch.testing.assert_close(fishr(2 * gradients, DOMAINS), 16 * expected)


def test_constants_per_domain_do_not_matter(draw):
    gradients = draw(7, 5)
    moved = gradients + (DOMAINS == 4)[:, None] * draw(5)
    torch.testing.assert_close(fishr(moved, DOMAINS), fishr(gradients, DOMAINS))
    equal = draw(10, 5)[DOMAINS]
    assert fishr(equal, DOMAINS).item() < squared_rounding(equal.abs().max() ** 2)


def test_running_averages(draw):
    gradients, previous = draw(7, 5), draw(3, 5).square().requires_grad_()
    v = (0.9 * previous.detach() + 0.1 * variances(gradients)) / 0.1
    value = fishr(gradients.requires_grad_(), DOMAINS, previous, 0.9)
    torch.testing.assert_close(value, (v - v.mean(0)).square().mean())
    value.backward()
    assert previous.grad is None
    torch.testing.assert_close(fishr(gradients, DOMAINS, torch.zeros(3, 5).double()), fishr(gradients, DOMAINS))


def test_derivatives(draw):
    decay = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    previous = draw(3, 2).square()
    assert torch.autograd.gradcheck(
        lambda g, d: fishr(g, DOMAINS, previous, d), (draw(7, 2).requires_grad_(), decay)
    )


def test_refuses_averages_of_other_domains(draw):
    with pytest.raises(ValueError, match="3 domains, but previous has 4 rows"):
        fishr(draw(7, 2), DOMAINS, torch.zeros(4, 2))
