import math

import pytest
from selftune.objectives.functional import large_batch_scaling


def test_the_same_batch_changes_nothing_and_four_times_doubles_the_rate():
    assert large_batch_scaling(0.1, 30, 128, 128) == (0.1, 30)
    assert large_batch_scaling(0.1, 30, 512, 128) == (pytest.approx(0.2), 120)


@pytest.mark.parametrize("batch_size", [32, 100, 128, 129, 300, 1000])
def test_there_are_at_least_as_many_updates(batch_size):
    rate, epochs = large_batch_scaling(0.1, 7, batch_size, 128)
    assert epochs * 5000 / batch_size >= 7 * 5000 / 128
    assert rate == pytest.approx(0.1 * math.sqrt(batch_size / 128))


def test_empty_batches_are_refused():
    with pytest.raises(ValueError, match="base_batch_size"):
        large_batch_scaling(0.1, 7, 128, 0)
