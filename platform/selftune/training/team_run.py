"""A method and its trainers, round by round: orders go out, reports come in, and all of it can be saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from selftune.hyperparameters import Space
from selftune.listener import Listener, Place
from selftune.methods import Method, Report, WorkOrder
from selftune.methods.reports import Diverged
from selftune.storage.files import DamagedFile
from selftune.storage.kept_state import KeptState
from selftune.training.state_store import StateStore

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


@runtime_checkable
class Dispatches(Executes, Protocol):
    """A trainer that works elsewhere, while this process goes on."""

    def dispatch(self, order: WorkOrder, warm: Any = None) -> Callable[[], Report]:
        """Begins with an order at once; what it returns waits for the report."""


class NoTrainerLeft(RuntimeError):
    """No trainer with a result got to its end; the message names the last reason why one did not."""


class Stalled(RuntimeError):
    """A method asks for nothing although it is not done: a bug in the method."""


class TeamRun:
    """A method with its trainers, moved one round of orders at a time.

    Args:
        method: a fresh one, or one that ``restore`` will bring to where it was.
        trainers: the team, by member.
        listener: hears every report and hyper-step, once.
        checkpoints: folder for the state after rounds with orders marked ``checkpoint``; None saves none.

    Attributes:
        states: which trainers keep which states.
        last: each member's last report.
        ended: why the last trainer that stopped before its end did so.

    >>> from selftune import Classification, Optimization, Tune
    >>> from selftune.methods import Budget, SelfTuning, SelfTuningSettings
    >>> from selftune.training import TrainerFactory
    >>> import torch
    >>> data = torch.randn(64, 4), torch.randint(3, (64,))
    >>> objective = Classification(lambda: torch.nn.Linear(4, 3), data, data, data, Optimization(batch_size=16))
    >>> factory = TrainerFactory(objective, {"weight_decay": {"strength": Tune(1e-3)}})
    >>> run = TeamRun(SelfTuning(Budget(steps=10), SelfTuningSettings(warmup_steps=5)), {0: factory(0)})
    >>> run.join()
    >>> run.round()
    >>> run.training_step, run.done
    (5, False)
    """

    def __init__(
        self,
        method: Method,
        trainers: Mapping[int, Executes],
        listener: Listener | None = None,
        checkpoints: Path | None = None,
    ) -> None:
        self.method = method
        self.trainers = dict(trainers)
        self.listener = listener or Listener()
        self.checkpoints = checkpoints
        self.space = next(iter(self.trainers.values())).space
        self.states = StateStore()
        self.numbers = dict.fromkeys(self.trainers, 0)
        self.hyper_steps = 0
        self.last: dict[int, Report] = {}
        self.ended = ""

    @property
    def done(self) -> bool:
        """Whether the method has nothing left to ask."""
        return self.method.done

    @property
    def training_step(self) -> int:
        """Training steps that the furthest network has behind it; 0 where nothing is trained."""
        return max((getattr(report, "training_step", 0) for report in self.last.values()), default=0)

    def join(self) -> None:
        """The trainers join the method, after ``restore`` where the run goes on.

        Raises:
            SettingError: if the method cannot tune the hyperparameters.
        """
        for member, trainer in self.trainers.items():
            if not isinstance(trainer, Dispatches):
                self.listener.arrived(member, Place.here())
        self.listener.resumed({member: self.numbers[member] for member in self.trainers}, self.hyper_steps)
        for member, trainer in self.trainers.items():
            self.method.join(member, trainer.space)
        self.listener.started(self.space, len(self.trainers))

    def round(self) -> None:
        """One round of orders.

        Trainers that work elsewhere get theirs at once and work side by side; the others work one after the other.
        The method is told the reports in the order of its orders, and each before the next trainer here begins.

        Raises:
            NoTrainerLeft: if the last trainer has stopped before its end.
            Stalled: if the method has no orders although it is not done.
        """
        orders = self.method.ask()
        if not orders:
            raise Stalled(f"{type(self.method).__name__} is not done but asks for nothing")
        numbered = {member: replace(order, number=self.numbers[member]) for member, order in orders.items()}
        for member, report in self._begun(numbered).items():
            self._tell(member, numbered[member], report())
        if not self.trainers:
            raise NoTrainerLeft(self.ended)
        if self.checkpoints is not None and any(order.checkpoint for order in orders.values()):
            self.save(self.checkpoints)

    def _begun(self, orders: Mapping[int, WorkOrder]) -> dict[int, Callable[[], Report]]:
        """What gives each member's report: of a trainer elsewhere, which is at work by now, by waiting for it."""
        elsewhere = any(isinstance(self.trainers[member], Dispatches) for member in orders)
        # before anybody goes on, who may forget the states
        copies = self.states.copies(orders, self.trainers) if elsewhere else {}
        begun: dict[int, Callable[[], Report]] = {}
        for member, order in orders.items():
            self.numbers[member] += 1
            trainer = self.trainers[member]
            if isinstance(trainer, Dispatches):
                begun[member] = trainer.dispatch(order, copies.get(member))
            else:
                begun[member] = partial(self._executed, member, order, copies)
        return begun

    def _executed(self, member: int, order: WorkOrder, copies: Mapping[int, Any]) -> Report:
        copies = copies or self.states.copies({member: order}, self.trainers)
        return self.trainers[member].execute(order, copies.get(member))

    def _tell(self, member: int, order: WorkOrder, report: Report) -> None:
        self.states.did(member, order, report)
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

    def _reason(self, report: Report) -> str:
        saved = KeptState(self.checkpoints, KIND, KIND).path if self.checkpoints else None
        kept = f"the last good checkpoint is {saved}" if saved and saved.exists() else "no checkpoint was made"
        return f"{report.message}; {kept}"

    # State -------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Writes the whole state into a folder; the one that is there is kept as the one before.

        Raises:
            OSError: if it cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        state: dict[str, Any] = {
            "method": self.method.state_dict(),
            "states": self.states.state_dict(),
            "numbers": self.numbers,
            "hyper_steps": self.hyper_steps,
            "last": self.last,
            "ended": self.ended,
            "trainers": {member: trainer.state_dict() for member, trainer in self.trainers.items()},
        }
        KeptState(folder, KIND, KIND).save(state, {"space": self.space})

    def restore(self, folder: Path) -> bool:
        """Goes to the state in a folder, or to the one before where the last is damaged.

        Returns:
            Whether there was one.

        Raises:
            DamagedFile: if no state there can be read, or it belongs to another study.
        """
        state = self._read(folder)
        if state is None:
            return False
        try:
            self._load(state)
        except (LookupError, RuntimeError, TypeError, ValueError) as error:  # what modules and optimizers raise
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise DamagedFile(
                f"{folder}: holds the state of another study ({reason}); choose another folder"
            ) from error
        return True

    def _read(self, folder: Path) -> Any:
        """The last state that can be read; None if there is none."""
        if (folder / "checkpoint.pt").exists():
            raise DamagedFile(
                f"{folder / 'checkpoint.pt'}: was written by an earlier version of selftune; go on with"
                " that one, or start the study anew in another folder"
            )
        return KeptState(folder, KIND, KIND).load({"space": self.space})

    def _load(self, state: Mapping[str, Any]) -> None:
        self.method.load_state_dict(state["method"])
        self.states.load_state_dict(state["states"])
        self.numbers = state["numbers"]
        self.hyper_steps = state["hyper_steps"]
        self.last = state["last"]
        self.ended = state["ended"]
        self.trainers = {m: t for m, t in self.trainers.items() if m in state["trainers"]}
        for member, trainer in self.trainers.items():
            trainer.load_state_dict(state["trainers"][member])
