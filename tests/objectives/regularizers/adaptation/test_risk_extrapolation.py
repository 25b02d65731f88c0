import torch
from rounding import rounding, squared_rounding
from selftune.objectives.regularizers.adaptation.risk_extrapolation import risk_extrapolation

DOMAINS = torch.tensor([4, 1, 4, 9, 1, 4])


def test_population_variance_of_the_risks(draw):
    losses = draw(6)
    risks = torch.stack([losses[d == DOMAINS].mean() for d in (1, 4, 9)])
    value = risk_extrapolation(losses, DOMAINS)
    torch.testing.assert_close(value, risks.var(unbiased=False))
    torch.testing.assert_close(risk_extrapolation(losses + 3, DOMAINS), value)
    torch.testing.assert_close(risk_extrapolation(2 * losses, DOMAINS), 4 * value)


def test_equal_risks_and_single_domains_cost_nothing(draw):
    assert risk_extrapolation(torch.tensor([1.0, 2.0, 3.0, 2.0]), torch.tensor([0, 1, 0, 1])).item() == 0
    assert risk_extrapolation(draw(4), torch.zeros(4, dtype=torch.long)).item() < squared_rounding(terms=4)


def test_gradients_sum_to_zero(draw):
    losses = draw(6).requires_grad_()
    (gradient,) = torch.autograd.grad(risk_extrapolation(losses, DOMAINS), losses)
    assert gradient.abs().max() > 0.01
    assert abs(gradient.sum().item()) < rounding()
    assert torch.autograd.gradcheck(lambda x: risk_extrapolation(x, DOMAINS), (losses,))
