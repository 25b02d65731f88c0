"""Steps of an optimizer with what goes with them: accumulation, loss scaling, clipping, schedule, average."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from selftune.lower_level.learning_rate_schedule import LearningRateSchedule
from selftune.lower_level.optimization import Optimization
from selftune.networks.gradients import give_gradients
from selftune.shapes import Float, Tensor
from selftune.training.weight_average import WeightAverage

_LENGTH = ("total_steps", "_schedule_phases")
"""What a one-cycle schedule knows of the whole run, which may have got a larger budget since it was saved."""


class Descent:
    """Moves weights by their gradients, as an ``Optimization`` says.

    A training step begins with ``begin`` and calls ``backward``. Where ``ready`` says so, ``step`` follows, and
    then ``finish``; what regularizers do to gradients and weights lies between them.

    Args:
        optimization: what goes with a step.
        optimizer: as the optimization builds it, or somebody's own.
        weights: the trained ones, by name.
        steps: training steps of the run; None where nobody knows.
        device: where the weights live.

    >>> weight = torch.ones(1, requires_grad=True)
    >>> optimization = Optimization(learning_rate=0.5, momentum=0, clip_norm=0.1)
    >>> optimizer = optimization.build([weight])
    >>> descent = Descent(optimization, optimizer, {"weight": weight}, None, torch.device("cpu"))
    >>> descent.begin(0)
    >>> descent.backward(weight.sum())
    >>> if descent.ready():
    ...     descent.step()
    ...     descent.finish()
    >>> weight
    tensor([0.9500], requires_grad=True)
    """

    def __init__(
        self,
        optimization: Optimization,
        optimizer: torch.optim.Optimizer,
        weights: Mapping[str, Tensor],
        steps: int | None,
        device: torch.device,
    ) -> None:
        self.optimizer = optimizer
        self._optimization = optimization
        self._weights = dict(weights)
        self._scheduler = optimization.build_scheduler(optimizer, steps)
        half = optimization.autocast == "float16"
        self._scaler = torch.amp.GradScaler(device.type) if half else None
        decay = optimization.average
        self.average = None if decay is None else WeightAverage(weights, decay)
        self._waiting = 0  # training steps whose gradients are there
        self._added: list[tuple[Tensor, Tensor]] = []

    def begin(self, number: int) -> None:
        """A training step begins, of this number: the learning rate is that of the schedule at it.

        Until the next one begins it stays, for what follows the optimizer's step.
        """
        if self._scheduler is None:
            return
        with warnings.catch_warnings():  # gradients are accumulated first, which torch takes for a mistake
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            while self._scheduler.last_epoch < number:
                self._scheduler.step()

    def backward(self, loss: Float[Tensor, ""]) -> None:
        """Gradients of a training step, on top of those that wait for the optimizer."""
        if not self._waiting:
            self.optimizer.zero_grad()
        if self._optimization.accumulate > 1:
            loss = loss / self._optimization.accumulate
        if self._scaler is not None:
            loss = self._scaler.scale(loss)
        loss.backward()  # type: ignore[no-untyped-call]
        self._waiting += 1

    @property
    def is_due(self) -> bool:
        """Whether the gradients of so many training steps are there that the optimizer follows."""
        return not 0 < self._waiting < self._optimization.accumulate

    def ready(self) -> bool:
        """Whether the optimizer is due, with gradients that are what they are called, not a scaled loss's.

        Gradients that overflowed in half precision are dropped: the scale is lowered, and nothing moves.
        """
        if not self.is_due:
            return False
        self._waiting = 0
        if self._scaler is None:
            return True
        self._scaler.unscale_(self.optimizer)
        gradients = [weight.grad for weight in self._weights.values() if weight.grad is not None]
        if bool(torch.isfinite(torch.nn.utils.get_total_norm(gradients))):
            return True
        self._scaler.update()
        return False

    def step(self) -> None:
        """Adds what a method adds, clips, and steps the optimizer."""
        self._add()
        weights, chosen = list(self._weights.values()), self._optimization
        if chosen.clip_value is not None:
            torch.nn.utils.clip_grad_value_(weights, chosen.clip_value)
        if chosen.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(weights, chosen.clip_norm)
        self.optimizer.step()  # of gradients that ``ready`` has looked at; the scaler would look again
        if self._scaler is not None:
            self._scaler.update()

    def finish(self) -> None:
        """After the weights have moved: their average follows."""
        if self.average is not None:
            self.average.update()

    @contextmanager
    def adding(self, weights: Sequence[Tensor], added: Sequence[Tensor | None]) -> Iterator[None]:
        """Within it, ``added`` joins the gradients of the optimizer's first step, right before they are clipped.

        It is not in the loss: whatever regularizers make of a training step, of its gradients, its stages and its
        shards, they make of that of the loss alone.
        """
        self._added = [
            (weight, gradient) for weight, gradient in zip(weights, added, strict=True) if gradient is not None
        ]
        try:
            yield
        finally:
            self._added = []

    def _add(self) -> None:
        present = [(weight.grad, gradient) for weight, gradient in self._added if weight.grad is not None]
        for weight, gradient in self._added:
            if weight.grad is None:
                give_gradients([weight], [gradient])
        if present:
            torch._foreach_add_(*(list(column) for column in zip(*present, strict=True)))
        self._added = []

    def take_settings(self, settings: Sequence[Mapping[str, Any]]) -> None:
        """Sets the optimizer, which has loaded a state that was saved under others; a schedule stays at its step.

        Where a function of others made optimizer or schedule, nothing is known of what they change, and they stay
        as they are.

        Args:
            settings: of each group, as they are at the first training step.
        """
        chosen, scheduler = self._optimization, self._scheduler
        if not isinstance(chosen.optimizer, str) or not isinstance(chosen.schedule, LearningRateSchedule | None):
            return
        for group, own in zip(self.optimizer.param_groups, settings, strict=True):
            if scheduler is None:
                group.update(own)
                continue
            rate = _in_proportion(group, own["initial_lr"], getattr(scheduler, "eta_min", 0.0))
            scheduled = ("momentum", "betas") if "max_momentum" in group else ()
            group.update({key: value for key, value in own.items() if key not in scheduled} | {"lr": rate})
        if scheduler is not None:
            scheduler.base_lrs = [group["initial_lr"] for group in self.optimizer.param_groups]

    # State -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The state beside that of the optimizer."""
        waiting = {name: weight.grad for name, weight in self._weights.items() if self._waiting}
        return {
            "scheduler": None if self._scheduler is None else _plain(self._scheduler.state_dict()),
            "scaler": None if self._scaler is None else self._scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "waiting": self._waiting,
            "gradients": waiting,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """To be called after the optimizer has its state."""
        if self._scheduler is not None:
            kept = {key: value for key, value in state["scheduler"].items() if key not in _LENGTH}
            self._scheduler.load_state_dict(kept)
        if self._scaler is not None:
            self._scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self._waiting = state["waiting"]
        gradients = state["gradients"]
        self.optimizer.zero_grad()
        for name, gradient in gradients.items():
            if gradient is not None:
                weight = self._weights[name]
                give_gradients([weight], [gradient.to(weight.device, copy=True)])


def _in_proportion(group: Mapping[str, Any], initial: float, least: float) -> float:
    """A group's rate on its way from its initial rate to the least one, if it had begun at another."""
    before, rate = group["initial_lr"], group["lr"]
    if initial == before or before == least:
        return float(rate)
    return float(least + (rate - least) * (initial - least) / (before - least))


def _plain(state: Any) -> Any:
    """The state of a scheduler of torch in what files of states hold."""
    if isinstance(state, Counter):
        return dict(state)
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_plain(value) for value in state)
    return state
