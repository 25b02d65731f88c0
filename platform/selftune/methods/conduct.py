"""What a team remembers of members that were outvoted: how often in a row, and how the excluded return."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

import torch

from selftune.methods.aggregation import Aggregation, Votes
from selftune.methods.method import Fault
from selftune.shapes import Float, Tensor
from selftune.storage.state_tree import record

Stage = Literal["waiting", "kept", "starting", "back"]
_FORGETTING = 0.1  # share of a hyper-step's spread in what is usual
_ROUNDING = 1e-5  # of the length of the median: nobody is far off by less


@record
@dataclass
class Exclusion:
    """The way back of an excluded member: from the state that a team-mate keeps under ``key``.

    ``stage`` is ``waiting`` for a team-mate in good standing, ``kept`` once the ``source`` is told to keep its
    state, ``starting`` when the member is told to start from it, ``back`` while the source keeps it once more, in
    case that the member's worker dies meanwhile.
    """

    stage: Stage = "waiting"
    source: int = -1
    key: str = ""


@record
@dataclass
class Conduct:
    """Counts offences of a team's members, and says what follows.

    Attributes:
        in_a_row: hyper-steps in a row at which a member was outvoted.
        restarts: how often it has started again.
        exclusions: members whose reports do not count.
        known: members that were outvoted before.
        spread: usual distance from the median; not a number before there is one.

    >>> conduct, aggregation = Conduct(), Aggregation("coordinate_median", offences=1)
    >>> votes = {member: [torch.full((1, 2), 1.0 + 0.1 * member)] for member in range(4)}
    >>> conduct.judge({**votes, 4: [torch.full((1, 2), torch.nan)]}, aggregation)[4].reason
    'its hypergradient is not finite'
    >>> list(conduct.exclusions)
    [4]
    """

    in_a_row: dict[int, int] = field(default_factory=dict)
    restarts: dict[int, int] = field(default_factory=dict)
    exclusions: dict[int, Exclusion] = field(default_factory=dict)
    known: list[int] = field(default_factory=list)
    spread: float = math.nan

    @property
    def unheard(self) -> set[int]:
        """Members whose reports do not count now."""
        return {member for member, one in self.exclusions.items() if one.stage in ("waiting", "kept")}

    # Offences ----------------------------------------------------------------------------------------

    def judge(self, votes: Votes, aggregation: Aggregation) -> dict[int, Fault]:
        """Who is outvoted, and why; excludes those that were so too often in a row."""
        reasons = self._reasons(votes, aggregation.outlier)
        self.in_a_row = {member: self.in_a_row.get(member, 0) + 1 for member in reasons}
        self._forsake(reasons, ("kept",))
        return {member: self._fault(member, reason, aggregation) for member, reason in reasons.items()}

    def _fault(self, member: int, reason: str, aggregation: Aggregation) -> Fault:
        first = member not in self.known
        if first:
            self.known.append(member)
        if self.in_a_row[member] < aggregation.offences:
            return Fault(reason, first)
        del self.in_a_row[member]
        before = self.restarts.get(member, 0)
        if before == aggregation.restarts:
            return Fault(reason, first, "excluded for good", final=True)
        self.restarts[member] = before + 1
        self.exclusions[member] = Exclusion()
        return Fault(reason, first, "excluded, to start again from the network of another trainer")

    def _reasons(self, votes: Votes, outlier: float) -> dict[int, str]:
        rows = {m: torch.cat([part.double().mean(dim=0) for part in parts]) for m, parts in votes.items()}
        finite = {member: row for member, row in rows.items() if bool(row.isfinite().all())}
        found = dict.fromkeys(rows.keys() - finite.keys(), "its hypergradient is not finite")
        if len(finite) > 2:  # of two, nobody knows which is far off
            distances, length = _distances(torch.stack(list(finite.values())))
            now = float(_median(distances))
            usual = now if math.isnan(self.spread) else max(now, self.spread)
            self.spread = now if math.isnan(self.spread) else (1 - _FORGETTING) * self.spread + _FORGETTING * now
            usual = max(usual, _ROUNDING * length)
            for member, distance in zip(finite, distances.tolist(), strict=True):
                if distance > outlier * usual:
                    found[member] = (
                        f"its hypergradient is {distance / usual:.3g} times as far from the team's median as usual"
                    )
        return dict(sorted(found.items()))

    # The way back ------------------------------------------------------------------------------------

    def send(self, members: Collection[int], key: str) -> None:
        """Finds team-mates in good standing, whose states those that wait will start from."""
        source = min((m for m in members if m not in self.exclusions and m not in self.in_a_row), default=None)
        for one in self.exclusions.values():
            if one.stage == "waiting" and source is not None:
                one.stage, one.source, one.key = "kept", source, key

    def advance(self, missing: Collection[int]) -> None:
        """A cycle is over, in which the states of these members were missing where they were to start."""
        for member, one in list(self.exclusions.items()):
            if one.stage == "kept":
                one.stage = "starting"
            elif one.stage == "starting":
                one.stage = "waiting" if member in missing else "back"
            elif one.stage == "back":
                del self.exclusions[member]

    def leave(self, member: int) -> None:
        """A member is gone, and the states that it kept."""
        self._forsake([member], ("kept", "starting"))
        for known in (self.exclusions, self.in_a_row):
            known.pop(member, None)

    def _forsake(self, sources: Collection[int], stages: tuple[Stage, ...]) -> None:
        """Nobody is to start from the states of these members."""
        for one in self.exclusions.values():
            if one.source in sources and one.stage in stages:
                one.stage = "waiting"


def _distances(rows: Float[Tensor, "members size"]) -> tuple[Float[Tensor, "members"], float]:
    """From the median of every coordinate, and the length of that median."""
    centre = _median(rows)
    return torch.linalg.vector_norm(rows - centre, dim=1), float(torch.linalg.vector_norm(centre))


def _median(rows: Float[Tensor, "members *size"]) -> Float[Tensor, "*size"]:
    ordered = rows.sort(dim=0).values
    middle: Tensor = ordered[(len(rows) - 1) // 2 : len(rows) // 2 + 1].mean(dim=0)
    return middle
