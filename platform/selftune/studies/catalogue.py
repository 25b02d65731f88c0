"""Everything that a study can name: regularizers, diagnostics, solvers, tasks and methods, for looking up."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any

from selftune.hypergradients.linear_solvers import linear_solvers
from selftune.hypergradients.lower_solvers import lower_solvers
from selftune.hypergradients.stochastic import stochastic_solvers
from selftune.hyperparameters import Hyperparameter
from selftune.lower_level.example_weights import EXAMPLE_WEIGHTS
from selftune.lower_level.objective import tasks
from selftune.registries.diagnostics import diagnostics
from selftune.registries.registry import address
from selftune.registries.solvers import solvers
from selftune.regularization.quantity import Quantity, quantities
from selftune.regularization.regularizer import Regularizer, regularizers
from selftune.studies.listing import GROUPS, Listed, counts, unknown
from selftune.studies.strategies import NetworkStrategy, strategy_of_task
from selftune.training.method_record import NetworkForm, methods

_ENGINE: dict[str, Mapping[str, Any]] = {
    "linear system": linear_solvers,
    "lower level": lower_solvers,
    "stochastic bilevel": stochastic_solvers,
}
"""Solvers of the engine by kind."""


@dataclass(frozen=True)
class Entry:
    """One name that a study can use, or a function that goes with studies."""

    group: str
    name: str
    kind: str
    family: str
    text: str
    reference: str = ""
    needs: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    quantities: Mapping[str, Quantity] = field(default_factory=dict)
    hyperparameters: tuple[Hyperparameter, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    incompatible: Mapping[str, str] = field(default_factory=dict)
    waits: str | None = None
    """Why it makes the host wait for a GPU, where a regularizer does."""
    function: Callable[..., Any] | None = None
    """What it computes, where a function of its name does."""

    @property
    def sentence(self) -> str:
        """The first sentence of its text, in one line."""
        return " ".join(self.text.split("\n\n")[0].split())

    @property
    def listed(self) -> Listed:
        """The entry as ``selftune list`` shows it."""
        return Listed(self.group, self.name, self.kind, self.family, self.sentence, self.needs)


def entries() -> list[Entry]:
    """All entries, by group and name."""
    found = [_regularizer(regularizers[name]) for name in regularizers.names()]
    for name in diagnostics.names():
        one = diagnostics[name]
        needs = tuple(sorted(set(one.needs.values())))
        text = _text(one.function)
        found.append(
            Entry(
                "diagnostics",
                name,
                one.kind,
                one.family,
                text,
                str(one.reference),
                needs,
                quantities={quantity.name: quantity for quantity in one.needed()},
                settings=one.settings,
                function=one.function,
            )
        )
    for name in solvers.names():
        entry = solvers[name]
        text, reference = _text(entry.function), str(entry.reference)
        found.append(Entry("solvers", name, "solver", entry.family, text, reference, function=entry.function))
    for kind, known in _ENGINE.items():
        found += [
            Entry("solvers", name, kind, "", _text(cls), function=_function(cls, name))
            for name, cls in sorted(known.items())
        ]
    found += [_task(name) for name in tasks.names()]
    found += [_method(name) for name in methods.names()]
    return found


def _regularizer(cls: type[Regularizer]) -> Entry:
    return Entry(
        "regularizers",
        cls.name,
        cls.kind,
        cls.family,
        _text(cls),
        str(cls.reference),
        tuple(sorted(cls.needs)),
        tuple(sorted(cls.provides)),
        {quantity.name: quantity for quantity in cls.needed()},
        cls.hyperparameters,
        incompatible=cls.incompatible,
        waits=cls.waits,
        function=_function(getattr(cls, "function", cls), cls.name),
    )


def _task(name: str) -> Entry:
    cls: Any = tasks[name]
    strategy = strategy_of_task(cls)
    is_network = strategy is NetworkStrategy
    provides = tuple(sorted(cls.provides)) if is_network else ()
    own = (*cls.declared, *([EXAMPLE_WEIGHTS] if "index" in provides else [])) if is_network else ()
    return Entry(
        "tasks",
        name,
        strategy.kind,
        "",
        _text(cls),
        provides=provides,
        hyperparameters=own,
        settings=_defaults(cls),
    )


def _method(name: str) -> Entry:
    forms = methods[name].forms
    text = "\n\n".join(_text(form.machine) for form in forms)
    kinds = " and ".join("network" if isinstance(form, NetworkForm) else "smooth" for form in forms)
    settings = {key: value for form in forms for key, value in _defaults(form.settings).items()}
    return Entry("methods", name, kinds, "", text, settings=settings)


def _function(beside: Any, name: str) -> Callable[..., Any] | None:
    """The function of an entry's name in the module where the entry is; None where there is none."""
    function = getattr(sys.modules[beside.__module__], name, None)
    return function if inspect.isfunction(function) else None


def _text(described: Any) -> str:
    return inspect.cleandoc(described.__doc__ or "")


def _defaults(cls: Any) -> dict[str, Any]:
    if not is_dataclass(cls):
        return {}
    values: dict[str, Any] = {}
    for one in fields(cls):
        if one.default is not MISSING:
            values[one.name] = one.default
        elif one.default_factory is not MISSING:
            values[one.name] = one.default_factory()
    return values


def definitions() -> list[type | Callable[..., Any]]:
    """The classes and functions that entries are made of."""
    return [
        *(regularizers[name] for name in regularizers.names()),
        *(diagnostics[name].function for name in diagnostics.names()),
        *(solvers[name].function for name in solvers.names()),
        *(cls for known in _ENGINE.values() for cls in known.values()),
        *(tasks[name] for name in tasks.names()),
        *(form.machine for name in methods.names() for form in methods[name].forms),
    ]


def find(name: str) -> list[Entry]:
    """The entries of a name: a task and a regularizer may share one.

    Raises:
        UserError: if there is none.
    """
    found = entries()
    named = [entry for entry in found if entry.name == name]
    if not named:
        raise unknown(name, {entry.name for entry in found})
    return named


def fragment(entry: Entry) -> str:
    """The part of a study file that uses an entry; empty where no study names it."""
    if entry.group == "regularizers":
        lines = ["regularizers:", f"  {entry.name}:" + ("" if entry.hyperparameters else " {}")]
        for h in entry.hyperparameters:
            movable = h.online and h.domain.movable and h.domain.is_interior(h.value)
            value = f"{{start: {_yaml(h.value)}}}" if movable else _yaml(h.value)
            lines.append(f"    {h.name}: {value}")
        return "\n".join(lines)
    if entry.group == "diagnostics" and entry.needs:
        return f"diagnostics:\n  {entry.name}: {{every: 10}}"
    if entry.group == "tasks":
        return f"objective:\n  task: {entry.name}"
    if entry.group == "methods":
        return f"method:\n  name: {entry.name}"
    return ""


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{text}.0" if isinstance(value, float) and text.lstrip("-").isdigit() else text


def described(entry: Entry) -> list[str]:
    """What ``selftune show`` prints of an entry."""
    head = ", ".join(word for word in (entry.kind, entry.family) if word)
    lines = [f"{entry.name} ({head})", "", *entry.text.splitlines()]
    if entry.reference:
        lines += ["", f"Reference: {entry.reference}"]
    if entry.hyperparameters:
        lines += ["", "Hyperparameters:"]
        for h in entry.hyperparameters:
            lines.append(f"  {hyperparameter_line(h)}")
            lines += [f"    start: auto is {h.start.source}"] if h.start is not None else []
    if entry.settings:
        lines += ["", "Settings:", *(f"  {name} = {value!r}" for name, value in entry.settings.items())]
    if entry.group == "tasks" and entry.kind == "network":
        lines.append("  optimization = {}, a mapping: optimizer, schedule and more, see docs/training.md")
    for title, names in (("Needs", entry.needs), ("Provides", entry.provides)):
        if names:
            known = (entry.quantities.get(name) or quantities.known(name) for name in names)
            lines += [
                "",
                f"{title}:",
                *(f"  {quantity or name}" for quantity, name in zip(known, names, strict=True)),
            ]
    for other, reason in entry.incompatible.items():
        lines += ["", f"Not with {other}: {reason}"]
    if entry.waits:
        lines += ["", f"Makes the host wait for a GPU: {entry.waits}"]
    example = fragment(entry)
    if example:
        lines += ["", "In a study file:", *(f"  {line}" for line in example.splitlines())]
    if entry.function is not None:
        lines += ["", f"As a function: {address(entry.function)}"]
    return lines


def hyperparameter_line(h: Hyperparameter) -> str:
    """Name, domain, default and flags in one line."""
    of = {"online": h.online, "smooth": h.smooth, "shared": h.shared, "per example": h.per_example}
    flags = [word for word, there in of.items() if there]
    worth = f" ({', '.join(flags)})" if flags else ""
    return f"{h.name} = {_yaml(h.value)}, {h.domain.describe()}{worth}"


def reference_page() -> str:
    """The page docs/catalogue.md: every entry, from the code."""
    found = entries()
    lines = [
        "# Catalogue",
        "",
        "Everything that a study file can name, written by `selftune list --markdown`. `selftune show NAME`",
        "prints an entry in full.",
        "",
        *(f"- {line}" for line in counts(entry.listed for entry in found)),
    ]
    for group in GROUPS:
        members = [entry for entry in found if entry.group == group]
        families = sorted({entry.family for entry in members})
        lines += ["", f"## {group.capitalize()}"]
        for family in families:
            if family:
                lines += ["", f"### {family.capitalize()}"]
            lines += ["", "| name | kind | what it does | needs | reference |", "| --- | --- | --- | --- | --- |"]
            for entry in members:
                if entry.family == family:
                    sentence = entry.sentence.replace("|", "\\|")
                    needs = ", ".join(entry.needs)
                    lines.append(f"| `{entry.name}` | {entry.kind} | {sentence} | {needs} | {entry.reference} |")
    lines += ["", "## What waits for a GPU", "", *_WAITING, "", "| regularizer | why |", "| --- | --- |"]
    lines += [f"| `{entry.name}` | {entry.waits} |" for entry in found if entry.waits]
    return "\n".join(lines) + "\n"


_WAITING = (
    "A training step on a GPU runs ahead of the host, unless something in it asks the device for a number. These",
    "regularizers have to. [GPUs](gpus.md) tells what else is known.",
)
