"""Every private part of Ray in use, in one place.

| part | used for |
| --- | --- |
| ``TuneController._schedule_trial_train(trial)`` | the next ``train()`` of a trial that ``NOOP`` left idle |
| ``Trial.temporary_state.ray_actor`` | handing order and warm start to the actor before that ``train()`` |
| ``TrialRunnerWrapper._tune_controller`` | the controller itself: hooks get a wrapper that warns |
| ``TuneController.checkpoint(force)`` | an experiment snapshot right after a trial's checkpoint |
| ``Tuner._local_tuner._tune_config`` | the scheduler that ``Tuner.restore`` unpickled |

All but the last belong to the direct transport; the mailbox transport does without them. ``problem`` checks
version and signatures, ``tests/schedulers`` holds the contract test that a new version of Ray has to pass.
"""

from __future__ import annotations

import inspect
from typing import Any

import ray
from ray import tune
from ray.tune.execution.tune_controller import TrialRunnerWrapper, TuneController
from ray.tune.experiment.trial import _TemporaryTrialState

KNOWN_VERSION = "2.60"
REQUIREMENT = "ray[tune]>=2.60,<2.61"


def problem(version: str | None = None) -> str | None:
    """Why the direct transport cannot run on this Ray, in one sentence; None if it can.

    Args:
        version: taken from the installed Ray if not given.

    >>> problem("2.60.3") is None
    True
    >>> print(problem("3.1.0"))
    this is Ray 3.1.0, but the direct transport knows Ray 2.60: install "ray[tune]>=2.60,<2.61"
    """
    version = ray.__version__ if version is None else version
    advice = f'install "{REQUIREMENT}"'
    if version.split(".")[:2] != KNOWN_VERSION.split("."):
        return f"this is Ray {version}, but the direct transport knows Ray {KNOWN_VERSION}: {advice}"
    for name, parameters in (
        ("_schedule_trial_train", ["self", "trial"]),
        ("checkpoint", ["self", "force", "wait"]),
    ):
        method = getattr(TuneController, name, None)
        if method is None or list(inspect.signature(method).parameters) != parameters:
            return f"TuneController.{name} of this Ray {version} is not the known one: {advice}"
    trial_state: Any = _TemporaryTrialState
    if not hasattr(trial_state(), "ray_actor"):
        return f"the trials of this Ray {version} do not keep their actor where they did: {advice}"
    wrapper: Any = TrialRunnerWrapper
    if "_tune_controller" not in vars(wrapper(None, None)):
        return f"the controller's wrapper of this Ray {version} is not the known one: {advice}"
    return None


def start_next_train(controller: Any, trial: Any) -> None:
    """Lets a trial that is RUNNING and idle do its next ``train()``."""
    _unwrapped(controller)._schedule_trial_train(trial)


def actor_of(trial: Any) -> Any:
    """The handle of the actor that runs a trial."""
    return trial.temporary_state.ray_actor


def snapshot(controller: Any) -> None:
    """Saves the experiment's state now, so that it never names a checkpoint that was deleted since."""
    _unwrapped(controller).checkpoint(force=True)


def scheduler_of(tuner: tune.Tuner) -> Any:
    """The scheduler of a tuner: after ``Tuner.restore`` it is a new object."""
    internal: Any = tuner._local_tuner
    return internal._tune_config.scheduler


def _unwrapped(controller: Any) -> Any:
    return getattr(controller, "_tune_controller", controller)
