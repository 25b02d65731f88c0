import io

import pytest
import torch
from rich.console import Console

from selftune.hyperparameters import Hyperparameter, Space, Tune, Unit
from selftune.methods import Budget, HyperStep
from selftune.methods.reports import Trained
from selftune.studies.display import REFRESH_SECONDS, Display, History, trend_mark
from selftune.studies.progress import LINE_SECONDS


class Clock:
    def __init__(self):
        self.now = 0.0
        self.asked = 0

    def __call__(self):
        self.asked += 1
        return self.now


def space(parts):
    return Space([Hyperparameter("dropout.rate", Unit(), 0.1).with_value(Tune(0.1), parts)])


def play(display, clock, hyper_steps, parts, seconds=1.0):
    display.started(space(parts), members=1)
    for number in range(hyper_steps):
        clock.now += seconds
        step = 5 * (number + 1)
        report = Trained(number=number, training_step=step, training_loss=1 / step, seconds=seconds)
        display.reported(0, report)
        values = torch.full((len(parts) or 1,), 0.1 + 0.01 * number)
        display.hyper_step(
            HyperStep(number, step, seconds * (number + 1), 1 / step, 2 / step, values, values, values)
        )


def console(terminal, width=90):
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, height=60, no_color=True)


def test_plain_lines_when_it_is_no_terminal():
    clock, out = Clock(), console(terminal=False)
    display = Display(out, "digits", Budget(steps=200), clock)
    play(display, clock, 40, ())
    display.ended()
    lines = out.file.getvalue().splitlines()
    assert lines[0] == "digits: 0/200 training steps"
    assert "digits: 100/200 training steps, hyper-step 20, training loss 0.01, validation loss 0.02" in lines[5]
    assert lines[5].endswith("0:20 left")
    assert lines[-1].startswith("digits: 200/200 training steps, hyper-step 40")
    assert len(lines) <= 13
    assert "\x1b" not in out.file.getvalue()


def test_fast_studies_print_few_lines():
    clock, out = Clock(), console(terminal=False)
    display = Display(out, "digits", Budget(steps=2000), clock)
    play(display, clock, 400, (), seconds=0.01)
    display.ended()
    assert len(out.file.getvalue().splitlines()) <= 2 + 4.0 / LINE_SECONDS


def test_the_picture():
    clock, out = Clock(), console(terminal=True)
    display = Display(out, "digits", Budget(steps=400), clock)
    play(display, clock, 40, ("input", "hidden"))
    display.ended()
    plain = Console(file=io.StringIO(), width=90, no_color=True)
    plain.print(display.picture())
    text = plain.file.getvalue()
    assert "200/400 training steps · hyper-step 40 · 0:40 left" in text
    assert "validation loss 0.01" in text
    row = next(line for line in text.splitlines() if "dropout.rate[hidden]" in line)
    assert row.split()[1:4] == ["0.1", "0.49", "↑"]


@pytest.mark.parametrize("width", [50, 60, 70, 80, 100, 120])
def test_the_head_takes_one_line(width):
    clock = Clock()
    display = Display(console(terminal=True, width=width), "digits, start values held", Budget(steps=400), clock)
    play(display, clock, 40, ())
    display.ended()
    plain = Console(file=io.StringIO(), width=width, no_color=True)
    plain.print(display.picture())
    head, losses, *_ = plain.file.getvalue().splitlines()
    assert head.startswith("digits, start values held ")
    assert "200/400 training steps" in head
    assert losses.startswith("training loss")
    assert ("0:40 left" in head) == (width >= 60)
    assert ("hyper-step 40" in head) == (width >= 80)
    assert ("━━━━" in head) == (width in (70, 100, 120))


def test_many_hyperparameters_are_summarised():
    clock = Clock()
    display = Display(console(terminal=True), "wide", Budget(steps=400), clock)
    play(display, clock, 3, tuple(map(str, range(1000))))
    display.ended()
    plain = Console(file=io.StringIO(), width=90)
    plain.print(display.picture())
    assert "dropout.rate (mean of 1000)" in plain.file.getvalue()
    assert len(plain.file.getvalue().splitlines()) < 10


def test_budget_in_seconds():
    clock, out = Clock(), console(terminal=False)
    display = Display(out, "digits", Budget(seconds=80), clock)
    play(display, clock, 40, ())
    display.ended()
    assert "200 training steps in 40 of 80 s, hyper-step 40" in out.file.getvalue()
    assert "0:40 left" in out.file.getvalue()


def test_short_budgets_have_tenths_of_seconds():
    clock, out = Clock(), console(terminal=False)
    display = Display(out, "digits", Budget(seconds=1.5), clock)
    play(display, clock, 2, (), seconds=0.8)
    display.ended()
    assert "10 training steps in 1.6 of 1.5 s" in out.file.getvalue()


def test_nothing_is_drawn_between_pictures(monkeypatch):
    clock = Clock()
    display = Display(console(terminal=True), "digits", Budget(steps=10_000), clock)
    drawn = []
    picture = display.picture
    monkeypatch.setattr(display, "picture", lambda: drawn.append(clock.now) or picture())
    play(display, clock, 1000, (), seconds=0.001)
    display.ended()
    assert len(drawn) <= 2 + 1.0 / REFRESH_SECONDS


def test_brackets_of_parts_and_reasons_are_no_markup():
    out = console(terminal=False)
    Display(out, "digits", Budget(steps=10)).lost(1, "dropout.rate[bold] is too high")
    assert out.file.getvalue() == "trainer 1 is lost: dropout.rate[bold] is too high\n"


@pytest.mark.parametrize("length", [1, 2, 31, 32, 33, 1000, 4097])
def test_a_history_is_bounded_and_keeps_both_ends(length):
    history = History()
    for number in range(length):
        history.append(number)
    values = history.values()
    assert (values[0], values[-1]) == (0, length - 1)
    assert values == sorted(set(values))
    assert len(values) <= 33


def test_trends():
    assert trend_mark([1.0]) == "→"
    assert trend_mark([0.0, 0.0]) == "→"
    assert trend_mark([3.0, 2.0, 1.0, 0.0]) == "↓"
    assert trend_mark([0.0, 9.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.5]) == "↗"
    assert trend_mark([1e-9, 2e-9]) == "↑"
