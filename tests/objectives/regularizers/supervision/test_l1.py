import pytest
import torch
from selftune.objectives.functional import l1

from selftune.regularization.regularizer import regularizers

pytestmark = pytest.mark.usefixtures("double")


def test_scaling_by_a_scales_the_value_by_its_size():
    parameters = [torch.randn(3, 2), torch.randn(4)]
    torch.testing.assert_close(l1([-3 * p for p in parameters]), 3 * l1(parameters))


def test_gradient_is_the_sign_and_zero_at_zero():
    parameter = torch.tensor([2.0, 0.0, -0.5], requires_grad=True)
    assert torch.autograd.grad(l1([parameter]), parameter)[0].tolist() == [1.0, 0.0, -1.0]


@pytest.mark.parametrize("a", [2.0, -2.0, 0.3])
def test_one_dimensional_minimiser_is_the_soft_threshold(a):
    grid = torch.linspace(-3, 3, 6001)
    values = torch.stack([0.5 * (w - a) ** 2 + 0.5 * l1([w]) for w in grid])
    expected = max(abs(a) - 0.5, 0.0) * (1 if a > 0 else -1)
    assert grid[values.argmin()].item() == pytest.approx(expected, abs=1e-9)


def test_proximal_steps_give_exact_zeros_and_subgradients_do_not(lab):
    counts = []
    for mode in ("proximal", "subgradient"):
        trainer = lab.train([regularizers["l1"](strength=0.02, mode=mode)], 60)
        counts.append(sum(int((layer == 0).sum()) for layer in trainer.lower.parameters.values()))
    assert counts[0] > 10
    assert counts[1] == 0


def test_in_proximal_mode_the_strength_is_not_in_the_loss(lab):
    trainer = lab.train([regularizers["l1"](strength=0.02, mode="proximal")], 0)
    assert not lab.member(trainer).bound["strength"].smooth
    plain = lab.train([], 0)
    torch.testing.assert_close(lab.perturbed_loss(trainer, 0)[0], lab.perturbed_loss(plain, 0)[0])


def test_parts_have_strengths_of_their_own(lab):
    parts = {"first": ["0"], "rest": ["2", "4"]}
    strengths = {"first": 0.05, "rest": 0.0}
    trainer = lab.train([regularizers["l1"](strength=strengths, parts=parts, mode="proximal")], 60)
    assert (trainer.lower.network[0].weight == 0).any()
    assert not (trainer.lower.network[2].weight == 0).any()
