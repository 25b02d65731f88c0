import math

import pytest
import torch
from selftune.objectives.functional import early_stopping


@pytest.mark.parametrize(
    ("values", "patience", "min_delta", "expected"),
    [
        ([5.0, 4.0, 3.0, 2.0, 1.0], 1, 0.0, (4, -1)),  # strictly decreasing: never stops
        ([3.0, 2.0, 2.5, 2.4, 1.0], 2, 0.0, (1, 3)),
        ([3.0, 3.0, 1.0], 1, 0.0, (0, 1)),  # patience 1: the first non-improvement
        ([3.0, math.nan, 1.0, math.nan, math.nan], 2, 0.0, (2, 4)),  # NaN is no improvement
        ([3.0, -math.inf, math.inf, 1.0], 2, 0.0, (0, 2)),
        ([math.nan, math.nan, 1.0], 3, 0.0, (2, -1)),
        ([math.nan, math.nan], 2, 0.0, (-1, 1)),
        ([3.0, 2.95, 2.85, 2.8], 2, 0.1, (2, -1)),  # improvements add up against the best value kept
        ([3.0, 2.5, 2.5], 2, 0.5, (0, 2)),  # exactly min_delta is no improvement
        ([], 2, 0.0, (-1, -1)),
    ],
)
def test_cases(values, patience, min_delta, expected):
    assert early_stopping(torch.tensor(values, dtype=torch.float64), patience, min_delta) == expected


def test_a_stop_after_an_improvement_comes_patience_epochs_later():
    generator = torch.Generator().manual_seed(0)
    for patience in (1, 3, 7):
        values = torch.linspace(1, 0, 200) + torch.randn(200, generator=generator)
        best, stop = early_stopping(values, patience)
        assert stop - best == patience
        assert best == values[: stop + 1].argmin()


def test_patience_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        early_stopping(torch.zeros(3), patience=0)
