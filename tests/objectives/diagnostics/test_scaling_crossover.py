import math

import pytest
import torch
from selftune.objectives.functional import scaling_crossover

SCALES = torch.tensor([1e2, 1e3, 1e5, 1e6], dtype=torch.float64)


def law(factor, power, floor=0.0, scales=SCALES):
    return floor + factor * scales**-power


@pytest.mark.parametrize("floor", [0.0, 0.7])
def test_exact_power_laws_meet_where_they_should(floor):
    crossover = scaling_crossover(SCALES, law(8.0, 0.5, floor), law(2.0, 0.25, floor), floor)
    assert crossover.item() == pytest.approx(4.0**4)
    swapped = scaling_crossover(SCALES, law(2.0, 0.25, floor), law(8.0, 0.5, floor), floor)
    assert swapped.item() == pytest.approx(4.0**4)


def test_scales_carry_over_and_the_fits_agree_at_the_crossover():
    generator = torch.Generator().manual_seed(0)
    noise = 1 + 0.05 * torch.rand(2, 4, generator=generator, dtype=torch.float64)
    first, second = law(8.0, 0.5) * noise[0], law(2.0, 0.25) * noise[1]
    crossover = scaling_crossover(SCALES, first, second)
    torch.testing.assert_close(scaling_crossover(7 * SCALES, first, second), 7 * crossover)
    design = torch.stack([torch.ones_like(SCALES), SCALES.log()], dim=1)
    fits = [torch.linalg.lstsq(design, losses.log()[:, None]).solution[:, 0] for losses in (first, second)]
    fitted = [a + b * crossover.log() for a, b in fits]
    torch.testing.assert_close(*fitted)


def test_parallel_laws_never_cross():
    scales = torch.tensor([1.0, 3.0, 17.0, 100.0], dtype=torch.float64)
    losses = law(1.0, 0.3, scales=scales)
    assert scaling_crossover(scales, 2 * losses, losses).item() == math.inf
    assert scaling_crossover(scales, losses, 2 * losses).item() == math.inf
    assert scaling_crossover(scales, losses, losses).isnan()


def test_losses_at_the_floor_give_nan_and_one_scale_is_refused():
    assert scaling_crossover(SCALES, law(8.0, 0.5), law(2.0, 0.25), floor=1.0).isnan()
    with pytest.raises(ValueError, match="two scales"):
        scaling_crossover(SCALES[:1], SCALES[:1], SCALES[:1])
