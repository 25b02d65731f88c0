"""Registries of the catalogue's entries, filled by installed packages through entry points.

The engine never imports a catalogue by name. When a name is first asked for, the entry points of the registry's
group are loaded: ``name = package.module:Class`` adds that class under that name, ``any = package`` imports a
package with its submodules, which register what they hold.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from selftune.errors import SettingError, suggestion

Entry = TypeVar("Entry")


class UnknownName(KeyError):
    """A name that no installed package registers; ``str`` of it is one plain sentence."""

    def __init__(self, kind: str, name: str, known: list[str]) -> None:
        self.sentence = f"unknown {kind} {name!r}; {suggestion(name, known)}"
        super().__init__(self.sentence)

    def __str__(self) -> str:
        return self.sentence


class EntryPointError(SettingError):
    """The entry point of an installed package cannot be loaded."""

    def __init__(self, entry_point: EntryPoint, error: Exception) -> None:
        owner = f" of the package {entry_point.dist.name}" if entry_point.dist else ""
        reason = " ".join(f"{error}".split())
        super().__init__(
            entry_point.group,
            f"the entry point {entry_point.name} = {entry_point.value}{owner} cannot be loaded"
            f" ({type(error).__name__}: {reason}); mend that package or uninstall it",
        )

    def __reduce__(self) -> tuple[type[SettingError], tuple[str, str]]:
        return SettingError, (self.key, self.message)  # the other package may be missing where this is read


def address(function: Callable[..., Any]) -> str:
    """Where people import an entry's function from: the catalogue's own all from one place.

    >>> address(address)
    'selftune.objectives.functional.address'
    >>> from statistics import median
    >>> address(median)
    'statistics.median'
    """
    module = (
        "selftune.objectives.functional" if function.__module__.startswith("selftune.") else function.__module__
    )
    return f"{module}.{function.__name__}"


class Registry(Generic[Entry]):
    """Entries of one kind by name.

    Args:
        kind: the word for an entry in messages.
        group: entry-point group whose entry points name entries, or packages that register them.
        beside: groups whose modules may register entries beside what they are there for; they are imported, too.

    >>> registry = Registry[int]("answer", "selftune.answers")
    >>> registry.register("ultimate", 42)
    42
    >>> registry["ultimate"]
    42
    """

    def __init__(self, kind: str, group: str, beside: Sequence[str] = ()) -> None:
        self.kind = kind
        self.group = group
        self.beside = tuple(beside)
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
        for entry_point in (one for group in (self.group, *self.beside) for one in entry_points(group=group)):
            try:
                self._add(entry_point)
            except Exception as error:  # whatever another package's code raises: named, never passed over
                raise EntryPointError(entry_point, error) from error
        self._loaded = True

    def _add(self, entry_point: EntryPoint) -> None:
        if entry_point.attr:  # name = package.module:Class
            entry = entry_point.load()
            if entry_point.group != self.group:
                return
            if self._entries.get(entry_point.name) is not entry:  # its module may have registered it
                self.register(entry_point.name, entry)
            return
        package = importlib.import_module(entry_point.module)
        for module in pkgutil.walk_packages(getattr(package, "__path__", ()), package.__name__ + "."):
            importlib.import_module(module.name)
