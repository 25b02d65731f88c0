"""Diagnostics in a trainer: computed on validation data, between training steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from selftune.methods.measures import DIAGNOSTIC
from selftune.registries.diagnostics import Measurement
from selftune.shapes import Float, Tensor
from selftune.training.lower_level import LowerLevel


class Measurements:
    """The diagnostics of a study on one network.

    Args:
        lower: the network and its data.
        measurements: what is measured, and how often.
    """

    def __init__(self, lower: LowerLevel, measurements: Sequence[Measurement]) -> None:
        self.lower = lower
        self.measurements = tuple(measurements)
        self._accuracies: list[Tensor] = []
        self._starts: list[int] = []
        needs = {need for m in measurements for need in m.entry.needs.values()}
        self._by_stage = bool(needs & {"stage_accuracies", "stage_boundaries"})

    def take(self, hyper_step: int, number: int) -> dict[str, Float[Tensor, ""]]:
        """What is due at a hyper-step, by name, on the device; ``number`` is that of the next training step."""
        due = [m for m in self.measurements if hyper_step % m.every == 0]
        if not due:
            return {}
        with self.lower.measuring(number) as step:
            if self._by_stage:
                self._remember_stages(step.logits, number)
                step.know(stage_accuracies=torch.stack(self._accuracies), stage_boundaries=self._boundaries())
            taken = {name: value for m in due for name, value in m.take(step).items()}
        return {f"{DIAGNOSTIC}{name}": value.double().reshape(()) for name, value in taken.items()}

    def _remember_stages(self, logits: Tensor, number: int) -> None:
        """Accuracy on the classes of every stage, and where each stage begins in this history."""
        lower = self.lower
        stages = lower.batches.stages
        splits = lower.objective.splits()
        labels, right = (splits[name]["labels"].to(logits.device) for name in ("validation", "train"))
        hits = (logits.argmax(dim=-1) == labels[: len(logits)]).double()
        rows = []
        for stage in stages:
            own = torch.isin(labels[: len(logits)], right[stage.index.to(right.device)])
            rows.append((hits * own).sum() / own.sum())
        while len(self._starts) <= lower.batches.stage(max(0, number - 1)):
            if self._starts and self._starts[-1] == len(self._accuracies):  # a stage that passed unmeasured
                self._accuracies.append(torch.stack(rows))
            self._starts.append(len(self._accuracies))
        self._accuracies.append(torch.stack(rows))

    def _boundaries(self) -> Tensor:
        stages = len(self.lower.batches.stages)
        ends = [len(self._accuracies)] * (stages + 1 - len(self._starts))
        return torch.tensor(self._starts + ends)

    def state_dict(self) -> dict[str, Any]:
        return {"accuracies": list(self._accuracies), "starts": list(self._starts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._accuracies = [row.to(self.lower.device) for row in state["accuracies"]]
        self._starts = list(state["starts"])
