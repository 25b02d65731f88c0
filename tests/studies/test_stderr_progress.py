import io
import sys

from selftune.methods import Budget
from selftune.studies.display import Display
from selftune.studies.progress import Progress
from selftune.studies.smooth_display import SmoothDisplay
from selftune.studies.smooth_progress import SmoothProgress
from selftune.studies.stderr_progress import progress_on_stderr
from selftune.studies.strategies import NetworkStrategy, SmoothStrategy

BUDGET = Budget(steps=10)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def stands_for_stderr(monkeypatch, stream):
    """In the test itself: pytest sets stderr again between a fixture and its test."""
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def test_a_terminal_gets_a_display_unless_it_is_not_wanted(monkeypatch):
    stands_for_stderr(monkeypatch, Terminal())
    assert type(progress_on_stderr(None, "tune", BUDGET, NetworkStrategy)) is Display
    assert type(progress_on_stderr(True, "tune", BUDGET, SmoothStrategy)) is SmoothDisplay
    assert progress_on_stderr(False, "tune", BUDGET, NetworkStrategy) is None


def test_without_rich_lines_do(monkeypatch):
    terminal = stands_for_stderr(monkeypatch, Terminal())
    monkeypatch.setitem(sys.modules, "rich.console", None)
    progress_on_stderr(None, "tune", BUDGET, NetworkStrategy).started(None, 1)
    assert terminal.getvalue() == "tune: 0/10 training steps\n"


def test_elsewhere_lines_come_where_they_are_wanted(monkeypatch):
    stands_for_stderr(monkeypatch, io.StringIO())
    assert progress_on_stderr(None, "tune", BUDGET, NetworkStrategy) is None
    assert type(progress_on_stderr(True, "tune", BUDGET, NetworkStrategy)) is Progress
    assert type(progress_on_stderr(True, "tune", BUDGET, SmoothStrategy)) is SmoothProgress


def test_a_notebook_gets_lines(monkeypatch):
    stands_for_stderr(monkeypatch, io.StringIO())
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    assert type(progress_on_stderr(None, "tune", BUDGET, NetworkStrategy)) is Progress
