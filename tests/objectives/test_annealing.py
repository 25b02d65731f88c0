import pytest
import torch
from selftune.objectives.annealing import annealed


@pytest.mark.parametrize(("number", "total"), [(0, 2.0), (9, 2.0), (10, 140.0), (50, 140.0)])
def test_the_strength_counts_from_the_given_step_on(number, total):
    strength = torch.tensor(70.0)
    assert (strength * annealed(torch.tensor(2.0), strength, number, 10, before=1.0)).item() == pytest.approx(
        total
    )


def test_before_that_it_has_no_gradient_and_zero_is_off():
    strength = torch.tensor([0.0, 5.0], requires_grad=True)
    term = strength * annealed(torch.tensor(2.0), strength, 0, 10, before=1.0)
    (gradient,) = torch.autograd.grad(term.sum(), strength)
    torch.testing.assert_close(term.detach(), torch.tensor([0.0, 2.0]))
    assert gradient[1].abs() < 1e-6
    assert gradient.isfinite().all()
