"""Which trials form a team, and when a team may start."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ray.tune.experiment import Trial

from selftune.errors import SettingError
from selftune.schedulers import slots
from selftune.schedulers.errors import SchedulerError
from selftune.schedulers.team import Team
from selftune.schedulers.trainable import users_config
from selftune.schedulers.warm_starts import WarmStarts

_MOST_WAITING = 10_000  # trials; a searcher with endless samples would otherwise fill the memory
_LOOK_EVERY = 1.0  # seconds between two looks at a full cluster
_WAIT_FOR_ROOM = 60.0  # seconds for which a team waits for a trainer that has no room to start again


@dataclass
class TrialGroup:
    """A team, and its trials in this process."""

    team: Team
    config: Mapping[str, Any] = field(default_factory=dict)
    """The config of its first trial, as its user gave it."""
    trials: dict[int, Any] = field(default_factory=dict)
    warm_starts: WarmStarts = field(default_factory=WarmStarts)
    admitted: float | None = None
    called: set[int] = field(default_factory=set)
    """Members that were left out, and may start now."""
    without_room: dict[int, float] = field(default_factory=dict)
    """Members at work before that are to start again, and since when."""

    @property
    def full(self) -> bool:
        return all(member in self.trials for member in self.team.open_members)

    @property
    def unfinished(self) -> int:
        """Trials that are to run, or run. It can be more than members at work: a trial may restart at its end."""
        return sum(not trial.is_finished() for trial in self.trials.values())

    @property
    def running(self) -> int:
        """Trials that take up room."""
        return 0 if self.admitted is None else self.unfinished - len(self.left_out)

    @property
    def left_out(self) -> list[int]:
        """Members that nobody waits for, and that there is no room for."""
        return sorted(self.team.postponed - self.called)

    @property
    def expected(self) -> list[int]:
        """Members that their team waits for, and that have no place on the cluster yet."""
        team, places = self.team, (Trial.PENDING, Trial.PAUSED)
        without = [member for member, trial in self.trials.items() if trial.status in places]
        return [m for m in without if m not in team.postponed and not team.members[m].over]

    def recall(self, member: int) -> Any:
        """Has a newcomer wait until it is called; its trial, if that waits for its place on the cluster."""
        self.called.discard(member)
        trial = self.trials[member]
        return trial if trial.status == Trial.PENDING else None

    @property
    def waiting(self) -> Any:
        """A trial that may start; None if none of those that are called is to."""
        left_out = self.left_out
        trials = [trial for member, trial in self.trials.items() if member not in left_out]
        return next((trial for trial in trials if trial.status == Trial.PAUSED), None)

    def work(self, member: int) -> str | None:
        """What the trial of a member is at, in words; None if it is idle, or waits for its place."""
        trial, team = self.trials[member], self.team
        if trial.status != Trial.RUNNING:
            return None
        if trial.is_saving:
            return "a checkpoint"
        if team.present(member):
            return team.work(member)
        return None if team.members[member].over else "its start"

    @property
    def request(self) -> dict[str, float]:
        """Resources of one trial, or of each of its workers where they get the same."""
        bundles = self._bundles
        return bundles[0] if len(bundles) > 1 else dict(self._factory.required_resources)

    @property
    def workers(self) -> int:
        """Of one trial, each with the same resources."""
        return len(self._bundles)

    @property
    def room(self) -> int:
        """How many such trials the cluster holds."""
        return slots.slots(self.request, workers=self.workers)

    def shortage(self, trials: int) -> str:
        """One sentence: what so many trials ask for, and what there is."""
        return slots.shortage(self.request, trials, workers=self.workers)

    @property
    def _factory(self) -> Any:
        return next(iter(self.trials.values())).placement_group_factory

    @property
    def _bundles(self) -> list[dict[str, float]]:
        bundles: list[dict[str, float]] = self._factory.bundles
        return bundles if all(bundle == bundles[0] for bundle in bundles) else bundles[:1]


class TrialGroups:
    """The teams of a run. A team starts when there is room for all of it: no two teams can block each other.

    With ``at_least``, a team that has the cluster for itself starts with the members that fit, if these are so
    many. The others start one by one as there is room. A member that finds no room to start again is left out
    after a minute, if so many are at work. While the team waits for a member that has no place yet, newcomers do
    not ask for one, which they could get before it.

    Args:
        team_size: members of each team.
        make_team: builds the team of a number, from the config of its first trial.
        patience: seconds to wait for an autoscaling cluster to grow.
        at_least: members with which a team may start; None for all.
    """

    def __init__(
        self,
        team_size: int,
        make_team: Callable[[int, Mapping[str, Any]], Team],
        patience: float,
        at_least: int | None = None,
    ) -> None:
        self.entries: list[TrialGroup] = []
        self.places: dict[str, tuple[int, int]] = {}  # trial id -> number of the team, member
        self._team_size = team_size
        self._make_team = make_team
        self._patience = patience
        self._at_least = at_least
        self._next_look = 0.0
        self._settled_until = 0.0  # nothing can start before, unless something changes
        self.shrunk: set[int] = set()  # numbers of teams that have left out a member since somebody looked
        self.withdrawn: list[Any] = []  # trials that are not to start now after all, since somebody looked
        self._taken: set[tuple[int, int]] = set()
        self._first_open = 0  # no team before it has a vacancy

    def append(self, config: Mapping[str, Any]) -> TrialGroup:
        self.entries.append(TrialGroup(self._make_team(len(self.entries), config), config))
        return self.entries[-1]

    def group_of(self, trial: Any) -> TrialGroup:
        return self.entries[self.places[trial.trial_id][0]]

    def team_of(self, trial: Any) -> tuple[Team, int]:
        """The team of a trial, and which of its members the trial is."""
        return self.group_of(trial).team, self.places[trial.trial_id][1]

    def add(self, trial: Any) -> bool:
        """Gives a trial its place; False if it has come back to one that it had in this process already.

        Raises:
            SettingError: if the trial's config asks for a member that a team does not have.
            SchedulerError: if trials come without end.
        """
        self.changed()
        if trial.trial_id not in self.places:
            self.places[trial.trial_id] = self._vacancy(users_config(trial.config))
        number, member = self.places[trial.trial_id]
        group = self.entries[number]
        if member in group.trials:
            return False
        group.trials[member] = trial
        if len(self.entries) * self._team_size > _MOST_WAITING:
            raise SchedulerError(
                f"more than {_MOST_WAITING} trials wait: limit them by TuneConfig(max_concurrent_trials=...)"
            )
        return True

    def _vacancy(self, config: Mapping[str, Any]) -> tuple[int, int]:
        wanted = config.get("member")
        if wanted is not None and wanted not in range(self._team_size):
            size = self._team_size
            raise SettingError("member", f"must be from 0 to {size - 1} in a team of {size}, got {wanted}")
        if len(self._taken) != len(self.places):  # places were loaded
            self._taken, self._first_open = set(self.places.values()), 0
        while all((self._first_open, member) in self._taken for member in range(self._team_size)):
            self._first_open += 1
        for number in range(self._first_open, len(self.entries) + 1):
            for member in range(self._team_size):
                if (number, member) not in self._taken and wanted in (None, member):
                    if number == len(self.entries):
                        self.append(config)
                    self._taken.add((number, member))
                    return number, member
        raise AssertionError("a new team has every member vacant")

    def changed(self) -> None:
        """A trial has come, failed or ended: another one may be able to start."""
        self._settled_until = 0.0

    def next_trial(self, searcher: Any) -> Any:
        """A trial that is to start now, or None.

        Raises:
            SchedulerError: if the cluster is too small for a team, or a team can never be complete.
        """
        if time.monotonic() < self._settled_until:  # a round of a thousand teams takes longer than a report
            return None
        found = self._found(searcher)
        if found is None:
            self._settled_until = time.monotonic() + _LOOK_EVERY
        return found

    def _found(self, searcher: Any) -> Any:
        for number, group in enumerate(self.entries):
            if group.admitted is not None:
                self._check_patience(group)
                if self._at_least is not None and self._leaves_out(group, self._at_least):
                    self.shrunk.add(number)
                if group.waiting is not None:
                    return group.waiting
        if time.monotonic() < self._next_look:
            return None
        late = self._latecomer()
        if late is not None:
            return late
        waiting = [group for group in self.entries if group.admitted is None and group.unfinished]
        if not waiting:
            return None
        group = next((group for group in waiting if group.full), waiting[0])
        running = sum(group.running for group in self.entries)
        if not group.full:
            if not running:
                self._refuse_incomplete(searcher, len(group.trials))
            return None
        room = group.room
        needed = len(group.trials)
        if not running and room < needed and self._begins_without(group, room):
            return self._found(searcher)
        if running and room < running + needed:
            self._next_look = time.monotonic() + _LOOK_EVERY
            return None
        if room < needed and not self._patience:
            raise SchedulerError(group.shortage(self._at_least or needed))
        group.admitted = time.monotonic()
        return self._found(searcher)

    def _begins_without(self, group: TrialGroup, room: int) -> bool:
        """Starts a team with the members that fit, if these are enough; whether they are."""
        if self._at_least is None:
            return False
        team = group.team
        left_out = team.newcomers[max(0, room - (len(group.trials) - len(team.newcomers))) :]
        begin = len(group.trials) - len(left_out)
        if begin > room or len(group.trials) - len(left_out) < min(self._at_least, len(group.trials)):
            return False
        team.begin_without(left_out)
        group.admitted = time.monotonic()
        return True

    def _leaves_out(self, group: TrialGroup, at_least: int) -> bool:
        """Lets a team go on without members that wait for room too long; whether there are any."""
        team, now = group.team, time.monotonic()
        expected = group.expected
        if expected:
            self._withdraw(group, sorted(team.postponed & group.called))
        to_start = [member for member in expected if team.members[member].joined]
        group.without_room = {member: group.without_room.get(member, now) for member in to_start}
        at_work = len(team.open_members) - len(team.postponed) - len(to_start)
        wait = max(_WAIT_FOR_ROOM, self._patience)
        late = [member for member, since in group.without_room.items() if now >= since + wait]
        if not late or at_work < at_least or not team.method.can_grow:
            return False
        late = late[: max(0, at_work + len(to_start) - group.room)]
        for member in late:
            team.leave_out(member)
        self._withdraw(group, late)
        return bool(late)

    def _withdraw(self, group: TrialGroup, members: list[int]) -> None:
        """Has newcomers wait that were to start: their place is for who was there before, and may die."""
        self.withdrawn += filter(None, map(group.recall, members))

    def _latecomer(self) -> Any:
        """A trial that was left out and for which there is room now, or None."""
        groups = (group for group in self.entries if group.admitted is not None and group.team.method.can_grow)
        late = next((group for group in groups if group.left_out), None)
        if late is None or late.expected:
            return None
        self._next_look = time.monotonic() + _LOOK_EVERY
        room = late.room - sum(group.running for group in self.entries)
        if room < 1 and not self._patience:  # a cluster that grows has to be asked
            return None
        late.called.add(late.left_out[0])
        return late.waiting

    def _check_patience(self, group: TrialGroup) -> None:
        if not self._patience or group.admitted is None or time.monotonic() < group.admitted + self._patience:
            return
        pending = any(trial.status == Trial.PENDING for trial in group.trials.values())
        needed = len(group.trials) if self._at_least is None else self._at_least
        if pending and group.room < needed:
            raise SchedulerError(f"{group.shortage(needed)} after {self._patience:g} seconds")

    def _refuse_incomplete(self, searcher: Any, there: int) -> None:
        part = f"{there} of the {self._team_size} trials of a team"
        if searcher.is_finished():
            raise SchedulerError(
                f"there are only {part}: set TuneConfig(num_samples=...) to a multiple of {self._team_size}"
            )
        raise SchedulerError(
            f"only {part} may run at a time: set max_concurrent_trials, or the searcher's max_concurrent, "
            f"to at least {self._team_size}"
        )
