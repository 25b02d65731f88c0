import pytest
import torch
from selftune.objectives.functional import interpolated_initialization

from selftune.regularization.regularizer import regularizers

pytestmark = pytest.mark.usefixtures("double")


def test_the_ends():
    teacher, draw = torch.randn(3, 4), torch.randn(3, 4)
    assert torch.equal(interpolated_initialization(teacher, draw, 0.0), teacher)
    assert torch.equal(interpolated_initialization(teacher, draw, 1.0), draw)


@pytest.mark.parametrize("alpha", [0.25, 0.5, torch.tensor(0.75)])
def test_the_standard_deviation_is_kept(alpha):
    teacher, draw = 0.3 * torch.randn(2, 100_000)
    mixed = interpolated_initialization(teacher, draw, alpha)
    assert mixed.std().item() == pytest.approx(0.3, rel=0.02)


def test_the_divisor_in_the_middle():
    mixed = interpolated_initialization(torch.ones(1), torch.ones(1), 0.5)
    assert mixed.item() == pytest.approx(1 / 0.5**0.5)


def test_no_gradient_reaches_the_teacher():
    teacher, draw = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    value = interpolated_initialization(teacher, draw, 0.5).sum()
    assert torch.autograd.grad(value, [teacher, draw], allow_unused=True)[0] is None


def test_as_a_regularizer_it_sets_the_start_also_of_reparameterised_layers(lab):
    plain, kept, drawn = (
        lab.weights(lab.train(members, 0))
        for members in ([], *([regularizers["interpolated_initialization"](alpha=a)] for a in (0.0, 1.0)))
    )
    assert torch.equal(plain, kept)
    assert not torch.allclose(plain, drawn)
    members = [regularizers["interpolated_initialization"](alpha=1.0), regularizers["dropconnect"]()]
    trainer = lab.train(members, 0)
    assert torch.equal(trainer.plain_network()[2].weight, trainer.lower.network[2].weight)
    assert not torch.equal(trainer.plain_network()[2].weight, lab.train([], 0).lower.network[2].weight)
