import math

import pytest
import torch
from rounding import squared_rounding
from selftune.objectives.regularizers.structure.bias_alleviating_low_rank import (
    entropy_maximization,
    logit_decorrelation,
    normalized_logit_consistency,
    reference_consistency,
    top_singular_mass,
)


class TestNormalizedLogitConsistency:
    def test_compares_directions_only(self, randn):
        logits, reference = randn(4, 5), randn(4, 5)
        value = normalized_logit_consistency(logits, reference)
        torch.testing.assert_close(normalized_logit_consistency(3 * logits, 0.1 * reference), value)
        cosine = torch.cosine_similarity(logits, reference)
        torch.testing.assert_close(value, (2 - 2 * cosine) / 5)
        assert normalized_logit_consistency(logits, 7 * logits).abs().max() < squared_rounding(terms=5)

    def test_opposite_logits_attain_the_bound(self, randn):
        logits = randn(4, 5)
        torch.testing.assert_close(normalized_logit_consistency(logits, -logits), torch.full((4,), 0.8).double())

    def test_no_gradient_to_the_reference_and_finite_ones_at_zero(self, randn):
        logits, reference = randn(4, 5).requires_grad_(), randn(4, 5).requires_grad_()
        value = normalized_logit_consistency(logits, reference).sum()
        assert torch.autograd.grad(value, reference, allow_unused=True) == (None,)
        zero = torch.zeros(1, 3, requires_grad=True)
        (gradient,) = torch.autograd.grad(normalized_logit_consistency(zero, torch.ones(1, 3)).sum(), zero)
        assert gradient.isfinite().all()

    def test_gradient(self, randn):
        reference = randn(4, 5)
        logits = randn(4, 5).requires_grad_()
        assert torch.autograd.gradcheck(lambda z: normalized_logit_consistency(z, reference), logits)


class TestReferenceConsistency:
    def test_is_the_divergence_from_the_reference(self, randn):
        logits, reference = randn(4, 5), randn(4, 5)
        p, q = (torch.distributions.Categorical(logits=z) for z in (logits, reference))
        value = reference_consistency(logits, reference)
        torch.testing.assert_close(value, torch.distributions.kl_divergence(q, p))
        assert (value > 0).all()
        assert not torch.allclose(value, torch.distributions.kl_divergence(p, q))

    def test_zero_iff_the_softmaxes_agree(self, randn):
        logits = randn(4, 5)
        torch.testing.assert_close(reference_consistency(logits, logits + 3), torch.zeros(4).double())

    def test_gradients(self, randn):
        logits, reference = randn(4, 5).requires_grad_(), randn(4, 5).requires_grad_()
        value = reference_consistency(logits, reference).sum()
        gradients = torch.autograd.grad(value, (logits, reference), allow_unused=True)
        torch.testing.assert_close(gradients[0], (logits.softmax(1) - reference.softmax(1)).detach())
        assert gradients[1] is None


class TestLogitDecorrelation:
    def test_follows_the_definition(self, randn):
        logits = randn(6, 3)
        covariance = logits.T.cov()
        expected = (covariance - covariance.diag().diag()).square().sum() / 3
        torch.testing.assert_close(logit_decorrelation(logits), expected)

    def test_uncorrelated_columns_cost_nothing(self):
        logits = torch.tensor([[1.0, 9.0], [1.0, -9.0], [-1.0, 9.0], [-1.0, -9.0]])
        assert logit_decorrelation(logits) == 0

    def test_invariance_and_scale(self, randn):
        logits, shift = randn(6, 3), randn(3)
        value = logit_decorrelation(logits)
        torch.testing.assert_close(logit_decorrelation(logits + shift), value)
        torch.testing.assert_close(logit_decorrelation(2 * logits), 16 * value)

    def test_gradient(self, randn):
        assert torch.autograd.gradcheck(logit_decorrelation, randn(4, 3).requires_grad_())

    def test_a_single_example_is_refused(self, randn):
        with pytest.raises(ValueError, match="two examples"):
            logit_decorrelation(randn(1, 3))


class TestEntropyMaximization:
    def test_is_minus_the_entropy(self, randn):
        logits = randn(6, 4)
        value = entropy_maximization(logits)
        torch.testing.assert_close(value, -torch.distributions.Categorical(logits=logits).entropy())
        torch.testing.assert_close(entropy_maximization(logits + 5), value)
        assert ((value >= -math.log(4)) & (value <= 0)).all()

    def test_extremes(self):
        logits = torch.tensor(
            [[2.0, 2.0, 2.0, 2.0], [1e4, 0.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True
        )
        value = entropy_maximization(logits)
        torch.testing.assert_close(value.detach(), torch.tensor([-math.log(4), 0.0], dtype=torch.float64))
        assert torch.autograd.grad(value.sum(), logits)[0].isfinite().all()

    def test_gradient(self, randn):
        assert torch.autograd.gradcheck(entropy_maximization, randn(3, 4).requires_grad_())


class TestTopSingularMass:
    def test_low_rank_attains_the_bound(self, randn):
        low_rank = randn(6, 2) @ randn(2, 5)
        torch.testing.assert_close(top_singular_mass(low_rank).item(), -1.0)
        torch.testing.assert_close(top_singular_mass(randn(2, 5), top=9).item(), -1.0)
        assert -1 < top_singular_mass(randn(6, 5)) < 0

    def test_invariance(self, randn, rotation):
        logits = randn(6, 5)
        value = top_singular_mass(logits)
        torch.testing.assert_close(top_singular_mass(100 * logits), value)
        torch.testing.assert_close(top_singular_mass(rotation(6) @ logits), value)

    def test_gradients_also_where_singular_values_are_equal_or_zero(self, randn):
        assert torch.autograd.gradcheck(lambda z: top_singular_mass(z, top=2), randn(5, 4).requires_grad_())
        for logits in (torch.eye(4, 3), torch.zeros(4, 3), torch.ones(4, 3)):
            logits.requires_grad_()
            assert torch.autograd.grad(top_singular_mass(logits, top=1), logits)[0].isfinite().all()
