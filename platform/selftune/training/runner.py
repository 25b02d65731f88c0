"""The in-process runner: moves orders and reports between a method and trainers in one process."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from selftune.hyperparameters import Space
from selftune.listener import Listener
from selftune.methods import Method, Report, WorkOrder
from selftune.methods.reports import Diverged
from selftune.storage.files import DamagedFile, remove_leftovers
from selftune.storage.state_file import load_state, save_state

logger = logging.getLogger(__name__)

CHECKPOINT, BEFORE = "checkpoint.safetensors", "checkpoint.before.safetensors"
KIND = "checkpoint"


class Executes(Protocol):
    """What a runner needs of a trainer."""

    space: Space

    def execute(self, order: WorkOrder, warm: Any = None) -> Report:
        """Executes one order, from a state that another trainer exported, if one came along."""

    def export_state(self, key: str) -> Any:
        """The state kept under a key, for another trainer to start from; None if there is none."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class NoTrainerLeft(RuntimeError):
    """No trainer with a result got to its end; the message names the last reason why one did not."""


class Stalled(RuntimeError):
    """A method asks for nothing although it is not done: a bug in the method."""


def run_in_process(
    method: Method,
    trainers: Mapping[int, Executes],
    listener: Listener | None = None,
    checkpoints: Path | None = None,
) -> dict[int, Report]:
    """Runs a method to its end and returns each member's last report.

    Args:
        trainers: the team, by member.
        listener: hears every report and hyper-step, once.
        checkpoints: folder for the state at orders marked ``checkpoint``. If it holds a state already, the
            study goes on from there, to the same trajectory as without the interruption. The state before it is
            kept, too, and used where the last one is damaged.

    Raises:
        DamagedFile: if no state there can be read, or it belongs to another study.
        NoTrainerLeft: if no trainer is left to go on, or those that are left have nothing to show.
    """
    listener = listener or Listener()
    run = _Run(method, dict(trainers), listener, checkpoints)
    run.restore()
    listener.resumed({member: run.numbers[member] for member in run.trainers}, run.hyper_steps)
    for member, trainer in run.trainers.items():
        method.join(member, trainer.space)
    listener.started(next(iter(trainers.values())).space, len(run.trainers))
    try:
        while not method.done:
            run.round()
    finally:
        listener.ended()
    if not method.results(run.last):
        raise NoTrainerLeft(": ".join(filter(None, (method.message, run.ended))) or "no trainer got to its end")
    return run.last


class _Run:
    def __init__(
        self, method: Method, trainers: dict[int, Executes], listener: Listener, checkpoints: Path | None
    ) -> None:
        self.method = method
        self.trainers = trainers
        self.listener = listener
        self.checkpoints = checkpoints
        self.numbers = dict.fromkeys(trainers, 0)
        self.hyper_steps = 0
        self.given = {"space": next(iter(trainers.values())).space}
        self.last: dict[int, Report] = {}
        self.ended = ""  # why the last trainer that stopped before its end did so

    def round(self) -> None:
        """One round of orders, executed one after the other."""
        orders = self.method.ask()
        if not orders:
            raise Stalled(f"{type(self.method).__name__} is not done but asks for nothing")
        for member, order in orders.items():
            self._execute(member, replace(order, number=self.numbers[member]))
        if not self.trainers:
            raise NoTrainerLeft(self.ended)
        if any(order.checkpoint for order in orders.values()):
            self.save()

    def _execute(self, member: int, order: WorkOrder) -> None:
        self.numbers[member] += 1
        report = self._report(self.trainers[member], order)
        self.last[member] = report
        step = self.method.tell(member, report)
        self.listener.reported(member, report)
        if isinstance(report, Diverged):
            reason = self._reason(report)
            self.listener.lost(member, reason)
            self.ended = f"trainer {member} stopped: {reason}"
            del self.trainers[member]
        if step is not None:
            self.hyper_steps = step.number + 1
            self.listener.hyper_step(step)

    def _report(self, trainer: Executes, order: WorkOrder) -> Report:
        if order.warm_from is None:
            return trainer.execute(order)
        source, key = order.warm_from
        warm = self.trainers[source].export_state(key) if source in self.trainers else None
        return trainer.execute(order, warm)

    def _reason(self, report: Report) -> str:
        saved = self.checkpoints / CHECKPOINT if self.checkpoints else None
        kept = f"the last good checkpoint is {saved}" if saved and saved.exists() else "no checkpoint was made"
        return f"{report.message}; {kept}"

    def save(self) -> None:
        if self.checkpoints is None:
            return
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        state: dict[str, Any] = {
            "method": self.method.state_dict(),
            "numbers": self.numbers,
            "hyper_steps": self.hyper_steps,
            "last": self.last,
            "ended": self.ended,
            "trainers": {member: trainer.state_dict() for member, trainer in self.trainers.items()},
        }
        path = self.checkpoints / CHECKPOINT
        new = self.checkpoints / f"new.{CHECKPOINT}"
        save_state(new, state, KIND, self.given)
        if path.exists():
            os.replace(path, self.checkpoints / BEFORE)
        os.replace(new, path)

    def restore(self) -> None:
        state = None if self.checkpoints is None else self._read(self.checkpoints)
        if state is None:
            return
        try:
            self._load(state)
        except (LookupError, RuntimeError, TypeError, ValueError) as error:  # what modules and optimizers raise
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise DamagedFile(
                f"{self.checkpoints}: holds the state of another study ({reason}); choose another folder"
            ) from error

    def _read(self, folder: Path) -> Any:
        """The last state that can be read; None if there is none."""
        remove_leftovers(folder)
        if (folder / "checkpoint.pt").exists():
            raise DamagedFile(
                f"{folder / 'checkpoint.pt'}: was written by an earlier version of selftune; go on with"
                " that one, or start the study anew in another folder"
            )
        damage = None
        for path in (folder / CHECKPOINT, folder / BEFORE):
            try:
                state = load_state(path, KIND, self.given)
            except FileNotFoundError:
                damage = damage or f"{path}: is missing"
            except DamagedFile as error:
                damage = str(error)
            else:
                if path.name == BEFORE:
                    logger.warning("%s; going on from the checkpoint before it", damage)
                return state
        if not any((folder / name).exists() for name in (CHECKPOINT, BEFORE)):
            return None
        raise DamagedFile(f"{damage}; remove the checkpoints in {folder} to start the study from its beginning")

    def _load(self, state: Mapping[str, Any]) -> None:
        self.method.load_state_dict(state["method"])
        self.numbers = state["numbers"]
        self.hyper_steps = state["hyper_steps"]
        self.last = state["last"]
        self.ended = state["ended"]
        self.trainers = {m: t for m, t in self.trainers.items() if m in state["trainers"]}
        for member, trainer in self.trainers.items():
            trainer.load_state_dict(state["trainers"][member])
