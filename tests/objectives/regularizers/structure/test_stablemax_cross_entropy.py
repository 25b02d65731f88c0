import math

import pytest
import torch
from selftune.objectives.regularizers.structure.stablemax_cross_entropy import (
    StablemaxCrossEntropy,
    stablemax_cross_entropy,
)


def test_follows_the_definition(randn):
    logits, labels = 3 * randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    s = torch.where(logits >= 0, logits + 1, 1 / (1 - logits))
    expected = -torch.log(s[torch.arange(6), labels] / s.sum(1))
    torch.testing.assert_close(stablemax_cross_entropy(logits, labels), expected)


def test_zero_logits_give_log_of_the_classes_and_are_smooth_there():
    logits = torch.zeros(1, 5, dtype=torch.float64, requires_grad=True)
    value = stablemax_cross_entropy(logits, torch.tensor([2]))
    torch.testing.assert_close(value.item(), math.log(5))
    # slope 1 of s at 0, as of the exponential
    gradient = torch.autograd.grad(value.sum(), logits)[0]
    torch.testing.assert_close(gradient[0], torch.tensor([0.2, 0.2, -0.8, 0.2, 0.2], dtype=torch.float64))


def test_gradient(randn):
    labels = torch.tensor([0, 2, 1])
    assert torch.autograd.gradcheck(
        lambda z: stablemax_cross_entropy(z, labels), (4 * randn(3, 4)).requires_grad_()
    )


def test_is_not_shift_invariant(randn):
    logits, labels = randn(3, 4), torch.tensor([0, 2, 1])
    assert not torch.allclose(stablemax_cross_entropy(logits + 1, labels), stablemax_cross_entropy(logits, labels))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("classes", [2, 10])
def test_gradient_does_not_vanish_where_softmax_collapses(dtype, classes):
    logits = torch.zeros(1, classes, dtype=dtype)
    logits[0, 0] = 100
    logits.requires_grad_()
    value = stablemax_cross_entropy(logits, torch.tensor([0]))
    assert value.dtype == dtype
    gradient = torch.autograd.grad(value.sum(), logits)[0]
    torch.testing.assert_close(gradient[0, 0].item(), -(classes - 1) / (101 * (100 + classes)))


def test_extreme_logits_stay_finite():
    logits = torch.tensor([[1e30, -1e30, 1.0], [1.0, -1.0, 0.0]], requires_grad=True)
    value = stablemax_cross_entropy(logits, torch.tensor([1, 0]))
    assert value.isfinite().all()
    assert torch.autograd.grad(value.sum(), logits)[0].isfinite().all()


def test_it_takes_the_place_of_the_training_loss(trainer):
    lower = trainer(StablemaxCrossEntropy()).lower
    half = trainer(StablemaxCrossEntropy(mix=0.5)).lower
    found = []
    for member in (lower, half):
        step = member.begin(0, member.batches.at(0), member.space.values(member.space.start), "elementary")
        loss = member.loss(step, member.network, member.parameters)
        own = stablemax_cross_entropy(step.logits, step.labels).mean()
        plain = torch.nn.functional.cross_entropy(step.logits, step.labels)
        found.append((loss, own, plain))
    torch.testing.assert_close(found[0][0], found[0][1])
    torch.testing.assert_close(found[1][0], 0.5 * found[1][1] + 0.5 * found[1][2])
