import math

import pytest
import torch
import torch.nn.functional as F
from selftune.objectives.functional import adaptive_mixup, intrusion_loss

from selftune.regularization.regularizer import regularizers

pytestmark = pytest.mark.usefixtures("double")


PERMUTATION = torch.tensor([1, 2, 0])


def ratios(policy_logits, uniform):
    """The mixing ratios, read off inputs that are 1 for the example and 0 for its partner."""
    inputs = torch.tensor([[1.0], [0.0]])
    logits, draws = policy_logits.expand(2, 3), uniform.expand(2)
    return adaptive_mixup(inputs, torch.eye(2), torch.tensor([1, 0]), logits, draws)[0][0, 0]


def test_ratios_lie_in_the_interval_of_the_policy():
    for logits in 3 * torch.randn(20, 3):
        start, width, _ = logits.softmax(0)
        low, high = ratios(logits, torch.tensor(0.0)), ratios(logits, torch.tensor(1 - 1e-12))
        torch.testing.assert_close(torch.stack([low, high]), torch.stack([start, start + width]))
        assert 0 < low < high < 1


def test_targets_sum_to_one_and_a_certain_policy_is_the_identity():
    inputs, targets, uniform = torch.randn(3, 2, 2), torch.eye(3), torch.rand(3)
    mixed, labels = adaptive_mixup(inputs, targets, PERMUTATION, torch.randn(3, 3), uniform)
    torch.testing.assert_close(labels.sum(dim=1), torch.ones(3))
    assert not torch.allclose(mixed, inputs)
    sure = torch.tensor([800.0, 0.0, 0.0]).expand(3, 3)
    mixed, labels = adaptive_mixup(inputs, targets, PERMUTATION, sure, uniform)
    torch.testing.assert_close(mixed, inputs)
    torch.testing.assert_close(labels, targets)


def test_the_policy_learns_unless_the_pair_is_identical():
    logits, uniform = torch.randn(3, 3, requires_grad=True), torch.rand(3)
    inputs = torch.randn(3, 4)
    for partner, learns in ((PERMUTATION, True), (torch.arange(3), False)):
        mixed, _ = adaptive_mixup(inputs, torch.eye(3), partner, logits, uniform)
        (gradient,) = torch.autograd.grad(mixed.square().sum(), logits)
        assert (gradient.abs().max() > 1e-6) == learns
    assert torch.autograd.gradcheck(
        lambda z: adaptive_mixup(inputs, torch.eye(3), PERMUTATION, z, uniform), (logits,)
    )


def test_intrusion_loss_lists_the_real_inputs_first():
    real, mixed = torch.randn(2, 2), torch.randn(3, 2)
    labels = torch.tensor([1, 1, 0, 0, 0])
    expected = F.cross_entropy(torch.cat([real, mixed]), labels, reduction="none")
    torch.testing.assert_close(intrusion_loss(real, mixed), expected)
    torch.testing.assert_close(intrusion_loss(torch.zeros(1, 2), torch.zeros(2, 2)), torch.full((3,), math.log(2)))


def test_intrusion_loss_is_symmetric_in_classes_and_arguments():
    real, mixed = torch.randn(2, 2), torch.randn(3, 2)
    swapped = intrusion_loss(mixed.flip(1), real.flip(1))
    torch.testing.assert_close(swapped.sort().values, intrusion_loss(real, mixed).sort().values)


def test_only_the_first_half_is_mixed_and_the_policy_learns_in_training_steps_only(lab):
    trainer = lab.train([regularizers["adaptive_mixup"](), regularizers["intrusion_loss"]()], 0)
    policy = next(m for m in trainer.lower.regularizers.members if m.name == "adaptive_mixup")._policy
    before = [parameter.detach().clone() for parameter in policy.parameters()]
    loss, step = lab.perturbed_loss(trainer, 0)
    loss.backward()
    assert torch.equal(step.inputs[4:], lab.vectors[step.index][4:])
    assert not torch.allclose(step.inputs[:4], lab.vectors[step.index][:4])
    assert all(parameter.grad is None for parameter in policy.parameters())
    lab.more(trainer, 3)
    assert not any(torch.equal(now, then) for now, then in zip(policy.parameters(), before, strict=True))


def test_the_intrusion_head_is_trained_and_not_exported(lab):
    trainer = lab.train([regularizers["adaptive_mixup"](), regularizers["intrusion_loss"]()], 0)
    head = trainer.lower.parameters["intrusion_loss_second_weight"]
    before = head.detach().clone()
    lab.more(trainer, 3)
    assert not torch.equal(head, before)
    assert set(trainer.plain_network().state_dict()) == set(lab.objective().network().state_dict())
