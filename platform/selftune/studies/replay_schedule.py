"""Replaying a schedule from Python: a network is trained with what hyperparameters did in another run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from selftune.lower_level.objective import NetworkObjective
from selftune.methods import Budget, Replay
from selftune.methods.team_method import check_team
from selftune.regularization.regularizer import Regularizer, built_regularizers
from selftune.schedule import Schedule
from selftune.studies.averages import mean_metrics, spread_metrics
from selftune.studies.plain_network import network_of
from selftune.studies.result import Result
from selftune.studies.segments import segments
from selftune.studies.stderr_progress import progress_on_stderr
from selftune.studies.strategies import NetworkStrategy
from selftune.training import TrainerFactory, run_in_process
from selftune.training.checks import run_mistakes, space_of


def replay(
    objective: NetworkObjective,
    regularizers: Mapping[str, Mapping[str, Any]] | Iterable[Regularizer],
    schedule: Schedule | str | Path,
    *,
    steps: int | None = None,
    trainers: int = 1,
    seed: int = 0,
    device: str = "cpu",
    progress: bool | None = None,
) -> Result:
    """Trains plain networks in this process with a schedule, as found by ``tune`` or by a study.

    With the arguments of the call that found it, training is the same again; a schedule of a small run may as well
    be followed by a larger network on more data, over more steps (``Schedule.stretched``).

    Args:
        objective: what is trained.
        regularizers: as of ``tune``; what is a ``Tune`` follows the schedule.
        schedule: one, its file, or the folder of a study or of ``tune(output=)``.
        steps: training steps, the schedule's length if not given; beyond it the last values are held.
        trainers: networks, over which measures are averaged.
        seed, device, progress: as of ``tune``.

    Raises:
        SettingError: if the schedule is one of other hyperparameters, or another setting is wrong.
        NoTrainerLeft: if training diverges.

    >>> import numpy as np, torch
    >>> from selftune import Classification, Optimization, Schedule, Tune, replay
    >>> x, y = torch.randn(96, 8), torch.randint(3, (96,))
    >>> split = [(x[i : i + 32], y[i : i + 32]) for i in (0, 32, 64)]
    >>> objective = Classification(lambda: torch.nn.Linear(8, 3), *split, Optimization(batch_size=16))
    >>> values = np.array([[1e-3], [1e-2]])
    >>> found = Schedule(("weight_decay.strength",), np.array([10, 20]), values, ((0, np.inf),))
    >>> result = replay(objective, {"weight_decay": {"strength": Tune(1e-3)}}, found.stretched(40))
    >>> result.hyperparameters, result.schedule.steps
    ({'weight_decay.strength': 0.01}, 40)
    """
    followed = schedule if isinstance(schedule, Schedule) else Schedule.load(schedule)
    followed = followed if steps is None else _over(followed, Budget(steps=steps).steps or 0)
    check_team(trainers, 1, key="trainers")
    factory = TrainerFactory(
        objective, built_regularizers(regularizers), seed=seed, device=device, steps=followed.steps
    )

    def method() -> Replay:
        return Replay(segments(followed), followed.steps, trainers)

    for mistake in run_mistakes(factory, method):
        raise mistake.at_call()
    followed.check_space(space_of(factory))
    factory = replace(factory, checked=True)
    shown = progress_on_stderr(progress, "replay", Budget(steps=followed.steps), NetworkStrategy)
    machine, team = method(), {member: factory(member) for member in range(trainers)}
    reports = machine.results(run_in_process(machine, team, shown))
    first = min(reports)
    return Result(
        hyperparameters=followed.at(followed.steps - 1),
        trajectory=(),
        network=network_of(objective, factory.regularizers, reports[first]),
        metrics=mean_metrics(reports),
        schedule=followed,
        networks=len(reports),
        spread=spread_metrics(reports),
    )


def _over(schedule: Schedule, steps: int) -> Schedule:
    """Its first so many steps; the last values are held where it is shorter."""
    rows = int(np.searchsorted(schedule.ends, steps)) + 1
    ends = schedule.ends[:rows].copy()
    ends[-1] = steps
    return replace(schedule, ends=ends, values=schedule.values[:rows])
