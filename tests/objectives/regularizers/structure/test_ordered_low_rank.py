import pytest
import torch
from selftune.objectives.regularizers.structure.ordered_low_rank import ordered_low_rank


def test_all_components_are_the_dense_product(randn):
    inputs, up, down = randn(5, 4), randn(3, 3), randn(3, 4)
    torch.testing.assert_close(ordered_low_rank(inputs, up, down, keep=3), inputs @ (up @ down).T)


def test_outputs_are_nested(randn):
    inputs, up, down = randn(5, 4), randn(3, 3), randn(3, 4)
    assert ordered_low_rank(inputs, up, down, keep=0).eq(0).all()
    for k in range(3):
        term = torch.outer(inputs @ down[k], up[:, k])
        difference = ordered_low_rank(inputs, up, down, keep=k + 1) - ordered_low_rank(inputs, up, down, keep=k)
        torch.testing.assert_close(difference, term)


def test_cut_components_have_no_gradient(randn):
    up, down = randn(3, 3).requires_grad_(), randn(3, 4).requires_grad_()
    to_up, to_down = torch.autograd.grad(ordered_low_rank(randn(5, 4), up, down, keep=2).sum(), (up, down))
    assert to_up[:, 2].eq(0).all()
    assert to_down[2].eq(0).all()
    assert (to_up[:, :2] != 0).all()
    assert (to_down[:2] != 0).all()


@pytest.mark.parametrize("keep", [-1, 4])
def test_keep_out_of_range_is_refused(randn, keep):
    with pytest.raises(ValueError, match="from 0 to 3"):
        ordered_low_rank(randn(5, 4), randn(3, 3), randn(3, 4), keep=keep)
