import pytest
import torch
from selftune.objectives.regularizers.adaptation.ewc import diagonal_fisher, ewc
from selftune.objectives.regularizers.adaptation.l2_to_old_parameters import l2_to_old_parameters


def test_equal_information_is_l2_and_none_is_nothing(draw):
    new, old = [draw(3, 2), draw(4)], [draw(3, 2), draw(4)]
    torch.testing.assert_close(
        ewc(new, old, [torch.ones_like(each) for each in old]), l2_to_old_parameters(new, old)
    )
    assert ewc(new, old, [torch.zeros_like(each) for each in old]).item() == 0


def test_gradient_reaches_the_parameters_only(draw):
    new, old, fisher = draw(4).requires_grad_(), draw(4).requires_grad_(), draw(4).square().requires_grad_()
    ewc([new], [old], [fisher]).backward()
    torch.testing.assert_close(new.grad, (2 * fisher * (new - old)).detach())
    assert old.grad is None
    assert fisher.grad is None


def test_rows_gained_since_are_left_out(draw):
    new, old, fisher = draw(5, 2), draw(3, 2), draw(3, 2).square()
    torch.testing.assert_close(ewc([new], [old], [fisher]), ewc([new[:3]], [old], [fisher]))


def test_twice_the_increase_of_the_old_loss_of_least_squares(draw):
    n = 8
    inputs = torch.linalg.qr(draw(n, 3)).Q * n**0.5 * torch.tensor([1.0, 2.0, 0.5])  # orthogonal columns
    old, new = draw(3), draw(3)
    # labels from the model: the squared gradient of an example averages to its squared inputs
    expected_squares = torch.stack([inputs, -inputs]).reshape(-1, 3)
    fisher = diagonal_fisher(expected_squares)
    targets = inputs @ old
    increase = 0.5 * (inputs @ new - targets).square().mean() - 0.5 * (inputs @ old - targets).square().mean()
    torch.testing.assert_close(ewc([new], [old], [fisher]), 2 * increase)


def test_information_is_positive_and_a_mean_over_samples(draw):
    gradients = draw(9, 4)
    whole = diagonal_fisher(gradients)
    assert (whole > 0).all()
    torch.testing.assert_close(
        whole, (4 * diagonal_fisher(gradients[:4]) + 5 * diagonal_fisher(gradients[4:])) / 9
    )


def test_refuses_missing_information(draw):
    with pytest.raises(ValueError, match="shorter"):
        ewc([draw(2)], [draw(2)], [])
