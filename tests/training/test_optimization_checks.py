import pytest
import torch
from torch import nn

from selftune import Classification, Optimization, SettingError, Tune, tune
from selftune.methods import Response

ALL = {"label_smoothing": {"epsilon": Tune(0.1)}}


def run(regularizers, optimization, **settings):
    data = torch.randn(64, 6), torch.arange(64) % 3
    objective = Classification(
        lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)),
        data,
        data,
        data,
        Optimization(batch_size=16, **optimization),
    )
    return tune(objective, {**ALL, **regularizers}, steps=20, warmup_steps=5, **settings)


STN = {"response": Response(centered=False, joint=True, linearize=False)}
SINGLE_LOOP = {"method": "penalty", "trainers": 2, "momentum": 0.5, "train_steps": 1}


@pytest.mark.parametrize(
    ("regularizers", "optimization", "settings", "key", "message"),
    [
        ({"dropout": {"rate": 0.1}}, {"compile": True}, {}, "compile", "dropout"),
        ({}, {"compile": True}, STN, "compile", "fitted jointly"),
        ({}, {"accumulate": 2}, STN, "accumulate", "fitted jointly"),
        ({}, {"autocast": "float16"}, STN, "autocast", "fitted jointly"),
        ({}, {"clip_norm": 1.0}, SINGLE_LOOP, "clip_norm", "set momentum to null"),
        ({}, {"groups": {"0.*": {}}}, SINGLE_LOOP, "groups", "set momentum to null"),
        ({}, {"schedule": {"name": "cosine", "warmup_steps": 20}}, {}, "schedule.warmup_steps", "below the 20"),
        ({}, {"optimizer": lambda p: torch.optim.SGD(p[1:], lr=0.1)}, {}, "optimizer", "leaves out 1"),
    ],
)
def test_what_does_not_go_together_is_refused(regularizers, optimization, settings, key, message):
    with pytest.raises(SettingError, match=message) as error:
        run(regularizers, optimization, **settings)
    assert error.value.key == f"optimization.{key}"


def test_a_schedule_without_an_end_needs_one():
    data = torch.randn(64, 6), torch.arange(64) % 3
    objective = Classification(lambda: nn.Linear(6, 3), data, data, data, Optimization(schedule="linear"))
    with pytest.raises(SettingError, match="has to know its end"):
        tune(objective, ALL, seconds=1)
