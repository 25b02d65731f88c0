"""Trainers that many assertions share: making and running one costs more than looking at it."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from emulated_device import DEVICE, emulated_device

sys.path.insert(0, str(Path(__file__).parent))  # for the objectives and trainers that the tests share

from trainers import NAMES, fixed, go_on, replay, trainer_of, tuned


@pytest.fixture(scope="session", params=NAMES)
def replayed(request):
    """Every regularizer, at fixed values, after a few training steps; tests do not move its weights."""
    trainer = trainer_of(request.param, fixed(request.param))
    return SimpleNamespace(name=request.param, trainer=trainer, report=replay(trainer))


@pytest.fixture(scope="session", params=NAMES)
def underway(request):
    """Every regularizer, with everything tuned that may be, underway: tests go on from where it is.

    It trains on a device that is emulated, so that a tensor on the wrong side is an error as it is on a GPU.
    """
    with emulated_device():
        trainer = trainer_of(request.param, tuned(request.param), device=DEVICE.type)
        return SimpleNamespace(name=request.param, trainer=trainer, report=go_on(trainer, 5))
