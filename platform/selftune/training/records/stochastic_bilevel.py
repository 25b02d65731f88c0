"""``method: {name: stochastic_bilevel}``, for smooth problems whose levels are means over examples."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from selftune.errors import SettingError
from selftune.hypergradients.oracle import Oracle
from selftune.hypergradients.stochastic import Sampler
from selftune.lower_level.smooth_objective import SmoothObjective
from selftune.methods import Budget, StochasticBilevel, StochasticBilevelSettings
from selftune.training.method_record import MethodRecord, SmoothForm
from selftune.training.records.lower_level_solver import REASONS
from selftune.training.smooth_checks import problem_mistakes
from selftune.training.stochastic_trainer import StochasticTrainerFactory


def _build(budget: Budget, settings: StochasticBilevelSettings, team_size: int) -> StochasticBilevel:
    return StochasticBilevel(budget.work, budget.steps, settings, team_size)


def _trainers(
    objective: SmoothObjective, settings: StochasticBilevelSettings, cpus: float, seed: int
) -> StochasticTrainerFactory:
    return StochasticTrainerFactory(objective, settings, cpus, seed)


def _checks(objective: SmoothObjective, settings: StochasticBilevelSettings) -> Iterator[SettingError]:
    if Oracle(objective).nonsmooth:
        yield SettingError(
            "method.name",
            "stochastic_bilevel needs a smooth lower level, but this one has a term that is not smooth; use"
            " inexact_line_search or implicit, with solver: proximal_gradient",
        )
        return
    if objective.finite_sum() is None:
        yield SettingError(
            "method.name",
            "stochastic_bilevel looks at a batch of examples at a time, but this problem gives no losses of single"
            " examples; give SmoothProblem(finite_sum=True), or write SmoothObjective.finite_sum, or use"
            " inexact_line_search or implicit, which look at all examples",
        )
        return
    mistakes = list(problem_mistakes(objective, settings.solver))
    yield from mistakes or _no_means(objective, settings)


def _no_means(objective: SmoothObjective, settings: StochasticBilevelSettings) -> Iterator[SettingError]:
    """Levels that are no means over their examples, seen at the start values."""
    levels, oracle = objective.finite_sum(), Oracle(objective)
    assert levels is not None
    x, values = oracle.start_x(), oracle.values(oracle.start_u())
    # somewhere else than at the start, where many losses are alike
    tree = oracle.unravel(x + torch.linspace(-0.1, 0.1, len(x)).to(x))
    sampler = Sampler(levels.lower_examples, levels.upper_examples, settings.batch_size, device=x.device)
    for name, whole, on_batch, batches in (
        ("lower", objective.lower, levels.lower, sampler.lower),
        ("upper", objective.upper, levels.upper, sampler.upper),
    ):
        value = float(whole(tree, values))
        mean = sum(batch.weight * float(on_batch(tree, values, batch.index)) for batch in batches)
        if abs(value - mean) > torch.finfo(x.dtype).eps ** 0.5 * max(abs(value), abs(mean)):
            yield SettingError(
                "objective",
                f"its {name} level is {value:g} on all examples, but {mean:g} as the mean over batches; make it a"
                " mean over examples, with what belongs to no example added once to every batch",
            )


METHOD = MethodRecord(
    smooth=SmoothForm(
        settings=StochasticBilevelSettings,
        machine=StochasticBilevel,
        build=_build,
        trainers=_trainers,
        draws=True,
        checks=_checks,
        reasons={**REASONS, "diverged": "its steps led to values that are not finite"},
    )
)
