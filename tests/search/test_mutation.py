import random

import pytest

from selftune.hyperparameters.distribution import Choices, Integers, LogUniform, Uniform
from selftune.search import SearchSpace, Swept
from selftune.search.mutation import mutated


def changes(distribution, value, resample=0.0):
    space = SearchSpace((Swept("key", distribution),))
    generator = random.Random(0)
    return {str(mutated(space, {"key": value}, resample, generator)["key"]) for _ in range(200)}


@pytest.mark.parametrize(
    ("distribution", "value", "expected"),
    [
        (Uniform(0, 1), 0.5, {0.4, 0.6}),
        (Uniform(0, 0.55), 0.5, {0.4, 0.55}),
        (LogUniform(0.01, 1.0), 0.01, {0.01, 0.012}),
        (Integers(1, 64), 20, {16, 24}),
        (Integers(1, 64), 2, {1, 3}),
        (Integers(1, 64), 64, {51, 64}),
        (Choices(("a", "b", "c")), "b", {"a", "c"}),
        (Choices(([8], [8, 8])), [8], {[8].__str__(), [8, 8].__str__()}),
        (Choices((1, True, 1.0)), True, {"1", "1.0"}),
    ],
)
def test_a_value_moves_by_a_fifth_or_to_its_neighbour_and_stays_in_range(distribution, value, expected):
    assert changes(distribution, value) == {str(one) for one in expected}


def test_a_value_is_drawn_anew_from_its_distribution():
    drawn = {float(value) for value in changes(Uniform(2, 3), 2.5, resample=1.0)}
    assert len(drawn) == 200
    assert min(drawn) >= 2
    assert max(drawn) <= 3


def test_keys_that_are_not_there_stay_away():
    space = SearchSpace((Swept("a", Uniform(0, 1)), Swept("b", Uniform(0, 1), {"a": (0.0,)})))
    assert set(mutated(space, {"a": 0.5}, 0.5, random.Random(0))) == {"a"}
