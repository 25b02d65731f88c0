import pytest
import torch
from selftune.objectives.functional import kernel_self_distillation, self_distillation_targets

from selftune.lower_level.optimization import Optimization
from selftune.regularization.regularizer import regularizers

pytestmark = pytest.mark.usefixtures("double")


def test_alpha_one_ignores_the_teacher_and_rows_sum_to_one():
    targets, predictions = torch.eye(3), torch.randn(3, 3).softmax(dim=1)
    assert torch.equal(self_distillation_targets(targets, predictions, 1.0), targets)
    mixed = self_distillation_targets(targets, predictions, torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(mixed.sum(dim=1), torch.ones(3))
    torch.testing.assert_close(mixed[0], predictions[0])


def test_gradients_reach_alpha_but_not_the_teacher():
    alpha, predictions = torch.tensor(0.5, requires_grad=True), torch.rand(3, 3, requires_grad=True)
    value = self_distillation_targets(torch.eye(3), predictions, alpha).square().sum()
    to_alpha, to_predictions = torch.autograd.grad(value, [alpha, predictions], allow_unused=True)
    assert to_alpha != 0
    assert to_predictions is None


def test_rounds_of_ridge_regression_are_the_kernel_case():
    features, y = torch.randn(6, 2), torch.randn(6)
    kernel = features @ features.T
    fitted = y
    for _ in range(4):
        targets = self_distillation_targets(y[:, None], fitted[:, None], 0.3)[:, 0]
        fitted = kernel @ torch.linalg.solve(kernel + 0.5 * torch.eye(6), targets)
    torch.testing.assert_close(kernel_self_distillation(kernel, y, 0.5, 0.3, 4), fitted)


def test_every_round_starts_afresh_and_is_taught_by_the_last(lab):
    member = regularizers["self_distillation_targets"](alpha=0.0, rounds=2)
    trainer = lab.train([member], 0, total=10)
    start = lab.weights(trainer)
    lab.more(trainer, 5)
    end_of_first = lab.weights(trainer)
    torch.testing.assert_close(end_of_first, lab.weights(lab.train([], 5)))  # the first round is plain
    lab.more(trainer, 1)
    taught = torch.cat([tensor.flatten() for tensor in lab.member(trainer)._teacher.values()])
    assert torch.equal(taught, end_of_first)
    step_length = (end_of_first - start).norm()
    assert (lab.weights(trainer) - start).norm() < 0.5 * step_length
    _, step = lab.perturbed_loss(trainer, 6)
    network = lab.objective().network()
    network.load_state_dict(lab.member(trainer)._teacher)
    torch.testing.assert_close(step.targets, network(step.inputs).softmax(dim=1).detach())


def test_a_round_starts_with_a_new_optimizer(lab):
    momentum = Optimization(batch_size=8, learning_rate=0.1, momentum=0.9)
    member = regularizers["self_distillation_targets"](alpha=1.0, rounds=2)
    trainer = lab.train([member], 5, total=10, optimization=momentum)
    lab.more(trainer, 1)  # with the truth as target the second round begins as the first would with this batch
    start = lab.weights(lab.train([], 0))
    gradients = torch.cat([parameter.grad.flatten() for parameter in trainer.lower.parameters.values()])
    torch.testing.assert_close(lab.weights(trainer), start - 0.1 * gradients)
