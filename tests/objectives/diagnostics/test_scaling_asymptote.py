import pytest
import torch
from selftune.objectives.functional import scaling_asymptote


def losses(asymptote, factor, power, ratio):
    sizes = 1e3 * ratio ** torch.arange(3.0, dtype=torch.float64)
    return asymptote + factor * sizes**-power


@pytest.mark.parametrize(("factor", "power", "ratio"), [(50.0, 0.5, 2.0), (5.0, 0.1, 10.0), (300.0, 1.0, 4.0)])
def test_exact_laws_give_their_asymptote_for_any_factor_and_ratio(factor, power, ratio):
    assert scaling_asymptote(losses(3.17, factor, power, ratio)).item() == pytest.approx(3.17, rel=1e-9)


def test_is_the_closed_form_and_shifts_with_the_losses():
    values = torch.tensor([4.0, 3.1, 2.9], dtype=torch.float64)
    first, second, third = values
    expected = (first * third - second**2) / (first + third - 2 * second)
    torch.testing.assert_close(scaling_asymptote(values), expected)
    torch.testing.assert_close(scaling_asymptote(values + 5), expected + 5)


@pytest.mark.parametrize("values", [[3.0, 2.0, 1.0], [0.3, 0.2, 0.1], [2.0, 2.0, 2.0]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_on_a_line_give_nan(values, dtype):
    assert scaling_asymptote(torch.tensor(values, dtype=dtype)).isnan()


def test_other_numbers_of_losses_are_refused():
    with pytest.raises(ValueError, match="three losses"):
        scaling_asymptote(torch.ones(4))
