"""Every regularizer trains under autocast, and self-tuning finds a response there."""

import copy
from dataclasses import replace
from functools import cache

import pytest
import torch
from conformance_objectives import objective_for
from full_matrix import first_of
from trainers import NAMES, RESPOND, cycle, fixed, replay, tuned

from selftune.regularization.regularizer import overrides, regularizers
from selftune.training import Trainer

WHOLE_STEPS = [n for n in NAMES if any(overrides(regularizers[n](), h) for h in ("replace", "aggregate"))]


def trainer_of(name, members, kind):
    objective = copy.copy(objective_for(name, torch.float32))
    objective.optimization = replace(objective.optimization, autocast=kind)
    trainer = Trainer(objective, members, steps=40)
    if lacks_recurrence(kind) and any(isinstance(m, torch.nn.RNNBase) for m in trainer.lower.network.modules()):
        pytest.skip(f"torch's own LSTM does not run in {kind} on this processor")
    return trainer


@cache
def lacks_recurrence(kind):
    """Whether torch cannot train an LSTM in these numbers: some processors have no instructions for it."""
    try:
        with torch.autocast("cpu", getattr(torch, kind)):
            torch.nn.LSTM(8, 8)(torch.zeros(4, 2, 8, requires_grad=True))[0].sum().backward()
    except RuntimeError:
        return True
    return False


@pytest.mark.parametrize("name", NAMES)
def test_in_bfloat16(name):
    report = replay(trainer_of(name, fixed(name), "bfloat16"), steps=3)
    assert report.kind == "replay", report.message


@pytest.mark.parametrize("name", first_of([name for name in NAMES if name not in WHOLE_STEPS], 5))
def test_in_float16(name):
    report = replay(trainer_of(name, fixed(name), "float16"), steps=3)
    assert report.kind == "replay", report.message


@pytest.mark.parametrize("name", first_of(RESPOND, 20))
def test_responses_in_bfloat16(name):
    trainer = trainer_of(name, tuned(name), "bfloat16")
    report = trainer.execute(cycle(trainer, steps=2))
    assert report.kind == "cycle", report.message
    assert report.tensors["hypergradient"].dtype == torch.float32
