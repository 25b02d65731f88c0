import pytest
import torch

from selftune.hyperparameters import Space
from selftune.methods import Replay, Segment
from selftune.methods.reports import Followed, TrainingFinished


def segments_of(method, space):
    """All (steps, value) pairs that the method asks for, merged where the value repeats."""
    method.join(0, space)
    at, merged = 0, []
    while not method.done:
        ((member, order),) = method.ask().items()
        if order.kind == "finish":
            method.tell(member, TrainingFinished(training_step=at))
            continue
        for steps, values in order.segments:
            at += steps
            if merged and merged[-1][1] == values.tolist():
                merged[-1][0] += steps
            else:
                merged.append([steps, values.tolist()])
        method.tell(member, Followed(training_step=at, training_loss=1.0))
    return merged


def test_a_schedule_is_followed_and_its_last_values_are_held(space):
    schedule = [Segment(10, torch.tensor([1.0, 1.0])), Segment(400, torch.tensor([2.0, 2.0]))]
    assert segments_of(Replay(schedule, 1000), space) == [[10, [1.0, 1.0]], [990, [2.0, 2.0]]]


def test_a_schedule_longer_than_the_run_is_cut(space):
    schedule = [Segment(10, torch.zeros(2)), Segment(400, torch.ones(2))]
    assert segments_of(Replay(schedule, 300), space) == [[10, [0.0, 0.0]], [290, [1.0, 1.0]]]


def test_rows_without_training_steps_are_skipped(space):
    schedule = [Segment(5, torch.zeros(2)), Segment(5, torch.ones(2)), Segment(9, torch.full((2,), 3.0))]
    assert segments_of(Replay(schedule, 9), space) == [[5, [0.0, 0.0]], [4, [3.0, 3.0]]]


def test_state_round_trip(space):
    method = Replay([Segment(600, torch.zeros(2))], 600)
    method.join(0, space)
    (order,) = method.ask().values()
    method.tell(0, Followed(training_step=250, training_loss=1.0))
    resumed = Replay([Segment(600, torch.zeros(2))], 600)
    resumed.load_state_dict(method.state_dict())
    (following,) = resumed.ask().values()
    assert sum(steps for steps, _ in following.segments) == 250
    assert order.kind == following.kind == "replay"


def test_schedules_that_make_no_sense_are_refused(space):
    with pytest.raises(ValueError, match="do not decrease"):
        Replay([Segment(10, torch.zeros(2)), Segment(5, torch.zeros(2))], 20)
    with pytest.raises(ValueError, match="do not decrease"):
        Replay([], 20)
    with pytest.raises(ValueError, match="moves 2 hyperparameters, the study 0"):
        Replay([Segment(10, torch.zeros(2))], 20).join(0, Space([]))
