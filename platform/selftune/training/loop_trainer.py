"""A trainer whose training loop is somebody's own: it runs in a thread, and stands still between orders."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from selftune.errors import SettingError
from selftune.hyperparameters import Space
from selftune.methods import HyperStep, Report, WorkOrder
from selftune.methods.reports import Diverged, StateMissing
from selftune.methods.work_orders import Train
from selftune.training.divergence import NotFinite

if TYPE_CHECKING:
    from selftune.training.online_tuner import OnlineTuner

_CHANNEL: ContextVar[Channel | None] = ContextVar("channel", default=None)


def current_channel() -> Channel | None:
    """What connects the loop that runs in this thread to its trainer; None where it runs by itself."""
    return _CHANNEL.get()


class Channel:
    """The loop's end of its connection to a ``LoopTrainer``: the steering of its ``OnlineTuner``.

    One thread works at a time: the loop waits in ``exchange`` until an order comes, the trainer waits for the
    report of the order.

    Args:
        member, team: whose random numbers the tuner draws.
    """

    trajectory: list[HyperStep]

    def __init__(self, member: int, team: int) -> None:
        self.member = member
        self.team = team
        self.trajectory = []
        self.tuner: OnlineTuner | None = None
        self._to_loop: queue.SimpleQueue[WorkOrder | Callable[[], None]] = queue.SimpleQueue()
        self._to_trainer: queue.SimpleQueue[Report | Exception | None] = queue.SimpleQueue()

    # The loop's side ----------------------------------------------------------------------------------

    def exchange(self, report: Report | None) -> WorkOrder:
        """The next order, for the report of the last one; what the trainer wants done meanwhile is done here."""
        self._to_trainer.put(report)
        while True:
            message = self._to_loop.get()
            if isinstance(message, WorkOrder):
                return message
            message()
            self._to_trainer.put(None)

    def end(self, report: Callable[[], Report]) -> None:
        """Gives the last report; the loop goes on by itself."""
        self._to_trainer.put(report())

    def fail(self, error: Exception) -> None:
        self._to_trainer.put(error)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the scheduler remembers."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing: the scheduler remembers."""

    # The trainer's side -------------------------------------------------------------------------------

    def heard(self) -> Report | None:
        """What the loop says next.

        Raises:
            Exception: what the loop has raised.
        """
        message = self._to_trainer.get()
        if isinstance(message, Exception):
            raise message
        return message

    def order(self, order: WorkOrder) -> Report:
        """Has the loop carry out an order."""
        self._to_loop.put(order)
        report = self.heard()
        assert report is not None
        return report

    def do(self, action: Callable[[], None]) -> None:
        """Has the loop's thread do something while it stands still."""
        self._to_loop.put(action)
        self.heard()


class LoopTrainer:
    """Carries out work orders by a training loop of somebody's own, which makes an ``OnlineTuner``.

    The loop is a function that trains until ``tuner.done``; it runs in a thread of its own and waits, within
    ``tuner.step()``, whenever the steps of an order are done.

    Args:
        loop: the function, without arguments.
        member, team: which of the trainers it is; its tuner draws their random numbers.

    Raises:
        SettingError: if the loop ends without having made a tuner, or the tuner refuses its arguments.

    >>> import torch
    >>> from selftune import OnlineTuner, Tune
    >>> from selftune.methods import Budget, SelfTuning, SelfTuningSettings
    >>> from selftune.training.runner import run_in_process
    >>> def loop():
    ...     model, x = torch.nn.Linear(4, 1), torch.randn(16, 4)
    ...     optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ...     loss = lambda outputs, batch: (outputs[:, 0] - batch[:, 0]).square()
    ...     decay = {"weight_decay": {"strength": Tune(0.1)}}
    ...     tuner = OnlineTuner(model, optimizer, decay, loss=loss, validation=[torch.randn(16, 4)])
    ...     while not tuner.done:
    ...         tuner.loss(x).backward()
    ...         tuner.step()
    >>> method = SelfTuning(Budget(steps=20), SelfTuningSettings(warmup_steps=5))
    >>> reports = run_in_process(method, {0: LoopTrainer(loop)})
    >>> reports[0].kind, reports[0].metrics["training_step"]
    ('finish', 20.0)
    """

    def __init__(self, loop: Callable[[], None], member: int = 0, team: int = 0) -> None:
        self._channel = Channel(member, team)
        self._thread = threading.Thread(target=self._run, args=(loop,), name="training loop", daemon=True)
        self._thread.start()
        self._channel.heard()  # the tuner is there and waits for its first order
        assert self._channel.tuner is not None
        self._tuner = self._channel.tuner
        self.space: Space = self._tuner.space

    def _run(self, loop: Callable[[], None]) -> None:
        _CHANNEL.set(self._channel)
        try:
            loop()
            tuner = self._channel.tuner
            if tuner is None:
                raise SettingError("loop", "made no OnlineTuner; make one in it, of the network that it trains")
            if not tuner.done:
                raise SettingError(
                    "loop",
                    f"ended after {tuner.training_step} training steps, before its scheduler was done; go over the"
                    " data until tuner.done",
                )
        except Exception as error:  # noqa: BLE001  whatever the loop raises is raised where its report is awaited
            self._channel.fail(error)

    def execute(self, order: WorkOrder, warm: Any = None) -> Report:
        """Has the loop carry out an order; a loss that is not finite makes a report ``Diverged``.

        A loop goes forward only, so that an order to go on from another trainer's state is answered by
        ``StateMissing``.
        """
        if isinstance(order, Train) and order.start is not None:
            step, message = self._tuner.training_step, "a loop of one's own takes over no state of another trainer"
            return StateMissing(number=order.number, version=order.version, training_step=step, message=message)
        try:
            return replace(self._channel.order(order), number=order.number, version=order.version)
        except NotFinite as diverged:
            return Diverged(
                number=order.number,
                version=order.version,
                training_step=diverged.training_step,
                message=str(diverged),
            )

    def export_state(self, key: str) -> Any:
        """Nothing: a loop goes forward only."""
        return None

    def state_dict(self) -> dict[str, Any]:
        if self._tuner.done:
            return {"done": True}
        found: dict[str, Any] = {}
        self._channel.do(lambda: found.update(self._tuner.state_dict()))
        return found

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if "done" not in state:
            self._channel.do(lambda: self._tuner.load_state_dict(state))
