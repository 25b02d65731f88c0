import pytest
import torch
from selftune.objectives.functional import temporal_ensembling

from selftune.regularization.regularizer import regularizers

pytestmark = pytest.mark.usefixtures("double")


def test_normalised_predictions_are_a_fixed_point():
    probs = torch.randn(4, 3).softmax(dim=1)
    torch.testing.assert_close(temporal_ensembling(probs, probs), probs)


def test_beta_zero_copies_the_clamped_predictions_and_one_freezes():
    probs, table = torch.tensor([[1.0, 0.0]]), torch.rand(1, 2)
    copied = temporal_ensembling(table, probs, beta=0.0, eps=0.01)
    torch.testing.assert_close(copied, torch.tensor([[0.99, 0.01]]))
    assert torch.equal(temporal_ensembling(table, probs, beta=1.0), table)


def test_row_sums_follow_their_recursion():
    table, expected = torch.zeros(4, 3), 0.0
    for _ in range(5):
        table = temporal_ensembling(table, torch.randn(4, 3).softmax(dim=1), beta=0.7)
        expected = 0.7 * expected + 0.3
        torch.testing.assert_close(table.sum(dim=1), torch.full((4,), expected))


def test_carries_no_gradient_and_takes_betas_per_example():
    table, probs = torch.rand(2, 3, requires_grad=True), torch.full((2, 3), 1 / 3, requires_grad=True)
    out = temporal_ensembling(table, probs, torch.tensor([0.0, 1.0]))
    assert not out.requires_grad
    torch.testing.assert_close(out, torch.stack([probs[0], table[1]]).detach())


def test_the_table_is_written_by_training_steps_only_and_taught_normalised(lab):
    trainer = lab.train(
        [regularizers["temporal_ensembling"](beta=0.6), regularizers["normalized_distillation"]()], 7
    )
    table = next(m for m in trainer.lower.regularizers.members if m.name == "temporal_ensembling")._table
    torch.testing.assert_close(table.sum(dim=1).sort().values[[0, -1]], torch.tensor([1 - 0.6**2, 1 - 0.6**3]))
    before = table.clone()
    _, step = lab.perturbed_loss(trainer, 7)
    assert torch.equal(table, before)
    rows = before[step.index]
    torch.testing.assert_close(step.teacher_logits.softmax(dim=1), rows / rows.sum(dim=1, keepdim=True))
