import pytest
import torch
from selftune.objectives.functional import stochastic_restore

from selftune.regularization.regularizer import regularizers

pytestmark = pytest.mark.usefixtures("double")


def test_rate_zero_is_the_identity_one_the_reset_and_the_boundary_keeps():
    parameter, source, uniform = torch.randn(3, 100), torch.randn(3, 100), torch.rand(3, 100)
    assert torch.equal(stochastic_restore(parameter, source, uniform, 0.0), parameter)
    assert torch.equal(stochastic_restore(parameter, source, uniform, 1.0), source)
    out = stochastic_restore(torch.ones(2), torch.zeros(2), torch.tensor([0.25, 0.2499]), torch.tensor(0.25))
    assert out.tolist() == [1.0, 0.0]


def test_the_expected_distance_shrinks_by_the_rate():
    parameter, source = torch.ones(200_000), torch.zeros(200_000)
    for step in range(1, 4):
        parameter = stochastic_restore(parameter, source, torch.rand(200_000), 0.1)
        assert parameter.mean().item() == pytest.approx(0.9**step, abs=0.005)


def test_gradients_reach_the_kept_weights_only():
    parameter, source = torch.ones(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    value = stochastic_restore(parameter, source, torch.tensor([0.1, 0.5, 0.9]), 0.3).sum()
    to_parameter, to_source = torch.autograd.grad(value, [parameter, source], allow_unused=True)
    assert to_parameter.tolist() == [0, 1, 1]
    assert to_source is None


def test_restoring_all_undoes_every_step(lab):
    trainer = lab.train([regularizers["stochastic_restore"](rate=1.0)], 4)
    assert torch.equal(lab.weights(trainer), lab.weights(lab.train([], 0)))


def test_the_teacher_sees_the_step_before_it_is_undone(lab):
    members = [regularizers["stochastic_restore"](rate=1.0), regularizers["mean_teacher"](decay=0.0)]
    trainer = lab.train(members, 1)
    taught = torch.cat([tensor.flatten() for tensor in lab.member(trainer)._teacher.values()])
    torch.testing.assert_close(taught, lab.weights(lab.train([], 1)))
