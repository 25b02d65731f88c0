"""How the networks of a replay are trained: in this process, or by several workers of Ray Train."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from selftune.errors import SettingError
from selftune.listener import Listener
from selftune.methods import Budget, Replay, Report, Segment
from selftune.studies.display import say
from selftune.studies.mistakes import Mistakes
from selftune.studies.study_failed import StudyFailed
from selftune.training import NoTrainerLeft, TrainerFactory, run_in_process
from selftune.training.sharing import sharing_mistakes

if TYPE_CHECKING:
    from rich.console import Console

    from selftune.studies.strategies import NetworkStrategy

_FOLDER = "replay"  # of what workers keep while they train


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A network to be trained.

    Args:
        title: what it is called meanwhile.
        plan: what hyperparameters do.
        seed: everything random follows from it.
    """

    title: str
    plan: Sequence[Segment]
    seed: int

    @property
    def steps(self) -> int:
        return self.plan[-1].training_step


Train = Callable[[Sequence[Wanted]], Iterator[Report]]
"""Trains networks, and gives their last reports one by one."""


def training(
    strategy: NetworkStrategy, console: Console, folder: Path, workers: int | None, sharded: bool = False
) -> Train:
    """What trains the networks of a replay.

    Args:
        folder: of the study.
        workers: processes of Ray Train that train each network together; None trains in this process.
        sharded: whether each of them holds a part of the weights only.

    Raises:
        SettingError: if weights are to be shared out among workers that are not there.
        Mistakes: if several workers cannot train the network together.
    """
    if sharded and workers in (None, 1):
        raise SettingError("strategy", "fsdp shares weights out among several workers; give --workers 2 or more")
    if workers is None:
        return partial(_in_process, strategy, console)
    found = list(sharing_mistakes(strategy.objective, strategy.study.regularizers, workers, sharded))
    if found:
        raise Mistakes(found)
    return partial(_by_workers, strategy, console, folder / _FOLDER, workers, sharded)


def _in_process(strategy: NetworkStrategy, console: Console, wanted: Sequence[Wanted]) -> Iterator[Report]:
    for one in wanted:
        display = strategy.display(console, one.title, Budget(steps=one.steps))
        try:
            yield run_in_process(Replay(one.plan, one.steps), {0: _factory(strategy, one)(0)}, display)[0]
        except NoTrainerLeft as error:
            raise StudyFailed(str(error)) from error


def _by_workers(
    strategy: NetworkStrategy,
    console: Console,
    folder: Path,
    workers: int,
    sharded: bool,
    wanted: Sequence[Wanted],
) -> Iterator[Report]:
    from selftune.schedulers.errors import SchedulerError
    from selftune.schedulers.replay_worker import Job
    from selftune.schedulers.trained_together import trained_together

    jobs = [Job(_factory(strategy, one), one.plan) for one in wanted]
    steps, trainers = sum(one.steps for one in wanted), strategy.study.trainers
    say(console, f"{len(jobs)} networks, {steps} training steps, by {workers} workers of Ray Train")
    gpus = float(trainers.device == "cuda")
    displays = _Displays(strategy, console, wanted)
    try:
        yield from trained_together(
            jobs,
            workers=workers,
            cpus=trainers.cpus,
            gpus=gpus,
            folder=folder,
            sharded=sharded,
            watch=displays.show,
        )
    except (NoTrainerLeft, SchedulerError) as error:
        raise StudyFailed(str(error)) from error
    except ConnectionError as error:
        raise StudyFailed(f"no Ray cluster: {error}; unset RAY_ADDRESS, or leave out --workers") from error
    finally:
        displays.end()


class _Displays:
    """Shows the network that is trained now, of several that are trained one after the other."""

    def __init__(self, strategy: NetworkStrategy, console: Console, wanted: Sequence[Wanted]) -> None:
        self._strategy, self._console, self._wanted = strategy, console, wanted
        self._number: int | None = None
        self._now: Listener = Listener()

    def show(self, number: int, report: Report) -> None:
        if number != self._number:
            self.end()
            one, self._number = self._wanted[number], number
            self._now = self._strategy.display(self._console, one.title, Budget(steps=one.steps))
            self._now.started(self._strategy.space, 1)
        self._now.reported(0, report)

    def end(self) -> None:
        self._now.ended()


def _factory(strategy: NetworkStrategy, one: Wanted) -> TrainerFactory:
    factory = strategy.trainers(one.seed)
    if strategy.study.budget.steps is None:
        return factory
    return dataclasses.replace(factory, steps=one.steps)  # of a run of so many steps, "progress" is a share
