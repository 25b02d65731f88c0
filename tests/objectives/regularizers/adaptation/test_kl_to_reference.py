import pytest
import torch
from rounding import rounding
from selftune.objectives.regularizers.adaptation.kl_to_reference import kl_to_reference, sampled_kl_to_reference

MASK = torch.tensor([[True, True, False], [True, False, False]])
DIRECTIONS = pytest.mark.parametrize("direction", ["policy", "reference"])
ESTIMATORS = pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])


class TestExact:
    @DIRECTIONS
    def test_matches_torch(self, draw, direction):
        logits, reference = draw(2, 3, 5), draw(2, 3, 5)
        first, second = (logits, reference) if direction == "policy" else (reference, logits)
        log_first, log_second = first.log_softmax(-1), second.log_softmax(-1)
        tokens = torch.nn.functional.kl_div(log_second, log_first, reduction="none", log_target=True).sum(-1)
        value = kl_to_reference(logits, reference, MASK, direction)
        torch.testing.assert_close(value, (tokens * MASK).sum(-1))
        assert (value > 0).all()

    def test_directions_differ_and_agreement_costs_nothing(self, draw):
        logits, reference = draw(2, 3, 5), draw(2, 3, 5)
        policy, other = (kl_to_reference(logits, reference, MASK, d) for d in ("policy", "reference"))
        assert (policy != other).all()
        agreeing = torch.where(MASK[..., None], logits + 2, reference)
        assert kl_to_reference(logits, agreeing, MASK).abs().max() < rounding()

    @DIRECTIONS
    def test_gradients(self, draw, direction):
        logits, reference = draw(2, 3, 4).requires_grad_(), draw(2, 3, 4).requires_grad_()
        kl_to_reference(logits, reference, MASK, direction).sum().backward()
        assert reference.grad is None
        assert not logits.grad[~MASK].any()
        fixed = reference.detach()
        assert torch.autograd.gradcheck(lambda x: kl_to_reference(x, fixed, MASK, direction), (logits,))

    def test_refuses_another_direction(self):
        with pytest.raises(ValueError, match="direction must be"):
            kl_to_reference(torch.ones(2, 3, 4), torch.ones(2, 3, 4), MASK, "both")


class TestSampled:
    def test_k1_and_k3_are_unbiased(self, draw):
        policy, reference = draw(6).log_softmax(0), draw(6).log_softmax(0)
        exact = (policy.exp() * (policy - reference)).sum()
        tokens = torch.ones(6, 1, dtype=torch.bool)
        for estimator in ("k1", "k3"):
            each = sampled_kl_to_reference(policy[:, None], reference[:, None], tokens, estimator)
            torch.testing.assert_close(policy.exp() @ each, exact)

    @pytest.mark.parametrize(("estimator", "value"), [("k1", -2.0), ("k2", 2.0), ("k3", 4.389056099)])
    def test_values(self, estimator, value):
        policy, reference = torch.tensor([[-3.0]]).double(), torch.tensor([[-1.0]]).double()
        mask = torch.tensor([[True]])
        assert sampled_kl_to_reference(policy, reference, mask, estimator).item() == pytest.approx(value)

    @ESTIMATORS
    def test_padding_may_hold_anything(self, draw, estimator):
        policy, reference = draw(2, 3), draw(2, 3)
        value = sampled_kl_to_reference(policy, reference, MASK, estimator)
        filled = policy.masked_fill(~MASK, -torch.inf).requires_grad_()
        other = reference.masked_fill(~MASK, torch.nan)
        padded = sampled_kl_to_reference(filled, other, MASK, estimator)
        padded.sum().backward()
        torch.testing.assert_close(padded.detach(), value)
        assert filled.grad.isfinite().all()

    @ESTIMATORS
    def test_gradients(self, draw, estimator):
        policy, reference = draw(2, 3).requires_grad_(), draw(2, 3).requires_grad_()
        sampled_kl_to_reference(policy, reference, MASK, estimator).sum().backward()
        assert reference.grad is None
        fixed = reference.detach()
        assert torch.autograd.gradcheck(lambda x: sampled_kl_to_reference(x, fixed, MASK, estimator), (policy,))

    def test_refuses_another_estimator(self):
        with pytest.raises(ValueError, match="estimator must be"):
            sampled_kl_to_reference(torch.ones(2, 3), torch.ones(2, 3), MASK, "k4")
