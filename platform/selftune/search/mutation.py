"""How population-based training changes values: a fifth up or down, a neighbouring option, or a new draw."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from selftune.hyperparameters.distribution import Choices, Distribution, Integers, LogUniform, Uniform
from selftune.search.space import SearchSpace

FACTORS = (0.8, 1.2)


def mutated(
    space: SearchSpace, values: Mapping[str, Any], resample: float, generator: random.Random
) -> dict[str, Any]:
    """New values from those of another trial.

    Each is drawn anew with probability ``resample``. Otherwise a number is multiplied by 0.8 or 1.2 and stays
    within its distribution, a whole number moves by one at least, and a choice moves to the option before or
    after. What is inherited stays as it is. Source: Population Based Training of Neural Networks,
    arXiv 1711.09846, appendix A.

    >>> from selftune.search import Swept
    >>> space = SearchSpace((Swept("rate", Uniform(0, 1)),))
    >>> mutated(space, {"rate": 0.5}, 0.0, random.Random(0))["rate"] in (0.4, 0.6)
    True
    """

    def value(key: str, distribution: Distribution) -> Any:
        if generator.random() < resample:
            return distribution.quantile(generator.random())
        return _moved(distribution, values[key], generator)

    return {
        one.key: values[one.key] if one.inherited else value(one.key, one.distribution)
        for one in space
        if one.key in values
    }


def _moved(distribution: Distribution, value: Any, generator: random.Random) -> Any:
    up = generator.random() < 0.5
    match distribution:
        case Uniform(low, high) | LogUniform(low, high):
            return min(max(value * FACTORS[up], low), high)
        case Integers(low, high):
            near = value + (1 if up else -1)
            far = round(value * FACTORS[up])
            return min(max(max(near, far) if up else min(near, far), low), high)
        case Choices(options):
            index = next(i for i, o in enumerate(options) if type(o) is type(value) and o == value)
            return options[min(max(index + (1 if up else -1), 0), len(options) - 1)]
        case other:
            raise TypeError(f"nothing is known of how to change {other.describe()}")
