import pytest
import torch
import torch.nn.functional as F
from selftune.objectives.functional import progressive_self_distillation

from selftune.regularization.regularizer import regularizers

pytestmark = pytest.mark.usefixtures("double")


LABELS = torch.tensor([0, 2, 1])


def test_no_progress_and_the_first_epoch_are_the_hard_labels():
    targets, past = F.one_hot(LABELS, 4).double(), torch.randn(3, 4).softmax(dim=1)
    assert torch.equal(progressive_self_distillation(targets, past, 0.0), targets)
    torch.testing.assert_close(progressive_self_distillation(targets, targets, 0.1), targets)


def test_rows_sum_to_one_and_alpha_is_the_product():
    targets, past = F.one_hot(LABELS, 4).double(), torch.randn(3, 4).softmax(dim=1)
    weights = torch.tensor([0.8, 0.4, 0.0])
    out = progressive_self_distillation(targets, past, 0.5, weights)
    torch.testing.assert_close(out.sum(dim=1), torch.ones(3))
    torch.testing.assert_close(out, torch.lerp(targets, past, 0.5 * weights[:, None]))


def test_gradients():
    past = torch.randn(3, 4).softmax(dim=1).requires_grad_()
    logits, weight = torch.randn(3, 4, requires_grad=True), torch.tensor(0.8, requires_grad=True)
    targets = progressive_self_distillation(F.one_hot(LABELS, 4).double(), past, 0.5, weight)
    loss = F.cross_entropy(logits, targets, reduction="sum")
    to_logits, to_weight, to_past = torch.autograd.grad(loss, [logits, weight, past], allow_unused=True)
    torch.testing.assert_close(to_logits, logits.detach().softmax(dim=1) - targets.detach())
    assert to_weight != 0
    assert to_past is None


def test_the_first_epoch_is_plain_training_and_the_second_is_not(lab):
    for steps, same in ((3, True), (4, False)):
        trainer = lab.train([regularizers["progressive_self_distillation"]()], steps)
        assert torch.equal(lab.weights(trainer), lab.weights(lab.train([], steps))) is same


def test_past_predictions_are_those_of_the_epoch_before(lab):
    trainer = lab.train([regularizers["progressive_self_distillation"]()], 3)
    first_epoch = lab.member(trainer)._current.clone()
    torch.testing.assert_close(first_epoch.sum(dim=1), torch.ones(24))
    lab.more(trainer, 3)
    member = lab.member(trainer)
    assert torch.equal(member._past, first_epoch)
    assert not torch.allclose(member._current, first_epoch)
    current = member._current.clone()
    lab.perturbed_loss(trainer, 5)
    assert torch.equal(member._current, current)


def test_targets_mix_by_progress(lab):
    trainer = lab.train([regularizers["progressive_self_distillation"](final_weight=0.5)], 4, total=10)
    _, step = lab.perturbed_loss(trainer, 5)
    past = lab.member(trainer)._past[step.index]
    expected = 0.75 * F.one_hot(lab.labels[step.index], 3) + 0.25 * past
    torch.testing.assert_close(step.targets, expected)
