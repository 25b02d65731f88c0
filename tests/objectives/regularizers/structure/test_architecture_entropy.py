import itertools
import math

import pytest
import torch
from selftune.objectives.regularizers.structure.architecture_entropy import _schedule, architecture_entropy


def test_uniform_and_discrete_choices():
    torch.testing.assert_close(architecture_entropy(torch.full((3, 5), 2.0)).item(), 3 * math.log(5))
    settled = (1e4 * torch.eye(3)).requires_grad_()
    value = architecture_entropy(settled)
    assert value == 0
    assert torch.autograd.grad(value, settled)[0].isfinite().all()


def test_constants_per_block_change_nothing(randn):
    alphas, constants = randn(3, 4), randn(3, 1)
    torch.testing.assert_close(architecture_entropy(alphas + constants), architecture_entropy(alphas))


def test_gradient(randn):
    assert torch.autograd.gradcheck(architecture_entropy, randn(3, 4).requires_grad_())


def test_descent_raises_the_largest_share(randn):
    alphas = randn(3, 4).requires_grad_()
    before = alphas.softmax(1).amax(1)
    (gradient,) = torch.autograd.grad(architecture_entropy(alphas), alphas)
    assert ((alphas - 0.1 * gradient).softmax(1).amax(1) > before).all()


def test_the_schedule_rises_from_the_first_quarter_to_the_end():
    factors = [_schedule(progress / 200) for progress in range(200)]
    assert set(factors[:50]) == {0.0}
    assert all(later > earlier for earlier, later in itertools.pairwise(factors[50:]))
    assert factors[-1] == pytest.approx(1.0, abs=0.01)
    # the paper's formula at epoch 60 of 100
    assert factors[120] == pytest.approx(60 / 99 * math.log(37) / math.log(76))
