"""Studies of networks: trained on mini-batches, acted on by regularizers, compared and replayed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from selftune.errors import SettingError, suggestion
from selftune.hypergradients.best_response import ConversionReport
from selftune.hyperparameters import Space
from selftune.lower_level.objective import NetworkObjective
from selftune.lower_level.start_values import starts_by_rule, with_starts
from selftune.methods import Budget, HyperStep, Report, Response
from selftune.methods.team_method import TeamMethod
from selftune.networks.inventory import undisturbed
from selftune.regularization.regularizer import Regularizer
from selftune.storage.files import replacing
from selftune.studies.averages import mean_metrics, spread_metrics
from selftune.studies.best_network import best_network
from selftune.studies.digests import network_digest
from selftune.studies.plain_network import network_from, network_of, untrained
from selftune.studies.progress import Progress
from selftune.studies.result import Result, schedule_of
from selftune.studies.strategies.strategy import Strategy
from selftune.training import TrainerFactory
from selftune.training.checks import conversion_of, coverage_of, run_mistakes, space_of
from selftune.training.coverage import Coverage
from selftune.training.method_record import NetworkForm
from selftune.training.sharing import sharing_mistakes

if TYPE_CHECKING:
    from rich.console import Console

    from selftune.studies.display import Display
    from selftune.studies.runner import Runner
    from selftune.tracking.summary import Summary


class NetworkStrategy(Strategy):
    """See ``Strategy``."""

    objectives = NetworkObjective
    kind = "network"
    described_as = "a network"
    required = ("regularizers",)
    unused: ClassVar = {"work": "is no budget of methods that train networks; give steps or seconds"}

    @classmethod
    def built(cls, task: Any, settings: Mapping[str, Any]) -> NetworkObjective:
        from selftune.studies.optimization import build_task  # needs pydantic, as study files do

        return build_task(task, settings)

    @classmethod
    def digest(cls, objective: NetworkObjective) -> str:
        return network_digest(objective)

    @property
    def objective(self) -> NetworkObjective:
        objective = self.study.objective
        assert isinstance(objective, NetworkObjective)
        return objective

    @property
    def form(self) -> NetworkForm:
        form = self.study.form
        assert isinstance(form, NetworkForm)
        return form

    def started(self) -> tuple[Regularizer, ...]:
        regularizers, objective = self.study.regularizers, self.objective
        if not any(map(starts_by_rule, regularizers)):
            return regularizers
        try:
            objective.check_losses()
        except SettingError as error:
            raise SettingError(f"objective.{error.key}".rstrip("."), error.message) from error
        try:
            return with_starts(regularizers, objective, self.study.budget.steps)
        except SettingError as error:
            raise SettingError(f"regularizers.{error.key}", error.message) from error

    def mistakes(self) -> Iterator[SettingError]:
        study = self.study
        found = list(run_mistakes(self._factory(), self.method, self.form, study.method))
        found = found or list(sharing_mistakes(self.objective, study.regularizers, study.trainers.workers))
        yield from found
        if found:
            return
        better = {name: mode for m in study.diagnostics for name, mode in m.better.items()}
        known = [*metrics_of(self.objective), *better]
        if study.metric not in known:
            yield SettingError("metric", f"unknown metric {study.metric!r}; {suggestion(study.metric, known)}")
        elif study.metric in better and better[study.metric] is None:
            yield SettingError("metric", f"{study.metric} is neither better large nor better small; name another")

    def horizon_mistakes(self) -> Iterator[SettingError]:
        study, horizon = self.study, self.study.horizon
        if horizon is None:
            return
        if not self.form.moves:
            yield SettingError(
                "horizon", f"compares a schedule with its end, and {study.method_name} moves nothing"
            )
        elif study.budget.steps is not None and horizon.share < 1:
            steps = horizon.steps(study.budget.steps)
            shorter = replace(self._factory(), steps=steps)
            for mistake in run_mistakes(shorter, self.method):
                yield SettingError("horizon.share", f"leaves {steps:,} training steps, and {mistake}")

    # Making ------------------------------------------------------------------------------------------

    @cached_property
    def space(self) -> Space:
        return space_of(self._factory())

    def trainers(self, seed: int | None = None) -> TrainerFactory:
        return self._factory(seed, checked=True)

    def _factory(self, seed: int | None = None, checked: bool = False) -> TrainerFactory:
        study = self.study
        return TrainerFactory(
            self.objective,
            study.regularizers,
            seed=study.seed if seed is None else seed,
            device=study.device or study.trainers.device,
            cpus=study.trainers.cpus,
            group_size=self.form.group_size,
            steps=study.budget.steps,
            diagnostics=study.diagnostics,
            checked=checked,
        )

    @property
    def networks(self) -> int:
        """How many networks come out, each with random numbers of its own."""
        return 1 if self.form.one_network else self.study.trainers.number // self.form.group_size

    def as_network(self, folder: Path) -> NetworkStrategy:
        return self

    def untrained(self) -> nn.Module:
        """A network of the study, untrained, with what its regularizers make part of it."""
        return untrained(self.objective, self.study.regularizers)

    def trained(self, report: Report) -> nn.Module:
        """The plain network that a "finish" report carries."""
        return network_of(self.objective, self.study.regularizers, report)

    @property
    def built_of(self) -> Callable[[Mapping[str, Any]], nn.Module]:
        """Makes a plain network of its tensors by name."""
        return partial(network_from, self.objective, self.study.regularizers)

    # What responds -----------------------------------------------------------------------------------

    @property
    def response(self) -> Response | None:
        """How layers are made to respond to the hyperparameters; None where the method needs none."""
        return None if self.form.response is None else self.form.response(self.study.method)

    @cached_property
    def conversion(self) -> ConversionReport | None:
        """Which layers respond, and which stay plain and why; None where the method needs no response."""
        return None if self.response is None else conversion_of(self._factory(), self.response)

    @cached_property
    def coverage(self) -> Coverage:
        """How much of the network regularizers reach, and how much of it responds."""
        return coverage_of(self._factory(), self.response)

    def report(self, most: int | None = None) -> str:
        if self.conversion is None:
            return str(self.coverage)
        layers = str(self.conversion).splitlines()
        if most is not None and len(layers) > most:
            layers = [*layers[:most], f"and {len(layers) - most} more"]
        return "\n".join([*layers, "", str(self.coverage)])

    # Showing -----------------------------------------------------------------------------------------

    def described(self) -> Iterator[tuple[str, Sequence[str]]]:
        if self.conversion is None:
            yield "network, differentiated as it is:", [type(self.objective).__name__]
        else:
            yield "layers that respond to them:", str(self.conversion).splitlines()
        yield "parameters of the network:", str(self.coverage).splitlines()
        horizon = self.study.horizon
        if horizon is not None:
            steps = self.study.budget.steps
            long = f"{horizon.share:.3g} of the steps" if steps is None else f"{horizon.steps(steps):,} steps"
            trained = f"{horizon.kinds} times {horizon.networks} networks, each for {long}"
            yield "after tuning, with the schedule and with its last values held:", [trained]

    @classmethod
    def lines(cls, say: Callable[[str], None], title: str, budget: Budget) -> Progress:
        return Progress(say, title, budget)

    @classmethod
    def display(cls, console: Console, title: str, budget: Budget) -> Display:
        from selftune.studies.display import Display

        return Display(console, title, budget)

    # Running -----------------------------------------------------------------------------------------

    def begin(self, folder: Path, console: Console) -> None:
        from selftune.studies.display import say

        if self.conversion is None:
            return
        with replacing(folder / "conversion.txt") as temporary:
            temporary.write_text(f"{self.report()}\n", encoding="utf-8")
        for line in str(self.coverage).splitlines():
            say(console, line)

    def keep(self, folder: Path, reports: Mapping[int, Report], summary: Summary) -> Summary:
        from selftune.studies.network_outcome import keep_networks

        return keep_networks(self, folder, reports, summary)

    def compared(self, folder: Path, console: Console, runner: Runner, summary: Summary) -> Summary:
        from selftune.studies.network_outcome import trained_at_start

        if not self.form.moves:  # it would be the same again
            return {"held": True, "fixed": {}}
        return trained_at_start(self, folder, console, runner, summary)

    def looked_back(self, folder: Path, console: Console, runner: Runner, summary: Summary) -> Summary:
        from selftune.studies.horizon import compared_with_held

        return compared_with_held(self, folder, console, runner, summary)

    def warnings(self, measures: Mapping[str, Mapping[str, float]]) -> list[str]:
        from selftune.studies.verdict import warnings_of

        return warnings_of(self.objective, measures)

    def call(self) -> dict[str, Any]:
        study = self.study
        return {
            "regularizers": study.regularizers,
            "method": study.method_name,
            "budget": study.budget,
            "trainers": study.trainers.number,
            "seed": study.seed,
            "metric": study.metric,
            "settings": study.method,
        }

    def result(
        self, machine: TeamMethod, reports: Mapping[int, Report], taken: Sequence[HyperStep]
    ) -> tuple[Result, dict[str, object]]:
        first, names = reports[min(reports)], self.space.names
        steps = int(first.metrics["training_step"])
        result = Result(
            hyperparameters=dict(zip(names, machine.hyperparameters.tolist(), strict=True)),
            trajectory=taken,
            network=self.trained(first),
            metrics=mean_metrics(reports),
            schedule=schedule_of(self.space, taken, steps) if taken else None,
            networks=len(reports),
            spread=spread_metrics(reports),
            best=best_network(reports, machine.best, names, self.built_of),
        )
        return result, {"training_steps": steps}


def metrics_of(objective: NetworkObjective) -> list[str]:
    """What a validation report can hold, found by asking the objective about one example."""
    batch = objective.example(1)
    with torch.no_grad(), undisturbed():
        outputs = objective.outputs(objective.network().eval(), batch)
        names = ["loss", *objective.measure(outputs, batch)]
    return [f"validation_{name}" for name in names]
