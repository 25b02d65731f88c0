import math
from itertools import count

import pytest
from fake_tune import FakeTune
from ray_fakes import Recorder, ToyMethod, Toys

from selftune.errors import SettingError
from selftune.schedulers import BilevelScheduler, SelfTuningScheduler, ray_internals, scheduler, trainable
from selftune.schedulers.hangs import USUAL, Hangs


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def after(hangs, clock, seconds, what="order 3", first=False):
    """What a driver finds that looks every second."""
    for _ in range(seconds):
        clock.now += 1
        assert hangs.is_due()
        why = hangs.look("trial", what, first)
        if why is not None:
            return why
    return None


def test_work_that_takes_longer_than_it_may(clock):
    hangs = Hangs(30, clock)
    assert after(hangs, clock, 31) is None
    assert after(hangs, clock, 1) == "hangs: order 3 takes longer than 30 seconds"
    assert hangs.reason("trial") == "hangs: order 3 takes longer than 30 seconds"
    after(hangs, clock, 1, None)
    after(hangs, clock, 1, "order 3", first=True)
    assert hangs.reason("trial") is None  # of a later failure nothing is known


def test_orders_shorter_than_a_look_are_something_to_compare_with(clock):
    hangs = Hangs(None, clock)
    for _ in range(4):
        clock.now += 0.2
        assert not hangs.is_due()
        hangs.done("trial")
    assert after(hangs, clock, int(USUAL) + 1) is None
    assert after(hangs, clock, 1) == f"hangs: order 3 takes longer than {USUAL:.0f} seconds"


def test_every_work_counts_by_itself(clock):
    hangs = Hangs(30, clock)
    for order in range(10):
        assert after(hangs, clock, 20, f"order {order}") is None
        assert after(hangs, clock, 100, None) is None  # idle
        assert after(hangs, clock, 20, "a checkpoint") is None


def test_the_first_work_after_a_start_may_take_ten_times_as_long(clock):
    hangs = Hangs(30, clock)
    assert after(hangs, clock, 301, first=True) is None
    assert after(hangs, clock, 1, first=True) == "hangs: order 3 takes longer than 300 seconds"


def test_without_a_setting_orders_are_compared_with_the_longest_so_far(clock):
    hangs = Hangs(None, clock)
    assert after(hangs, clock, 100_000) is None  # nothing to compare with
    after(hangs, clock, 101, "order 0")
    hangs.done("trial")
    assert after(hangs, clock, 1001, "order 1") is None
    assert after(hangs, clock, 1, "order 1") == "hangs: order 1 takes longer than 1000 seconds"


def test_short_orders_say_nothing_about_a_long_one(clock):
    hangs = Hangs(None, clock)
    after(hangs, clock, 2, "order 0")
    hangs.done("trial")
    assert after(hangs, clock, int(USUAL), "order 1") is None


def test_a_driver_that_was_held_up_blames_nobody(clock):
    hangs = Hangs(30, clock)
    after(hangs, clock, 20)
    clock.now += 3600
    assert after(hangs, clock, 1) is None


@pytest.mark.parametrize("given", [0, -1.0, math.inf])
def test_a_time_that_is_none_is_refused(given):
    with pytest.raises(SettingError, match="hang_after: must be above 0 and finite"):
        SelfTuningScheduler(steps=600, hang_after=given)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("when", ["at its start", "at an order"])
@pytest.mark.usefixtures("node", "local_trainables")
def test_a_worker_that_hangs_changes_nothing(when, seed, undisturbed, monkeypatch):
    monkeypatch.setattr(ray_internals, "end_process", lambda trial: trial.temporary_state.ray_actor.die())
    monkeypatch.setattr(scheduler, "Hangs", lambda after: Hangs(after, count().__next__))  # a second per look
    recorder = Recorder()
    adaptor = BilevelScheduler(ToyMethod(2), 2, listener=lambda team: recorder, hang_after=200)
    tune = FakeTune(adaptor, trainable(Toys()), 2, seed=seed)
    begun = (lambda: recorder.arrivals == [0]) if when == "at its start" else (lambda: len(recorder.events) > 20)
    while not begun() or tune.trials[1].temporary_state.ray_actor is None:
        tune.step()
    assert recorder.hangs == []
    tune.trials[1].temporary_state.ray_actor.hangs = True
    tune.run()
    expected, _ = undisturbed(ToyMethod(2))
    assert [member for member, _ in recorder.hangs] == [1]
    assert recorder.departures == recorder.hangs
    assert recorder.of("hyper_step") == expected.of("hyper_step")
    assert sorted(recorder.of("reported")) == sorted(expected.of("reported"))
