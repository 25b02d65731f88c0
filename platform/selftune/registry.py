"""Registries of the catalogue's entries, filled by installed packages through entry points.

The engine never imports a catalogue by name: every installed package that declares an entry point in the
registry's group is imported, with its submodules, when a name is first asked for.
"""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from selftune.errors import suggestion

Entry = TypeVar("Entry")


class UnknownName(KeyError):
    """A name that no installed package registers; ``str`` of it is one plain sentence."""

    def __init__(self, kind: str, name: str, known: list[str]) -> None:
        self.sentence = f"unknown {kind} {name!r}; {suggestion(name, known)}"
        super().__init__(self.sentence)

    def __str__(self) -> str:
        return self.sentence


class Registry(Generic[Entry]):
    """Entries of one kind by name.

    Args:
        kind: the word for an entry in messages.
        group: entry-point group whose packages register entries when they are imported.

    >>> registry = Registry[int]("answer", "selftune.answers")
    >>> registry.register("ultimate", 42)
    42
    >>> registry["ultimate"]
    42
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind = kind
        self.group = group
        self._entries: dict[str, Entry] = {}
        self._loaded = False

    def register(self, name: str, entry: Entry) -> Entry:
        """Adds an entry.

        Raises:
            ValueError: if the name is taken by another entry.
        """
        if name in self._entries:
            raise ValueError(f"two entries register the {self.kind} name {name!r}")
        self._entries[name] = entry
        return entry

    def names(self) -> list[str]:
        """All registered names, sorted."""
        self._load()
        return sorted(self._entries)

    def __getitem__(self, name: str) -> Entry:
        if name not in self._entries:
            self._load()
        if name not in self._entries:
            raise UnknownName(self.kind, name, self.names())
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries

    def _load(self) -> None:
        if self._loaded:
            return
        for entry_point in entry_points(group=self.group):
            package = importlib.import_module(entry_point.value)
            for module in pkgutil.walk_packages(getattr(package, "__path__", ()), package.__name__ + "."):
                importlib.import_module(module.name)
        self._loaded = True
