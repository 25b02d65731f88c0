"""Replaying a study: the plain network trained with the recorded schedule, or with the values at its end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from selftune.errors import SettingError
from selftune.methods import Budget, Replay, Report, Segment
from selftune.schedule import Schedule
from selftune.storage.checked_json import read_json, write_json
from selftune.studies.averages import mean_metrics, spread_metrics
from selftune.studies.display import say
from selftune.studies.folder import open_folder
from selftune.studies.mistakes import Mistakes, UserError
from selftune.studies.replay_schedule import segments
from selftune.studies.runner import StudyFailed
from selftune.studies.saved_network import TUNED, read_network, save_network
from selftune.studies.strategies import NetworkStrategy
from selftune.studies.verdict import HELD
from selftune.tracking.trajectory import Trajectory, read_trajectory
from selftune.training import NoTrainerLeft, TrainerFactory, run_in_process
from selftune.training.sharing import sharing_mistakes

SCHEDULE, END, START = "schedule", "end values held", HELD
SAME_NETWORK = "The schedule gave the tuned network of the study again, bit for bit."
OTHER_NETWORK = (
    "The schedule gave another network than the study: training there was more than plain steps with these values"
    " (a proximal term, relaxation, estimates of gradients, a response that is not centred), or went on elsewhere."
)
Measures = dict[str, dict[str, float]]
"""Measures by row."""
TOGETHER = "replay"
"""The subfolder of what several workers keep while they train."""


@dataclasses.dataclass(frozen=True)
class Replayed:
    """A network to be trained: how it is called, what hyperparameters do, and its seed."""

    title: str
    plan: Sequence[Segment]
    seed: int


Train = Callable[[NetworkStrategy, Sequence[Replayed], Console], Iterator[Report]]
"""Trains networks, and gives their last reports one by one."""
FILES = {SCHEDULE: "network_schedule", END: "network_final"}


def replay(
    folder: Path,
    console: Console,
    *,
    final: bool = False,
    seeds: int = 1,
    schedule: Path | None = None,
    workers: int | None = None,
) -> tuple[Measures, Measures]:
    """Trains plain networks with what a study recorded, and keeps the results in the folder.

    With another schedule, nothing is kept: its length is that of the training, and the study need not have run.

    Args:
        folder: of a study whose tuning has ended.
        console: where progress is shown.
        final: only with the last values held; otherwise with the schedule, its end point and its start.
        seeds: networks per row, with the study's seed and those that follow it.
        schedule: a file or folder with another one, for the study's network.
        workers: processes of Ray Train that train each network together, sharing every batch; None trains in this
            process.

    Returns:
        Validation and test measures by row, averaged over the seeds, and their standard deviations.

    Raises:
        UserError: if the folder holds no study that has tuned anything yet, or one that trains no network.
        SettingError: if the other schedule is one of other hyperparameters.
        Mistakes: if several workers cannot train the network together.
        StudyFailed: if a network diverges, or the cluster has no room.
    """
    study, summary = open_folder(folder)
    strategy = study.strategy.as_network(folder)
    train: Train = _in_process
    if workers is not None:
        found = list(sharing_mistakes(strategy.objective, study.regularizers, workers))
        if found:
            raise Mistakes(found)
        train = partial(_by_workers, workers, folder / TOGETHER)
    if schedule is not None:
        other = Schedule.load(schedule)
        try:
            other.check_space(study.space)
        except SettingError as error:
            raise SettingError(str(schedule), error.message) from error
        return _results(strategy, _plans(strategy, other, final), console, seeds, train)[:2]
    trajectory = _recorded(folder)
    kept = _kept(folder, seeds)
    read_network(folder, TUNED)  # found out before anything is trained
    if "training_steps" not in summary:
        raise UserError(f"{folder}: the study has not ended; continue it with `selftune resume {folder}`")
    course = Schedule.of_run(study.space, trajectory.training_step, trajectory.values, summary["training_steps"])
    results, spreads, networks = _results(strategy, _plans(strategy, course, final), console, seeds, train)
    for label in set(FILES) & set(networks):
        save_network(folder, FILES[label], networks[label])
    table = {"seeds": seeds, "results": kept["results"] | results, "spread": kept["spread"] | spreads}
    write_json(folder / "replay.json", table)
    return results, spreads


def _plans(strategy: NetworkStrategy, schedule: Schedule, final: bool) -> dict[str, list[Segment]]:
    """What hyperparameters do, by the row that it makes."""
    plan, steps = segments(schedule), schedule.steps
    held = {END: [Segment(steps, plan[-1].values)]}
    if final:
        return held
    return {SCHEDULE: plan, **held, START: [Segment(steps, strategy.space.constrain(strategy.space.start))]}


def _results(
    strategy: NetworkStrategy,
    plans: Mapping[str, Sequence[Segment]],
    console: Console,
    seeds: int,
    train: Train,
) -> tuple[Measures, Measures, dict[str, nn.Module]]:
    """Measures by row, averaged over the seeds, their standard deviations, and the network of the first seed."""
    first = strategy.study.seed
    results, spreads, networks = {}, {}, {}
    wanted = [
        Replayed(label if seeds == 1 else f"{label}, seed {seed}", plan, seed)
        for label, plan in plans.items()
        for seed in range(first, first + seeds)
    ]
    trained = iter(train(strategy, wanted, console))
    for label in plans:
        reports = [next(trained) for _ in range(seeds)]
        finished = dict(enumerate(reports))
        results[label], spreads[label] = mean_metrics(finished), spread_metrics(finished)
        networks[label] = strategy.trained(reports[0])
    return results, spreads, networks


def same_network(folder: Path) -> bool:
    """Whether the replayed schedule gave the tuned network again, bit for bit.

    It does on the same machine where training was plain: with Delta-STN, whose response never touches the network,
    with implicit differentiation, with the double loop of the penalty method and with the line search, as long as
    no proximal term holds their networks back.
    """
    tuned, replayed = (read_network(folder, name) for name in (TUNED, FILES[SCHEDULE]))
    return all(torch.equal(tuned[name], replayed[name]) for name in tuned)


def _kept(folder: Path, seeds: int) -> dict[str, Measures]:
    """Rows of an earlier replay with the same networks."""
    try:
        earlier = read_json(folder / "replay.json")
    except FileNotFoundError:
        earlier = {}
    same = earlier.get("seeds") == seeds
    return {name: dict(earlier.get(name, {})) if same else {} for name in ("results", "spread")}


def _recorded(folder: Path) -> Trajectory:
    try:
        trajectory = read_trajectory(folder)
    except FileNotFoundError:
        trajectory = None
    if not trajectory:
        raise UserError(f"{folder}: nothing has been tuned yet; continue it with `selftune resume {folder}`")
    return trajectory


def _in_process(strategy: NetworkStrategy, wanted: Sequence[Replayed], console: Console) -> Iterator[Report]:
    """Trains networks here, one after the other."""
    for one in wanted:
        steps = one.plan[-1].training_step
        display = strategy.display(console, one.title, Budget(steps=steps))
        try:
            yield run_in_process(Replay(one.plan, steps), {0: _factory(strategy, one)(0)}, display)[0]
        except NoTrainerLeft as error:
            raise StudyFailed(str(error)) from error


def _by_workers(
    workers: int, folder: Path, strategy: NetworkStrategy, wanted: Sequence[Replayed], console: Console
) -> Iterator[Report]:
    """Trains networks on Ray, each by several workers."""
    from selftune.schedulers.errors import SchedulerError
    from selftune.schedulers.trained_together import Job, trained_together

    jobs = [Job(_factory(strategy, one), one.plan) for one in wanted]
    steps = sum(one.plan[-1].training_step for one in wanted)
    say(console, f"{len(jobs)} networks, {steps} training steps, by {workers} workers of Ray Train")
    trainers = strategy.study.trainers
    gpus = float(trainers.device == "cuda")
    try:
        yield from trained_together(jobs, workers=workers, cpus=trainers.cpus, gpus=gpus, folder=folder)
    except (NoTrainerLeft, SchedulerError) as error:
        raise StudyFailed(str(error)) from error
    except ConnectionError as error:
        raise StudyFailed(f"no Ray cluster: {error}; unset RAY_ADDRESS, or leave out --workers") from error


def _factory(strategy: NetworkStrategy, one: Replayed) -> TrainerFactory:
    factory = strategy.trainers(one.seed)
    if strategy.study.budget.steps is None:
        return factory
    # of a run of so many steps, "progress" is a share
    return dataclasses.replace(factory, steps=one.plan[-1].training_step)
