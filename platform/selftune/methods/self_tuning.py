"""Self-Tuning Networks as a state machine: train a cycle, take a hypergradient, move the hyperparameters."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import torch

from selftune.errors import SettingError
from selftune.hyperparameters import Space, entropy_gradient, inverse_softplus, scale_of
from selftune.methods.budget import Budget
from selftune.methods.method import HyperStep, Method, Report, WorkOrder
from selftune.methods.self_tuning_settings import SCALE_BOUNDS, SelfTuningSettings
from selftune.methods.update_rules import UpdateRule, UpdateSettings
from selftune.shapes import Float, Tensor

_WARMUP_CHUNK = 50  # training steps per warm-up order, so that the display moves and a stop comes soon


class SelfTuning(Method):
    """Self-Tuning Networks (arXiv 1903.03088) and Delta-STN (arXiv 2010.13514) for a team of trainers.

    Every member trains its own network for ``train_steps`` and reports the hypergradient of its validation
    loss; the mean over the team moves the hyperparameters that all share.

    Args:
        budget: when to stop.
        settings: see ``SelfTuningSettings``.
        team_size: number of trainers; nothing is asked before all have joined.

    >>> from selftune.hyperparameters import Hyperparameter, Positive
    >>> method = SelfTuning(Budget(steps=10), SelfTuningSettings(warmup_steps=0))
    >>> method.join(0, Space([Hyperparameter("weight_decay.strength", Positive(), 1e-3, tuned=True)]))
    >>> method.ask()
    {0: WorkOrder('cycle', number=-1)}
    """

    def __init__(self, budget: Budget, settings: SelfTuningSettings | None = None, team_size: int = 1) -> None:
        self.budget = budget
        self.settings = settings or SelfTuningSettings()
        self.team_size = team_size
        self.space: Space | None = None
        self._members: dict[int, str] = {}  # member -> idle | busy | finished
        self._assembled = False
        self._reports: dict[int, Report] = {}
        self._training_step = 0
        self._hyper_step = 0
        self._seconds = 0.0
        self._training_loss = math.nan
        self._unconstrained = torch.empty(0)
        self._scale_parameter = torch.empty(0)
        self._updates: UpdateRule | None = None

    # Team --------------------------------------------------------------------------------------------

    def join(self, member: int, space: Space) -> None:
        if self.space is None:
            self._set_space(space)
        elif self.space != space:
            raise ValueError(f"member {member} tunes other hyperparameters than the rest of its team")
        self._members.setdefault(member, "idle")

    def leave(self, member: int) -> HyperStep | None:
        self._members.pop(member, None)
        self._reports.pop(member, None)
        self.team_size = max(1, self.team_size - 1)
        return self._complete()

    @property
    def done(self) -> bool:
        return self._assembled and all(state == "finished" for state in self._members.values())

    def _set_space(self, space: Space) -> None:
        if not len(space):
            raise SettingError("regularizers", "no hyperparameter is tuned; mark at least one with a start")
        self.space = space
        self._unconstrained = space.start.clone()
        self._scale_parameter = inverse_softplus(torch.full_like(self._unconstrained, self.settings.scale))
        rule = UpdateSettings(rule=self.settings.optimizer, learning_rate=self.settings.learning_rate)
        rates = [None, self.settings.scale_learning_rate]
        self._updates = UpdateRule(rule, [self._unconstrained, self._scale_parameter], rates)

    # Ask and tell ------------------------------------------------------------------------------------

    def ask(self) -> dict[int, WorkOrder]:
        if not self._assembled:
            if len(self._members) < self.team_size:
                return {}
            self._assembled = True
        if any(state == "busy" for state in self._members.values()):
            return {}
        idle = [member for member, state in self._members.items() if state == "idle"]
        if not idle:
            return {}
        order = self._next_order()
        for member in idle:
            self._members[member] = "busy"
        return dict.fromkeys(idle, order)

    def _next_order(self) -> WorkOrder:
        body: dict[str, Any] = {
            "unconstrained": self._unconstrained.clone(),
            "scale": scale_of(self._scale_parameter),
            "response": asdict(self.settings.response),
            "tune_scale": self.settings.tune_scale,
            "hyper_step": self._hyper_step,
        }
        if self._spent():
            return WorkOrder("finish", body, checkpoint=True)
        steps = self._steps_due()
        body |= {"steps": steps, "hypergradient": not self._warming_up()}
        every = self.settings.checkpoint_every
        if self._warming_up():  # as often as later, counted in training steps
            checkpoint = (self._training_step + steps) % (every * self.settings.train_steps) < steps
        else:
            checkpoint = (self._hyper_step + 1) % every == 0
        return WorkOrder("cycle", body, checkpoint=checkpoint)

    def _warming_up(self) -> bool:
        return self._training_step < self.settings.warmup_steps

    def _steps_due(self) -> int:
        if self._warming_up():
            due = min(_WARMUP_CHUNK, self.settings.warmup_steps - self._training_step)
        elif self._hyper_step % self.settings.validation_steps == 0:
            due = self.settings.train_steps
        else:
            due = 0
        if self.budget.steps is not None:
            due = min(due, self.budget.steps - self._training_step)
        return due

    def _spent(self) -> bool:
        if self.budget.steps is not None:
            return self._training_step >= self.budget.steps
        assert self.budget.seconds is not None
        return self._seconds >= self.budget.seconds

    def tell(self, member: int, report: Report) -> HyperStep | None:
        if report.kind == "diverged":
            return self.leave(member)
        if report.kind == "finish":
            self._members[member] = "finished"
            return None
        self._reports[member] = report
        self._members[member] = "idle"
        return self._complete()

    def _complete(self) -> HyperStep | None:
        """Ends the cycle once nobody is at work on it."""
        if not self._reports or any(state == "busy" for state in self._members.values()):
            return None
        reports = [self._reports[m] for m in sorted(self._reports)]
        self._reports = {}
        training_step = int(reports[0].metrics["training_step"])
        if training_step > self._training_step:  # a hyper-step without training keeps the last training's loss
            self._training_loss = _average(r.metrics["training_loss"] for r in reports)
        self._training_step = training_step
        self._seconds += max(r.metrics["seconds"] for r in reports)
        if "hypergradient" not in reports[0].payload:
            return None
        return self._move(reports)

    def _move(self, reports: list[Report]) -> HyperStep:
        assert self.space is not None
        assert self._updates is not None
        hypergradient = _mean([r.payload["hypergradient"] for r in reports])
        step = HyperStep(
            number=self._hyper_step,
            training_step=self._training_step,
            seconds=self._seconds,
            training_loss=self._training_loss,
            validation_loss=_average(r.metrics["validation_loss"] for r in reports),
            hyperparameters=self.space.constrain(self._unconstrained.clone()),
            scale=scale_of(self._scale_parameter),
            hypergradient=hypergradient,
        )
        scale_gradient = None
        if self.settings.tune_scale:
            s = self._scale_parameter
            # the trainer differentiates with respect to sigma; s enters through sigma = softplus(s)
            scale_gradient = _mean([r.payload["scale_gradient"] for r in reports]) * torch.sigmoid(s)
            scale_gradient -= self.settings.entropy_weight * entropy_gradient(s)
        self._updates.step([hypergradient, scale_gradient])
        low, high = (inverse_softplus(torch.tensor(bound)) for bound in SCALE_BOUNDS)
        self._scale_parameter.clamp_(low, high)
        self._hyper_step += 1
        return step

    # State -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        return {
            "team_size": self.team_size,
            "members": dict(self._members),
            "assembled": self._assembled,
            "reports": dict(self._reports),
            "training_step": self._training_step,
            "hyper_step": self._hyper_step,
            "seconds": self._seconds,
            "training_loss": self._training_loss,
            "space": self.space,
            "unconstrained": self._unconstrained.clone(),
            "scale_parameter": self._scale_parameter.clone(),
            "updates": self._updates.state_dict() if self._updates else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state["space"] is not None:
            self._set_space(state["space"])
            self._unconstrained.copy_(state["unconstrained"])
            self._scale_parameter.copy_(state["scale_parameter"])
            assert self._updates is not None
            self._updates.load_state_dict(state["updates"])
        self.team_size = state["team_size"]
        self._members = dict(state["members"])
        self._assembled = state["assembled"]
        self._reports = dict(state["reports"])
        self._training_step = state["training_step"]
        self._hyper_step = state["hyper_step"]
        self._seconds = state["seconds"]
        self._training_loss = state["training_loss"]

    @property
    def hyperparameters(self) -> Float[Tensor, "n"]:
        """The current constrained values of the tuned hyperparameters."""
        assert self.space is not None
        return self.space.constrain(self._unconstrained.clone())


def _mean(tensors: list[Tensor]) -> Tensor:
    return torch.stack(tensors).mean(dim=0)


def _average(numbers: Iterable[float]) -> float:
    return statistics.fmean(numbers)
