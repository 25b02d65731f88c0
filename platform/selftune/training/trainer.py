"""A trainer executes work orders on one objective: the worker side of every method."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import nn

from selftune.data.global_generators import guarded
from selftune.data.nested import moved
from selftune.errors import SettingError
from selftune.fields import check_fields
from selftune.lower_level.objective import NetworkObjective
from selftune.lower_level.start_values import with_starts
from selftune.methods.reports import (
    ArmTrained,
    CandidateDiverged,
    CandidateTrained,
    Diverged,
    Followed,
    NetworkEvaluated,
    Report,
    StateMissing,
    Trained,
    TrainingFinished,
)
from selftune.methods.values import Values
from selftune.methods.work_orders import (
    EvaluateNetwork,
    FinishTraining,
    FollowSchedule,
    Train,
    TrainArm,
    TrainCandidate,
    TrainStayArm,
    WorkOrder,
)
from selftune.networks.inventory import aliases, undisturbed
from selftune.networks.network_state import load_state, state_of
from selftune.networks.sharded_weights import whole
from selftune.registries.diagnostics import Measurement
from selftune.regularization.regularizer import Regularizer, built_regularizers
from selftune.shapes import Tensor
from selftune.training.arm import Arm
from selftune.training.coverage import Coverage, coverage
from selftune.training.divergence import NotFinite, blamed_on, check_hypergradient, mean_loss
from selftune.training.estimators.hypergradient_estimator import HypergradientEstimator, Measures
from selftune.training.estimators.tensors import tensors_of, with_tensors
from selftune.training.kept_states import KeptStates, State
from selftune.training.look import fetched, numbers
from selftune.training.lower_level import LowerLevel
from selftune.training.measurements import Measurements
from selftune.training.method_record import estimator_of
from selftune.training.paths import pathless
from selftune.training.process_group import ProcessGroup
from selftune.training.seeds import Streams, check_seed
from selftune.training.sharing import sharing_mistakes

A = TypeVar("A", bound=ArmTrained)


class Trainer:
    """Trains one network of a team, as its work orders say.

    A report is a function of the trainer's state and the order: random numbers follow from the seed, the member
    and the training step.

    Args:
        objective: what is trained.
        regularizers: unbound or bound; the trainer works on copies.
        member: position in the team.
        team: number of the team; teams of one study draw different random numbers.
        draws: the member whose random numbers it uses, None for its own; trainers with the same
            draws see the same batches and masks.
        seed: the study's seed.
        device: a torch device, such as ``"cpu"`` or ``"cuda"``.
        cpus: threads that torch may use, at least 1.
        steps: training steps of the whole run; None where nobody knows.
        diagnostics: what is measured between hyper-steps.
        checked: whether ``run_mistakes`` has found nothing wrong, so that it need not look again.

    Raises:
        SettingError: if a regularizer does not fit the objective, or the device is absent.

    >>> from selftune import Classification, Optimization
    >>> data = torch.randn(64, 4), torch.randint(3, (64,))
    >>> objective = Classification(lambda: nn.Linear(4, 3), data, data, data, Optimization(batch_size=16))
    >>> trainer = Trainer(objective, [])
    >>> trainer.execute(FollowSchedule(segments=((5, torch.empty(0)),))).metrics["training_step"]
    5.0
    """

    def __init__(
        self,
        objective: NetworkObjective,
        regularizers: Sequence[Regularizer],
        *,
        member: int = 0,
        team: int = 0,
        draws: int | None = None,
        seed: int = 0,
        device: str = "cpu",
        cpus: float = 1,
        steps: int | None = None,
        diagnostics: Sequence[Measurement] = (),
        checked: bool = False,
    ) -> None:
        torch.set_num_threads(max(1, int(cpus)))
        self.member = member
        self._draws = member if draws is None else draws
        self.device = _present(device)
        if not checked:
            objective.check_losses()
        streams = Streams(seed, self._draws, self.device, team)
        measured = {need for measurement in diagnostics for need in measurement.entry.needs.values()}
        self.lower = LowerLevel(objective, regularizers, streams, self.device, steps, measured, checked=checked)
        self.measurements = Measurements(self.lower, diagnostics)
        self.space = self.lower.space
        self.estimator: HypergradientEstimator | None = None
        self._estimator_is: tuple[str, dict[str, Any]] | None = None
        self.training_step = 0
        self._kept = KeptStates()
        self._judged = checked
        self._best: list[dict[str, Tensor]] | None = None

    def share(self, group: ProcessGroup, sharded: bool = False) -> None:
        """From now on these processes train the network together; all of them get the same orders.

        Args:
            sharded: whether each holds a part of the weights only (FSDP); for orders that follow a schedule.

        Raises:
            SettingError: if something in the study has to be in one process, or needs all weights.
        """
        objective, members = self.lower.objective, self.lower.regularizers.members
        for mistake in sharing_mistakes(objective, members, group.size, sharded):
            raise mistake
        self.lower.group = group
        if sharded:
            self.lower.shard()

    def execute(self, order: WorkOrder, warm: State | None = None) -> Report:
        """Executes one order; a loss that is not finite makes a report ``Diverged``.

        A network goes on from where it is, unless the order names the state to ``start`` from: one that is kept
        under this key, or ``warm``, which came along from another trainer. Where neither is there, nothing is
        done, and the report is ``StateMissing``.
        """
        started = time.perf_counter()
        devices = [self.device] if self.device.type == "cuda" else []
        if self._is_missing(order, warm):
            message = f"no state {getattr(order, 'start', None)} is kept here"
            return StateMissing(
                number=order.number, version=order.version, training_step=self.training_step, message=message
            )
        self.lower.history.clear()
        try:
            with torch.random.fork_rng(devices=devices), guarded():
                report = self._executed(order)
        except NotFinite as diverged:
            self.training_step = diverged.training_step
            return Diverged(
                number=order.number, version=order.version, training_step=self.training_step, message=str(diverged)
            )
        return replace(report, number=order.number, version=order.version, seconds=time.perf_counter() - started)

    def _executed(self, order: WorkOrder) -> Trained | CandidateDiverged | NetworkEvaluated | TrainingFinished:
        match order:
            case Train():
                return self._train(order)
            case FollowSchedule():
                return self._follow(order)
            case TrainStayArm():
                return self._stay(order)
            case TrainCandidate():
                return self._candidate(order)
            case EvaluateNetwork():
                return self._evaluate(order)
            case FinishTraining():
                return self._finish(order)
        raise TypeError(f"a trainer of networks has no {type(order).__name__} to do")

    @property
    def coverage(self) -> Coverage:
        """How much of the network regularizers reach, and how much of it responds, once there is a response."""
        responding = None if self.estimator is None else self.estimator.responding
        return coverage(self.lower.regularizers, self.lower.inventory, responding)

    def export_state(self, key: str) -> State | None:
        """The whole state kept under a key, on the CPU; None if it is not kept any more."""
        return self._kept.export(key)

    def _is_missing(self, order: WorkOrder, warm: State | None) -> bool:
        """Whether the state that an order starts from is not there; goes to it where the order goes on from it."""
        if isinstance(order, EvaluateNetwork):
            return order.start is not None and order.start not in self._kept
        return isinstance(order, Train | TrainArm | FinishTraining) and not self._go_to(order, warm)

    def _go_to(self, order: Train | TrainArm | FinishTraining, warm: State | None) -> bool:
        """Goes to the state that an order starts from, and forgets those that no order will name again."""
        key = order.start
        if key is not None and key not in self._kept:
            is_fresh = isinstance(order, TrainArm) and order.fresh
            start = self._state() if warm is None and is_fresh else warm
            if start is None:
                return False
            self._kept.keep(key, start)
        there = None if key is None else self._kept.get(key)
        self._kept.retain(order.states)
        if there is not None:
            self._load(there)
            if isinstance(order, Train):  # with random numbers of its own, whosever state it is
                self.lower.draw_as(self._draws)
        return True

    def _stay(self, order: TrainStayArm) -> ArmTrained:
        """Trains from the order's state with its hyperparameters and judges the end; differentiates there."""
        arm, report = self._train_arm(order, ArmTrained)
        if not order.hypergradient:
            return report
        found = arm.hypergradient(self.training_step)
        found = with_tensors(found, fetched(tensors_of(found)))
        check_hypergradient({"hypergradient": found.hypergradient}, self.training_step, arm.values)
        return replace(report, hypergradient=found)

    def _candidate(self, order: TrainCandidate) -> CandidateTrained | CandidateDiverged:
        """An arm at other hyperparameters, without a hypergradient. If it diverges, so does no trainer."""
        first = self.training_step
        try:
            return self._train_arm(order, CandidateTrained)[1]
        except NotFinite as diverged:
            self.training_step = diverged.training_step
            return CandidateDiverged(training_step=self.training_step, work=self.training_step - first)

    def _train_arm(self, order: TrainArm, kind: type[A]) -> tuple[Arm, A]:
        """The arm at its end, judged, with the diagnostics that are due in case it is the one kept."""
        arm, first = Arm(self.lower, order), self.training_step
        self._judge(differentiated=True)
        losses = [arm.train(number) for number in range(first, first + order.steps)]
        self._finish_steps(len(losses))
        training_loss = mean_loss(fetched(losses), first, arm.values, self.lower.history)
        taken = {}
        if order.hyper_step is not None:
            taken = self.measurements.take(order.hyper_step, self.training_step)
        self._kept.keep(order.end, self._state())
        judged, measures = arm.losses()
        judged, measures = fetched((judged, measures | taken))
        return arm, kind(
            training_step=self.training_step,
            training_loss=training_loss,
            measures=numbers(measures),
            work=order.steps,
            losses=judged,
        )

    def _train(self, order: Train) -> Trained:
        """Training steps at the given hyperparameters, then, if asked, a validation hypergradient."""
        estimator = self._estimator(order.estimator, order.settings)
        self._keep_best(order.keep)
        estimator.begin(order)
        first = self.training_step
        losses = [estimator.train(number) for number in range(first, first + order.steps)]
        self._finish_steps(len(losses))
        found, tensors = None, dict[str, Tensor]()
        measures: Measures = {}
        if order.hypergradient:
            with blamed_on(losses, first, estimator.values, self.lower.history):
                found, measures = estimator.hypergradient(self.training_step)
            tensors = tensors_of(found)
            measures |= self.measurements.take(order.values.version, self.training_step)
        losses, tensors, measures = fetched((losses, tensors, measures))
        training_loss = mean_loss(losses, first, estimator.values, self.lower.history)
        if not order.unchecked:
            check_hypergradient(tensors, self.training_step, estimator.values)
        if order.end is not None:
            self._kept.keep(order.end, self._state())
        return Trained(
            training_step=self.training_step,
            training_loss=training_loss,
            measures=numbers(measures),
            hypergradient=found and with_tensors(found, tensors),
        )

    def _follow(self, order: FollowSchedule) -> Followed:
        """Plain training steps with given constrained values, segment by segment."""
        losses: list[Tensor] = []
        values: Mapping[str, Any] = {}
        first = self.training_step
        for steps, constrained in order.segments:
            values = self.space.unpack(moved(constrained, self.device))
            start = first + len(losses)
            losses += [self.lower.train(number, values) for number in range(start, start + steps)]
        self._finish_steps(len(losses))
        training_loss = mean_loss(fetched(losses), first, values, self.lower.history)
        return Followed(training_step=self.training_step, training_loss=training_loss)

    def _finish(self, order: FinishTraining) -> TrainingFinished:
        """Validation and test measures of the plain network, and the network itself; and of the best one."""
        self._keep_best(order.keep)
        unconstrained = None if order.values is None else order.values.unconstrained
        last = self._built(here := self._plain_state(unconstrained))
        report = TrainingFinished(
            training_step=self.training_step,
            measures=self.evaluated(last),
            network=_on_cpu(state_of(last)),
            message=order.remark,
        )
        found = []
        for state in self._best_states(order):
            if all(torch.equal(tensor, here[name]) for name, tensor in state.items()):  # it is sent once
                found.append(replace(report, best_measures=report.measures))
                continue
            best = self._built(state)
            measures = self.evaluated(best)
            found.append(replace(report, best_measures=measures, best_network=_on_cpu(state_of(best))))
        return min(found, key=lambda one: _badness(one.best_measures, order)) if found else report

    def _evaluate(self, order: EvaluateNetwork) -> NetworkEvaluated:
        """Measures of the plain network, and the network itself if it is wanted."""
        with self._standing_at(order.start):
            unconstrained = None if order.values is None else order.values.unconstrained
            network = self._built(self._plain_state(unconstrained))
            return NetworkEvaluated(
                training_step=self.training_step,
                measures=self.evaluated(network, order.splits),
                network=_on_cpu(state_of(network)) if order.network else {},
            )

    def evaluated(self, network: nn.Module, splits: Sequence[str] = ("validation", "test")) -> dict[str, float]:
        """Loss and metrics of a plain network over whole splits, as far as they are there."""
        there = [name for name in splits if self.lower.objective.data(name) is not None]
        return {name: value for split in there for name, value in self.lower.evaluate(network, split).items()}

    @contextmanager
    def _standing_at(self, key: str | None) -> Iterator[None]:
        """Within it the trainer is in the state that it keeps under a key; None for the one that it is in."""
        if key is None:
            yield
            return
        here = copy.deepcopy(self._state())
        self._load(self._kept.get(key))
        try:
            yield
        finally:
            self._load(here)

    # The best network ----------------------------------------------------------------------------------

    def _keep_best(self, values: Values | None) -> None:
        """Keeps a copy of the plain network, where an order says with what the best so far was trained."""
        if values is not None:
            self._best = self._candidates(values.unconstrained)

    def _candidates(self, unconstrained: Tensor | None) -> list[dict[str, Tensor]]:
        """Copies of the plain network as it is trained, which hyper-steps measure, and of its average."""
        kinds = (True, False) if self.lower.objective.optimization.average is not None else (True,)
        states = [self._plain_state(unconstrained, averaged) for averaged in kinds]
        return [{name: tensor.detach().clone() for name, tensor in state.items()} for state in states]

    def _best_states(self, order: FinishTraining) -> list[dict[str, Tensor]]:
        """Candidates for the best network: those that were copied, or those of the state that an order names."""
        key = order.best_state
        if key is None or key not in self._kept:
            return self._best or []
        with self._standing_at(key):
            return self._candidates(None)

    def _finish_steps(self, number: int) -> None:
        """Counts so many training steps, and brings together what each process has of them."""
        self.training_step += number
        self.lower.share_buffers()

    def _estimator(self, name: str, settings: Mapping[str, Any]) -> HypergradientEstimator:
        kind = estimator_of(name)
        if kind.moves:
            self._judge(kind.differentiates)
        if self.estimator is None:
            self.estimator = kind(self.lower, settings)
            self._estimator_is = (name, dict(settings))
        return self.estimator

    def _judge(self, differentiated: bool) -> None:
        """Refuses, once, what is tuned but changes nothing that is trained."""
        if not self._judged:
            for mistake in pathless(self.lower, differentiated):
                raise mistake
        self._judged = True

    def plain_network(self, unconstrained: Tensor | None = None) -> nn.Module:
        """The trained network as an ordinary module, free of gates and hooks, on the trainer's device.

        Args:
            unconstrained: where an uncentred response (STN) is evaluated; a centred one is plain already.
        """
        return self._built(self._plain_state(unconstrained))

    def _plain_state(self, unconstrained: Tensor | None, averaged: bool = True) -> dict[str, Tensor]:
        """The tensors of the plain network by name, each under one name: those in use, or made of them.

        Args:
            averaged: whether weights are their average, where one is taken.
        """
        again = self.lower.aliases  # a tensor with several names is changed under one of them
        averages = averaged and self.lower.objective.optimization.average is not None
        with self.lower.averaged() if averages else nullcontext():
            state = {
                name: whole(value) for name, value in state_of(self.lower.network).items() if name not in again
            }
            if self.estimator is not None:
                self.estimator.export(state, unconstrained)
            self.lower.regularizers.export(state)
            return {name: value.clone() for name, value in state.items()} if averages else state

    def _built(self, state: Mapping[str, Tensor]) -> nn.Module:
        with undisturbed():
            network = self.lower.objective.network().to(self.device)
            self.lower.regularizers.extend(network)
        load_state(network, {**state, **{name: state[own] for name, own in aliases(network).items()}})
        return network.eval()

    def state_dict(self) -> dict[str, Any]:
        """Everything that later reports depend on."""
        return {**self._state(), "kept": self._kept.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._kept.load_state_dict(state["kept"])
        self._load(state)

    def _state(self) -> dict[str, Any]:
        """Where training stands, and whose random numbers it goes on with; tensors are those in use."""
        return {
            "training_step": self.training_step,
            "draws": self.lower.streams.member,
            "lower": self.lower.state_dict(),
            "estimator_is": self._estimator_is,
            "estimator": self.estimator.state_dict() if self.estimator else None,
            "measurements": self.measurements.state_dict(),
            "best": self._best,
        }

    def _load(self, state: Mapping[str, Any]) -> None:
        self.training_step = state["training_step"]
        if state["draws"] != self.lower.streams.member:  # a state of another member: its epochs, masks, samples
            self.lower.draw_as(state["draws"])
        self.lower.load_state_dict(state["lower"], own_settings=True)
        if state["estimator_is"] is not None:
            self._estimator(*state["estimator_is"]).load_state_dict(state["estimator"])
        self.measurements.load_state_dict(state["measurements"])
        best = state["best"]
        self._best = best and [{name: tensor.to(self.device) for name, tensor in state.items()} for state in best]


def _badness(measures: Mapping[str, float], order: FinishTraining) -> float:
    """By the order's metric, or by the validation loss where whole splits have none of this name."""
    value = measures.get(order.metric)
    if value is None:
        value = measures["validation_loss"]
    elif order.mode == "max":
        value = -value
    return math.inf if math.isnan(value) else value


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.cpu() for name, tensor in tensors.items()}


@dataclass(frozen=True)
class TrainerFactory:
    """Makes the trainers of a team, in this process or in others; called with the numbers of member and team.

    Args:
        objective: what is trained.
        regularizers: settings by the regularizer's name, or regularizers themselves; unbound or bound.
        seed: everything random follows from it.
        device: a torch device, such as ``"cpu"`` or ``"cuda"``.
        cpus: threads that torch may use, at least 1.
        group_size: so many neighbours in the team share their random numbers; 2 for the penalty method.
        steps: training steps of the whole run; None where nobody knows.
        diagnostics: what is measured between hyper-steps.
        checked: whether ``run_mistakes`` has found nothing wrong, so that trainers need not look again.

    Raises:
        SettingError: if a setting is out of its range or a regularizer unknown.

    >>> from selftune.lower_level.classification import Classification
    >>> data = torch.randn(64, 4), torch.randint(3, (64,))
    >>> factory = TrainerFactory(Classification(lambda: nn.Linear(4, 3), data, data, data), {"weight_decay": {}})
    >>> factory(1).member
    1
    """

    objective: NetworkObjective
    regularizers: Sequence[Regularizer]
    seed: int = 0
    device: str = "cpu"
    cpus: float = 1
    group_size: int = 1
    steps: int | None = None
    diagnostics: Sequence[Measurement] = ()
    checked: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "regularizers", built_regularizers(self.regularizers))
        check_seed(self.seed)
        check_fields(self)
        check_device(self.device)
        for key, low in (("group_size", 1), ("steps", 1)):
            value = getattr(self, key)
            if value is not None and value < low:
                raise SettingError(key, f"must be at least {low}, got {value}")
        if not (self.cpus > 0 and math.isfinite(self.cpus)):
            raise SettingError("cpus", f"must be a positive number, got {self.cpus}")
        object.__setattr__(self, "regularizers", with_starts(self.regularizers, self.objective, self.steps))

    @property
    def known(self) -> set[str]:
        """What a training step offers beside what objective and regularizers do."""
        return {"progress"} if self.steps is not None else set()

    def __call__(self, member: int, team: int = 0) -> Trainer:
        return Trainer(
            self.objective,
            self.regularizers,
            member=member,
            team=team,
            draws=member // self.group_size,
            seed=self.seed,
            device=self.device,
            cpus=self.cpus,
            steps=self.steps,
            diagnostics=self.diagnostics,
            checked=self.checked,
        )


def check_device(device: str) -> torch.device:
    """The device of this name, which need not be on this machine.

    Raises:
        SettingError: if torch knows none of this name.
    """
    try:
        return torch.device(device)
    except RuntimeError as error:
        message = f"must name a torch device such as 'cpu' or 'cuda', got {device!r}"
        raise SettingError("device", message) from error


def _present(device: str) -> torch.device:
    wanted = check_device(device)
    if wanted.type == "cuda" and not torch.cuda.is_available():
        raise SettingError("device", "is a CUDA device, but torch finds none here; use 'cpu', or set gpus to 0")
    return wanted
