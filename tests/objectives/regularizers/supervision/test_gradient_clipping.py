import pytest
import torch
from selftune.objectives.functional import gradient_clipping

from selftune.regularization.regularizer import regularizers

pytestmark = pytest.mark.usefixtures("double")


@pytest.mark.parametrize("max_norm", [0.1, 1.0, 100.0])
def test_agrees_with_torch(max_norm):
    parameters = [torch.nn.Parameter(torch.zeros(3, 2)), torch.nn.Parameter(torch.zeros(4))]
    gradients = [torch.randn(3, 2), torch.randn(4)]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    for parameter, clipped in zip(parameters, gradient_clipping(gradients, max_norm), strict=True):
        torch.testing.assert_close(clipped, parameter.grad)


def test_direction_stays_and_the_norm_is_bounded():
    gradients = [torch.randn(3, 2), torch.randn(4)]
    whole = torch.cat([g.flatten() for g in gradients])
    clipped = torch.cat([g.flatten() for g in gradient_clipping(gradients, 0.5)])
    assert 0.499 < clipped.norm() <= 0.5
    torch.testing.assert_close(clipped / clipped.norm(), whole / whole.norm())


def test_small_gradients_are_unchanged_and_zero_is_safe():
    gradients = [torch.tensor([0.3, 0.4]), torch.zeros(2)]
    assert all(map(torch.equal, gradients, gradient_clipping(gradients, 1.0)))
    assert torch.equal(gradient_clipping([torch.zeros(2)], 1.0)[0], torch.zeros(2))


def test_one_step_of_plain_sgd_moves_by_no_more_than_the_clipped_gradient(lab):
    start, free = lab.weights(lab.train([], 0)), lab.weights(lab.train([], 1))
    clipped = lab.weights(lab.train([regularizers["gradient_clipping"](max_norm=0.05)], 1))
    assert (free - start).norm() > 0.1 * 0.05
    torch.testing.assert_close((clipped - start).norm().item(), 0.1 * 0.05, rtol=1e-4, atol=0.0)


def test_mode_value_clamps_every_entry(lab):
    start, free = lab.weights(lab.train([], 0)), lab.weights(lab.train([], 1))
    clamped = lab.weights(lab.train([regularizers["gradient_clipping"](max_norm=0.02, mode="value")], 1))
    torch.testing.assert_close(
        clamped - start, (free - start).clamp(-0.1 * 0.02, 0.1 * 0.02), atol=1e-7, rtol=1e-3
    )
