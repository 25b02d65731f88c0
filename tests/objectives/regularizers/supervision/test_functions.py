"""The cards' checks of every stateless function of the family."""

import math

import pytest
import torch
import torch.nn.functional as F
from selftune.objectives.functional import (
    decoupled_weight_decay,
    dropout,
    early_learning,
    gaussian_input_noise,
    label_smoothing,
    max_norm,
    mixup,
    weight_decay,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class TestWeightDecay:
    def test_gradient_is_the_parameter_and_the_value_is_quadratic(self):
        parameters = [torch.randn(3, 2, requires_grad=True), torch.randn(4, requires_grad=True)]
        value = weight_decay(parameters)
        for parameter, gradient in zip(parameters, torch.autograd.grad(value, parameters), strict=True):
            torch.testing.assert_close(gradient, parameter.detach())
        torch.testing.assert_close(weight_decay([3 * p for p in parameters]), 9 * value)

    def test_ridge_minimiser(self):
        x, y = torch.randn(20, 3, dtype=torch.float64), torch.randn(20, dtype=torch.float64)
        w = torch.linalg.solve(x.T @ x + 0.7 * torch.eye(3, dtype=x.dtype), x.T @ y).requires_grad_()
        loss = 0.5 * (x @ w - y).square().sum() + 0.7 * weight_decay([w])
        (gradient,) = torch.autograd.grad(loss, [w])
        assert gradient.abs().max() < 1e-12


class TestDecoupledWeightDecay:
    def test_zero_decay_changes_nothing_and_steps_compound(self):
        p = torch.randn(5)
        assert torch.equal(decoupled_weight_decay(p, 0.0, 3.0), p)
        decayed = p
        for _ in range(10):
            decayed = decoupled_weight_decay(decayed, 0.1, 0.5)
        torch.testing.assert_close(decayed, p * (1 - 0.05) ** 10)

    def test_matches_adamw(self):
        ours, theirs = (torch.nn.Parameter(torch.ones(4)) for _ in range(2))
        plain = torch.optim.Adam([ours], lr=0.01)
        adamw = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.3)
        for step in range(5):
            for parameter in (ours, theirs):
                parameter.grad = torch.full((4,), 1.0 + step)
            with torch.no_grad():
                ours.copy_(decoupled_weight_decay(ours, 0.01, 0.3))
            plain.step()
            adamw.step()
        torch.testing.assert_close(ours, theirs)


class TestDropout:
    def test_boundary_is_kept_and_scaled(self):
        uniform = torch.tensor([0.0, 0.3, 0.5, 0.9])
        assert dropout(torch.ones(4), uniform, 0.3).tolist() == pytest.approx([0, 1 / 0.7, 1 / 0.7, 1 / 0.7])
        inputs = torch.randn(4)
        assert torch.equal(dropout(inputs, uniform, 0.0), inputs)

    def test_expectation_is_the_input(self):
        inputs = torch.randn(8)
        draws = dropout(inputs, torch.rand(20_000, 8), 0.4)
        error = (draws.mean(dim=0) - inputs).abs()
        assert (error < 3.5 * draws.std(dim=0) / math.sqrt(20_000)).all()


class TestGaussianInputNoise:
    def test_variance_and_identity(self):
        inputs, noise = torch.randn(10_000), torch.randn(10_000)
        assert torch.equal(gaussian_input_noise(inputs, noise, 0.0), inputs)
        assert (gaussian_input_noise(inputs, noise, 0.3) - inputs).var().item() == pytest.approx(0.09, rel=0.05)

    def test_is_weight_decay_for_linear_regression(self):
        w = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
        x, y = torch.randn(3, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
        # antithetic unit vectors scaled by sqrt(3) have exactly zero mean and unit covariance
        noise = math.sqrt(3) * torch.cat([torch.eye(3), -torch.eye(3)]).double()
        losses = 0.5 * (gaussian_input_noise(x, noise, 0.2) @ w - y).square()
        expected = 0.5 * (x @ w - y).square() + 0.5 * 0.2**2 * w.square().sum()
        torch.testing.assert_close(losses.mean(), expected)


class TestLabelSmoothing:
    def test_rows_sum_to_one_and_one_is_uniform(self):
        targets = F.one_hot(torch.arange(4), 5).float()
        torch.testing.assert_close(label_smoothing(targets, 0.3).sum(dim=1), torch.ones(4))
        torch.testing.assert_close(label_smoothing(targets, 1.0), torch.full((4, 5), 0.2))

    def test_cross_entropy_splits_and_the_optimal_gap_is_known(self):
        labels, logits = torch.tensor([1, 3]), torch.randn(2, 5)
        smoothed = F.cross_entropy(logits, label_smoothing(F.one_hot(labels, 5).float(), 0.1))
        uniform = -F.log_softmax(logits, dim=1).mean(dim=1).mean()
        torch.testing.assert_close(smoothed, 0.9 * F.cross_entropy(logits, labels) + 0.1 * uniform)
        gap = math.log(0.9 * 5 / 0.1 + 1)
        best = torch.tensor([[gap, 0.0, 0.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
        target = label_smoothing(F.one_hot(torch.tensor([0]), 5).double(), 0.1)
        (gradient,) = torch.autograd.grad(F.cross_entropy(best, target), [best])
        assert gradient.abs().max() < 1e-12


class TestMixup:
    def test_ends_and_identity_permutation(self):
        x, y = torch.randn(4, 3, 2), F.one_hot(torch.arange(4), 4).float()
        permutation = torch.tensor([1, 2, 3, 0])
        for weight, order in ((1.0, torch.arange(4)), (0.0, permutation)):
            mixed_x, mixed_y = mixup(x, y, permutation, torch.tensor(weight))
            assert torch.equal(mixed_x, x[order])
            assert torch.equal(mixed_y, y[order])
        same_x, same_y = mixup(x, y, torch.arange(4), torch.rand(4))
        torch.testing.assert_close(same_x, x)
        torch.testing.assert_close(same_y, y)

    def test_loss_mixes_and_rows_sum_to_one(self):
        x, y = torch.randn(4, 5), F.one_hot(torch.arange(4), 5).float()
        permutation, lam = torch.tensor([3, 0, 1, 2]), torch.rand(4)
        mixed_x, mixed_y = mixup(x, y, permutation, lam)
        torch.testing.assert_close(mixed_y.sum(dim=1), torch.ones(4))
        loss = F.cross_entropy(mixed_x, mixed_y, reduction="none")
        own = F.cross_entropy(mixed_x, torch.arange(4), reduction="none")
        other = F.cross_entropy(mixed_x, permutation, reduction="none")
        torch.testing.assert_close(loss, lam * own + (1 - lam) * other)


class TestMaxNorm:
    @pytest.mark.parametrize("shape", [(6, 3), (6, 3, 2, 2)])
    def test_projection(self, shape):
        weight = torch.randn(shape) * 2
        projected = max_norm(weight, 2.0)
        norms = weight.flatten(1).norm(dim=1)
        assert (projected.flatten(1).norm(dim=1) <= 2.0 * (1 + 1e-6)).all()
        assert torch.equal(projected[norms <= 2.0], weight[norms <= 2.0])
        torch.testing.assert_close(max_norm(projected, 2.0), projected)
        assert torch.equal(max_norm(weight, math.inf), weight)

    def test_a_zero_row_stays_zero(self):
        assert torch.equal(max_norm(torch.zeros(2, 3), 1.0), torch.zeros(2, 3))


class TestEarlyLearning:
    def test_value_sign_and_gradients(self):
        logits = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
        table = torch.rand(4, 3, dtype=torch.float64).softmax(dim=1).requires_grad_()
        probs = logits.softmax(dim=1)
        value = early_learning(probs, table)
        assert (value < 0).all()
        assert torch.equal(early_learning(probs, torch.zeros_like(table)), torch.zeros(4, dtype=torch.float64))
        gradient, to_table = torch.autograd.grad(value.sum(), [logits, table], allow_unused=True)
        assert to_table is None
        p, t = probs.detach(), table.detach()
        agreement = (p * t).sum(dim=1, keepdim=True)
        torch.testing.assert_close(gradient, p * (agreement - t) / (1 - agreement))
