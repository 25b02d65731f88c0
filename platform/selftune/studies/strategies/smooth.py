"""Studies of smooth problems: a lower level that is solved to a tolerance, with error bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from selftune.errors import SettingError, suggestion
from selftune.hypergradients.oracle import Oracle
from selftune.hyperparameters import Space
from selftune.lower_level.smooth_objective import SmoothObjective
from selftune.methods import Budget, HyperStep, Report
from selftune.methods.team_method import TeamMethod
from selftune.studies.digests import smooth_digest
from selftune.studies.progress import Progress
from selftune.studies.smooth_progress import SmoothProgress
from selftune.studies.smooth_result import SmoothResult, smooth_result
from selftune.studies.strategies.strategy import Strategy
from selftune.training.method_record import SmoothForm, stop_reason
from selftune.training.team_run import Executes

if TYPE_CHECKING:
    from rich.console import Console

    from selftune.studies.display import Display
    from selftune.studies.runner import Runner
    from selftune.tracking.summary import Summary


class SmoothStrategy(Strategy):
    """See ``Strategy``."""

    objectives = SmoothObjective
    kind = "smooth"
    described_as = "a smooth lower level instead of a network"
    unused: ClassVar = {
        "regularizers": "cannot act on a problem that trains no network; put the penalty into its lower level",
        "seconds": "is no budget of a smooth problem; give steps or work",
        "patience": "is for methods that train networks; leave it out",
        "metric": "is that of networks; a smooth problem is judged by its validation_loss, leave it out",
        "seed": "has no effect on a method that draws nothing at random; leave it out",
        "device": "is that of a smooth problem's tensors; leave it out",
    }
    budget: ClassVar = {"work": 20_000}

    @classmethod
    def built(cls, task: Any, settings: Mapping[str, Any]) -> SmoothObjective:
        from selftune.studies.settings import build_settings  # needs pydantic, as study files do

        objective: SmoothObjective = build_settings(task, settings)
        return objective

    @classmethod
    def digest(cls, objective: SmoothObjective) -> str:
        return smooth_digest(objective)

    @classmethod
    def resources(cls, objective: SmoothObjective) -> dict[str, Any]:
        return {"cpus": torch.get_num_threads(), "gpus": float(_on_gpu(objective))}

    @property
    def objective(self) -> SmoothObjective:
        objective = self.study.objective
        assert isinstance(objective, SmoothObjective)
        return objective

    @property
    def form(self) -> SmoothForm:
        form = self.study.form
        assert isinstance(form, SmoothForm)
        return form

    def mistakes(self) -> Iterator[SettingError]:
        study, objective = self.study, self.objective
        if study.regularizers:
            names = ", ".join(dict.fromkeys(h.name for h in objective.hyperparameters))
            yield SettingError(
                "regularizers",
                "cannot act on a task that trains no network; remove this section, the hyperparameters"
                f" ({names}) belong to the task",
            )
        yield from self._device_mistakes()
        if not len(self.space):
            yield SettingError("objective", "nothing is tuned; the task fixes all of its hyperparameters")
            return
        found = [*self.form.checks(objective, study.method), *self._method_mistakes()]
        yield from found
        if found:
            return
        oracle = Oracle(objective)
        if study.metric != "validation_loss":  # other metrics may cost solves of the lower level
            measured = objective.metrics(oracle.unravel(oracle.start_x()), oracle.values(oracle.start_u()))
            known = ["validation_loss", *(name for name in measured if name.startswith("validation_"))]
            if study.metric not in known:
                yield SettingError("metric", f"unknown metric {study.metric!r}; {suggestion(study.metric, known)}")

    def _device_mistakes(self) -> Iterator[SettingError]:
        gpus, on_gpu = self.study.trainers.gpus_each, _on_gpu(self.objective)
        if self.study.trainers.workers > 1:
            yield SettingError("trainers.workers", "must be 1 for a smooth problem: one process solves it")
        if gpus and not on_gpu:
            yield SettingError("trainers.gpus", "must be 0, because the objective's device is the cpu; set both")
        if on_gpu and not gpus:
            yield SettingError("objective.device", "is a GPU, but the trainers get none; set trainers.gpus")

    def _method_mistakes(self) -> Iterator[SettingError]:
        try:
            machine = self.method()
        except SettingError as error:
            key = "trainers.number" if error.key == "team_size" else f"method.{error.key}"
            yield SettingError(key, error.message)
            return
        yield from machine.mistakes(self.space)

    @cached_property
    def space(self) -> Space:
        return Space(self.objective.hyperparameters)

    def trainers(self, seed: int | None = None) -> Callable[[int], Executes]:
        study = self.study
        drawn = study.seed if seed is None else seed
        return self.form.trainers(self.objective, study.method, study.trainers.cpus, drawn)

    # Showing -----------------------------------------------------------------------------------------

    def described(self) -> Iterator[tuple[str, Sequence[str]]]:
        from selftune.studies.smooth_outcome import described

        yield described(self.objective, self.form)

    @classmethod
    def lines(cls, say: Callable[[str], None], title: str, budget: Budget) -> Progress:
        return SmoothProgress(say, title, budget)

    @classmethod
    def display(cls, console: Console, title: str, budget: Budget) -> Display:
        from selftune.studies.smooth_display import SmoothDisplay

        return SmoothDisplay(console, title, budget)

    # Running -----------------------------------------------------------------------------------------

    def keep(self, folder: Path, reports: Mapping[int, Report], summary: Summary) -> Summary:
        from selftune.studies.smooth_outcome import keep_solution

        return keep_solution(self, folder, reports, summary)

    def compared(self, folder: Path, console: Console, runner: Runner, summary: Summary) -> Summary:
        from selftune.studies.smooth_outcome import solved_at_start

        return {"fixed": solved_at_start(self, folder)}

    def call(self) -> dict[str, Any]:
        study = self.study
        drawn = {"seed": study.seed} if self.form.draws else {}
        return {
            "method": study.method_name,
            "budget": study.budget,
            "trainers": study.trainers.number,
            "settings": study.method,
            **drawn,
        }

    def result(
        self, machine: TeamMethod, reports: Mapping[int, Report], taken: Sequence[HyperStep]
    ) -> tuple[SmoothResult, dict[str, object]]:
        result = smooth_result(self.objective, self.space, reports[min(reports)], taken, str(machine.stopped))
        return result, {"steps": len(taken), "stopped": stop_reason(result.stopped)}


def _on_gpu(objective: SmoothObjective) -> bool:
    return str(getattr(objective, "device", "cpu")).startswith("cuda")
