"""The worker's side: a Tune trainable that executes one work order per step."""

from __future__ import annotations

import logging
import math
import os
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.result import SHOULD_CHECKPOINT

from selftune.errors import SettingError
from selftune.logs import WorkerLog
from selftune.methods import Report, WorkOrder
from selftune.methods.reports import Diverged
from selftune.schedulers import ray_internals
from selftune.schedulers.calls import call
from selftune.schedulers.gang import Gang
from selftune.schedulers.mailbox import Reader
from selftune.schedulers.opaque import Opaque
from selftune.schedulers.sent_log import log_from_here
from selftune.storage.state_file import load_state, save_state
from selftune.training.team_run import Executes

logger = logging.getLogger(__name__)

KEPT_CHECKPOINTS = 3
"""How many checkpoints of a trainer are kept, and how far back orders and reports are remembered.

After a crash, the experiment's snapshot may be older than a trainer's last checkpoint, or newer than the
scheduler's state beside it. The checkpoint that it names still exists, and both sides can close the gap: the
scheduler sends what the trainer has not done yet, the trainer repeats what it has reported already.
"""

CHECKPOINT, KIND = "trainer.safetensors", "trainer"

ENGINE = "selftune"
"""Where the scheduler keeps what it says to a trial, beside what users have in its config."""

_COLUMNS = ("training_step", "training_loss", "validation_loss", "test_loss", "seconds", "work")


class OrderTrainable(tune.Trainable):
    """Executes work orders on a trainer; ``trainable`` tells it how to build one.

    A step without an order answers ``ready`` at once: Tune calls ``train()`` by itself after each start and
    restore, and this is how the scheduler learns that a trainer is there, and which order it did last.
    """

    def setup(  # type: ignore[override]
        self, config: dict[str, Any], factory: Callable[..., Executes], workers: int = 1
    ) -> None:
        settings: dict[str, Any] = config.get(ENGINE, {})
        self._member: int = settings.get("member", config.get("member", 0))
        self._stateful: bool = settings.get("stateful", True)
        log = WorkerLog(**settings["log"]) if settings.get("log") else None
        self._log = log_from_here(log, ray_internals.filesystem_of(self))
        if self._log is not None:
            self._log.open(self._called, None, self._member)  # a study has one team
        logger.info("begins, in process %d", os.getpid())
        self._order: WorkOrder | None = None
        self._warm: Any = None
        self._number = -1
        self._memory: dict[int, Report] = {}
        self._saved: deque[int] = deque(maxlen=KEPT_CHECKPOINTS)
        self._columns = dict.fromkeys((*_COLUMNS, *settings.get("metrics", ())), math.nan)
        self._incarnation = uuid.uuid4().hex
        self._greeted = False
        self._start = settings.get("start")  # what an earlier driver's trainer saved
        self._sent: Opaque | None = None
        self._refusal: SettingError | None = None
        mailbox = settings.get("mailbox")
        self._reader = Reader(mailbox, self.trial_id, self._incarnation, self.export_state) if mailbox else None
        self._workers = workers
        self._make = partial(
            call, factory, self._member, team=settings.get("team", 0), config=users_config(config)
        )

    @cached_property
    def _trainer(self) -> Executes:
        """Made at the first step: Tune does not tell a trial whose ``setup`` hangs from one without a place."""
        if self._workers == 1:
            return self._make()
        return Gang(self._make, self._workers, self._log, self._called, self._member)

    @property
    def _called(self) -> str:
        return f"trainer-{self._member}"

    def _refused(self) -> SettingError | None:
        """Which setting is wrong. No retry mends that: the scheduler is told and ends the study."""
        if self._refusal is None:
            try:
                _ = self._trainer
            except SettingError as error:
                self._refusal = error
        return self._refusal

    def receive(self, order: Opaque, warm: Any = None) -> None:
        """Keeps the order for the next step, with the state of another trainer that it starts from."""
        self._order, self._warm = order.content, warm

    def carry_out(self, order: Opaque) -> dict[str, Any]:
        """The next ``train()``, with its order: one call instead of two."""
        self.receive(order)
        return dict(self.train())  # type: ignore[no-untyped-call]

    def export_state(self, key: str) -> Any:
        """The state that the trainer keeps under a key, for another one to start from; None if there is none."""
        return self._trainer.export_state(key)

    def step(self) -> dict[str, Any]:
        if (refusal := self._refused()) is not None:
            return self._result("refused", key=refusal.key, message=refusal.message)
        if self._order is None and self._greeted and self._reader is not None:
            delivery = self._reader.next()
            if delivery is None:
                return self._result("waiting")
            self._order, self._warm = delivery.order, delivery.warm
        if self._order is None:
            return self._ready()
        order, warm = self._order, self._warm
        self._order = self._warm = None
        if order.source is not None and warm is None:
            return self._ready()  # the state was lost on its way: the order is sent again
        try:
            return self._report(order, warm)
        except SettingError as error:  # found only now that the order says what is to be done
            self._refusal = error
            return self._result("refused", key=error.key, message=error.message)

    def _ready(self) -> dict[str, Any]:
        if self._start is not None:  # this driver's trainers have saved nothing yet, else Tune had loaded that
            with ray_internals.saved_by(self, self._start).as_directory() as folder:
                self.load_checkpoint(folder)
        self._greeted = True
        nothing = dict.fromkeys(self._columns, math.nan)
        return self._result("ready", incarnation=self._incarnation, space=Opaque(self._trainer.space)) | nothing

    def _report(self, order: WorkOrder, warm: Any) -> dict[str, Any]:
        report, repeated = self._again(order, warm) if self._stateful else (self._execute(order, warm), False)
        self._columns.update(report.metrics)
        if isinstance(report, Diverged):
            logger.warning("%s", report.message)
        self._sent = Opaque(report)
        result = self._result("report", report=self._sent)
        if order.checkpoint and not repeated:
            result[SHOULD_CHECKPOINT] = True
        return result

    def _execute(self, order: WorkOrder, warm: Any) -> Report:
        report = self._trainer.execute(order, warm)
        self._number = order.number
        return replace(report, number=order.number)

    def _again(self, order: WorkOrder, warm: Any) -> tuple[Report, bool]:
        """The report of the order that is due, or of one that was done before; and whether it was."""
        repeated = order.number <= self._number
        if repeated and order.number not in self._memory:
            raise RuntimeError(
                f"order {order.number} was done before the oldest remembered report; this trainer has done "
                f"{self._number + 1} orders"
            )
        if not repeated:
            if order.number != self._number + 1 and not order.after_absence:
                raise RuntimeError(f"order {order.number} came when order {self._number + 1} was due")
            self._memory[order.number] = self._execute(order, warm)
        return self._memory[order.number], repeated

    def _result(self, event: str, **entries: Any) -> dict[str, Any]:
        return {**self._columns, "event": event, "order": self._number, **entries}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        if self._sent is not None:
            self._sent.empty()  # Ray saves the last result beside the checkpoint
        if not self._saved or self._saved[-1] != self._number:
            self._saved.append(self._number)
        if len(self._saved) == KEPT_CHECKPOINTS:
            self._memory = {n: report for n, report in self._memory.items() if n > self._saved[0]}
        state = {
            "trainer": None if self._refused() else self._trainer.state_dict(),
            "number": self._number,
            "memory": self._memory,
            "saved": list(self._saved),
            "columns": self._columns,
        }
        save_state(Path(checkpoint_dir) / CHECKPOINT, state, KIND)
        logger.info("saved its state after %d orders", self._number + 1)

    def load_checkpoint(self, checkpoint_dir: Any) -> None:
        self._start = None
        state = load_state(Path(checkpoint_dir) / CHECKPOINT, KIND)
        if self._refused() is None:
            self._trainer.load_state_dict(state["trainer"])
        self._number = state["number"]
        self._memory = state["memory"]
        self._saved.extend(state["saved"])
        self._columns.update(state["columns"])
        logger.info("goes on after %d orders", self._number + 1)

    def cleanup(self) -> None:
        trainer = self.__dict__.get("_trainer")
        if isinstance(trainer, Gang):
            trainer.end()


def users_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's config without what the scheduler adds to it.

    >>> users_config({"width": 8, "selftune": {"member": 0}})
    {'width': 8}
    """
    return {name: value for name, value in config.items() if name != ENGINE}


def trainable(factory: Callable[..., Executes], workers: int = 1) -> type[OrderTrainable]:
    """A Tune trainable whose trials train what ``factory(member)`` builds.

    The factory gets the number of its ``team`` and the trial's ``config`` by name, too, as far as it has
    parameters of these names:

        def factory(member, team, config):
            objective = make_objective(width=config["width"])
            return TrainerFactory(objective, regularizers)(member, team)

    With several ``workers``, each trainer is as many processes that train its network together. A trial then has a
    bundle of resources for each:

        tune.with_resources(trainable(factory, workers=2), tune.PlacementGroupFactory([{"CPU": 1}] * 2))

    The factory is pickled once and travels through Ray's object store, so it may hold data.

    >>> from selftune.schedulers import trainable
    >>> issubclass(trainable(lambda member: None), tune.Trainable)
    True
    """
    made: type[OrderTrainable] = tune.with_parameters(OrderTrainable, factory=factory, workers=workers)
    made.__name__ = "Trainer"  # the beginning of the trials' names
    return made
