import math

import pytest
import torch

from selftune.methods.paired_test import level_of_test, student_t_quantile, upper_bound_of_mean

# Fisher and Yates' table: one-sided levels 0.05, 0.025, 0.01, 0.005, 0.0005
TABLE = {
    29: (1.6991, 2.0452, 2.4620, 2.7564, 3.6594),
    30: (1.6973, 2.0423, 2.4573, 2.7500, 3.6460),
    40: (1.6839, 2.0211, 2.4233, 2.7045, 3.5510),
    60: (1.6706, 2.0003, 2.3901, 2.6603, 3.4602),
    120: (1.6577, 1.9799, 2.3578, 2.6174, 3.3735),
}


@pytest.mark.parametrize("degrees", TABLE)
def test_quantiles_are_those_of_the_table(degrees):
    for level, expected in zip((0.05, 0.025, 0.01, 0.005, 0.0005), TABLE[degrees], strict=True):
        assert student_t_quantile(1 - level, degrees) == pytest.approx(expected, abs=1e-4)


def tail(t, degrees):
    """P(T > t) by the trapezoidal rule on the density, in the variable of T = tan(x) sqrt(degrees)."""
    constant = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - 0.5 * math.log(math.pi)
    x = torch.linspace(math.atan(t / math.sqrt(degrees)), math.pi / 2, 20_001, dtype=torch.float64)
    density = torch.exp(constant + (degrees - 1) * torch.log(torch.cos(x).clamp_min(1e-300)))
    return float(torch.trapezoid(density, x))


@pytest.mark.parametrize("degrees", [29, 100, 1000])
@pytest.mark.parametrize("level", [1e-3, 1e-5, 1e-7])
def test_far_out_the_level_is_kept_to_a_few_percent(degrees, level):
    assert tail(student_t_quantile(1 - level, degrees), degrees) == pytest.approx(level, rel=0.1)


def test_the_median_is_zero_and_quantiles_are_odd():
    assert student_t_quantile(0.5, 30) == 0
    assert student_t_quantile(0.01, 30) == pytest.approx(-student_t_quantile(0.99, 30))


def test_levels_of_all_tests_sum_to_alpha():
    levels = [level_of_test(0.2, number) for number in range(1, 100_001)]
    assert levels == sorted(levels, reverse=True)
    assert 0.19999 < sum(levels) < 0.2


def test_the_bound_covers_the_mean_as_often_as_it_says():
    draws = torch.randn(4000, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    missed = sum(upper_bound_of_mean(sample, 0.1) < 0 for sample in draws) / len(draws)
    assert missed == pytest.approx(0.1, abs=0.015)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_losses_that_are_not_finite_pass_no_test(value):
    differences = torch.full((40,), -5.0)
    differences[3] = value
    assert not upper_bound_of_mean(differences, 0.1) <= 0
