"""Replaying a study: the plain network trained with the recorded schedule, or with the values at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from torch import nn

from selftune.errors import SettingError
from selftune.methods import Segment
from selftune.schedule import Schedule
from selftune.storage.checked_json import read_json, write_json
from selftune.studies.averages import mean_metrics, spread_metrics
from selftune.studies.folder import open_folder
from selftune.studies.horizon import END, SCHEDULE, horizon_of, plans
from selftune.studies.horizon_settings import check_share
from selftune.studies.mistakes import UserError
from selftune.studies.replay_training import Train, Wanted, training
from selftune.studies.saved_network import TUNED, read_network, save_network
from selftune.studies.strategies import NetworkStrategy
from selftune.studies.verdict import HELD
from selftune.tracking.trajectory import Trajectory, read_trajectory

START = HELD
SAME_NETWORK = "The schedule gave the tuned network of the study again, bit for bit."
OTHER_NETWORK = (
    "The schedule gave another network than the study: training there was more than plain steps with these values"
    " (a proximal term, relaxation, estimates of gradients, a response that is not centred), or went on elsewhere."
)
Measures = dict[str, dict[str, float]]
"""Measures by row."""
FILES = {SCHEDULE: "network_schedule", END: "network_final"}


class Replayed(NamedTuple):
    """What a replay gave.

    Attributes:
        results: validation and test measures by row, averaged over the seeds.
        spreads: their standard deviations.
        verdict: a sentence on the schedule and its last values held; empty where not both were trained.
    """

    results: Measures
    spreads: Measures
    verdict: str


def replay(
    folder: Path,
    console: Console,
    *,
    final: bool = False,
    seeds: int = 1,
    schedule: Path | None = None,
    share: float = 1.0,
    average: float | None = None,
    workers: int | None = None,
    sharded: bool = False,
) -> Replayed:
    """Trains plain networks with what a study recorded, and keeps the results in the folder.

    With another schedule, or over another number of steps, nothing is kept. The length of another schedule is that
    of the training, and the study need not have run.

    Args:
        folder: of a study whose tuning has ended.
        console: where progress is shown.
        final: only with the last values held; otherwise with the schedule, its end point and its start.
        seeds: networks per row, with the study's seed and those that follow it.
        schedule: a file or folder with another one, for the study's network.
        share: length of the training, as a share of the schedule's; above 0, at most 1.
        average: as of ``Horizon``: a row that holds the schedule's mean over the last part.
        workers: processes of Ray Train that train each network together, sharing every batch; None trains in this
            process.
        sharded: whether each of them holds a part of the weights only, and of the optimizer's state (FSDP).

    Raises:
        UserError: if the folder holds no study that has tuned anything yet, or one that trains no network.
        SettingError: if the other schedule is one of other hyperparameters, a share is none, or there are no
            workers to share the weights out among.
        Mistakes: if several workers cannot train the network together.
        StudyFailed: if a network diverges, or a cluster has no room.
    """
    check_share("share", share)
    if final and average is not None:
        raise SettingError("average", "is of the schedule, which --final does not follow; leave one of them out")
    if average is not None:
        check_share("average", average)
    study, summary = open_folder(folder)
    strategy = study.strategy.as_network(folder)
    train = training(strategy, console, folder, workers, sharded)
    if schedule is not None:
        other = Schedule.load(schedule)
        try:
            other.check_space(study.space)
        except SettingError as error:
            raise SettingError(str(schedule), error.message) from error
        return _trained(strategy, _plans(strategy, _shorter(other, share), final, average), seeds, train)[0]
    trajectory = _recorded(folder)
    kept = _kept(folder, seeds)
    read_network(folder, TUNED)  # found out before anything is trained
    if "training_steps" not in summary:
        raise UserError(f"{folder}: the study has not ended; continue it with `selftune resume {folder}`")
    found = Schedule.of_run(study.space, trajectory.training_step, trajectory.values, summary["training_steps"])
    rows = _plans(strategy, _shorter(found, share), final, average)
    replayed, networks = _trained(strategy, rows, seeds, train)
    if share < 1:
        return replayed
    results, spreads, _ = replayed
    for label in set(FILES) & set(networks):
        save_network(folder, FILES[label], networks[label])
    table = {"seeds": seeds, "results": kept["results"] | results, "spread": kept["spread"] | spreads}
    write_json(folder / "replay.json", table)
    return replayed


def _shorter(schedule: Schedule, share: float) -> Schedule:
    return schedule if share == 1 else schedule.stretched(max(1, round(share * schedule.steps)))


def _plans(
    strategy: NetworkStrategy, schedule: Schedule, final: bool, average: float | None
) -> dict[str, list[Segment]]:
    """What hyperparameters do, by the row that it makes."""
    known = plans(schedule, average)
    if final:
        return {END: known[END]}
    return {**known, START: [Segment(schedule.steps, strategy.space.constrain(strategy.space.start))]}


def _trained(
    strategy: NetworkStrategy, rows: Mapping[str, Sequence[Segment]], seeds: int, train: Train
) -> tuple[Replayed, dict[str, nn.Module]]:
    """What the rows gave, and the network of the first seed of each."""
    study, first = strategy.study, strategy.study.seed
    results, spreads, networks, every = {}, {}, {}, {}
    wanted = [
        Wanted(label if seeds == 1 else f"{label}, seed {seed}", plan, seed)
        for label, plan in rows.items()
        for seed in range(first, first + seeds)
    ]
    trained = train(wanted)
    for label in rows:
        reports = [next(trained) for _ in range(seeds)]
        every[label] = finished = dict(enumerate(reports))
        results[label], spreads[label] = mean_metrics(finished), spread_metrics(finished)
        networks[label] = strategy.trained(reports[0])
    verdict = ""
    if {SCHEDULE, END} <= every.keys():
        steps = rows[SCHEDULE][-1].training_step
        verdict = horizon_of(study.metric, study.mode, every, steps)["sentence"]
    return Replayed(results, spreads, verdict), networks


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
