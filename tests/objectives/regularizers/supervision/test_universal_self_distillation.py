import pytest
import torch
import torch.nn.functional as F
from selftune.objectives.functional import universal_self_distillation

from selftune.regularization.regularizer import regularizers

pytestmark = pytest.mark.usefixtures("double")


LABELS = torch.tensor([0, 3, 2])


def parts(logits, weak, labels=LABELS):
    """The three parts, told apart by their weights."""
    return [universal_self_distillation(logits, weak, labels, *row) for row in torch.eye(3).tolist()]


def test_the_target_weights_have_mean_one():
    logits, weak = torch.randn(3, 4), torch.randn(3, 4)
    cross_entropy = F.cross_entropy(logits, LABELS, reduction="none")
    weights = parts(logits, weak)[0] / cross_entropy
    assert weights.mean().item() == pytest.approx(1)
    squared = (-2 * cross_entropy).exp()
    torch.testing.assert_close(weights, squared + 1 - squared.mean())
    alone = universal_self_distillation(logits[:1], weak[:1], LABELS[:1], 1.0, 0.0, 0.0)
    torch.testing.assert_close(alone, cross_entropy[:1])


def test_zipf_labels_follow_the_rank_of_both_heads():
    logits, weak = torch.tensor([[1.0, 0.0, 3.0, -1.0]]), torch.tensor([[0.0, 4.0, 1.0, -1.0]])
    shares = (logits.softmax(1) / (1 - logits.softmax(1)[:, :1])) + (
        weak.softmax(1) / (1 - weak.softmax(1)[:, :1])
    )
    assert shares[0, 1:].argsort(descending=True).tolist() == [0, 1, 2]
    labels = torch.tensor([1, 1 / 2, 1 / 3]) / (1 + 1 / 2 + 1 / 3)
    expected = -(labels * logits[:, 1:].log_softmax(dim=1)).sum(dim=1)
    torch.testing.assert_close(parts(logits, weak, torch.tensor([0]))[1], expected)


def test_ties_are_ranked_by_index():
    logits = torch.zeros(1, 4, requires_grad=True)
    value = parts(logits, torch.zeros(1, 4), torch.tensor([1]))[1]
    labels = torch.tensor([1, 0, 1 / 2, 1 / 3]) / (1 + 1 / 2 + 1 / 3)
    expected = torch.tensor([1 / 3, 0, 1 / 3, 1 / 3]) - labels
    torch.testing.assert_close(torch.autograd.grad(value.sum(), logits)[0][0], expected)


def test_the_weak_part_is_smoothed_cross_entropy():
    logits, weak = torch.randn(3, 4), torch.randn(3, 4)
    expected = F.cross_entropy(weak, LABELS, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(parts(logits, weak)[2], expected)


def test_weights_are_linear_and_zero_switches_all_off():
    logits, weak = torch.randn(3, 4), torch.randn(3, 4)
    first, second, third = parts(logits, weak)
    value = universal_self_distillation(logits, weak, LABELS, 2.0, torch.tensor([1.0, 2.0, 3.0]), 0.5)
    torch.testing.assert_close(value, 2 * first + torch.tensor([1.0, 2.0, 3.0]) * second + 0.5 * third)
    assert torch.equal(universal_self_distillation(logits, weak, LABELS, 0.0, 0.0, 0.0), torch.zeros(3))


def test_the_weak_head_learns_from_its_own_part_only():
    logits, weak = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    first, second, third = parts(logits, weak)
    to_logits, to_weak = torch.autograd.grad((first + second).sum(), [logits, weak], retain_graph=True)
    assert to_logits.abs().max() > 0
    assert (to_weak == 0).all()
    to_logits, to_weak = torch.autograd.grad(third.sum(), [logits, weak])
    assert (to_logits == 0).all()
    assert to_weak.abs().max() > 0


def test_certain_predictions_are_finite():
    logits = torch.tensor([[500.0, 0.0, 0.0]], requires_grad=True)
    value = universal_self_distillation(logits, -logits, torch.tensor([0]))
    assert value.isfinite().all()
    assert torch.autograd.grad(value.sum(), logits)[0].isfinite().all()


def test_the_weak_head_reads_the_middle_layer_and_is_trained(lab):
    for kind, width in (("vectors", 8), ("images", 2)):
        trainer = lab.train([regularizers["universal_self_distillation"]()], 0, kind=kind)
        head = trainer.lower.parameters["universal_self_distillation_weight"]
        assert head.shape == (3, width)
        before = head.detach().clone()
        lab.more(trainer, 3)
        assert not torch.equal(head, before)
