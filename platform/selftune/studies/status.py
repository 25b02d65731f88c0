"""status.json: how far a run is, as its driver writes it once a second for whoever looks at the folder."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from selftune.storage.files import DamagedFile, replacing

STATUS = "status.json"


@dataclass
class MemberStatus:
    """A trainer.

    Args:
        member: its number in the team.
        state: ``waiting`` for its first start, ``training``, ``restarting``, ``finished`` or ``lost``.
        host, process: where it runs, or ran last; empty and 0 where that is not known.
        training_step: training steps that it has behind it.
        message: why it restarts, or is lost.
    """

    member: int
    state: str = "waiting"
    host: str = ""
    process: int = 0
    training_step: int = 0
    message: str = ""


@dataclass
class TeamStatus:
    """A team: that of a study, or of a trial of a sweep, whose number it has, and whose status is its state."""

    number: int
    state: str = "running"
    members: list[MemberStatus] = field(default_factory=list)


@dataclass
class Faults:
    """What went wrong, since the folder was made.

    Args:
        hung: trainers, or trials, that were ended because they hung; they count among the others, too.
        restarts: trainers, or whole trials, that failed and were started again.
        diverged: trainers, or trials, whose loss was not finite any more.
        lost: others that did not come back.
        outvoted: how often a hypergradient was left out, or named as nonsense, by a robust aggregation.
        resumed: how many drivers went on with what another had begun.
    """

    hung: int = 0
    restarts: int = 0
    diverged: int = 0
    lost: int = 0
    outvoted: int = 0
    resumed: int = 0


@dataclass
class Best:
    """The best value of the metric so far, and where: at a hyper-step, or in a trial, at a training step."""

    metric: str
    value: float
    hyper_step: int | None = None
    trial: int | None = None
    training_step: int | None = None


@dataclass
class Status:
    """How far a run is.

    Args:
        name: of the study.
        phase: what it does, in words.
        progress: how far that is, in words.
        share: of the phase's budget that is used up, in [0, 1].
        training_steps: of all networks together, in this phase.
        hyper_steps: in this phase.
        training_steps_per_second, hyper_steps_per_minute: in the last minute; None where that cannot be said yet.
        seconds_left: of this phase; None where that cannot be said.
        best: None before there is one.
        teams: those that are not over; of a study the only one.
        trials: of a sweep, how many stand how; of a comparison, how many sweeps.
        part: of a comparison, the folder within its own of the sweep that runs.
        updated: when it was written, in seconds since 1970.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_status(folder, Status("digits", "tuning", share=0.5, faults=Faults(restarts=1)))
    >>> read_status(folder).faults.restarts
    1
    """

    name: str
    phase: str
    progress: str = ""
    share: float = 0.0
    training_steps: int = 0
    hyper_steps: int = 0
    training_steps_per_second: float | None = None
    hyper_steps_per_minute: float | None = None
    seconds_left: float | None = None
    best: Best | None = None
    teams: list[TeamStatus] = field(default_factory=list)
    trials: dict[str, int] = field(default_factory=dict)
    part: str = ""
    faults: Faults = field(default_factory=Faults)
    updated: float = 0.0


def write_status(folder: Path, status: Status) -> None:
    """Replaces the file; ``updated`` becomes the present time.

    Raises:
        OSError: if it cannot be written.
    """
    status.updated = time.time()
    with replacing(folder / STATUS, durable=False) as temporary:
        temporary.write_text(json.dumps(asdict(status)) + "\n", encoding="utf-8")


def read_status(folder: Path) -> Status | None:
    """How far the run of a folder is, or was when it was heard of last; None if nothing has begun yet.

    Raises:
        DamagedFile: if the file is not what was written.
    """
    path = folder / STATUS
    try:
        content = json.loads(path.read_bytes())
        best, teams, faults = content.pop("best"), content.pop("teams"), content.pop("faults")
        return Status(
            **content,
            best=None if best is None else Best(**best),
            teams=list(_teams(teams)),
            faults=Faults(**faults),
        )
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise DamagedFile(
            f"{path}: is damaged, or was written by another version of selftune; remove it"
        ) from error


def _teams(teams: list[dict[str, Any]]) -> Iterable[TeamStatus]:
    for team in teams:
        yield TeamStatus(**{**team, "members": [MemberStatus(**member) for member in team["members"]]})
