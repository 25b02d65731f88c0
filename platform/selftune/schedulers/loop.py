"""Training loops of one's own as trials of Ray Tune."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from selftune.schedulers.calls import call
from selftune.schedulers.trainable import OrderTrainable, trainable
from selftune.training.loop_trainer import LoopTrainer


@dataclass(frozen=True)
class LoopFactory:
    """Makes the trainers of a loop, as ``trainable`` calls it."""

    loop: Callable[..., None]

    def __call__(self, member: int, team: int = 0, config: Mapping[str, Any] | None = None) -> LoopTrainer:
        loop = partial(call, self.loop, dict(config or {}), member=member, team=team)
        return LoopTrainer(loop, member, team)


def loop_trainable(loop: Callable[..., None]) -> type[OrderTrainable]:
    """A Tune trainable whose trials run a training loop that makes an ``OnlineTuner``.

    The loop is called with the trial's ``config``, and with the numbers of ``member`` and ``team`` by name, as far
    as it has parameters of these names. It trains until ``tuner.done``; the scheduler brings method and budget:

        def loop(config, member):
            torch.manual_seed(member)
            model, optimizer = make(config)
            tuner = OnlineTuner(model, optimizer, {...}, loss=loss, validation=loader)
            while not tuner.done:
                tuner.loss(next_batch(tuner.training_step)).backward()
                tuner.step()

        scheduler = SelfTuningScheduler(steps=3000, team_size=2)
        tune.Tuner(loop_trainable(loop), tune_config=scheduler.tune_config(), run_config=scheduler.run_config())

    A trial that starts again begins its loop anew: when its tuner gets the first order, everything in its
    ``state_dict`` is as it was, ``tuner.training_step`` too.

    >>> loop_trainable(lambda config: None).__name__
    'Trainer'
    """
    return trainable(LoopFactory(loop))
