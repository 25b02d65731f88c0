import torch
from rounding import squared_rounding
from selftune.objectives.regularizers.representation.mixed_barlow_twins import mixed_barlow_twins

ORDER = torch.tensor([3, 0, 4, 1, 2])


def test_definition(draw):
    mixed, a, b, mix, eps = draw(5, 3), draw(5, 3), draw(5, 3), 0.3, 1e-3
    m, a_, b_ = ((z - z.mean(0)) / (z.var(0, unbiased=False) + eps).sqrt() for z in (mixed, a, b))

    def corr(u, v):
        return u.T @ v / 5

    expected = 0.5 * sum(
        (corr(m, v) - mix * corr(a_, v) - (1 - mix) * corr(b_[ORDER], v)).square().sum() for v in (a_, b_)
    )
    torch.testing.assert_close(mixed_barlow_twins(mixed, a, b, mix, ORDER, eps), expected)


def test_pure_views_cost_nothing(draw):
    a, b = draw(5, 3), draw(5, 3)
    nothing = squared_rounding(terms=9)
    assert mixed_barlow_twins(a, a, b, 1.0, ORDER).item() < nothing
    assert mixed_barlow_twins(b[ORDER], a, b, 0.0, ORDER).item() < nothing


def test_affine_changes_of_columns_change_nothing(draw):
    mixed, a, b = draw(5, 3), draw(5, 3), draw(5, 3)
    value = mixed_barlow_twins(mixed, a, b, 0.4, ORDER, 1e-12)
    changed = (z * draw(3).abs() + draw(3) for z in (mixed, a, b))
    torch.testing.assert_close(mixed_barlow_twins(*changed, 0.4, ORDER, 1e-12), value)


def test_derivatives(draw):
    mix = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    inputs = [draw(5, 2).requires_grad_() for _ in range(3)]
    assert torch.autograd.gradcheck(lambda *a: mixed_barlow_twins(*a, ORDER), (*inputs, mix))
