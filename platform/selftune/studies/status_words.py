"""How a folder's run stands, in lines for a person and as a mapping for scripts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from selftune.storage.lag import behind
from selftune.studies.driver import REQUEST
from selftune.studies.driver_record import DriverRecord, lives, read_driver
from selftune.studies.progress import duration
from selftune.studies.status import MemberStatus, Status, TeamStatus, read_status

_RUNS = ("running", "stopping")
_LAGS = 60.0  # seconds after which a store is named as behind

ROWS = 20
"""Trainers that are shown at most; a line says how many there are beside."""


@dataclass(frozen=True)
class Standing:
    """How the run of a folder stands.

    Args:
        folder: of the run.
        state: ``running``, ``stopping`` (asked to), ``finished``, ``failed``, ``stopped``, ``interrupted``
            (by Ctrl-C, or a SIGTERM that could not wait), ``killed`` (nobody runs it, and it named no end), or
            ``new`` (nothing has run).
        driver: the process that runs it, or ran it last.
        status: how far it is.
        part: of a comparison, how the sweep stands that runs or ran last.
        store_behind: of the copy of a folder in a store, for how many seconds the store has not had all of it.
    """

    folder: Path
    state: str
    driver: DriverRecord | None
    status: Status | None
    part: Standing | None = None
    store_behind: float | None = None

    @property
    def runs(self) -> bool:
        """Whether a driver lives."""
        return self.state in _RUNS

    def as_mapping(self) -> dict[str, Any]:
        """All of it, for scripts."""
        return {
            "folder": str(self.folder),
            "state": self.state,
            "driver": None if self.driver is None else asdict(self.driver),
            "status": None if self.status is None else asdict(self.status),
            "part": None if self.part is None else self.part.as_mapping(),
            "store_behind": self.store_behind,
        }


def standing(folder: Path) -> Standing:
    """How the run of a folder stands; reads files alone, and changes none.

    Raises:
        DamagedFile: if a file is not what was written.
    """
    driver = read_driver(folder)
    if driver is None:
        state = "new"
    elif lives(driver, folder):
        state = "stopping" if (folder / REQUEST).exists() else "running"
    else:
        driver = read_driver(folder) or driver  # it may have ended meanwhile
        state = driver.ended or "killed"
    status = read_status(folder)
    if status is not None and driver is not None and not driver.ended and status.updated < driver.began:
        status = None  # of the driver before, by the same clock or one that is close to it
    part = standing(folder / status.part) if status is not None and status.part else None
    return Standing(folder, state, driver, status, part, behind(folder) if state in _RUNS else None)


def lines(standing: Standing) -> Iterator[str]:
    """What a person wants to know."""
    driver, status = standing.driver, standing.status
    words = f"{standing.folder}: {standing.state}"
    if driver is not None and standing.runs:
        words += f" for {duration(time.time() - driver.began)}, process {driver.process} on {driver.host}"
    yield words
    if not standing.runs and standing.state not in ("finished", "new"):
        yield f"  go on with `selftune resume {standing.folder}`"
    if standing.store_behind is not None and standing.store_behind >= _LAGS:
        yield f"  store: {standing.store_behind // 60:.0f} min behind"
    if status is None:
        if standing.runs:
            yield "  it has not begun to train yet"
        return
    yield from (f"  {line}" for line in _status_lines(status, standing))


def _status_lines(status: Status, standing: Standing) -> Iterator[str]:
    runs = standing.runs
    parts = [f"{status.phase}: {status.progress}"]
    if status.hyper_steps:
        parts.append(f"{status.hyper_steps:,} hyper-steps")
    if runs and status.seconds_left is not None:
        parts.append(f"{duration(status.seconds_left)} left")
    yield ", ".join(parts)
    if runs and status.training_steps_per_second is not None:
        pace = f"{status.training_steps_per_second:.3g} training steps a second"
        if status.hyper_steps_per_minute:
            pace += f", {status.hyper_steps_per_minute:.3g} hyper-steps a minute"
        yield pace
    if (best := status.best) is not None:
        where = f"trial {best.trial}" if best.trial is not None else f"hyper-step {best.hyper_step}"
        yield f"best {best.metric.replace('_', ' ')} {best.value:.4g}, of {where}"
    if status.trials:
        counts = ", ".join(f"{count} {state}" for state, count in status.trials.items() if count)
        yield f"{'sweeps' if status.phase == 'comparison' else 'trials'}: {counts or 'none yet'}"
    if standing.part is not None:
        yield from lines(standing.part)
        return
    yield from _team_lines(status.teams)
    faults = {name: count for name, count in asdict(status.faults).items() if count}
    yield f"faults: {', '.join(f'{count} {_FAULTS[name]}' for name, count in faults.items()) or 'none'}"
    if runs:
        yield f"last heard of {duration(max(0.0, time.time() - status.updated))} ago"


_FAULTS = {
    "hung": "hung",
    "restarts": "restarted",
    "diverged": "diverged",
    "lost": "lost",
    "outvoted": "outvoted",
    "resumed": "times resumed",
}


def _team_lines(teams: list[TeamStatus]) -> Iterator[str]:
    members = [(team, member) for team in teams for member in team.members]
    for team, member in members[:ROWS]:
        name = f"trainer {member.member}" if len(teams) == 1 else f"trial {team.number}, trainer {member.member}"
        yield f"{name}: {_member_words(member)}"
    if len(members) > ROWS:
        counts = Counter(member.state for _, member in members[ROWS:])
        yield f"and {', '.join(f'{count} {state}' for state, count in counts.items())}"


def _member_words(member: MemberStatus) -> str:
    words = [f"{member.state} at step {member.training_step:,}"]
    if member.host:
        words.append(f"process {member.process} on {member.host}")
    if member.message:
        words.append(member.message)
    return ", ".join(words)
