import torch

from selftune.hyperparameters.distribution import Choices, Uniform
from selftune.search import SearchSpace, Swept

SPACE = SearchSpace((Swept("a", Choices(("x", "y"))), Swept("b", Uniform(0, 1), {"a": ("y",)})))


def test_a_key_with_a_condition_is_there_only_where_it_holds():
    assert SPACE.draw(lambda swept: swept.distribution.quantile(0.0)) == {"a": "x"}
    assert SPACE.draw(lambda swept: swept.distribution.quantile(1.0)) == {"a": "y", "b": 1.0}


def test_the_same_generator_draws_the_same():
    first, second = (SPACE.sample(torch.Generator().manual_seed(3)) for _ in range(2))
    assert first == second
