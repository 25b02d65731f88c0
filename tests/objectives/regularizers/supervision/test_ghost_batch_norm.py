import pytest
import torch
import torch.nn.functional as F
from selftune.objectives.functional import ghost_batch_norm
from selftune.objectives.tasks.self_supervised_digits import SelfSupervisedDigits

from selftune.methods.work_orders import FollowSchedule
from selftune.networks.modes import constant_buffers
from selftune.regularization.regularizer import regularizers
from selftune.training import Trainer

pytestmark = pytest.mark.usefixtures("double")


@pytest.mark.parametrize("shape", [(10, 3), (10, 3, 4), (10, 3, 4, 2)])
@pytest.mark.parametrize("ghost_size", [10, 64])
def test_one_group_is_batch_norm(shape, ghost_size):
    inputs = 3 * torch.randn(shape) + 1
    torch.testing.assert_close(
        ghost_batch_norm(inputs, ghost_size), F.batch_norm(inputs, None, None, training=True)
    )


@pytest.mark.parametrize("shape", [(10, 3), (10, 3, 4)])
def test_groups_are_normalised_each_for_itself(shape):
    inputs = 3 * torch.randn(shape) + 1
    groups = [F.batch_norm(group, None, None, training=True) for group in inputs.split(4)]
    torch.testing.assert_close(ghost_batch_norm(inputs, 4), torch.cat(groups))
    changed = inputs.clone()
    changed[4:8] += torch.randn(4, *shape[1:])
    unchanged = [0, 1, 2, 3, 8, 9]
    assert torch.equal(ghost_batch_norm(changed, 4)[unchanged], ghost_batch_norm(inputs, 4)[unchanged])


def test_each_group_has_mean_zero_and_variance_one():
    groups = ghost_batch_norm(5 * torch.randn(12, 3), 4, eps=0.0).view(3, 4, 3)
    assert groups.mean(dim=1).abs().max() < 1e-12
    torch.testing.assert_close(groups.var(dim=1, correction=0), torch.ones(3, 3))


def test_permuting_inside_a_group_permutes_the_output():
    inputs, order = torch.randn(8, 3), torch.tensor([2, 0, 3, 1, 4, 5, 6, 7])
    torch.testing.assert_close(ghost_batch_norm(inputs[order], 4), ghost_batch_norm(inputs, 4)[order])


def test_a_group_of_one_becomes_zero_with_finite_gradients():
    inputs = torch.randn(5, 3, requires_grad=True)
    out = ghost_batch_norm(inputs, 4)
    assert (out[4] == 0).all()
    assert torch.autograd.grad(out.square().sum(), inputs)[0].isfinite().all()
    assert torch.autograd.gradcheck(lambda x: ghost_batch_norm(x, 3), inputs)


def test_an_empty_group_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        ghost_batch_norm(torch.randn(4, 2), 0)


def test_one_ghost_is_plain_training_running_statistics_included(lab):
    ghost = lab.train([regularizers["ghost_batch_norm"](ghost_size=8)], 5, kind="images").plain_network()
    plain = lab.train([], 5, kind="images").plain_network()
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(ghost.state_dict()[name], tensor, atol=1e-5, rtol=1e-4)


def test_running_statistics_move_once_per_group_and_not_in_perturbed_steps(lab):
    trainer = lab.train([regularizers["ghost_batch_norm"](ghost_size=4)], 0, kind="images")
    network, norm = trainer.lower.network, trainer.lower.network[1]
    inputs = torch.randn(6, 2, 3, 3)
    norm.train()(inputs)
    mean, variance = torch.zeros(2), torch.ones(2)
    for group in (inputs[:4], inputs[4:]):
        mean = 0.9 * mean + 0.1 * group.mean(dim=(0, 2, 3))
        variance = 0.9 * variance + 0.1 * group.var(dim=(0, 2, 3))
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, variance)
    before = norm.running_mean.clone()
    with constant_buffers(network):
        lab.perturbed_loss(trainer, 0)
    assert torch.equal(norm.running_mean, before)


def test_it_runs_on_the_packaged_encoder():
    objective = SelfSupervisedDigits(batch_size=32, train_examples=64, hidden=8, dimension=4)
    steps = FollowSchedule(segments=((2, torch.empty(0)),))
    weights = {}
    for name in ("ghost_batch_norm", None):
        members = [regularizers["barlow_twins"](strength=0.1)]
        trainer = Trainer(objective, [*members, *([regularizers[name](ghost_size=8)] if name else [])])
        assert trainer.execute(steps).kind == "replay"
        weights[name] = trainer.plain_network().state_dict()
    assert weights["ghost_batch_norm"].keys() == weights[None].keys()
    assert not torch.allclose(weights["ghost_batch_norm"]["hidden.weight"], weights[None]["hidden.weight"])
