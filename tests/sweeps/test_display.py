"""What a person sees of a sweep, on terminals of any width and where there is none."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console
from synthetic_trials import records, settings

from selftune.search import TrialRecord
from selftune.studies.display import REFRESH_SECONDS
from selftune.studies.progress import LINE_SECONDS
from selftune.sweeps.display import BEST_ROWS, MESSAGES, RUNNING_ROWS, SweepDisplay

HEARD = records()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def console(terminal: bool, width: int = 130) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, height=60, no_color=True)


def shown(display: SweepDisplay, width: int = 130) -> list[str]:
    plain = Console(file=io.StringIO(), width=width, no_color=True)
    plain.print(display.picture())
    return plain.file.getvalue().splitlines()


def play(display: SweepDisplay, clock: Clock, heard: list[TrialRecord], seconds: float = 1.0) -> None:
    display.resumed({})
    for record in heard:
        clock.now += seconds
        display.heard(record)


def test_plain_lines_where_there_is_no_terminal() -> None:
    clock, out = Clock(), console(terminal=False)
    display = SweepDisplay(out, "digits", settings(), 400, clock)
    play(display, clock, HEARD)
    display.ended()
    text = out.file.getvalue()
    lines = text.splitlines()
    assert lines[0] == "digits: 0/24 trials, 0/20,000 training steps, 1 running"
    assert "trial 4 failed: the loss is NaN at training step 113" in lines
    assert "trial 7 is refused: objective.hidden: is too wide for this table" in lines
    best = "best validation loss 0.1315 (trial 14)"
    assert lines[-1] == f"digits: 22/24 trials, 10,600/20,000 training steps, {best}"
    assert len(lines) <= 12 + 4
    assert "\x1b" not in text


def test_fast_sweeps_print_few_lines() -> None:
    clock, out = Clock(), console(terminal=False)
    display = SweepDisplay(out, "digits", settings(), 400, clock)
    play(display, clock, HEARD, seconds=0.02)
    display.ended()
    messages = 4
    assert len(out.file.getvalue().splitlines()) <= messages + 2 + 0.02 * len(HEARD) / LINE_SECONDS


def test_the_picture() -> None:
    clock = Clock()
    display = SweepDisplay(console(terminal=True), "digits", settings(), 400, clock)
    play(display, clock, HEARD[:100])
    display.ended()
    head, counts, best, *table = shown(display)
    assert head.startswith("digits ━")
    assert head.rstrip().endswith("13/24 trials · 6,900/20,000 training steps · 1:06 left")
    assert counts.rstrip() == "trials: 4 running · 5 finished · 7 stopped · 1 failed · 1 refused"
    assert best.startswith("best validation loss 0.1375 · trial 5 at step 400 █")
    rows = [line.split() for line in table if line.strip() and line.split()[0].isdigit()]
    assert [row[0] for row in rows] == ["5", "6", "14", "15", "9", "17", "16"]
    assert rows[0][1:5] == ["0.03699", "adam", "[64,", "64]"]
    assert rows[0][7] == "-", "momentum is there under sgd only"
    assert rows[-1][-2:] == ["▁", "running"]


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 130])
def test_nothing_is_wider_than_the_terminal(width: int) -> None:
    clock = Clock()
    display = SweepDisplay(console(terminal=True, width=width), "digits", settings(), 400, clock)
    play(display, clock, HEARD[:100])
    display.ended()
    lines = shown(display, width)
    assert all(len(line) <= width for line in lines)
    assert len(lines) <= 4 + 2 + BEST_ROWS + RUNNING_ROWS
    assert "0.1375" in " ".join(lines[3:]), "the best value is never left out"
    assert any("not shown:" in line for line in lines) == (width < 130)


def test_many_trials_at_a_time_are_counted() -> None:
    clock = Clock()
    display = SweepDisplay(console(terminal=True), "digits", settings(trials=100), 400, clock)
    play(display, clock, [TrialRecord(number, {"a": number}) for number in range(50)])
    display.ended()
    lines = shown(display)
    assert lines[-1].startswith(f"and {50 - RUNNING_ROWS} more running or paused")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"steps": None, "trials": 48}, "22/48 trials"),
        ({"steps": 21_200, "trials": None}, "22 trials, 10,600/21,200 training steps"),
        ({"steps": None, "trials": None, "seconds": 212.0}, "22 trials, 106 of 212 s"),
    ],
)
def test_the_time_left_follows_from_the_budget_that_is_there(changed: dict[str, object], words: str) -> None:
    clock, out = Clock(), console(terminal=False)
    display = SweepDisplay(out, "digits", settings(**changed), 400, clock)
    play(display, clock, HEARD)
    clock.now += 100.0
    display.heard(HEARD[-1])
    last = out.file.getvalue().splitlines()[-1]
    assert last.startswith(f"digits: {words}, best")
    assert last.endswith(" left")
    minutes, seconds = last.split()[-2].split(":")
    assert 60 * int(minutes) + int(seconds) == pytest.approx(clock.now, rel=0.25), "half is done"


def test_a_resumed_sweep_goes_on_where_it_was() -> None:
    clock, out = Clock(), console(terminal=False)
    display = SweepDisplay(out, "digits", settings(), 400, clock)
    display.resumed({record.number: record for record in HEARD[:100]})
    for record in HEARD[100:]:
        clock.now += 1.0
        display.heard(record)
    display.ended()
    lines = out.file.getvalue().splitlines()
    assert lines[0] == "digits: goes on after 13/24 trials, 6,900/20,000 training steps"
    assert lines[-1].startswith("digits: 22/24 trials, 10,600/20,000 training steps")


def test_the_largest_is_best_where_the_mode_says_so() -> None:
    clock, out = Clock(), console(terminal=False)
    chosen = settings(metric="validation_accuracy", mode="max")
    display = SweepDisplay(out, "digits", chosen, None, clock)
    first = TrialRecord(0, {}, measures={"validation_accuracy": 0.5}, best=0.5)
    play(display, clock, [first, replace(first, number=1, best=0.7), TrialRecord(2, {}, "failed", best=0.9)])
    display.ended()
    assert "best validation accuracy 0.7 (trial 1)" in out.file.getvalue().splitlines()[-1]


def test_a_copy_does_not_lead_before_what_it_was_copied_from() -> None:
    clock, out = Clock(), console(terminal=False)
    display = SweepDisplay(out, "digits", settings(), None, clock)
    donor = TrialRecord(1, {}, spent=9, measures={"validation_loss": 0.2}, best=0.2, time=1.0)
    before = replace(donor, number=0, best=0.9, time=2.0)
    play(display, clock, [TrialRecord(0, {}), donor, before, replace(before, copied=1, best=0.2, time=3.0)])
    display.ended()
    assert "best validation loss 0.2 (trial 1)" in out.file.getvalue().splitlines()[-1]


def test_messages_are_no_markup_and_not_without_end() -> None:
    clock, out = Clock(), console(terminal=False)
    display = SweepDisplay(out, "digits", settings(trials=100), None, clock)
    play(display, clock, [TrialRecord(n, {}, "refused", message="a[bold]: no") for n in range(40)], seconds=0.01)
    lines = out.file.getvalue().splitlines()
    assert lines[0] == "trial 0 is refused: a[bold]: no"
    assert sum("is refused" in line for line in lines) == MESSAGES
    assert lines.count("more trials are refused; trials.jsonl says why") == 1


def test_nothing_is_drawn_between_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    display = SweepDisplay(console(terminal=True), "digits", settings(), 400, clock)
    drawn: list[float] = []
    picture = display.picture
    monkeypatch.setattr(display, "picture", lambda: drawn.append(clock.now) or picture())
    play(display, clock, HEARD, seconds=0.005)
    display.ended()
    assert len(drawn) <= 2 + 0.005 * len(HEARD) / REFRESH_SECONDS


def test_curves_of_trials_that_are_not_drawn_any_more_are_forgotten() -> None:
    clock = Clock()
    display = SweepDisplay(console(terminal=True), "digits", settings(trials=500), 400, clock)
    play(display, clock, records(40))
    display.ended()
    display.picture()
    assert len(display._histories) <= BEST_ROWS
