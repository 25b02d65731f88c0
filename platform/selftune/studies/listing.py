"""What ``selftune list`` shows: every entry's name, kind, family and first sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from selftune.errors import suggestion
from selftune.studies.mistakes import UserError

GROUPS = ("regularizers", "diagnostics", "solvers", "tasks", "methods")


@dataclass(frozen=True)
class Listed:
    """One name that a study can use, in a line.

    >>> Listed("methods", "penalty", "network", "", "Two trainers.").line(width=80)
    'penalty  network: Two trainers.'
    """

    group: str
    name: str
    kind: str
    family: str
    sentence: str
    needs: tuple[str, ...] = ()

    def line(self, width: int, column: int = 0) -> str:
        """Name, kind, family and sentence, cut where the line ends; ``column`` is what the name fills at least."""
        words = ", ".join(word for word in (self.kind, self.family) if word)
        line = f"{self.name:<{column}}  {words}: {self.sentence}"
        return line if len(line) <= width else f"{line[: width - 3]}..."


@dataclass(frozen=True)
class Listing:
    """All entries, by group and name, and the quantities that there are."""

    entries: tuple[Listed, ...]
    quantities: tuple[str, ...]

    def chosen(
        self,
        group: str | None = None,
        family: str | None = None,
        kind: str | None = None,
        needs: str | None = None,
    ) -> list[Listed]:
        """The entries of a group, a family and a kind that need a given quantity; None for any.

        Raises:
            UserError: for a group, family, kind or quantity that nothing has.
        """
        known: dict[str, Iterable[str]] = {
            "group": GROUPS,
            "family": {entry.family for entry in self.entries if entry.family},
            "kind": {entry.kind for entry in self.entries},
            "quantity": self.quantities,
        }
        for word, given in (("group", group), ("family", family), ("kind", kind), ("quantity", needs)):
            if given is not None and given not in known[word]:
                raise UserError(f"unknown {word} {given!r}; {suggestion(given, known[word])}")
        return [
            entry
            for entry in self.entries
            if group in (None, entry.group)
            and family in (None, entry.family)
            and kind in (None, entry.kind)
            and (needs is None or needs in entry.needs)
        ]


def unknown(name: str, known: Iterable[str]) -> UserError:
    """The refusal of a name that no entry has."""
    return UserError(f"nothing is called {name!r}; {suggestion(name, sorted(known))}")


def counts(found: Iterable[Listed]) -> list[str]:
    """How many entries there are of each group, kind and family, a line each."""
    found = list(found)
    lines = []
    for group in GROUPS:
        members = [entry for entry in found if entry.group == group]
        if not members:
            continue
        words = [f"{len(members)} {group if len(members) > 1 else group[:-1]}"]
        for attribute in ("kind", "family"):
            tally = Counter(getattr(entry, attribute) for entry in members if getattr(entry, attribute))
            if len(tally) > 1 or (tally and group == "regularizers"):
                words.append(", ".join(f"{number} {name}" for name, number in sorted(tally.items())))
        lines.append("; ".join(words))
    return lines
