import torch
from selftune.objectives.regularizers.structure.hierarchical_group_lasso import hierarchical_group_lasso


def test_follows_the_definition(randn):
    up, down = randn(4, 3), randn(3, 5)
    expected = sum(up[:, j:].norm() + down[j:].norm() for j in range(3))
    torch.testing.assert_close(hierarchical_group_lasso(up, down), expected)
    torch.testing.assert_close(hierarchical_group_lasso(up[:, :1], down[:1]), up[:, 0].norm() + down[0].norm())


def test_is_homogeneous_and_prefers_early_components(randn):
    up, down = randn(4, 3), randn(3, 5)
    value = hierarchical_group_lasso(up, down)
    torch.testing.assert_close(hierarchical_group_lasso(2 * up, 2 * down), 2 * value)
    early = torch.zeros_like(up)
    early[:, 0], late = 1, torch.zeros_like(up)
    late[:, 2] = 1
    assert hierarchical_group_lasso(early, down) < hierarchical_group_lasso(late, down)


def test_gradient(randn):
    assert torch.autograd.gradcheck(
        hierarchical_group_lasso, (randn(4, 3).requires_grad_(), randn(3, 5).requires_grad_())
    )


def test_vanished_tails_have_zero_gradient(randn):
    up, down = randn(4, 3), randn(3, 5)
    up[:, 2] = 0
    up.requires_grad_()
    down.requires_grad_()
    to_up, _ = torch.autograd.grad(hierarchical_group_lasso(up, down), (up, down))
    assert to_up[:, 2].eq(0).all()
    assert to_up.isfinite().all()
