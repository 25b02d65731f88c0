import pytest
import torch
from selftune.objectives.functional import co_teaching

from selftune.regularization.regularizer import regularizers

pytestmark = pytest.mark.usefixtures("double")


def test_each_network_gets_what_the_other_finds_easy():
    first, second = torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([0.9, 0.8, 0.1, 0.2])
    weights_first, weights_second = co_teaching(first, second, 0.5)
    assert weights_first.tolist() == [0, 0, 1, 1]
    assert weights_second.tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.float64])
@pytest.mark.parametrize("tenths", range(11))
def test_exactly_the_share_is_kept_in_any_precision(tenths, dtype):
    rate = tenths / 10 if dtype is None else torch.tensor(tenths / 10, dtype=dtype)
    for weights in co_teaching(torch.rand(10), torch.rand(10), rate):
        assert weights.sum() == 10 - tenths
        assert set(weights.tolist()) <= {0.0, 1.0}


def test_a_share_between_examples_is_rounded_down():
    assert co_teaching(torch.rand(10), torch.rand(10), 0.25)[0].sum() == 7


def test_ties_keep_the_lower_index_and_equal_losses_equal_masks():
    losses = torch.rand(10, requires_grad=True)
    first, second = co_teaching(losses, losses, 0.3)
    assert torch.equal(first, second)
    assert not first.requires_grad
    assert co_teaching(torch.zeros(4), torch.zeros(4), 0.5)[0].tolist() == [1, 1, 0, 0]


def test_forgetting_nothing_is_plain_training_beside_a_peer_that_learns(lab):
    trainer = lab.train([regularizers["co_teaching"](forget_rate=0.0, ramp=0)], 0)
    peer = lab.member(trainer)._peer
    inputs, targets = lab.vectors, torch.eye(3)[lab.labels]
    before = trainer.lower.objective.loss(peer.predict(inputs, {}), targets).mean()
    lab.more(trainer, 30)
    assert trainer.lower.objective.loss(peer.predict(inputs, {}), targets).mean() < 0.8 * before
    torch.testing.assert_close(lab.weights(trainer), lab.weights(lab.train([], 30)))


def test_examples_that_the_peer_finds_hard_are_left_out(lab):
    trainer = lab.train([regularizers["co_teaching"](forget_rate=0.5, ramp=0)], 10)
    peer = lab.member(trainer)._peer
    loss, step = lab.perturbed_loss(trainer, 10)
    theirs = trainer.lower.objective.loss(peer.predict(step.inputs, {}), step.targets)
    easy = theirs.argsort()[:4]
    torch.testing.assert_close(loss, step.losses[easy].mean())


def test_the_ramp_starts_at_zero_and_ends_at_the_rate(lab):
    trainer = lab.train([regularizers["co_teaching"](forget_rate=0.4, ramp=3)], 0)
    rates = []
    for number in (0, 3, 6, 9):  # three steps an epoch
        _, step = lab.perturbed_loss(trainer, number)
        rates.append(lab.member(trainer)._rate(step).item())
    assert rates == pytest.approx([0.0, 0.2, 0.4, 0.4])
