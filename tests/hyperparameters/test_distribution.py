import math

import pytest
import torch

from selftune.errors import SettingError
from selftune.hyperparameters import Choice, Integer, Interval, Positive, Unit, domain_of
from selftune.hyperparameters.distribution import Choices, Integers, LogUniform, Uniform, distribution_of

ALL = [Uniform(-1.0, 2.0), LogUniform(1e-3, 10.0), Integers(-1, 3), Choices(("a", 1, True, [64, 64]))]


@pytest.mark.parametrize("distribution", ALL, ids=repr)
def test_a_study_file_writes_a_distribution_and_reads_it_back(distribution):
    assert distribution_of(distribution.to_mapping()) == distribution
    assert domain_of(distribution).prior() == distribution


@pytest.mark.parametrize("distribution", ALL, ids=repr)
def test_draws_lie_inside_follow_the_seed_and_reach_all(distribution):
    generator = torch.Generator().manual_seed(3)
    draws = [distribution.sample(generator) for _ in range(400)]
    domain = domain_of(distribution)
    assert all(domain.contains(draw) for draw in draws)
    assert draws[0] == distribution.sample(torch.Generator().manual_seed(3))
    quarters = [[distribution.quantile(q), distribution.quantile(q + 0.25)] for q in (0.0, 0.25, 0.5, 0.75)]
    if isinstance(distribution, Uniform | LogUniform):
        counts = [sum(low <= draw < high for draw in draws) for low, high in quarters]
    else:
        options = distribution.options if isinstance(distribution, Choices) else range(-1, 4)
        counts = [sum(draw is option or draw == option for draw in draws) for option in options]
    assert min(counts) > 50


def test_both_ends_can_be_drawn_and_are_exact():
    assert (Integers(1, 3).quantile(0.0), Integers(1, 3).quantile(1.0)) == (1, 3)
    for distribution in (Uniform(0.1, 0.3), LogUniform(1e-7, 0.3)):
        assert (distribution.quantile(0.0), distribution.quantile(1.0)) == (distribution.low, distribution.high)


def test_optuna_and_ray_get_the_same_values():
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    assert Uniform(0.0, 2.0).to_optuna() == FloatDistribution(0.0, 2.0)
    assert LogUniform(0.5, 2.0).to_optuna() == FloatDistribution(0.5, 2.0, log=True)
    assert Integers(1, 8).to_optuna() == IntDistribution(1, 8)
    assert Choices(("a", "b")).to_optuna() == CategoricalDistribution(["a", "b"])
    for distribution in ALL:
        domain, ray = domain_of(distribution), distribution.to_ray()
        assert all(domain.contains(ray.sample()) for _ in range(20))
    assert {Integers(1, 2).to_ray().sample() for _ in range(40)} == {1, 2}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "must be a distribution, got 3; write one of: uniform: [low, high]; "),
        ({"uniform": [0, 1], "choice": [1]}, "must name one distribution, got 2 keys; "),
        ({"loguniform": [1, 2]}, "loguniform: unknown distribution; did you mean log_uniform"),
        ({"uniform": 3}, "uniform: must be two numbers [low, high], got 3"),
        ({"uniform": [0, True]}, "uniform: must be two numbers [low, high], got [0, True]"),
        ({"uniform": [0, math.inf]}, "uniform: a uniform distribution needs two finite ends"),
        ({"uniform": [0, math.nan]}, "uniform: a uniform distribution needs two finite ends"),
        ({"uniform": [1, 0]}, "uniform: a uniform distribution needs low < high, got low = 1 and high = 0"),
        ({"log_uniform": [0, 1]}, "log_uniform: a log-uniform distribution needs low > 0, got 0"),
        ({"integer": [1, 8.0]}, "integer: must be two whole numbers [low, high], got [1, 8.0]"),
        ({"integer": [2, 2]}, "integer: a distribution of whole numbers needs low < high"),
        ({"choice": []}, "choice: a choice needs at least one option"),
        ({"choice": "ab"}, "choice: must be a list of options, got 'ab'"),
        ({"choice": [1, 2, 1]}, "choice: a choice needs options that differ, got 1 twice"),
    ],
)
def test_what_is_no_distribution_is_refused_in_one_sentence_with_its_key(given, message):
    with pytest.raises(SettingError) as refused:
        distribution_of(given)
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("domain", "distribution"),
    [
        (Unit(), Uniform(0, 1)),
        (Unit(), LogUniform(1e-3, 1)),
        (Positive(), Uniform(0, 3)),
        (Positive(), Integers(1, 3)),
        (Integer(1, 8), Integers(2, 8)),
        (Integer(1, 8), Choices((1, 4))),
        (Choice(("a", "b")), Choices(("b",))),
    ],
)
def test_a_domain_allows_distributions_within_it(domain, distribution):
    domain.check_allows(distribution)


@pytest.mark.parametrize(
    ("domain", "distribution", "message"),
    [
        (Unit(), Uniform(0, 1.5), "draws 1.5, but must be a number in [0, 1]"),
        (Positive(), Uniform(-1, 1), "draws -1, but must be a positive number"),
        (Integer(1, 8), Uniform(1, 8), "must be integer: [low, high], because only whole numbers are allowed"),
        (Integer(1, 8), Integers(1, 9), "draws 9, but must be a whole number from 1 to 8"),
        (Interval(0, 2), Choices((1, "a")), "draws 'a', but must be a number in [0, 2]"),
        (Choice(("a", "b")), Uniform(0, 1), "must be choice: [...], because the value is one of 'a', 'b'"),
    ],
)
def test_a_domain_refuses_distributions_that_leave_it(domain, distribution, message):
    with pytest.raises(ValueError, match=message.replace("[", r"\[").replace("(", r"\(")):
        domain.check_allows(distribution)
