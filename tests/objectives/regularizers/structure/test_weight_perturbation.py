import torch
from selftune.objectives.regularizers.structure.weight_perturbation import WeightPerturbation, weight_perturbation

from selftune.regularization.regularizer import regularizers


def test_values(randn):
    left, right, weight = randn(4, 2), randn(2, 3), randn(4, 3)
    largest = (left @ right - weight).abs().max()
    assert weight_perturbation(left, right, weight, radius=largest) == 0
    torch.testing.assert_close(weight_perturbation(left, right, weight, radius=0.1), (largest - 0.1) ** 2)
    torch.testing.assert_close(weight_perturbation(left, right, left @ right, radius=0.1).item(), 0.01)


def test_gradient_sits_in_one_row_also_at_ties(randn):
    left, right = torch.ones(4, 2, requires_grad=True), torch.ones(2, 3, requires_grad=True)
    weight = torch.zeros(4, 3, requires_grad=True)  # every entry of the product deviates alike
    value = weight_perturbation(left, right, weight, radius=1.0)
    to_left, to_right, to_weight = torch.autograd.grad(value, (left, right, weight), allow_unused=True)
    assert (to_left != 0).any(1).sum() == 1
    assert (to_right != 0).any(0).sum() == 1
    assert to_weight is None


def test_gradient(randn):
    weight, factors = randn(4, 3), (randn(4, 2).requires_grad_(), randn(2, 3).requires_grad_())
    radius = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda left, right, r: weight_perturbation(left, right, weight, radius=r), (*factors, radius)
    )


def test_training_moves_the_largest_deviation_to_the_radius(trainer):
    def deviation(strength):
        members = [regularizers["low_rank_factorization"](parts={"all": ["0"]})]
        trained = trainer(*members, WeightPerturbation(strength=strength, radius=0.05), steps=40)
        left, right, weight = (
            trained.lower.parameters[f"0.parametrizations.weight.{name}"]
            for name in ("0.left", "0.right", "original")
        )
        return (left @ right - weight).abs().max()

    assert abs(deviation(1.0) - 0.05) < abs(deviation(0.0) - 0.05)
