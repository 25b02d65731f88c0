import pytest
import torch
import torch.nn.functional as F
from selftune.objectives.regularizers.adaptation.invariant_risk_minimization import invariant_risk_minimization

DOMAINS = torch.tensor([4, 1, 4, 1, 1, 4, 4, 1, 1])
TARGETS = torch.tensor([0, 2, 1, 0, 2, 2, 1, 0, 1])


def slope(logits, targets):
    scale = torch.ones((), dtype=logits.dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad(F.cross_entropy(scale * logits, targets), scale)
    return gradient


@pytest.mark.parametrize("unbiased", [True, False])
def test_is_the_derivative_in_a_scale_of_the_logits(draw, unbiased):
    logits, terms = draw(9, 3), []
    for domain in (1, 4):
        z, y = logits[domain == DOMAINS], TARGETS[domain == DOMAINS]
        halves = (slope(z[::2], y[::2]), slope(z[1::2], y[1::2])) if unbiased else (slope(z, y),) * 2
        terms.append(halves[0] * halves[1])
    value = invariant_risk_minimization(logits, TARGETS, DOMAINS, unbiased)
    torch.testing.assert_close(value, torch.stack(terms).mean())


def test_signs(draw):
    values = [
        [invariant_risk_minimization(draw(9, 3), TARGETS, DOMAINS, unbiased) for _ in range(30)]
        for unbiased in (True, False)
    ]
    assert min(values[0]) < 0
    assert min(values[1]) >= 0
    assert invariant_risk_minimization(torch.zeros(9, 3), TARGETS, DOMAINS).item() == 0


def test_forms_agree_where_even_and_odd_examples_are_copies(draw):
    logits, targets, domains = (each.repeat_interleave(2, dim=0) for each in (draw(9, 3), TARGETS, DOMAINS))
    torch.testing.assert_close(
        invariant_risk_minimization(logits, targets, domains, True),
        invariant_risk_minimization(logits, targets, domains, False),
    )


def test_a_domain_with_a_single_example_is_finite(draw):
    logits = draw(3, 2).requires_grad_()
    value = invariant_risk_minimization(logits, torch.tensor([0, 1, 0]), torch.tensor([0, 0, 1]))
    value.backward()
    assert logits.grad.isfinite().all()
    assert not logits.grad[2].any()


@pytest.mark.parametrize("unbiased", [True, False])
def test_derivatives(draw, unbiased):
    assert torch.autograd.gradcheck(
        lambda z: invariant_risk_minimization(z, TARGETS, DOMAINS, unbiased), (draw(9, 3).requires_grad_(),)
    )
