"""When a hyper-step is due: once every trainer has reported, once enough have, or with every single report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from selftune.errors import SettingError
from selftune.fields import check_fields
from selftune.methods.reports import StateMissing, Trained
from selftune.shapes import Float, Tensor
from selftune.storage.state_tree import record

WITHOUT_TEAM_MEAN: Mapping[str, str] = {
    "synchronization": "is for methods that move by the mean of their trainers' hypergradients; leave it out"
}
"""What settings of other methods say of it: a line search waits for what proves its step, and for no more."""

_EXPONENT = 0.5  # that of FedBuff (arXiv 2106.06639)


@dataclass(frozen=True)
class Synchronization:
    """For how many reports a team waits before a hyper-step, and what late ones are worth.

    A report is late if hyper-steps were taken since the values that it was computed at: their number is its
    staleness. A late one that is used counts ``(1 + staleness) ** -exponent``.

    Args:
        name: ``barrier`` waits for every trainer; ``quorum`` for so many ``reports``; ``asynchronous`` for none:
            every report is a hyper-step, and nobody ever waits.
        reports: of ``quorum`` alone, from 1 to below the number of trainers.
        late: of ``quorum`` alone: late reports are ``discarded``, which is the default, or ``used`` in the next
            hyper-step.
        exponent: where late reports are used, at least 0; None takes 0.5, and 0 counts them in full.

    Raises:
        SettingError: if a setting is missing, out of its range, or without a meaning beside the others.

    Sources: backup workers (arXiv 1604.00981) for the quorum that discards; FedAsync (arXiv 1903.03934) and
    FedBuff (arXiv 2106.06639) for weights that fall with staleness.

    >>> Synchronization("asynchronous").weight(3)
    0.5
    >>> Synchronization("quorum", reports=3).needed(4)
    3
    """

    name: Literal["barrier", "quorum", "asynchronous"] = "barrier"
    reports: int | None = None
    late: Literal["discarded", "used"] | None = None
    exponent: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.name == "quorum" and self.reports is None:
            raise SettingError("reports", "is missing; say for how many reports a hyper-step waits")
        if self.reports is not None and self.reports < 1:
            raise SettingError("reports", f"must be at least 1, got {self.reports}")
        for key in ("reports", "late"):
            if self.name != "quorum" and getattr(self, key) is not None:
                raise SettingError(key, f"is a setting of quorum; leave it out with {self.name}")
        if self.exponent is not None:
            if not self.uses_late:
                raise SettingError("exponent", "is for late reports that are used, and none is here; leave it out")
            if not (self.exponent >= 0 and math.isfinite(self.exponent)):
                raise SettingError("exponent", f"must be a number of at least 0, got {self.exponent}")

    @property
    def is_barrier(self) -> bool:
        """Whether all trainers go from cycle to cycle together, so that no report is ever late."""
        return self.name == "barrier"

    @property
    def uses_late(self) -> bool:
        return self.name == "asynchronous" or self.late == "used"

    def needed(self, members: int) -> int:
        """Reports that make a hyper-step due, in a team of so many members that take part."""
        if self.is_barrier:
            return members
        return max(1, min(self.reports or 1, members))

    def weight(self, staleness: int) -> float:
        """What a report counts, from 0 to 1."""
        exponent = _EXPONENT if self.exponent is None else self.exponent
        return float((1 + staleness) ** -exponent)

    def mistake(self, members: int, group_size: int = 1, robust: bool = False) -> SettingError | None:
        """Why a team of so many members cannot work like this.

        Args:
            group_size: trainers that have one hypergradient together.
            robust: whether trainers that send nonsense are outvoted.
        """
        if self.is_barrier:
            return None
        if group_size > 1:
            return _mistake(
                f"{self.name} is for trainers that each send a hypergradient; here {group_size} have one together,"
                " and each waits for the others; leave it out"
            )
        if robust:
            return _mistake(
                f"{self.name} goes together with mean_aggregation alone: who is outvoted is seen only where all"
                " report together; leave one of the two out"
            )
        if members == 1:
            return _mistake(f"{self.name} is for several trainers, and there is one; leave it out")
        if self.reports is not None and self.reports >= members:
            return _mistake(
                f"must be below the number of trainers, {members}, got {self.reports}; to wait for all of them,"
                " leave synchronization out",
                ".reports",
            )
        return None


def _mistake(message: str, key: str = "") -> SettingError:
    return SettingError(f"synchronization{key}", message)


@record
@dataclass
class Gathering:
    """Takes the reports of a team one by one, until the next hyper-step is due.

    >>> gathering, quorum = Gathering(), Synchronization("quorum", reports=2)
    >>> def report(version):
    ...     gradient = Hypergradient(hypergradient=torch.zeros(1))
    ...     return Trained(training_step=5, training_loss=1.0, version=version, hypergradient=gradient)
    >>> import torch
    >>> from selftune.methods.reports import Hypergradient
    >>> gathering.take(0, report(version=7), 7, quorum), gathering.is_due(2, 3, quorum)
    (True, False)
    >>> gathering.take(1, report(version=6), 7, quorum)  # late
    False
    >>> gathering.take(2, report(version=7), 7, quorum), gathering.is_due(0, 3, quorum)
    (True, True)
    >>> list(gathering.release())
    [0, 2]
    """

    waiting: dict[int, Trained | StateMissing] = field(default_factory=dict)

    def take(self, member: int, report: Trained | StateMissing, now: int, rule: Synchronization) -> bool:
        """Takes a report; whether its trainer is to wait for the hyper-step that it will be part of.

        Args:
            now: number of the next hyper-step.
        """
        if not rule.is_barrier:
            if not isinstance(report, Trained) or report.hypergradient is None:
                return False  # of the warm-up, in which nobody needs the others
            if staleness(report, now) and not rule.uses_late:
                return False
        self.waiting[member] = report
        return True

    def is_due(self, at_work: int, members: int, rule: Synchronization) -> bool:
        """Whether a team has the reports for its next hyper-step.

        Args:
            at_work: members that have an order; a barrier waits for these and no others.
            members: all that are left.
        """
        taking_part = at_work + len(self.waiting) if rule.is_barrier else members
        return bool(self.waiting) and len(self.waiting) >= rule.needed(taking_part)

    def release(self) -> dict[int, Trained | StateMissing]:
        """The reports, by member; nobody waits any more."""
        released = {member: self.waiting[member] for member in sorted(self.waiting)}
        self.waiting = {}
        return released

    def leave(self, member: int) -> None:
        """A member is gone, and its report."""
        self.waiting.pop(member, None)


def staleness(report: Trained, now: int) -> int:
    """Hyper-steps since the values that a report was computed at, from 0.

    Args:
        now: number of the next hyper-step.
    """
    return max(0, now - report.version)


def by_weight(
    votes: Mapping[int, Sequence[Float[Tensor, "rows _"]]], weights: Mapping[int, float]
) -> Mapping[int, Sequence[Float[Tensor, "rows _"]]]:
    """What members send, each times its weight in units of the mean one: their mean is then the weighted mean."""
    mean = sum(weights.values()) / len(weights)
    if all(weight == mean for weight in weights.values()):
        return votes
    return {member: [part * (weights[member] / mean) for part in parts] for member, parts in votes.items()}
