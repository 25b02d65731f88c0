import pytest
import torch

from selftune.errors import SettingError
from selftune.lower_level.learning_rate_schedule import LearningRateSchedule, names


def rates(schedule, steps, run=None):
    optimizer = torch.optim.SGD([{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)], "lr": 2.0}], lr=1.0)
    scheduler = schedule.build(optimizer, run)
    seen = []
    for _ in range(steps):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return seen


def test_every_group_has_the_same_share_of_its_own_rate():
    seen = rates(LearningRateSchedule("linear", warmup_steps=2), 6, 6)
    assert [one for one, _ in seen] == pytest.approx([1 / 3, 2 / 3, 1, 0.75, 0.5, 0.25])
    assert all(other == pytest.approx(2 * one) for one, other in seen)


def test_later_steps_keep_the_last_value():
    seen = rates(LearningRateSchedule("cosine", steps=3, settings={"final": 0.2}), 6, 100)
    assert [one for one, _ in seen[3:]] == pytest.approx([0.2] * 3)


def test_names_are_the_curves_and_the_classes_of_torch():
    assert {"constant", "linear", "cosine", "step", "one_cycle", "ExponentialLR", "CyclicLR"} <= set(names())
    assert not {"ReduceLROnPlateau", "LRScheduler", "SequentialLR"} & set(names())


@pytest.mark.parametrize(
    ("given", "key", "message"),
    [
        ("cosin", "name", "did you mean cosine"),
        ("ReduceLROnPlateau", "name", "asks for a metric"),
        ({"name": "cosine", "finale": 0.1}, "finale", "did you mean final"),
        ({"name": "cosine", "final": 2}, "final", "from 0 to 1"),
        ({"name": "step"}, "step_size", "either step_size or milestones"),
        ({"name": "step", "step_size": 2, "milestones": [1]}, "step_size", "either step_size or milestones"),
        ({"name": "step", "step_size": 0}, "step_size", "at least 1"),
        ({"name": "step", "milestones": [3, 3]}, "milestones", "rising"),
        ({"name": "step", "step_size": 2, "gamma": 0}, "gamma", "positive"),
        ({"name": "step", "step_size": 2, "steps": 9}, "steps", "does not depend on the end"),
        ({"name": "linear", "warmup_steps": 5, "steps": 5}, "steps", "above the warm-up"),
        ({"name": "linear", "warmup_steps": -1}, "warmup_steps", "at least 0"),
        ({"name": "one_cycle", "warmup_steps": 5}, "warmup_steps", "a course of its own"),
        ({"name": "one_cycle", "max_lr": 5}, "max_lr", "no such setting"),
        ({"warmup_steps": 2.5}, "warmup_steps", "whole number"),
    ],
)
def test_what_is_refused(given, key, message):
    with pytest.raises(SettingError, match=message) as error:
        LearningRateSchedule.of(given)
    assert error.value.key == key
