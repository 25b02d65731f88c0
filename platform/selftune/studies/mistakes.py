"""What is wrong with a study, and how it is said: one line per mistake, file, key path, sentence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from selftune.errors import SettingError

ENOUGH = 20  # mistakes to read at a time
_LONGEST = 500  # characters of a line


class UserError(Exception):
    """Something the user asked for cannot be done; every line is one plain sentence. Exit status 2."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class Mistakes(ValueError):
    """One or more wrong settings.

    >>> print(Mistakes([SettingError("seed", "must be a whole number"), SettingError("", "is empty")]))
    seed: must be a whole number
    is empty
    """

    def __init__(self, mistakes: Iterable[SettingError]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))

    def under(self, key: str) -> Mistakes:
        """The same mistakes as seen from further up, where ``key`` leads to them."""
        return Mistakes(SettingError(join(key, m.key), m.message) for m in self.mistakes)

    def in_file(self, name: str) -> UserError:
        """The mistakes as a person reads them: ``FILE: KEY: MESSAGE``."""
        lines = [f"{name}: {' '.join(str(mistake).split())}" for mistake in self.mistakes[:ENOUGH]]
        more = len(self.mistakes) - len(lines)
        return UserError(*lines, *([f"{name}: and {more} more mistakes"] if more else []))


_names: ContextVar[Mapping[str, str]] = ContextVar("names", default={})  # noqa: B039  (nobody changes it)


@contextmanager
def naming() -> Iterator[None]:
    """Within the context ``printable`` calls folders by the names that ``call_place`` gives them.

    >>> with naming():
    ...     call_place(Path("/tmp/copy"), "s3://bucket/digits-1")
    ...     printable("go on with `selftune resume /tmp/copy`")
    'go on with `selftune resume s3://bucket/digits-1`'
    """
    token = _names.set({})
    try:
        yield
    finally:
        _names.reset(token)


def call_place(folder: Path, name: str) -> None:
    """Gives a folder of this machine another name in what people read, until ``naming`` ends."""
    _names.set({**_names.get(), str(folder): name})


def called(text: str) -> str:
    """A text with folders called as ``call_place`` says."""
    for folder, name in _names.get().items():
        text = text.replace(folder, name)
    return text


def printable(line: str) -> str:
    """A line as a terminal may get it: no control characters, wherever they come from, and no endless text.

    >>> printable("unknown key \x1b[31m")
    'unknown key \\\\x1b[31m'
    """
    line = called(line)
    shown = "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in line[: 2 * _LONGEST]
    )
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 3]}..."


def mistake(key: str, message: str) -> Mistakes:
    """A single one."""
    return Mistakes([SettingError(key, message)])


def join(*keys: str) -> str:
    """Dotted path of the keys that are not empty.

    >>> join("regularizers", "", "rate")
    'regularizers.rate'
    """
    return ".".join(key for key in keys if key)


def as_mistakes(error: Exception) -> Mistakes:
    """Whatever refuses a setting, as mistakes."""
    if isinstance(error, Mistakes):
        return error
    return Mistakes([error if isinstance(error, SettingError) else SettingError("", str(error))])
