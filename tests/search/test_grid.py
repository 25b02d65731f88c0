import pytest

from selftune.errors import SettingError
from selftune.hyperparameters.distribution import Choices, Integers, LogUniform, Uniform
from selftune.search import SearchSpace, Swept
from selftune.search.grid import grid, grid_values


def test_values_are_even_from_end_to_end_and_whole_numbers_differ():
    assert grid_values(Uniform(-1, 1), 3) == (-1, 0, 1)
    assert grid_values(LogUniform(1e-4, 1.0), 3) == pytest.approx((1e-4, 1e-2, 1.0))
    assert grid_values(Integers(1, 3), 10) == (1, 2, 3)
    assert grid_values(Choices((1, 1.0, True)), 2) == (1, 1.0, True)
    assert grid_values(Uniform(0, 1), 1) == (0.5,)


def test_every_combination_is_there_once_and_conditions_hold():
    space = SearchSpace(
        (
            Swept("optimizer", Choices(("adam", "sgd"))),
            Swept("momentum", Uniform(0, 1), {"optimizer": ("sgd",)}),
            Swept("hidden", Choices(([8], [8, 8]))),
        )
    )
    combinations = grid(space, 3)
    assert len(combinations) == 2 + 3 * 2
    assert all(("momentum" in values) == (values["optimizer"] == "sgd") for values in combinations)
    assert len({str(values) for values in combinations}) == len(combinations)


def test_a_grid_that_no_search_could_finish_is_refused():
    space = SearchSpace(tuple(Swept(f"x{i}", Uniform(0, 1)) for i in range(30)))
    with pytest.raises(SettingError, match="more than 100,000 combinations"):
        grid(space, 3)
