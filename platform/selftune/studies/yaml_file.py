"""Reading YAML strictly: what a person would be surprised by is refused, with the line.

YAML 1.1, which PyYAML speaks, reads ``1e-4`` as a text, ``no`` as false, ``010`` as eight and lets the
last of two equal keys win. Here scalars follow YAML 1.2's core schema, and equal keys are refused.

A file that is broken, or made to do harm, is refused as fast as any other: its size, its depth and the number of
its values are bounded, values behind an alias counting each time, before anything is built of them.
"""

from __future__ import annotations

import math
import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from selftune.errors import SettingError
from selftune.fields import LARGEST, too_large
from selftune.studies.mistakes import Mistakes, join, mistake


def parse_yaml(text: str) -> dict[str, Any]:
    """The mapping that a YAML text holds.

    Raises:
        Mistakes: if it is not YAML, not a mapping, or has a key twice or one that is not a text.

    >>> parse_yaml("rate: 1e-4")
    {'rate': 0.0001}
    """
    try:
        content = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}" if mark else ""
        problem = " ".join(part for part in (error.context, error.problem) if part)
        raise mistake(where, problem) from error
    except yaml.YAMLError as error:
        raise mistake("", f"is not YAML: {' '.join(str(error).split())}") from error
    except (ValueError, KeyError) as error:  # "!!int x", or a number of thousands of digits
        raise mistake("", f"holds a value that cannot be read: {error}") from error
    if content is None:
        raise mistake("", "is empty; a study needs at least objective, regularizers and budget")
    if not isinstance(content, dict):
        raise mistake("", "must be a mapping such as 'study: digits', not a value or a list")
    return content


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        Mistakes: if the file is absent, no ordinary file, unreadable, too large or not text.
    """
    try:
        # without waiting, as for somebody who writes into a pipe
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            kind = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(kind):
                raise mistake("", "is no ordinary file but a pipe, a socket or a device")
            content = file.read(MAXIMUM_BYTES + 1)
    except FileNotFoundError as error:
        raise mistake("", "there is no such file") from error
    except OSError as error:
        raise mistake("", f"cannot be read: {(error.strerror or str(error)).lower()}") from error
    if len(content) > MAXIMUM_BYTES:
        raise mistake("", f"is larger than {MAXIMUM_BYTES // 1024} KiB; is it a study?")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise mistake("", "is not a text file in UTF-8") from error


def check_yaml(path: Path) -> None:
    """Whether a study file can be read at all; this needs nothing that takes long to import.

    Raises:
        UserError: one line, with the file.
    """
    try:
        parse_yaml(read_text(path))
    except Mistakes as error:
        raise error.in_file(str(path)) from error


def not_finite(content: Any, key: str = "") -> Iterator[SettingError]:
    """A mistake for every number that is infinite, in single precision too, or NaN.

    Bounds of an interval may be infinite.
    """
    if isinstance(content, dict):
        for name, value in content.items():
            yield from not_finite(value, join(key, str(name)))
    elif isinstance(content, list):
        for index, value in enumerate(content):
            yield from not_finite(value, join(key, str(index)))
    elif isinstance(content, float) and not math.isfinite(content):
        is_bound = key.rpartition(".")[0].endswith("domain.interval") and not math.isnan(content)
        if not is_bound:
            yield SettingError(key, f"must be a finite number, got {content}")
    elif isinstance(content, float) and abs(content) > LARGEST:
        yield SettingError(key, too_large(content))


MAXIMUM_BYTES = 512 * 1024
MAXIMUM_VALUES = 20_000  # keys, numbers, texts, lists and mappings; ten thousand strengths by name
MAXIMUM_DEPTH = 40
MAXIMUM_DIGITS = 40  # of a whole number; what is too large for a setting is said there


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._values = 0
        self._sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """As PyYAML does it, within the bounds."""
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        before = self._values
        self._values += 1
        self._depth += 1
        if self._depth > MAXIMUM_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"goes deeper than {MAXIMUM_DEPTH} levels", problem_mark=mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        if node in self._sizes:  # an alias
            self._values = before + self._sizes[node]
        elif node is not None:
            self._sizes[node] = self._values - before
        if self._values > MAXIMUM_VALUES:
            raise yaml.MarkedYAMLError(
                problem=f"there are more than {MAXIMUM_VALUES} values up to here, those behind aliases included",
                problem_mark=mark,
            )
        return node


def _resolve(kind: str, pattern: str, first: str) -> None:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(f"^(?:{pattern})$"), list(first))


_resolve("null", "~|null|Null|NULL|", "~nN")
_Loader.yaml_implicit_resolvers[""] = _Loader.yaml_implicit_resolvers["~"]  # an empty value
_resolve("bool", "true|True|TRUE|false|False|FALSE", "tTfF")
_resolve("int", "[-+]?[0-9]+", "-+0123456789")
_resolve("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789")
_resolve("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+.")


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.MarkedYAMLError(
                problem=f"the key {key!r} must be a text; write it in quotes",
                problem_mark=key_node.start_mark,
            )
        if key in mapping:
            raise yaml.MarkedYAMLError(
                problem=f"the key {key!r} is there twice; keep one of them", problem_mark=key_node.start_mark
            )
        mapping[key] = loader.construct_object(value_node, deep=True)
    return mapping


def _sequence(loader: _Loader, node: yaml.SequenceNode) -> list[Any]:
    return [loader.construct_object(child, deep=True) for child in node.value]


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    if len(node.value) > MAXIMUM_DIGITS:
        problem = f"the whole number {node.value[:10]}... has {len(node.value)} digits"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    return int(node.value, 10)


def _text(loader: _Loader, node: yaml.ScalarNode) -> str:
    for character in node.value:
        if not (character.isprintable() or character in "\n\t" or unicodedata.category(character) == "Zs"):
            problem = f"a text holds {character!a}, which is no character to be seen"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    return str(node.value)


_CORE = ("null", "bool", "float")
_Loader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in _CORE
}
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:seq", _sequence)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:str", _text)
