import pytest
import torch
from selftune.objectives.regularizers.adaptation.l2_to_old_parameters import l2_to_old_parameters


def test_zero_at_the_anchor_with_twice_the_change_as_gradient(draw):
    old = [draw(3, 2).requires_grad_(), draw(4).requires_grad_()]
    new = [draw(3, 2).requires_grad_(), draw(4).requires_grad_()]
    assert l2_to_old_parameters(old, old).item() == 0
    l2_to_old_parameters(new, old).backward()
    for now, before in zip(new, old, strict=True):
        torch.testing.assert_close(now.grad, 2 * (now - before).detach())
        assert before.grad is None


def test_an_anchor_of_zero_is_weight_decay(draw):
    new = [draw(3, 2), draw(4)]
    value = l2_to_old_parameters(new, [torch.zeros_like(each) for each in new])
    torch.testing.assert_close(value, sum(each.square().sum() for each in new))


def test_rows_gained_since_are_left_out(draw):
    new, old = [draw(5, 2).requires_grad_(), draw(5)], [draw(3, 2), draw(3)]
    value = l2_to_old_parameters(new, old)
    torch.testing.assert_close(value, l2_to_old_parameters([each[:3] for each in new], old))
    (gradient,) = torch.autograd.grad(value, new[0])
    assert not gradient[3:].any()


def test_refuses_a_missing_tensor(draw):
    with pytest.raises(ValueError, match="shorter"):
        l2_to_old_parameters([draw(2), draw(3)], [draw(2)])
