import math

import pytest
import torch
from selftune.objectives.functional import confidence_penalty

pytestmark = pytest.mark.usefixtures("double")


def test_minimum_is_at_uniform_predictions():
    assert confidence_penalty(torch.full((1, 5), 3.0)).item() == pytest.approx(-math.log(5))
    assert (confidence_penalty(torch.randn(20, 5)) > -math.log(5)).all()


def test_is_the_divergence_from_uniform_minus_log_classes():
    logits = torch.randn(4, 5)
    log_probs = logits.log_softmax(dim=1)
    divergence = (log_probs.exp() * (log_probs + math.log(5))).sum(dim=1)
    torch.testing.assert_close(confidence_penalty(logits), divergence - math.log(5))


def test_with_a_margin_only_confident_predictions_cost():
    logits = torch.cat([torch.zeros(1, 5), 9 * torch.eye(5)[:1]])
    entropy = -confidence_penalty(logits)
    value = confidence_penalty(logits, margin=1.0)
    assert value[0] == 0
    torch.testing.assert_close(value[1], 1.0 - entropy[1])
    assert confidence_penalty(logits[:1], margin=math.log(5) - 1e-9).item() == 0


def test_margins_per_example():
    logits = torch.randn(3, 4)
    margins = torch.tensor([0.0, 1.0, 5.0])
    expected = torch.stack([confidence_penalty(row[None], m)[0] for row, m in zip(logits, margins, strict=True)])
    torch.testing.assert_close(confidence_penalty(logits, margins), expected)


@pytest.mark.parametrize("margin", [None, 2.0])
def test_shift_invariant_differentiable_and_stable(margin):
    logits = torch.randn(3, 4, requires_grad=True)
    torch.testing.assert_close(confidence_penalty(logits + 7, margin), confidence_penalty(logits, margin))
    assert torch.autograd.gradcheck(lambda z: confidence_penalty(z, margin), logits)
    extreme = torch.tensor([[1e4, 0.0, -1e4]], requires_grad=True)
    (gradient,) = torch.autograd.grad(confidence_penalty(extreme, margin).sum(), extreme)
    assert gradient.isfinite().all()
