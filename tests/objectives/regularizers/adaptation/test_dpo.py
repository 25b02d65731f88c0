import math

import pytest
import torch
from selftune.objectives.regularizers.adaptation.dpo import dpo


def test_logarithm_of_two_where_policy_and_reference_agree(draw):
    chosen, rejected = draw(3), draw(3)
    value = dpo(chosen, rejected, chosen, rejected, 0.3, 0.2)
    torch.testing.assert_close(value, torch.full_like(value, math.log(2)))


def test_swapping_the_responses_and_the_smoothing_changes_nothing(draw):
    a, b, c, d = draw(4), draw(4), draw(4), draw(4)
    torch.testing.assert_close(dpo(b, a, d, c, 0.7, 0.9), dpo(a, b, c, d, 0.7, 0.1))


def test_gradient(draw):
    a, b, c, d = (draw(4).requires_grad_() for _ in range(4))
    dpo(a, b, c, d, 0.7).sum().backward()
    margin = (a - b - c + d).detach()
    torch.testing.assert_close(a.grad, -0.7 * torch.sigmoid(-0.7 * margin))
    torch.testing.assert_close(b.grad, -a.grad)
    assert c.grad is None
    assert d.grad is None


def test_a_constant_added_to_both_scores_changes_nothing(draw):
    a, b, c, d = draw(4), draw(4), draw(4), draw(4)
    torch.testing.assert_close(dpo(a + 5, b + 5, c, d), dpo(a, b, c, d))


def test_hyperparameters_per_example_and_their_derivatives(draw):
    scores = draw(2), draw(2), draw(2), draw(2)
    beta = torch.tensor([0.1, 0.5], dtype=torch.float64, requires_grad=True)
    smoothing = torch.tensor([0.0, 0.3], dtype=torch.float64, requires_grad=True)
    assert dpo(*scores, beta, smoothing)[1].item() == pytest.approx(dpo(*scores, 0.5, 0.3)[1].item())
    assert torch.autograd.gradcheck(lambda b, s: dpo(*scores, b, s), (beta, smoothing))


def test_extreme_margins_stay_finite():
    a = torch.tensor([1e6, -1e6], requires_grad=True)
    value = dpo(a, torch.zeros(2), torch.zeros(2), torch.zeros(2))
    value.sum().backward()
    torch.testing.assert_close(value.detach(), torch.tensor([0.0, 1e5]))
    assert a.grad.isfinite().all()
