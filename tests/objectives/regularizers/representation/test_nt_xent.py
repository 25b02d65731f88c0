import math

import torch
from selftune.objectives.regularizers.representation.nt_xent import nt_xent
from selftune.objectives.regularizers.representation.supervised_contrastive import supervised_contrastive


def test_swapping_the_views_swaps_the_halves_and_nothing_is_negative(draw):
    a, b = draw(5, 3), draw(5, 3)
    value = nt_xent(a, b)
    torch.testing.assert_close(nt_xent(b, a), value.roll(5))
    assert (value >= 0).all()


def test_equal_rows(draw):
    row = draw(1, 3).expand(4, 3)
    value = nt_xent(row, row)
    torch.testing.assert_close(value, torch.full_like(value, math.log(7)))


def test_is_supervised_contrast_with_the_example_as_label(draw):
    a, b = draw(4, 3), draw(4, 3)
    expected = supervised_contrastive(torch.cat([a, b]), torch.arange(4).repeat(2), 0.3)
    torch.testing.assert_close(nt_xent(a, b, 0.3), expected)


def test_temperature_per_example(draw):
    a, b = draw(2, 3), draw(2, 3)
    value = nt_xent(a, b, torch.tensor([0.2, 0.9], dtype=torch.float64))
    torch.testing.assert_close(value[::2], nt_xent(a, b, 0.2)[::2])
    torch.testing.assert_close(value[1::2], nt_xent(a, b, 0.9)[1::2])


def test_derivatives(draw):
    temperature = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        nt_xent, (draw(2, 3).requires_grad_(), draw(2, 3).requires_grad_(), temperature)
    )


def test_a_single_example_has_nothing_to_be_confused_with(draw):
    a = draw(1, 3).requires_grad_()
    value = nt_xent(a, draw(1, 3))
    value.sum().backward()
    torch.testing.assert_close(value.detach(), torch.zeros(2, dtype=torch.float64))
    assert a.grad.isfinite().all()
